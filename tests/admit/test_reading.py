"""The gate that reads a body: what it takes, what it fills in, and when it refuses."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import tracemalloc
import zlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import brotli
import pytest
import zstandard
from tests.support.calls import CHAT, PROJECT, admitted, head
from tests.support.values import replace
from tests.support.wire import an_exchange

from tollhouse.admit.reading import ReadBody
from tollhouse.call import Admitted, Requested, RequestHead
from tollhouse.denial import Refused
from tollhouse.families.asked import Asked, Dialect, Request
from tollhouse.listen.exchange import Exchange
from tollhouse.listen.interruption import ClientGone, Stopped
from tollhouse.parties import Project
from tollhouse.providers import Provider
from tollhouse.providers.openai import OPENAI

BODY: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
WINDOWS = {"gpt-4o": 128_000, "gpt-4": 8_000, "gpt-5": 400_000}
READ = ReadBody(
    max_body_bytes=1_000, idle_s=5, window=lambda provider_id, model: WINDOWS.get(model)
)
CAPPED = replace(OPENAI, default_output_tokens=700)
WORST = Project("proj_1", "acme", estimate="worst")


def a_call(given: RequestHead, provider: Provider = CAPPED, project: Project = PROJECT) -> Admitted:
    call = admitted(given.target, method=given.method, provider=provider, project=project)
    return replace(call, arrival=replace(call.arrival, head=given))


async def read(
    body: bytes | dict[str, Any],
    *,
    path: str = CHAT,
    method: str = "POST",
    headers: Sequence[tuple[str, str]] = (),
    provider: Provider = CAPPED,
    project: Project = PROJECT,
) -> Requested:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = head(method, path, *headers)
    exchange, _ = an_exchange(given, data)
    return await READ(a_call(given, provider, project), exchange)


async def refusal(reading: Awaitable[Requested]) -> tuple[str, int]:
    with pytest.raises(Refused) as refused:
        await reading
    return refused.value.denial.code, refused.value.denial.status


def held(call: Requested) -> tuple[int, bool]:
    """Tokens of output that the estimate has, and whether the request itself caps them."""
    return call.estimate.units.output, call.asked.cap is not None


def sent(call: Requested) -> dict[str, Any]:
    """The body as it will be sent."""
    assert call.body is not None
    document = json.loads(call.admitted.provider.family.rewrite(call.body, call.asked))
    assert isinstance(document, dict)
    return document


async def test_a_body_that_is_read() -> None:
    """What later gates need is there."""
    call = await read({**BODY, "service_tier": "flex"})
    asked = call.asked
    assert (asked.model, asked.stream, asked.asks_for_usage, asked.tier) == (
        "gpt-4o",
        False,
        False,
        "flex",
    )
    assert call.body == json.dumps({**BODY, "service_tier": "flex"}).encode()
    assert call.estimate.units.input > 0


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/json; charset=utf-16", "application/x-www-form-urlencoded"]
)
async def test_it_is_sent_as_what_it_was_read_as(kind: str) -> None:
    """Under another type the provider might read another body than was judged."""
    given = head()
    exchange, _ = an_exchange(given, json.dumps(BODY).encode())
    call = replace(a_call(given), headers=(("content-type", kind), ("accept", "a")))
    assert sorted((await READ(call, exchange)).headers) == [
        ("accept", "a"),
        ("content-type", "application/json"),
    ]


async def test_a_stream_asks_for_its_usage() -> None:
    """The body that is sent asks for it, and the answer will have to be edited back."""
    call = await read({**BODY, "stream": True})
    assert (call.asked.stream, call.asked.asks_for_usage) == (True, True)
    assert sent(call)["stream_options"] == {"include_usage": True}


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
    assert held(await read({**BODY, **more})) == (cap, capped)


@pytest.mark.parametrize(
    ("body", "cap"),
    [
        (BODY, 16_384),
        ({**BODY, "model": "gpt-4"}, 8_000),
        ({**BODY, "model": "gpt-5", "n": 2}, 256_000),
        ({**BODY, "models": ["gpt-4.1"]}, 32_768),
        ({**BODY, "models": "gpt-4.1"}, 128_000),
        ({**BODY, "max_completion_tokens": 5, "models": ["gpt-4.1"]}, 5),
    ],
)
async def test_without_a_cap_the_models_own(body: dict[str, Any], cap: int) -> None:
    """Of the model that can be reached with the longest answers; where one can't be read, of the longest there is."""
    assert held(await read(body, provider=OPENAI))[0] == cap


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
        **BODY,
        "messages": [
            {"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}
        ],
        **more,
    }
    call = await read(body, provider=OPENAI)
    assert call.estimate.units.input == tokens
    call = await read(body, provider=replace(OPENAI, default_input_tokens=77))
    assert call.estimate.units.input == 77


