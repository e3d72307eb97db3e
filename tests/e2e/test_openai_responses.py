"""OpenAI's Responses and legacy completions through the running gateway, by the unchanged SDK.

What the SDK returns is what it returns from the stand-in itself. Costs are by gpt-4o's list prices.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from tests.support.gateway import PLACEHOLDER, Road, open_road

from tollhouse.demo import standin_responses as answers
from tollhouse.demo.standin_script import Behaviour, Steps, reply

PRICE_IN, PRICE_OUT = Decimal("2.50"), Decimal("10")
ASKED: dict[str, Any] = {
    "model": "gpt-4o",
    "input": "Who pays at the tollhouse? Même les poètes: 渡し守。",
    "instructions": "Be brief.",
}
FUNCTION: dict[str, Any] = {
    "type": "function",
    "name": "road",
    "description": "Says whether a road is open.",
    "parameters": {"type": "object", "properties": {}},
    "strict": False,
}
PROMPT: dict[str, Any] = {"model": "gpt-3.5-turbo-instruct", "prompt": ["The toll", "is paid"]}


@pytest.fixture
def in_environment(road: Road, monkeypatch: pytest.MonkeyPatch) -> Road:
    """The road, with this process as its workload."""
    for name, value in road.environ.items():
        monkeypatch.setenv(name, value)
    return road


@pytest.fixture
def straight(road: Road) -> Iterator[OpenAI]:
    """The SDK at the stand-in itself."""
    context = ssl.create_default_context(cadata=road.standin.ca_pem.decode())
    http_client = openai.DefaultHttpxClient(verify=context, trust_env=False)
    base_url = f"https://localhost:{road.standin.port}/v1"
    with OpenAI(api_key=road.standin.key, base_url=base_url, http_client=http_client) as client:
        yield client


def cost(document: dict[str, Any]) -> Decimal:
    usage = answers.usage_of(document)
    return (usage["input_tokens"] * PRICE_IN + usage["output_tokens"] * PRICE_OUT) / 1_000_000


def assert_paid(road: Road, *costs: Decimal) -> None:
    """One line a call with its exact cost by usage, and nothing is held."""
    lines = road.wait_lines(len(costs))
    assert [Decimal(line["cost_usd"]) for line in lines] == list(costs)
    assert {line["charged_by"] for line in lines} == {"usage"}
    [state] = road.budget().values()
    assert (Decimal(state["used"]), Decimal(state["held"])) == (sum(costs), 0)


def test_plain(in_environment: Road, straight: OpenAI) -> None:
    """A response comes back whole, the body goes out byte for byte, and it is paid to the nano-dollar."""
    road = in_environment
    with OpenAI(api_key=PLACEHOLDER) as client:
        through = client.responses.create(**ASKED)
    assert through == straight.responses.create(**ASKED)
    assert through.output_text.startswith("The toll is paid")
    sent, direct = road.standin.wait_count(2)
    assert sent.body == direct.body
    assert_paid(road, cost(ASKED))


def test_stream(in_environment: Road, straight: OpenAI) -> None:
    """Every event comes, in order."""
    with OpenAI(api_key=PLACEHOLDER) as client:
        through = list(client.responses.create(**ASKED, stream=True))
    assert through == list(straight.responses.create(**ASKED, stream=True))
    assert through[-1].type == "response.completed"
    assert_paid(in_environment, cost(ASKED))


async def test_async_plain_and_stream(in_environment: Road, straight: OpenAI) -> None:
    """The async SDK does the same."""
    async with AsyncOpenAI(api_key=PLACEHOLDER) as client:
        plain = await client.responses.create(**ASKED)
        events = [event async for event in await client.responses.create(**ASKED, stream=True)]
        async with client.responses.stream(**ASKED) as stream:
            final = await stream.get_final_response()
    assert plain == straight.responses.create(**ASKED)
    assert events == list(straight.responses.create(**ASKED, stream=True))
    assert final.output_text == plain.output_text
    assert_paid(in_environment, *[cost(ASKED)] * 3)


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_of_the_client(in_environment: Road, straight: OpenAI, stream: bool) -> None:
    """The call, and the answer to what the client's function gave."""
    asked = {**ASKED, "tools": [FUNCTION]}
    with OpenAI(api_key=PLACEHOLDER) as client:
        if stream:
            events = list(client.responses.create(**asked, stream=True))
            assert events == list(straight.responses.create(**asked, stream=True))
            [call] = [e.item for e in events if e.type == "response.output_item.done"]
        else:
            [call] = client.responses.create(**asked).output
            assert [call] == straight.responses.create(**asked).output
        assert call.type == "function_call"
        assert (call.name, call.arguments) == ("road", '{"road":"open"}')
        given = {"type": "function_call_output", "call_id": call.call_id, "output": "open"}
        second = {**asked, "input": [call.model_dump(exclude_unset=True), given]}
        assert client.responses.create(**second) == straight.responses.create(**second)
    assert_paid(in_environment, cost(asked), cost(second))


