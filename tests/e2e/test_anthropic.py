"""Anthropic's own SDK, unchanged, through the running gateway: what it gets, and what is charged."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic import Anthropic, AsyncAnthropic
from tests.families.samples.anthropic import (
    PING,
    STOP,
    delta,
    event,
    message,
    start,
    text,
)
from tests.support.gateway import PLACEHOLDER, REAL_KEY, Road, open_road

from tollhouse.config.load import load_config
from tollhouse.control.client import perform
from tollhouse.demo import standin_answers, standin_anthropic
from tollhouse.demo.standin import StandIn
from tollhouse.demo.standin_script import Behaviour, Steps, reply

URL = "https://api.anthropic.com/v1/messages"
MODEL = "claude-sonnet-5"
SAID: list[Any] = [{"role": "user", "content": "Who pays at the tollhouse?"}]
ASKED: dict[str, Any] = {"model": MODEL, "max_tokens": 60, "messages": SAID}
TEXT = standin_answers.answer_text(ASKED)
# 3 for the prompt, 4 for the message, 7 for its 26 bytes; the answer has 16 words.
IN, OUT = 14, 16
# claude-sonnet-5's list price in nano-dollars a token: input, output, read from the cache, written to it.
PRICE_IN, PRICE_OUT, READ, WRITE, HOUR = 2_000, 10_000, 200, 2_500, 4_000
COST = Decimal(IN * PRICE_IN + OUT * PRICE_OUT) / 10**9
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d4944415478da63fcffff3f030005fe02fea7d6055b0000000049454e44ae426082"
)
EVENTS = [("content-type", "text/event-stream; charset=utf-8")]
JSON = [("content-type", "application/json")]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """A gateway whose Anthropic is the stand-in."""
    standin = StandIn(key=REAL_KEY, hosts=("localhost", "api.openai.com", "api.anthropic.com"))
    with standin:
        settings: Any = {
            "providers.anthropic": {
                "connect_to": standin.address,
                "allow_private": True,
                "ca_file": "provider-ca.pem",
            },
            'prices."anthropic/web_search"': {"input": "0", "output": "0", "request": "0.01"},
        }
        directory = tmp_path_factory.mktemp("anthropic")
        with open_road(directory, settings, standin=standin) as road:
            road.gateway.tollhouse("key", "set", "anthropic", stdin=REAL_KEY)
            yield road


@pytest.fixture
def road(gateway: Road, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Road:
    """A project of the test's own, with this process as its workload: HTTPS_PROXY and SSL_CERT_FILE are set, nothing
    else."""
    gateway.standin.clear()
    project = re.sub(r"\W", "_", f"proj_{request.node.name}")[:60]
    config = load_config(gateway.gateway.config)
    wanted = {"project": project, "tenant": "acme", "limits": ["10 usd/day"]}
    perform(config, "project_set", wanted)
    token = str(perform(config, "token_create", {"projects": [project], "label": "test"})["token"])
    made = Road(
        gateway.gateway,
        gateway.standin,
        gateway.directory,
        project,
        token,
        _seen=len(gateway.gateway.lines()),
    )
    for name, value in made.environ.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def client(road: Road) -> Iterator[Anthropic]:
    with Anthropic(api_key=PLACEHOLDER, max_retries=0) as made:
        yield made


def limit(road: Road, *words: str) -> None:
    road.gateway.tollhouse("project", "set", road.project, *words)


def assert_charged(road: Road, *costs: Decimal) -> list[dict[str, Any]]:
    """One line a call with the exact cost; the ledger's use is their sum, and nothing is held."""
    lines = road.wait_lines(len(costs))
    assert [Decimal(line["cost_usd"]) for line in lines] == list(costs)
    assert {line["provider"] for line in lines} == {"anthropic"}
    [state] = road.budget().values()
    assert (Decimal(state["used"]), Decimal(state["held"])) == (sum(costs), 0)
    return lines


def assert_clean(road: Road) -> None:
    """The provider got the real key once, in its slot, and nothing of the workload's or ours."""
    [received] = road.standin.wait_count(1)
    everything = received.everything()
    assert received.get_all("x-api-key") == [REAL_KEY]
    assert everything.count(REAL_KEY.encode()) == 1
    assert received.get_all("authorization") == []
    for word in (b"gate_", PLACEHOLDER.encode(), b"x-coreason", b"proxy-", b"x-tollhouse"):
        assert word not in everything.lower()


