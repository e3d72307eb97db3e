"""The gate that reads a body: what it takes, what it fills in, and when it refuses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from tests.support.wire import FakeWire, a_head, an_exchange

from tollhouse.admit.reading import Reading
from tollhouse.call import Call, Project, RequestHead
from tollhouse.denial import Decision
from tollhouse.listen.exchange import ClientGone, Exchange, Stopped
from tollhouse.providers import Provider
from tollhouse.providers.openai import OPENAI

CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
WINDOWS = {"gpt-4o": 128_000, "gpt-4": 8_000, "gpt-5": 400_000}
READING = Reading(max_body_bytes=1_000, idle_s=5, window=lambda provider_id, model: WINDOWS.get(model))
CAPPED = replace(OPENAI, default_output_tokens=700)
WORST = Project("proj_1", "acme", estimate="worst")


def a_call(head: RequestHead, provider: Provider = CAPPED) -> Call:
    call = Call.begin(head)
    call.provider = provider
    call.path = head.target
    call.endpoint = call.provider.endpoint(head.method, head.target)
    return call


async def read(
    body: bytes | dict[str, Any],
    *,
    path: str = "/v1/chat/completions",
    method: str = "POST",
    headers: Sequence[tuple[str, str]] = (),
    reading: Reading = READING,
    provider: Provider = CAPPED,
    project: Project | None = None,
) -> tuple[Call, Decision]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = a_head(method, path, headers)
    call = a_call(head, provider)
    call.project = project
    exchange, _ = an_exchange(head, data)
    return call, await reading(call, exchange)


def refusal(decision: Decision) -> tuple[str, int]:
    assert decision.denial is not None
    return decision.denial.code, decision.denial.status


async def test_a_body_that_is_read() -> None:
    """What later gates need is on the call."""
    call, decision = await read({**CHAT, "service_tier": "flex"})
    assert decision.allowed
    assert (call.model, call.stream, call.usage_injected, call.service_tier) == ("gpt-4o", False, False, "flex")
    assert call.body == json.dumps({**CHAT, "service_tier": "flex"}).encode()
    assert call.input_estimate > 0


async def test_a_stream_asks_for_its_usage() -> None:
    """The body that is sent asks for it, and the answer will have to be edited back."""
    call, _ = await read({**CHAT, "stream": True})
    assert (call.stream, call.usage_injected) == (True, True)
    assert json.loads(call.body or b"")["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("more", "cap", "capped"),
    [
        ({}, 700, False),
        ({"n": 3}, 2_100, False),
        ({"max_tokens": 10}, 10, True),
        ({"max_completion_tokens": 10, "n": 4}, 40, True),
        ({"max_tokens": 700}, 700, True),
        ({"max_tokens": 0}, 700, False),
        ({"max_tokens": 10, "n": 2, "best_of": 4}, 40, True),
        ({"stream": True}, 2_048, False),
        ({"stream": True, "n": 2}, 4_096, False),
    ],
)
async def test_output_caps(more: dict[str, Any], cap: int, capped: bool) -> None:
    """The request's own, else the provider's default; times the number of answers."""
    call, decision = await read({**CHAT, **more})
    assert decision.allowed
    assert (call.output_cap, call.capped) == (cap, capped)


@pytest.mark.parametrize(
    ("body", "cap"),
    [
        (CHAT, 16_384),
        ({**CHAT, "model": "gpt-4"}, 8_000),
        ({**CHAT, "model": "gpt-5", "n": 2}, 256_000),
        ({**CHAT, "models": ["gpt-4.1"]}, 32_768),
        ({**CHAT, "models": "gpt-4.1"}, 128_000),
        ({**CHAT, "max_completion_tokens": 5, "models": ["gpt-4.1"]}, 5),
    ],
)
async def test_without_a_cap_the_models_own(body: dict[str, Any], cap: int) -> None:
    """Of the model that can be reached with the longest answers; where one can't be read, of the longest there is."""
    call, _ = await read(body, provider=OPENAI)
    assert call.output_cap == cap


@pytest.mark.parametrize(
    ("more", "tokens"),
    [
        ({}, 128_000),
        ({"models": ["gpt-5"]}, 400_000),
        ({"models": ["nobody-knows"]}, 1_050_000),
        ({"route": "fallback"}, 1_050_000),
    ],
)
async def test_input_that_is_elsewhere(more: dict[str, Any], tokens: int) -> None:
    """The context window of the model with the longest, as the price table has it; the configuration's word wins."""
    body = {
        **CHAT,
        "messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}],
        **more,
    }
    call, _ = await read(body, provider=OPENAI)
    assert call.input_estimate == tokens
    call, _ = await read(body, provider=replace(OPENAI, default_input_tokens=77))
    assert call.input_estimate == 77


async def test_a_prediction_is_held_for_beside_the_cap() -> None:
    """For each answer, as output: the cap itself stays what it is."""
    body = {**CHAT, "max_completion_tokens": 10, "n": 2, "prediction": {"type": "content", "content": "x" * 40}}
    call, _ = await read(body)
    assert (call.output_cap, call.predicted) == (20, 20)
    call, _ = await read(body, project=WORST)
    assert (call.output_cap, call.predicted) == (20, 80)


