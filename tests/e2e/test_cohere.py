"""Cohere through the running gateway, by its own SDK, and by OpenAI's at the compatibility path."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import cohere
import httpx
import pytest
from cohere.core.api_error import ApiError
from openai import OpenAI
from tests.families.samples import cohere as samples
from tests.support.gateway import PLACEHOLDER, REAL_KEY, Road
from tests.support.spoken import OF_LINES, Spoken, open_spoken, says, spoken_by, streams

from tollhouse.demo.standin_book import Received
from tollhouse.demo.standin_script import Steps

HOST = "api.cohere.com"
MODEL = "command-a-03-2025"
MESSAGES: Any = [{"role": "user", "content": "Who pays at the tollhouse?"}]
USAGE = {
    "billed_units": {"input_tokens": 1000.0, "output_tokens": 100.0},
    "tokens": {"input_tokens": 1496.0, "output_tokens": 102.0},
}
# USD per million tokens of command-a: 2.50 and 10.
COST = Decimal("0.0035")
PRICES = {
    'prices."cohere/rerank-v3.5"': {"input": "0", "output": "0", "search": "0.002"},
    'prices."cohere/parse"': {"input": "0", "output": "0", "page": "0.003"},
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    with open_spoken(tmp_path_factory.mktemp("cohere"), "cohere", HOST, PRICES) as road:
        yield road


@pytest.fixture
def spoken(shared: Road) -> Iterator[Spoken]:
    with spoken_by(shared) as mine:
        yield mine


def through(spoken: Spoken) -> httpx.Client:
    """The SDK is made for another library than the other tests' clients."""
    road = spoken.road
    return httpx.Client(proxy=road.proxy_url, verify=road.context, trust_env=False, timeout=30)


def sdk(spoken: Spoken) -> cohere.ClientV2:
    return cohere.ClientV2(api_key=PLACEHOLDER, httpx_client=through(spoken))


def v1(spoken: Spoken) -> cohere.Client:
    return cohere.Client(api_key=PLACEHOLDER, httpx_client=through(spoken))


def straight(spoken: Spoken) -> cohere.ClientV2:
    client = httpx.Client(verify=spoken.direct_context, trust_env=False)
    return cohere.ClientV2(api_key=REAL_KEY, httpx_client=client, base_url=spoken.direct_url)


def assert_clean(received: Received, spoken: Spoken) -> None:
    everything = received.everything()
    assert received.get_all("authorization") == [f"Bearer {REAL_KEY}"]
    assert everything.count(REAL_KEY.encode()) == 1
    for word in (b"gate_", PLACEHOLDER.encode(), spoken.road.project.encode(), b"x-tollhouse"):
        assert word not in everything.lower()


def cost(spoken: Spoken) -> Decimal:
    [line] = spoken.charged()
    assert line["charged_by"] == "usage"
    return Decimal(line["cost_usd"])


def test_plain(spoken: Spoken) -> None:
    """The answer is that of the provider asked directly. Billed units are charged, not tokens."""
    spoken.script(says(samples.whole("The traveller.", USAGE)), 2)
    asked: dict[str, Any] = {"model": MODEL, "messages": MESSAGES, "max_tokens": 200}
    got = sdk(spoken).chat(**asked)
    assert got == straight(spoken).chat(**asked)
    received = spoken.standin.wait_count(2)[0]
    assert received.target == "/v2/chat"
    assert_clean(received, spoken)
    assert cost(spoken) == COST


def test_stream(spoken: Spoken) -> None:
    """Its last event tells what is billed."""
    last = samples.end(finish_reason="COMPLETE", usage=USAGE)
    spoken.script(streams([samples.START, samples.said("You."), last]), 2)
    asked: dict[str, Any] = {"model": MODEL, "messages": MESSAGES}
    got = list(sdk(spoken).chat_stream(**asked))
    assert got == list(straight(spoken).chat_stream(**asked))
    assert [one.type for one in got] == ["message-start", "content-delta", "message-end"]
    assert cost(spoken) == COST