def test_message(road: Road, client: Anthropic) -> None:
    """The answer is whole and paid for to the nano-dollar, and the body arrives as it was sent."""
    answer = client.messages.create(**ASKED)
    assert [block.text for block in answer.content if block.type == "text"] == [TEXT]
    assert_clean(road)
    assert road.standin.snapshot()[0].document() == ASKED
    [line] = assert_charged(road, COST)
    assert line["tokens"] == {"input": IN, "output": OUT}
    assert (line["model"], line["charged_by"]) == (MODEL, "usage")


def test_stream(road: Road, client: Anthropic) -> None:
    """The SDK's own reader of a stream has the text and the final count; the later count replaces the first."""
    with client.messages.stream(**ASKED) as stream:
        assert "".join(stream.text_stream) == TEXT
        counted = stream.get_final_message().usage
    assert (counted.input_tokens, counted.output_tokens) == (IN, OUT)
    assert_clean(road)
    assert_charged(road, COST)


async def test_async(road: Road) -> None:
    """The async SDK does the same, plain and streamed, also with beta features."""
    async with AsyncAnthropic(api_key=PLACEHOLDER) as client:
        answer = await client.messages.create(**ASKED)
        async with client.beta.messages.stream(**ASKED, betas=["context-1m-2025-08-07"]) as stream:
            said = "".join([piece async for piece in stream.text_stream])
    assert (answer.usage.output_tokens, said) == (OUT, TEXT)
    received = road.standin.wait_count(2)[1]
    assert received.get("anthropic-beta") == "context-1m-2025-08-07"
    assert_charged(road, COST, COST)


@pytest.mark.parametrize("header", ["x-api-key", "authorization"])
def test_the_token_as_key(road: Road, header: str) -> None:
    """Older clients send a key as x-api-key, newer ones as a bearer token: the gate token may stand in either, and goes
    no further."""
    value = road.token if header == "x-api-key" else f"Bearer {road.token}"
    headers = {header: value, "anthropic-version": "2023-06-01"}
    with road.http(credentials=False) as client:
        assert client.post(f"{URL}?beta=true", json=ASKED, headers=headers).status_code == 200
    assert_clean(road)
    assert road.standin.snapshot()[0].target == "/v1/messages?beta=true"
    assert_charged(road, COST)


def test_who_pays_is_not_the_callers_choice(road: Road, client: Anthropic) -> None:
    """The headers that choose a workspace or a customer are taken off; the body that names another payer is refused."""
    chosen = {"anthropic-workspace-id": "w", "anthropic-user-profile-id": "u"}
    client.messages.create(**ASKED, extra_headers=chosen)
    [received] = road.standin.wait_count(1)
    assert not (set(chosen) & {name.decode().lower() for name, _ in received.headers})
    other: dict[str, Any] = {
        "billing_policy": {"type": "billing_policy", "bill_to": "user_profile"}
    }
    with pytest.raises(anthropic.BadRequestError, match="asks for another payer"):
        client.messages.create(**ASKED, extra_body=other)
    assert_charged(road, COST, Decimal(0))


def test_tools(road: Road, client: Anthropic) -> None:
    """A tool of the client's own: its call comes in pieces of JSON, and the count of the cache is priced by its parts."""
    use = {"type": "tool_use", "id": "toolu_1", "name": "toll", "input": {}}
    begun = {"type": "content_block_start", "index": 0, "content_block": use}
    counted = {
        "input_tokens": 20,
        "cache_creation_input_tokens": 300,
        "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
        "cache_read_input_tokens": 1_000,
        "output_tokens": 1,
    }
    frames = [
        start(counted),
        PING,
        event(anthropic.types.RawContentBlockStartEvent.model_validate(begun)),
        text('{"road":', "input_json_delta", "partial_json"),
        text('"north"}', "input_json_delta", "partial_json"),
        event(anthropic.types.RawContentBlockStopEvent(type="content_block_stop", index=0)),
        delta({"output_tokens": 30}),
        STOP,
    ]
    road.standin.script(reply(200, frames, EVENTS))
    tool: Any = {"name": "toll", "input_schema": {"type": "object", "properties": {}}}
    with client.messages.stream(**ASKED, tools=[tool]) as stream:
        [block] = stream.get_final_message().content
    assert (block.type, block.input) == ("tool_use", {"road": "north"})  # type: ignore[union-attr]
    # 20 x 2000 + 100 x 2500 + 200 x 4000 + 1000 x 200 + 30 x 10000 nano-dollars.
    [line] = assert_charged(road, Decimal("0.00159"))
    assert line["tokens"] == {
        "input": 1_320,
        "output": 30,
        "cached": 1_000,
        "cache_write": 300,
        "cache_write_1h": 200,
    }