def test_a_cap_that_ends_it(in_environment: Road, straight: OpenAI) -> None:
    """An incomplete response is paid by its usage."""
    asked = {**ASKED, "max_output_tokens": 3}
    with OpenAI(api_key=PLACEHOLDER) as client:
        plain = client.responses.create(**asked)
        events = list(client.responses.create(**asked, stream=True))
    assert plain == straight.responses.create(**asked)
    assert (plain.status, events[-1].type) == ("incomplete", "response.incomplete")
    assert_paid(in_environment, cost(asked), cost(asked))


def test_an_error_of_the_provider(in_environment: Road) -> None:
    """Its own class and words, and it costs nothing."""
    road = in_environment
    body = b'{"error":{"message":"No such response.","type":"invalid_request_error","param":null,"code":"x"}}'
    road.standin.script(reply(400, body, [("content-type", "application/json")]))
    with OpenAI(api_key=PLACEHOLDER) as client, pytest.raises(openai.BadRequestError) as raised:
        client.responses.create(**ASKED)
    assert raised.value.body == {
        "message": "No such response.",
        "type": "invalid_request_error",
        "param": None,
        "code": "x",
    }
    [line] = road.wait_lines(1)
    assert Decimal(line["cost_usd"]) == 0


def test_a_body_that_can_be_read_in_two_ways(in_environment: Road) -> None:
    """Is refused with the SDK's own class, and never leaves."""
    with OpenAI(api_key=PLACEHOLDER) as client, pytest.raises(openai.BadRequestError) as raised:
        client.responses.create(**ASKED, extra_body={"Max_Output_Tokens": 5})
    assert "in lower case" in raised.value.message
    assert in_environment.standin.snapshot() == []


def test_a_stream_that_the_budget_ends(road: Road) -> None:
    """The response has failed, with the code that stops its clients and our text; what was seen is paid."""
    road.gateway.tollhouse("project", "set", road.project, "--limit", "0.025 usd/day")
    steps = Steps()
    steps.release(200)
    road.standin.script(Behaviour(text=" word" * 4000, steps=steps))
    with road.sdk(max_retries=0) as client:
        events = []
        for event in client.responses.create(**ASKED, stream=True):
            events.append(event)
            # The provider is never more than 200 pieces ahead of what was read here.
            steps.release(1)
    last = events[-1]
    assert last.type == "response.failed"
    assert last.response.status == "failed"
    assert last.response.error is not None
    assert last.response.error.code == "insufficient_quota"
    assert "budget does not cover" in last.response.error.message
    assert re.search(r"\[tollhouse: budget_exceeded, call [^\]]+\]$", last.response.error.message)
    [line] = road.wait_lines(1)
    assert (line["charged_by"], line["reason"], line["status"]) == (
        "estimate",
        "budget_exceeded",
        200,
    )
    assert abs(Decimal(line["cost_usd"]) - Decimal("0.025")) < Decimal("0.003")
    assert road.budget()["0.025 usd/day"]["held"] == "0"
    steps.release_all()


def test_clamp_lowers_its_cap(road: Road) -> None:
    """The cap of a response has a name of its own."""
    words = ("--limit", "0.001 usd/day", "--on-shortfall", "clamp")
    road.gateway.tollhouse("project", "set", road.project, *words)
    with road.sdk() as client:
        raw = client.responses.with_raw_response.create(**ASKED)
    cap = int(raw.headers["x-tollhouse-clamped"])
    assert road.standin.wait_count(1)[0].document() == {**ASKED, "max_output_tokens": cap}
    assert 50 < cap < 100


