"""The request's body as an exchange's owner reads it, and the whole answers that it gives."""

from __future__ import annotations

import asyncio

import pytest
from tests.support.wire import a_head, an_exchange

from tollhouse.admit.bodies import BodyBytes, KeptFor
from tollhouse.denial import Denial, Refused
from tollhouse.listen.exchange import Exchange
from tollhouse.listen.interruption import ClientGone

WHOSE = KeptFor("token", "address", "acme")


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def reading(exchange: Exchange, limit: int = 100, idle_s: float = 60.0) -> asyncio.Task[bytes]:
    return asyncio.ensure_future(exchange.read_all(limit, idle_s))


async def test_a_body_that_is_there() -> None:
    """One piece is given as it is, without a copy."""
    body = b"x" * 50
    exchange, wire = an_exchange(body=body)
    assert await exchange.read_all(100, 1.0) is body
    assert (wire.continued, exchange.buffered, exchange.received) == (0, 0, 50)


async def test_a_body_in_pieces() -> None:
    """Pieces that come while it is waited for, and before, in order."""
    exchange, _ = an_exchange(body=None)
    exchange.feed(b"a")
    task = reading(exchange)
    for piece in (b"b", b"c"):
        await turns()
        exchange.feed(piece)
    exchange.feed_end()
    assert await task == b"abc"


@pytest.mark.parametrize("pieces", [[101], [100, 1], [1] * 101])
async def test_too_large(pieces: list[int]) -> None:
    """The bound is on the sum, and is met before the body has ended."""
    exchange, _ = an_exchange(body=None)
    task = reading(exchange)
    for size in pieces:
        exchange.feed(b"x" * size)
    with pytest.raises(Refused) as refused:
        await task
    assert (refused.value.denial.code, refused.value.denial.why) == (
        "body_too_large",
        "The limit is 100 bytes ([limits] max_body_bytes).",
    )


async def test_exactly_the_limit() -> None:
    """The limit itself is allowed."""
    exchange, _ = an_exchange(body=b"x" * 100)
    assert len(await exchange.read_all(100, 1.0)) == 100


async def test_silence() -> None:
    """No byte within the time is a refusal, and the time counts as waited."""
    exchange, _ = an_exchange(body=None)
    with pytest.raises(Refused) as refused:
        await exchange.read_all(100, 0)
    assert (refused.value.denial.code, refused.value.denial.why) == (
        "timeout",
        "No byte of the body came for 0 s.",
    )
    assert exchange.waited_s > 0


async def test_a_client_that_goes_away() -> None:
    """The reader is woken by the end of the scope that it reads in."""
    exchange, _ = an_exchange(body=None)

    async def read() -> bytes:
        async with exchange.interruptible():
            return await exchange.read_all(100, 60.0)

    task = asyncio.ensure_future(read())
    await turns()
    exchange.lose("closed")
    with pytest.raises(ClientGone, match="closed"):
        await task


@pytest.mark.parametrize("when", ["before", "while"])
async def test_a_body_that_is_malformed(when: str) -> None:
    """What the parser could not read is a refusal, even if a piece of it came in good order."""
    exchange, _ = an_exchange(body=None)
    exchange.feed(b"a")
    if when == "before":
        exchange.spoil(Denial("bad_request", "Chunks."))
    task = reading(exchange)
    await turns()
    if when == "while":
        exchange.spoil(Denial("bad_request", "Chunks."))
    with pytest.raises(Refused) as caught:
        await task
    assert (caught.value.denial.code, caught.value.denial.why) == ("bad_request", "Chunks.")