async def test_worst_of_a_project() -> None:
    """A token a byte; and no slice of a stream without a cap, since nobody can say how fast it will write."""
    typical, _ = await read({**CHAT, "stream": True}, provider=OPENAI)
    worst, _ = await read({**CHAT, "stream": True}, provider=OPENAI, project=WORST)
    assert worst.input_estimate > 1_000 > typical.input_estimate
    assert (worst.output_cap, worst.capped) == (16_384, False)


async def test_embeddings_have_no_output() -> None:
    """Nothing is held for it."""
    call, decision = await read({"model": "text-embedding-3-small", "input": "hello"}, path="/v1/embeddings")
    assert decision.allowed
    assert (call.output_cap, call.capped) == (0, False)


async def test_a_get_without_a_body() -> None:
    """Nothing has to be read in it."""
    call, decision = await read(b"", method="GET", path="/v1/models")
    assert decision.allowed
    assert (call.body, call.model, call.input_estimate) == (None, "", 0)


async def test_a_get_with_a_body() -> None:
    """400: it would be sent on unread."""
    _, decision = await read(b"{}", method="GET", path="/v1/models")
    assert refusal(decision) == ("bad_request", 400)


async def test_a_malformed_body() -> None:
    """What `prepare` refuses is this gate's refusal."""
    _, decision = await read(b'{"model":"a","model":"b"}')
    assert refusal(decision) == ("bad_request", 400)
    assert decision.gate == "read"


@pytest.mark.parametrize("length", ["1001", "0001001", "9" * 18, "9" * 5_000])
async def test_too_large_by_its_own_word(length: str) -> None:
    """413 before a byte was read, and without asking for the body; a number too long for Python is one of them."""
    head = a_head(headers=[("content-length", length), ("expect", "100-continue")])
    exchange, wire = an_exchange(head, None)
    assert refusal(await READING(a_call(head), exchange)) == ("body_too_large", 413)
    assert wire.continued == 0


@pytest.mark.parametrize("length", ["-1", "+5", "1e3", "", "1_0", "٣", "5, 5"])
async def test_a_length_that_is_none(length: str) -> None:
    """400 if a listener let it through."""
    _, decision = await read(CHAT, headers=[("content-length", length)])
    assert refusal(decision) == ("bad_request", 400)


@pytest.mark.parametrize("size", [1_000, 1_001])
async def test_too_large_while_reading(size: int) -> None:
    """Without a length the bound is met as the bytes come: one too many is refused though more would follow."""
    exchange, _ = an_exchange(body=None)
    call = a_call(exchange.head)
    reading = asyncio.ensure_future(READING(call, exchange))
    padding = size - len(json.dumps({**CHAT, "user": ""}))
    body = json.dumps({**CHAT, "user": "x" * padding}).encode()
    assert len(body) == size
    for start in range(0, size, 100):
        exchange.feed(body[start : start + 100])
        await asyncio.sleep(0)
    if size <= 1_000:
        exchange.feed_end()
        assert (await reading).allowed
    else:
        assert refusal(await reading) == ("body_too_large", 413)


async def test_silence() -> None:
    """408 when nothing comes for too long, however much came before."""
    exchange, _ = an_exchange(body=None)
    exchange.feed(b'{"model":')
    decision = await Reading(max_body_bytes=1_000, idle_s=0)(a_call(exchange.head), exchange)
    assert refusal(decision) == ("timeout", 408)


@pytest.mark.parametrize(
    ("codings", "allowed"),
    [
        (["identity"], True),
        (["gzip"], False),
        (["Identity"], False),
        (["identity, gzip"], False),
        (["identity", "gzip"], False),
    ],
)
async def test_a_compressed_body(codings: list[str], allowed: bool) -> None:
    """400: what cannot be read cannot be held for. The second header of that name counts too."""
    _, decision = await read(CHAT, headers=[("content-encoding", coding) for coding in codings])
    assert decision.allowed is allowed
    if not allowed:
        assert refusal(decision) == ("bad_request", 400)


async def reading_on(exchange: Exchange) -> asyncio.Future[Decision]:
    """The gate, waiting for the body."""
    under_way = asyncio.ensure_future(READING(a_call(exchange.head), exchange))
    await asyncio.sleep(0)
    assert not under_way.done()
    return under_way


async def test_the_body_is_asked_for_once_it_is_wanted() -> None:
    """Expect: 100-continue is answered here, behind admit."""
    head = a_head(headers=[("expect", "100-continue")])
    exchange, wire = an_exchange(head, None)
    assert wire.continued == 0
    under_way = await reading_on(exchange)
    assert wire.continued == 1
    exchange.feed(json.dumps(CHAT).encode())
    exchange.feed_end()
    assert (await under_way).allowed
    assert wire.continued == 1


async def test_a_client_that_leaves_ends_it() -> None:
    """No decision: there is nobody to tell."""
    exchange, wire = an_exchange(body=None)
    under_way = await reading_on(exchange)
    exchange.lose("reset")
    with pytest.raises(ClientGone):
        await under_way
    assert isinstance(wire, FakeWire)
    assert wire.status == 0


async def test_a_stop_ends_it() -> None:
    """A body that trickles in does not keep the gateway from stopping."""
    exchange, _ = an_exchange(body=None)
    under_way = await reading_on(exchange)
    exchange.stop("stopping")
    with pytest.raises(Stopped):
        await under_way
