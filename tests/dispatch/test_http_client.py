"""A request and its answer on a connection of aiohttp: the names that are not public, the bytes of a head, and where the
connection ends up."""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
from typing import Any

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from tests.dispatch.conftest import Reach
from tests.dispatch.provider import HOST, Line, RawProvider, answer, says
from tests.support.calls import lease

from tollhouse.dispatch.http_client import (
    Connection,
    DialTarget,
    Pool,
    PoolBounds,
    request_head,
)
from tollhouse.dispatch.resolve import GuardedResolver
from tollhouse.dispatch.upstream import Answer, UpstreamError
from tollhouse.providers import Catalog

LARGE = 8_000_000


async def body_of(got: Answer) -> bytes:
    return b"".join([piece async for piece in got.chunks()])


# aiohttp's names that are not public. A failure here says that a new version of aiohttp needs `connection.py` to be read again.


def test_the_key_of_a_connection() -> None:
    """`DialTarget` fills these by place. A field behind them needs a default that suits a request of ours."""
    assert ConnectionKey._fields[:7] == (
        "host",
        "port",
        "is_ssl",
        "ssl",
        "proxy",
        "proxy_auth",
        "proxy_headers_hash",
    )
    assert ConnectionKey._field_defaults in ({}, {"server_hostname": None})


def test_what_is_called() -> None:
    """Parameters that are given to aiohttp, and the methods that `Connection` and `RoundTrip` lean on."""
    assert [*inspect.signature(aiohttp.TCPConnector.connect).parameters] == [
        "self",
        "req",
        "traces",
        "timeout",
    ]
    assert {
        "skip_payload",
        "read_until_eof",
        "auto_decompress",
        "read_timeout",
        "read_bufsize",
        "max_field_size",
    } <= {*inspect.signature(ResponseHandler.set_response_params).parameters}
    assert [
        *inspect.signature(of_aiohttp(aiohttp.TCPConnector, "_create_connection")).parameters
    ] == [
        "self",
        "req",
        "traces",
        "timeout",
    ]
    start_tls = of_aiohttp(aiohttp.TCPConnector, "_start_tls_connection")
    assert [*inspect.signature(start_tls).parameters][:4] == [
        "self",
        "underlying_transport",
        "req",
        "timeout",
    ]
    assert [*inspect.signature(ResponseHandler.feed_data).parameters] == ["self", "data", "size"]
    for name in ("read", "start_timeout", "force_close", "set_exception", "_drain_helper"):
        assert callable(getattr(ResponseHandler, name)), name
    for name in ("upgraded", "writing_paused"):
        assert isinstance(getattr(ResponseHandler, name), property), name
    for name in ("on_eof", "set_exception", "exception", "readany", "_read_nowait"):
        assert callable(getattr(aiohttp.StreamReader, name)), name
    for name in ("release", "close", "protocol"):
        assert hasattr(aiohttp.connector.Connection, name), name


def of_aiohttp(thing: object, name: str) -> Any:
    """What aiohttp keeps under a name that is not public."""
    return object.__getattribute__(thing, name)


async def test_what_is_kept_in_objects() -> None:
    """Attributes that only an instance has."""
    loop = asyncio.get_running_loop()
    protocol = Connection(loop=loop)
    assert of_aiohttp(protocol, "_paused") is False
    assert not of_aiohttp(aiohttp.StreamReader(protocol, 1, loop=loop), "_buffer")
    assert of_aiohttp(protocol, "_parser") is None
    protocol.set_response_params()
    assert of_aiohttp(protocol, "_parser").feed_eof() is None
    pool = aiohttp.TCPConnector()
    assert of_aiohttp(pool, "_factory").func is ResponseHandler
    await pool.close()


async def test_the_connector_asks_a_target_for_no_more_than_it_has(
    raw: RawProvider, reach: Reach
) -> None:
    """And the protocol that it makes is ours."""
    async with reach(raw.port) as to:
        assert await body_of(await to.send()) == b"{}"
    pool = Pool(GuardedResolver(Catalog(()), aiohttp.ThreadedResolver()), PoolBounds())
    assert type(of_aiohttp(pool, "_factory")()) is Connection
    await pool.close()
    target = DialTarget("https://[::1]:8443", None)
    assert (target.host, target.port, target.is_ssl()) == ("::1", 8443, True)


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


@pytest.mark.parametrize(
    "surplus", [b"H", b"HTTP/1.1 ", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\nx: "]
)
@pytest.mark.parametrize("pause_s", [0, 0.05])
async def test_the_beginning_of_an_answer_that_nobody_asked_for(
    raw: RawProvider, reach: Reach, surplus: bytes, pause_s: float
) -> None:
    """Its end can't become the next call's answer: that call has a connection of its own, and is sent once."""

    async def say_more(line: Line) -> None:
        if pause_s:
            await line.say(answer())
            await asyncio.sleep(pause_s)
            await line.say(surplus)
        else:
            await line.say(answer() + surplus)

    raw.behaviours = [say_more]
    async with reach(raw.port) as to:
        assert await body_of(await to.send()) == b"{}"
        await asyncio.sleep(pause_s * 2)
        assert await body_of(await to.send()) == b"{}"
        assert await body_of(await to.send()) == b"{}"
    assert [request.connection for request in raw.received] == [1, 2, 2]


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