def test_image(road: Road, client: Anthropic) -> None:
    """The base64 of an image arrives as it is."""
    source = {
        "type": "base64",
        "media_type": "image/png",
        "data": base64.b64encode(PNG).decode(),
    }
    content: Any = [
        {"type": "image", "source": source},
        {"type": "text", "text": SAID[0]["content"]},
    ]
    answer = client.messages.create(
        model=MODEL, max_tokens=60, messages=[{"role": "user", "content": content}]
    )
    assert answer.usage.input_tokens == IN
    assert road.standin.wait_count(1)[0].document()["messages"][0]["content"] == content
    assert_charged(road, COST)


def test_a_search_is_a_charge_of_its_own(road: Road, client: Anthropic) -> None:
    """The searches that the answer counts are paid for beside its tokens."""
    counted = {
        "input_tokens": 9_000,
        "output_tokens": 40,
        "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0},
    }
    body = json.dumps(message(counted, model=MODEL)).encode()
    road.standin.script(reply(200, body, JSON))
    tool: Any = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}
    answer = client.messages.create(**ASKED, tools=[tool])
    assert answer.usage.server_tool_use is not None
    # 9000 x 2000 + 40 x 10000 nano-dollars, and twice a cent.
    [line] = assert_charged(road, Decimal("0.0184") + Decimal("0.02"))
    assert [item["model"] for item in line["charges"]] == [MODEL, "web_search"]


def test_free_endpoints(road: Road, client: Anthropic) -> None:
    """To count tokens and to list models costs nothing, and leaves a line."""
    counted = client.messages.count_tokens(model=MODEL, messages=SAID)
    assert counted.input_tokens == IN
    assert [model.id for model in client.models.list()] == list(standin_anthropic.MODELS)
    lines = assert_charged(road, Decimal(0), Decimal(0))
    assert [line["charged_by"] for line in lines] == ["none", "none"]


@pytest.mark.parametrize(
    ("status", "kind", "raised"),
    [
        (400, "invalid_request_error", anthropic.BadRequestError),
        (529, "overloaded_error", anthropic.InternalServerError),
    ],
)
def test_errors_pass(
    road: Road, client: Anthropic, status: int, kind: str, raised: type[anthropic.APIStatusError]
) -> None:
    """An error of the provider's is the SDK's own class, with the provider's own text, and costs nothing."""
    error = {"type": "error", "error": {"type": kind, "message": "told"}, "request_id": "req_1"}
    road.standin.always(reply(status, json.dumps(error).encode(), JSON))
    with pytest.raises(raised) as caught:
        client.messages.create(**ASKED)
    assert caught.value.status_code == status
    assert caught.value.body == error
    assert_charged(road, Decimal(0))


def test_a_missing_cap_is_the_providers_to_refuse(road: Road) -> None:
    """It answers 400 for nothing, so we hold the longest answer and pass the request on."""
    headers = {"anthropic-version": "2023-06-01"}
    with road.http() as http:
        answer = http.post(URL, json={"model": MODEL, "messages": SAID}, headers=headers)
    assert answer.json()["error"]["message"] == "max_tokens: Field required"
    assert_charged(road, Decimal(0))