async def test_a_prediction_is_held_for_beside_the_cap() -> None:
    """For each answer, as output: the cap itself stays what it is."""
    body = {
        **BODY,
        "max_completion_tokens": 10,
        "n": 2,
        "prediction": {"type": "content", "content": "x" * 40},
    }
    call = await read(body)
    assert (held(call)[0], call.estimate.predicted) == (20, 20)
    call = await read(body, project=WORST)
    assert (held(call)[0], call.estimate.predicted) == (20, 80)


async def test_worst_of_a_project() -> None:
    """A token a byte; and no slice of a stream without a cap, since nobody can say how fast it will write."""
    typical = await read({**BODY, "stream": True}, provider=OPENAI)
    worst = await read({**BODY, "stream": True}, provider=OPENAI, project=WORST)
    assert worst.estimate.units.input > 1_000 > typical.estimate.units.input
    assert held(worst) == (16_384, False)


async def test_embeddings_have_no_output() -> None:
    """Nothing is held for it."""
    assert held(
        await read({"model": "text-embedding-3-small", "input": "hello"}, path="/v1/embeddings")
    ) == (0, False)


async def test_a_get_without_a_body() -> None:
    """Nothing has to be read in it."""
    call = await read(b"", method="GET", path="/v1/models")
    assert (call.body, call.asked.model, call.estimate.units.input) == (None, "", 0)


async def test_a_get_with_a_body() -> None:
    """400: it would be sent on unread."""
    assert await refusal(read(b"{}", method="GET", path="/v1/models")) == ("bad_request", 400)


async def test_a_malformed_body() -> None:
    """What the family refuses is this gate's refusal."""
    assert await refusal(read(b'{"model":"a","model":"b"}')) == ("bad_request", 400)


@pytest.mark.parametrize("length", ["1001", "0001001", "9" * 18, "9" * 5_000])
async def test_too_large_by_its_own_word(length: str) -> None:
    """413 before a byte was read, and without asking for the body; a number too long for Python is one of them."""
    given = head("POST", CHAT, ("content-length", length), ("expect", "100-continue"))
    exchange, wire = an_exchange(given, None)
    assert await refusal(READ(a_call(given), exchange)) == ("body_too_large", 413)
    assert wire.continued == 0


@pytest.mark.parametrize("length", ["-1", "+5", "1e3", "", "1_0", "٣", "5, 5"])
async def test_a_length_that_is_none(length: str) -> None:
    """400 if a listener let it through."""
    assert await refusal(read(BODY, headers=[("content-length", length)])) == ("bad_request", 400)


@pytest.mark.parametrize("size", [1_000, 1_001])
async def test_too_large_while_reading(size: int) -> None:
    """Without a length the bound is met as the bytes come: one too many is refused though more would follow."""
    exchange, _ = an_exchange(body=None)
    call = a_call(exchange.head)
    reading = asyncio.ensure_future(READ(call, exchange))
    padding = size - len(json.dumps({**BODY, "user": ""}))
    body = json.dumps({**BODY, "user": "x" * padding}).encode()
    assert len(body) == size
    for start in range(0, size, 100):
        exchange.feed(body[start : start + 100])
        await asyncio.sleep(0)
    if size <= 1_000:
        exchange.feed_end()
        assert (await reading).body == body
    else:
        assert await refusal(reading) == ("body_too_large", 413)