def test_in_the_background(in_environment: Road, straight: OpenAI) -> None:
    """It is queued. Asking for it shows that it is over without a usage, so that its hold is charged; asking and
    ending cost nothing."""
    road = in_environment
    with OpenAI(api_key=PLACEHOLDER) as client:
        queued = client.responses.create(**ASKED, background=True, max_output_tokens=100)
        assert queued == straight.responses.create(**ASKED, background=True, max_output_tokens=100)
        assert client.responses.retrieve(queued.id) == straight.responses.retrieve(queued.id)
        assert client.responses.cancel(queued.id).status == "cancelled"
        assert client.responses.input_items.list(queued.id).data == []
    first, late, *free = road.wait_lines(5)
    assert (first["charged_by"], late["charged_by"]) == ("later", "hold")
    assert Decimal(first["cost_usd"]) == 0
    assert late["call_id"] == first["call_id"]
    assert Decimal(late["cost_usd"]) == Decimal(first["held_usd"]) > 100 * PRICE_OUT / 1_000_000
    assert [Decimal(line["cost_usd"]) for line in free] == [0] * 3


def test_counting_and_compacting(in_environment: Road, straight: OpenAI) -> None:
    """To count is free. A compaction names no model and is paid at the one that was asked for."""
    road = in_environment
    with OpenAI(api_key=PLACEHOLDER) as client:
        counted = client.responses.input_tokens.count(model="gpt-4o", input="How long?")
        assert counted == straight.responses.input_tokens.count(model="gpt-4o", input="How long?")
        compact = client.responses.compact(model="gpt-4o", input="How long?")
        assert compact == straight.responses.compact(model="gpt-4o", input="How long?")
    free, paid = road.wait_lines(2)
    assert Decimal(free["cost_usd"]) == 0
    read = answers.input_tokens({"input": "How long?"})
    assert Decimal(paid["cost_usd"]) == (read * PRICE_IN + 7 * PRICE_OUT) / 1_000_000


def test_conversations(in_environment: Road) -> None:
    """Are made, read and changed for nothing. With a key that several tenants use none is deleted."""
    items: Any = [{"type": "message", "role": "user", "content": "How long?"}]
    with OpenAI(api_key=PLACEHOLDER) as client:
        made = client.conversations.create(items=items, metadata={"a": "b"})
        assert made.id.startswith("conv_")
        assert client.conversations.retrieve(made.id).id == made.id
        assert client.conversations.update(made.id, metadata={"a": "c"}).metadata == {"a": "c"}
        assert client.conversations.items.list(made.id).data == []
        client.conversations.items.create(made.id, items=items)
        with pytest.raises(openai.PermissionDeniedError, match="object_not_yours"):
            client.conversations.delete(made.id)
    lines = in_environment.wait_lines(6)
    assert [Decimal(line["cost_usd"]) for line in lines] == [0] * 6


def test_completions(in_environment: Road, straight: OpenAI) -> None:
    """Plain and streamed: sixteen tokens are the cap of a request without one, and the usage that was added is taken out."""
    road = in_environment
    with OpenAI(api_key=PLACEHOLDER) as client:
        plain = client.completions.create(**PROMPT)
        chunks = list(client.completions.create(**PROMPT, stream=True))
    assert plain == straight.completions.create(**PROMPT)
    assert chunks == list(straight.completions.create(**PROMPT, stream=True))
    assert [chunk.usage for chunk in chunks] == [None] * len(chunks)
    usage = answers.completion_usage(PROMPT)
    paid = (usage["prompt_tokens"] * Decimal("1.5") + usage["completion_tokens"] * 2) / 1_000_000
    assert_paid(road, paid, paid)
    assert [line["tokens"]["output"] for line in road.lines()] == [18, 18]


def test_a_search_of_the_web_is_charged(tmp_path: Path) -> None:
    """By the tool's own price for a use, beside the tokens."""
    price = {"input": "0", "output": "0", "request": "0.01"}
    settings = {'prices."openai/web_search"': price}
    asked = {**ASKED, "tools": [{"type": "web_search"}], "max_tool_calls": 2}
    with open_road(tmp_path, settings) as road, road.sdk() as client:
        client.responses.create(**asked)
        list(client.responses.create(**asked, stream=True))
        lines = road.wait_lines(2)
        costs = [Decimal(line["cost_usd"]) for line in lines]
        assert costs == [cost(asked) + Decimal("0.01")] * 2
        # Both searches that it may do are held for.
        assert all(Decimal(line["held_usd"]) > Decimal("0.02") for line in lines)
