"""A request and its answer on a connection of aiohttp: the bytes of a head, and where the connection ends up."""

from __future__ import annotations

import asyncio
import gc
import sys

import pytest
from tests.dispatch.conftest import Reach
from tests.dispatch.provider import HOST, Line, RawProvider, answer, body_of, says
from tests.support.calls import lease

from tollhouse.dispatch.http_client import request_head
from tollhouse.dispatch.upstream import UpstreamError

LARGE = 8_000_000


# The head.


def test_the_bytes_of_a_head() -> None:
    """Host is first and Content-Length last; the others keep their order, their case and their repetitions."""
    headers = [("X-B", "1"), ("x-a", "é\udce9\t"), ("X-B", "2"), ("x-b", "3")]
    assert request_head("post", "/v1/ä\udce4?q", "h:8443", headers, 3) == (
        b"POST /v1/\xc3\xa4\xe4?q HTTP/1.1\r\nHost: h:8443\r\nX-B: 1\r\n"
        b"x-a: \xc3\xa9\xe9\t\r\nX-B: 2\r\nx-b: 3\r\nContent-Length: 3\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("method", "length", "line"),
    [
        ("GET", None, None),
        ("OPTIONS", None, None),
        ("DELETE", None, b"Content-Length: 0"),
        ("GET", 2, b"Content-Length: 2"),
        ("POST", 0, b"Content-Length: 0"),
    ],
)
def test_the_length(method: str, length: int | None, line: bytes | None) -> None:
    """A method that may have a body says that it has none."""
    lines = request_head(method, "/", "h", [], length).split(b"\r\n")
    assert [each for each in lines if each.startswith(b"Content")] == ([line] if line else [])


@pytest.mark.parametrize("method", ["", "GET /x HTTP/1.1\r\nA:", "GET\t", "gét"])
def test_a_method_that_is_no_token(method: str) -> None:
    """It would be more than a method on the wire."""
    with pytest.raises(ValueError, match="method"):
        request_head(method, "/", "h", [], None)


@pytest.mark.parametrize("pair", [("x-a", "a\r\nb"), ("x\n", "a"), ("x-a", "\x7f"), ("x", "é\0")])
async def test_what_cannot_be_sent_is_known_before_a_connection(
    raw: RawProvider, reach: Reach, pair: tuple[str, str]
) -> None:
    """Nobody is told that the request has left, and nothing is dialled."""
    told: list[str] = []
    async with reach(raw.port) as to:
        with pytest.raises(ValueError, match="cannot be sent") as caught:
            await to.send(headers=[pair], on_leaving=lambda: told.append("left"))
        assert to.resolver.asked == []
    assert (told, raw.connections, caught.value.__context__) == ([], 0, None)


# Where the connection ends up.


async def test_head_has_no_body(raw: RawProvider, reach: Reach) -> None:
    """The length in the answer to HEAD is of a body that does not come."""
    raw.behaviours = [
        says(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n"),
        says(answer()),
    ]
    async with reach(raw.port) as to:
        assert await body_of(await to.send("HEAD", "/v1/models", body=b"")) == b""
        assert await body_of(await to.send()) == b"{}"
    assert [request.connection for request in raw.received] == [1, 1]


async def hurried(line: Line) -> None:
    """It answers before it has read the request, and reads no more."""
    await line.say(answer(413, b"too large"))
    line.writer.transport.pause_reading()  # type: ignore[attr-defined]


async def test_an_answer_before_the_body_is_written(reach: Reach) -> None:
    """It is passed on. Its connection is in the middle of a request, so nobody gets it again."""
    async with (
        RawProvider(on_connect=hurried).running(None) as raw,
        reach(raw.port, unsafe_plaintext=True) as to,
    ):
        for count in (1, 2):
            got = await to.send(body=bytes(LARGE * 4))
            assert (got.status, await body_of(got)) == (413, b"too large")
            assert raw.connections == count


async def test_a_connection_that_is_lost_while_the_body_is_written(reach: Reach) -> None:
    """The provider may have had enough of it to charge for."""
    told: list[str] = []

    async def reset(line: Line) -> None:
        await asyncio.sleep(0.05)
        line.reset()

    async with (
        RawProvider(on_connect=reset).running(None) as raw,
        reach(raw.port, unsafe_plaintext=True) as to,
    ):
        with pytest.raises(UpstreamError) as caught:
            await to.send(body=bytes(LARGE * 4), on_leaving=lambda: told.append("left"))
    assert (caught.value.code, caught.value.sent) == ("upstream_unreachable", "maybe")
    assert told == ["left"]


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_large_body_leaves_its_connection(
    raw: RawProvider, reach: Reach, method: str
) -> None:
    """Once it is written whole, the connection is like any other."""
    async with reach(raw.port) as to:
        for _ in range(3):
            assert await body_of(await to.send(method, body=bytes(LARGE))) == b"{}"
    assert [request.connection for request in raw.received] == [1, 1, 1]
    assert all(request.body == bytes(LARGE) for request in raw.received)


async def test_a_forgotten_answer(raw: RawProvider, reach: Reach) -> None:
    """When the provider has been silent for long, its connection is closed, and aiohttp has nothing to complain of."""
    raw.behaviours = [says(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12")]
    async with reach(raw.port, answer_timeout_s=0.2) as to:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
        said: list[object] = []
        got = await to.send()
        assert got.status == 200
        raw.closed.clear()
        del got
        await raw.closed.wait()
        assert await body_of(await to.send()) == b"{}"
    assert said == []
    assert [request.connection for request in raw.received] == [1, 2]


@pytest.mark.skipif(
    sys.version_info < (3, 13),
    reason="Python 3.12.1 crashes when a test looks through all objects while a loop runs",
)
@pytest.mark.parametrize("size", [13, LARGE])
async def test_the_key_does_not_stay(raw: RawProvider, reach: Reach, size: int) -> None:
    """While an answer is read, nothing that the collector sees holds the request's head."""
    raw.behaviours = [says(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12")]
    async with reach(raw.port) as to:
        key = f"sk-of-this-test-only-{size}"
        got = await to.send(body=bytes(size), lease=lease(key))
        held = [
            found
            for holder in gc.get_objects()
            for found in gc.get_referents(holder)
            if isinstance(found, bytes) and key.encode() in found and HOST.encode() in found
        ]
        ours = [head for head in held if not any(head is r.head for r in raw.received)]
        await got.close()
    assert len(ours) == 0