@pytest.mark.parametrize(
    ("expect", "version", "body", "continued"),
    [
        ("100-continue", "1.1", None, 1),
        ("100-Continue", "2", None, 1),
        ("100-continue", "1.0", None, 0),
        ("100-continue", "1.1", b"x", 0),
        ("something", "1.1", None, 0),
        ("", "1.1", None, 0),
    ],
)
async def test_expect(expect: str, version: str, body: bytes | None, continued: int) -> None:
    """100 once, when the body is first asked for, to a client that waits for it and has not sent it all."""
    head = a_head(headers=[("expect", expect)])
    object.__setattr__(head, "http_version", version)
    exchange, wire = an_exchange(head, body)
    assert wire.continued == 0
    task = reading(exchange)
    await turns()
    if body is None:
        exchange.feed(b"x")
        exchange.feed_end()
    assert await task == b"x"
    assert wire.continued == continued


async def test_room() -> None:
    """Whoever feeds waits until the owner has read, or until nobody will."""
    exchange, _ = an_exchange(body=None)
    exchange.feed(b"x" * 50)
    await exchange.room(50)
    waiting = asyncio.ensure_future(exchange.room(10))
    await turns()
    assert not waiting.done()
    task = reading(exchange)
    await turns()
    assert waiting.done()
    exchange.feed(b"x" * 40)
    waiting = asyncio.ensure_future(exchange.room(10))
    exchange.lose("gone")
    await waiting
    task.cancel()


async def test_what_comes_behind_the_answer_is_counted_and_dropped() -> None:
    """A refused body is read on so that the client sees the answer; it is not kept."""
    exchange, wire = an_exchange(body=None)
    exchange.feed(b"x" * 10)
    exchange.answer(413, [], b"no")
    for _ in range(10):
        exchange.feed(b"x" * 10)
    assert (wire.body, exchange.received, exchange.buffered, exchange.finished) == (
        b"no",
        110,
        0,
        True,
    )


@pytest.mark.parametrize(("method", "body"), [("GET", b"refused"), ("HEAD", b"")])
async def test_a_whole_answer(method: str, body: bytes) -> None:
    """HEAD is told the length and sent nothing (RFC 9110 9.3.2)."""
    exchange, wire = an_exchange(a_head(method))
    exchange.answer(403, [("x-a", "b")], b"refused")
    assert (wire.status, wire.headers, wire.body) == (
        403,
        {"x-a": "b", "content-length": "7"},
        body,
    )
    assert (wire.ends, wire.cut) == (1, False)


async def test_an_abort_comes_once() -> None:
    """Cutting an answer that has ended does nothing, nor does cutting it twice."""
    exchange, wire = an_exchange()
    exchange.start(200, [])
    exchange.abort()
    exchange.abort()
    assert (wire.ends, wire.cut) == (1, True)
    exchange, wire = an_exchange()
    exchange.answer(200, [], b"")
    exchange.abort()
    assert (wire.ends, wire.cut) == (1, False)


async def test_what_is_kept_is_counted_until_the_answer() -> None:
    """Bytes count as they come, not as they are announced, and no longer when the exchange is
    finished."""
    budget = BodyBytes(1000)
    exchange, _ = an_exchange(a_head(headers=[("content-length", "400")]), body=None)
    task = asyncio.ensure_future(exchange.read_all(1000, 60.0, budget.reserve(WHOSE)))
    await turns()
    assert budget.kept_bytes == 0
    exchange.feed(b"x" * 300)
    await turns()
    assert budget.kept_bytes == 300
    exchange.feed(b"x" * 100)
    exchange.feed_end()
    assert len(await task) == budget.kept_bytes == 400
    exchange.answer(200, [], b"")
    assert budget.kept_bytes == 0


async def test_a_body_that_there_is_no_room_for() -> None:
    """It is refused as soon as its share is full."""
    budget = BodyBytes(1000)
    exchange, _ = an_exchange(body=None)
    task = asyncio.ensure_future(exchange.read_all(1000, 60.0, budget.reserve(WHOSE)))
    exchange.feed(b"x" * 501)
    with pytest.raises(Refused) as refused:
        await task
    assert refused.value.denial.code == "concurrency_limited"
    exchange.abort()
    assert budget.kept_bytes == 0