async def test_silence() -> None:
    """408 when nothing comes for too long, however much came before."""
    exchange, _ = an_exchange(body=None)
    exchange.feed(b'{"model":')
    impatient = ReadBody(max_body_bytes=1_000, idle_s=0)
    assert await refusal(impatient(a_call(exchange.head), exchange)) == ("timeout", 408)


@pytest.mark.parametrize(
    ("codings", "compress"),
    [
        (["identity"], lambda body: body),
        (["GZIP"], gzip.compress),
        (["identity, gzip"], gzip.compress),
        (["identity", "deflate"], zlib.compress),
        (["br"], brotli.compress),
        (["zstd"], zstandard.ZstdCompressor().compress),
    ],
)
async def test_a_compressed_body(codings: list[str], compress: Callable[[bytes], bytes]) -> None:
    """The plain body is judged, and the coded one is kept to be sent."""
    plain = json.dumps(BODY).encode()
    headers = [("content-encoding", coding) for coding in codings]
    coded = compress(plain)
    requested = await read(coded, headers=headers)
    assert requested.asked.model == "gpt-4o"
    assert requested.body == plain
    assert requested.coded == (None if codings == ["identity"] else coded)


@pytest.mark.parametrize("codings", [["compress"], ["gzip, br"], ["gzip", "gzip"], ['a"b']])
async def test_an_unknown_coding(codings: list[str]) -> None:
    """415: what cannot be read cannot be held for. The second header of that name counts too."""
    reading = read(BODY, headers=[("content-encoding", coding) for coding in codings])
    assert await refusal(reading) == ("unsupported_encoding", 415)


async def test_a_compressed_body_is_bounded_by_what_comes_out() -> None:
    """And what is no gzip is malformed."""
    gzipped = [("content-encoding", "gzip")]
    assert await refusal(read(gzip.compress(bytes(1_001)), headers=gzipped)) == (
        "body_too_large",
        413,
    )
    assert await refusal(read(b"{}", headers=gzipped)) == ("bad_request", 400)


async def reading_on(exchange: Exchange) -> asyncio.Future[Requested]:
    """The gate, waiting for the body."""
    under_way = asyncio.ensure_future(READ(a_call(exchange.head), exchange))
    await asyncio.sleep(0)
    assert not under_way.done()
    return under_way


async def test_the_body_is_asked_for_once_it_is_wanted() -> None:
    """Expect: 100-continue is answered here, behind admit."""
    exchange, wire = an_exchange(head("POST", CHAT, ("expect", "100-continue")), None)
    assert wire.continued == 0
    under_way = await reading_on(exchange)
    assert wire.continued == 1
    exchange.feed(json.dumps(BODY).encode())
    exchange.feed_end()
    assert (await under_way).asked.model == "gpt-4o"
    assert wire.continued == 1


async def test_a_client_that_leaves_ends_it() -> None:
    """No refusal: there is nobody to tell."""
    exchange, wire = an_exchange(body=None)
    under_way = await reading_on(exchange)
    exchange.lose("reset")
    with pytest.raises(ClientGone):
        await under_way
    assert wire.status == 0


async def test_a_stop_ends_it() -> None:
    """A body that trickles in does not keep the gateway from stopping."""
    exchange, _ = an_exchange(body=None)
    under_way = await reading_on(exchange)
    exchange.stop("stopping")
    with pytest.raises(Stopped):
        await under_way


async def test_a_deployment_is_read_as_its_model() -> None:
    """Its model's window and longest answer hold; the body is sent as it came."""
    models = {"mine": "gpt-4", "small": "gpt-4o"}
    provider = replace(OPENAI, models=models)
    call = await read(BODY | {"model": "mine", "fallbacks": ["small", "gpt-5"]}, provider=provider)
    asked = call.asked
    assert (asked.model, asked.deployment) == ("gpt-4", "mine")
    assert asked.other_models == ("gpt-4o", "gpt-5")
    assert json.loads(call.body or b"")["model"] == "mine"
    alone = await read(BODY | {"model": "mine"}, provider=provider)
    assert alone.estimate.units.output == 8_000
    other = await read(BODY, provider=provider)
    assert (other.asked.model, other.asked.deployment) == ("gpt-4o", "")
    for body in (BODY | {"model": "Mine"}, BODY | {"fallbacks": ["SMALL"]}):
        with pytest.raises(Refused) as refused:
            await read(body, provider=provider)
        assert "write it so" in (refused.value.denial.why or "")