def test_no_money(road: Road, client: Anthropic) -> None:
    """A refusal is the SDK's own error with our text, and nothing leaves."""
    limit(road, "--limit", "0.0001 usd/day")
    with pytest.raises(anthropic.PaymentRequiredError, match="budget") as caught:
        client.messages.create(**ASKED)
    assert caught.value.body["error"]["type"] == "billing_error"  # type: ignore[index]
    assert "budget_exceeded" in caught.value.body["error"]["message"]  # type: ignore[index]
    assert road.standin.snapshot() == []
    assert road.wait_lines(1)[0]["reason"] == "budget_exceeded"


def test_clamp(road: Road) -> None:
    """The cap becomes what is left, but for a request that thinks it stays above the thinking."""
    limit(road, "--limit", "0.02 usd/day", "--on-shortfall", "clamp")
    with road.http() as http:
        headers = {"anthropic-version": "2023-06-01"}
        lowered = http.post(URL, json={**ASKED, "max_tokens": 50_000}, headers=headers)
        thinks = {"thinking": {"type": "enabled", "budget_tokens": 4_000}, "max_tokens": 50_000}
        refused = http.post(URL, json={**ASKED, **thinks}, headers=headers)
    cap = int(lowered.headers["x-tollhouse-clamped"])
    [received] = road.standin.wait_count(1)
    assert received.document() == {**ASKED, "max_tokens": cap}
    assert 1_900 < cap < 2_000
    assert (refused.status_code, refused.headers["x-tollhouse-reason"]) == (402, "budget_exceeded")


def test_an_error_inside_a_stream(road: Road, client: Anthropic) -> None:
    """The SDK raises it, and what was seen until then is paid for."""
    broken = (
        b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"broken"}}\n\n'
    )
    begun = start({"input_tokens": 10, "output_tokens": 1}, model=MODEL)
    road.standin.script(reply(200, [begun, text("Hel"), broken], EVENTS))
    stream = client.messages.create(**ASKED, stream=True)
    with pytest.raises(anthropic.APIStatusError, match="broken"):
        list(stream)
    # 10 tokens of input, and a token and a half of text are two.
    [line] = assert_charged(road, Decimal(10 * PRICE_IN + 2 * PRICE_OUT) / 10**9)
    assert line["charged_by"] == "estimate"


def test_a_stream_that_runs_out_of_money(road: Road, client: Anthropic) -> None:
    """A stream without a cap, as a server that speaks like Anthropic may take it: the SDK sees the answer so far and
    then its own error."""
    limit(road, "--limit", "0.025 usd/day")
    steps = Steps()
    steps.release(50)
    frames = [start({"input_tokens": 10, "output_tokens": 1}, model=MODEL)]
    frames += [text(" word")] * 4_000
    road.standin.script(Behaviour(reply=reply(200, frames, EVENTS).reply, steps=steps))
    seen: list[str] = []
    request: Any = {"model": MODEL, "messages": SAID, "stream": True}
    stream = client.post(
        "/v1/messages",
        body=request,
        cast_to=anthropic.types.Message,
        stream=True,
        stream_cls=anthropic.Stream[anthropic.types.RawMessageStreamEvent],
    )

    def read() -> None:
        for told in stream:
            if told.type == "content_block_delta" and told.delta.type == "text_delta":
                seen.append(told.delta.text)
            # The provider is never more than 50 pieces ahead of what was read here.
            steps.release(1)

    with pytest.raises(anthropic.APIStatusError, match="budget does not cover") as raised:
        read()
    error = raised.value.body["error"]  # type: ignore[index]
    assert error["type"] == "billing_error"
    assert "budget_exceeded" in error["message"]
    assert len(seen) > 500
    assert road.standin.wait_for(lambda book: book[0].outcome == "client_gone")
    [line] = road.wait_lines(1)
    assert (line["reason"], line["gate"], line["charged_by"]) == (
        "budget_exceeded",
        "budget",
        "estimate",
    )
    assert Decimal("0.015") < Decimal(line["cost_usd"]) < Decimal("0.0265")


def test_what_is_closed(road: Road, client: Anthropic) -> None:
    """What no route names does not leave."""
    with pytest.raises(anthropic.PermissionDeniedError) as caught:
        client.get("/v1/complete", cast_to=httpx2.Response)
    assert caught.value.response.headers["x-tollhouse-reason"] == "path_not_allowed"
    assert road.standin.snapshot() == []