def test_a_tool_call(spoken: Spoken) -> None:
    """Comes back whole."""
    call = {"id": "c1", "type": "function", "function": {"name": "toll", "arguments": "{}"}}
    spoken.script(says(samples.whole("", USAGE, tool_calls=[call])), 2)
    tool: Any = {"type": "function", "function": {"name": "toll", "parameters": {}}}
    asked: dict[str, Any] = {"model": MODEL, "messages": MESSAGES, "tools": [tool]}
    got = sdk(spoken).chat(**asked)
    assert got == straight(spoken).chat(**asked)
    assert [one.id for one in got.message.tool_calls or []] == ["c1"]
    assert cost(spoken) == COST


def test_embeddings_rerank_and_pages(spoken: Spoken) -> None:
    """1000 tokens of 120 nano-dollars, 3 search units of 2 milli-dollars, 4 pages of 3."""
    embedded = {"id": "1", "embeddings": {"float": [[0.5]]}, "texts": ["a"]}
    spoken.script(says({**embedded, "meta": {"billed_units": {"input_tokens": 1000.0}}}))
    got = sdk(spoken).embed(
        model="embed-v4.0", input_type="classification", texts=["a"], embedding_types=["float"]
    )
    assert got.embeddings.float_ == [[0.5]]
    ranked = {"id": "2", "results": [{"index": 0, "relevance_score": 0.5}]}
    spoken.script(says({**ranked, "meta": {"billed_units": {"search_units": 3.0}}}))
    sdk(spoken).rerank(model="rerank-v3.5", query="Who pays?", documents=["a"] * 250)
    spoken.script(says({"id": "3", "pages": [], "meta": {"billed_units": {"pages": 4}}}))
    body = {"model": "parse", "document": {"type": "url", "url": "https://a.b/c.pdf"}}
    with through(spoken) as client:
        client.post(f"https://{HOST}/v2/parse", json=body)
    lines = spoken.charged(3)
    assert [Decimal(line["cost_usd"]) for line in lines] == [
        Decimal("0.00012"),
        Decimal("0.006"),
        Decimal("0.012"),
    ]
    assert [line.get("units") for line in lines] == [None, {"searches": 3}, {"pages": 4}]
    # 250 documents are three units.
    assert Decimal(lines[1]["held_usd"]) == Decimal("0.006")


def test_v1(spoken: Spoken) -> None:
    """Plain, and as lines of JSON."""
    meta = {"billed_units": USAGE["billed_units"]}
    answer = {"text": "You.", "generation_id": "g", "meta": meta}
    spoken.script(says(answer))
    assert v1(spoken).chat(model=MODEL, message="Who pays?").text == "You."
    frames = [
        samples.line(event_type="text-generation", text="You."),
        samples.line(event_type="stream-end", finish_reason="COMPLETE", response=answer),
    ]
    spoken.script(streams(frames, OF_LINES))
    got = list(v1(spoken).chat_stream(model=MODEL, message="Who pays?"))
    assert [one.event_type for one in got] == ["text-generation", "stream-end"]
    lines = spoken.charged(2)
    assert [Decimal(line["cost_usd"]) for line in lines] == [COST, COST]
    assert [line["charged_by"] for line in lines] == ["usage", "usage"]


def test_openais_client_at_the_compatibility_path(spoken: Spoken) -> None:
    """No option is added that Cohere would refuse."""
    head = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    choice = {"index": 0, "delta": {"content": "You."}, "finish_reason": None}
    counts = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
    documents = [{**head, "choices": [choice]}, {**head, "choices": [], "usage": counts}]
    frames = [f"data: {json.dumps(one)}\n\n".encode() for one in documents]
    spoken.script(streams([*frames, b"data: [DONE]\n\n"]))
    client = OpenAI(
        base_url=f"https://{HOST}/compatibility/v1",
        api_key=PLACEHOLDER,
        http_client=spoken.through,
    )
    got = list(client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True))
    assert len(got) == 2
    received = spoken.standin.wait_count(1)[0]
    assert "stream_options" not in received.document()
    assert_clean(received, spoken)
    assert cost(spoken) == COST