@pytest.mark.parametrize("size", [1, 70_000])
async def test_a_call_that_waits_keeps_no_parsed_body(size: int) -> None:
    """It has up to 27 times the memory of the body, and Redis may let the call wait."""
    reads = ReadBody(max_body_bytes=1 << 20, idle_s=5)
    given = head()
    data = json.dumps({**BODY, "user": "x" * size, "stream": True}).encode()
    exchange, _ = an_exchange(given, data)
    call = await reads(a_call(given), exchange)
    assert call.asked.document is None
    assert sent(call)["stream_options"] == {"include_usage": True}
    assert (await reads.again(call, call.admitted)).asked.document is None


@pytest.mark.parametrize(
    ("options", "becomes"),
    [
        ("{ }", {"include_usage": True}),
        ("null", {"include_usage": True}),
        ('{"include_obfuscation": false}', {"include_usage": True, "include_obfuscation": False}),
        ('{"include\\u005fusage": null}', {"include_usage": True}),
    ],
)
@pytest.mark.parametrize("key", ["stream_options", "stream\\u005foptions"])
async def test_usage_is_asked_for_in_the_bytes_alone(
    key: str, options: str, becomes: dict[str, Any]
) -> None:
    """However the key and the options are written."""
    body = json.dumps({**BODY, "stream": True})[:-1] + f', "{key}": {options}}}'
    assert sent(await read(body.encode()))["stream_options"] == becomes


@pytest.mark.parametrize(
    ("dense", "at_once"),
    [
        ("1," * 1_900, True),
        ("1," * 30_000, False),
        ('"",' * 20_000, False),
        ('{"a":1},' * 3_000, False),
        ("x" * 60_000, True),
        ("x" * 70_000, False),
    ],
)
async def test_a_body_with_many_parts_is_read_by_a_thread(dense: str, at_once: bool) -> None:
    """Short numbers as well: 32,000 of them in 64 KiB would hold up all calls for 90 ms."""
    readers = []

    def noted(request: Request, dialect: Dialect) -> Asked:
        readers.append(threading.current_thread())
        return OPENAI.family.read(request, dialect)

    provider = replace(CAPPED, family=replace(OPENAI.family, read=noted))
    start = '{"model":"gpt-4o","messages":[],"x":'
    body = start + (f'"{dense}"}}' if dense[0] == "x" else f"[{dense}0]}}")
    given = head()
    exchange, _ = an_exchange(given, body.encode())
    await ReadBody(max_body_bytes=1 << 20, idle_s=5)(a_call(given, provider), exchange)
    assert [reader is threading.main_thread() for reader in readers] == [at_once]


async def test_bodies_under_way_take_four_times_their_bytes_and_a_constant() -> None:
    """However many there are and whatever is in them. The constant is that of one heavy body, of
    three beside one another and of one that the event loop reads: 28 MiB."""
    reads = ReadBody(max_body_bytes=1 << 20, idle_s=5)
    given = head()
    start = b'{"model":"gpt-4o","messages":[],"x":['
    bodies = [start + b'{"a":1},' * 25_000 + b"0]}" for _ in range(6)]
    bodies += [start + b"{}," * 20_000 + b"0]}" for _ in range(12)]

    async def one(body: bytes, tenant: str) -> Requested:
        exchange, _ = an_exchange(given, body)
        return await reads(a_call(given, project=replace(PROJECT, tenant=tenant)), exchange)

    tracemalloc.start()
    try:
        calls = await asyncio.gather(*(one(body, f"t{n % 4}") for n, body in enumerate(bodies)))
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    size = sum(map(len, bodies))
    assert len(calls) == 18
    assert most <= 4 * size + (28 << 20)
    assert kept <= size + (1 << 20)