def test_an_error_of_coheres_is_the_sdks_own(spoken: Spoken) -> None:
    """Its words and its class, as without the gateway; it costs nothing."""
    spoken.script(says({"message": "invalid request: no such role", "id": "i"}, 400))
    with pytest.raises(cohere.BadRequestError) as raised:
        sdk(spoken).chat(model=MODEL, messages=MESSAGES)
    assert raised.value.body["message"] == "invalid request: no such role"
    assert Decimal(spoken.charged()[0]["cost_usd"]) == 0


def test_a_refusal_is_the_sdks_own(shared: Road) -> None:
    """A 402 with our text; a model that the project may not use is the SDK's class for 403."""
    with spoken_by(shared, limits=["0.0001 usd/day"]) as spoken:
        with pytest.raises(ApiError) as raised:
            sdk(spoken).chat(model=MODEL, messages=MESSAGES)
        assert raised.value.status_code == 402
        assert "tollhouse: budget_exceeded" in raised.value.body["message"]
        assert spoken.standin.snapshot() == []
    with spoken_by(shared, models=["command-r*"]) as spoken:
        with pytest.raises(cohere.ForbiddenError) as forbidden:
            sdk(spoken).chat(model=MODEL, messages=MESSAGES)
        assert "tollhouse: model_not_allowed" in forbidden.value.body["message"]


def test_a_cap_is_lowered(shared: Road) -> None:
    """By the name that Cohere knows, and the budget of thoughts with it."""
    with spoken_by(shared, limits=["0.005 usd/day"], on_shortfall="clamp") as spoken:
        spoken.script(says(samples.whole("You.", USAGE)))
        thinking: Any = {"type": "enabled", "token_budget": 5_000}
        sdk(spoken).chat(model=MODEL, messages=MESSAGES, thinking=thinking)
        document = spoken.standin.wait_count(1)[0].document()
        assert 0 < document["max_tokens"] < 500
        assert document["thinking"]["token_budget"] == document["max_tokens"]


@pytest.mark.parametrize("version", ["v2", "v1"])
def test_the_budget_ends_in_the_middle_of_a_stream(shared: Road, version: str) -> None:
    """The SDK reads the API's own last event, which is an error with our words."""
    text = " toll" * 400
    word = (
        samples.said(text)
        if version == "v2"
        else samples.line(event_type="text-generation", text=text)
    )
    with spoken_by(shared, limits=["0.05 usd/day"]) as spoken:
        steps = Steps()
        steps.release(2)
        headers = {"v2": {}, "v1": {"headers": OF_LINES}}[version]
        spoken.standin.script(replace(streams([word] * 40, **headers), steps=steps))
        got: list[Any] = []
        stream: Any = (
            sdk(spoken).chat_stream(model=MODEL, messages=MESSAGES)
            if version == "v2"
            else v1(spoken).chat_stream(model=MODEL, message="Who pays?")
        )
        for one in stream:
            got.append(one)
            steps.release(1)
        steps.release_all()
        if version == "v2":
            assert (got[-1].type, got[-1].delta.finish_reason) == ("message-end", "ERROR")
            assert "tollhouse: budget_exceeded" in got[-1].delta.error
        else:
            assert (got[-1].event_type, got[-1].finish_reason) == ("stream-end", "ERROR")
            assert "tollhouse: budget_exceeded" in got[-1].error
        # A frame has 500 tokens of 10 micro-dollars.
        [line] = spoken.charged()
        assert (line["reason"], line["charged_by"]) == ("budget_exceeded", "estimate")
        assert 8 <= len(got) <= 14
        assert Decimal("0.04") < Decimal(line["cost_usd"]) < Decimal("0.066")
