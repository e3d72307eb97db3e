"""One connection with a provider: what it refuses to read, and what is known of a request that it has lost."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator

import pytest
from tests.dispatch.conftest import Reach
from tests.dispatch.provider import HOST, Authority, Line, RawProvider, answer, body_of
from tests.support.faulty import ClosingProvider, FaultyProvider, Wire

from tollhouse.dispatch.upstream import UpstreamError


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


@contextlib.contextmanager
def closing(
    authority: Authority, tls: bool, how: Callable[[Wire], None]
) -> Iterator[tuple[ClosingProvider, int]]:
    serve = ClosingProvider(answer(), how, tls=tls)
    with FaultyProvider(serve, authority.server(HOST)).running() as provider:
        yield serve, provider.port


linux = pytest.mark.skipif(sys.platform != "linux", reason="it asks Linux")


@linux
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
async def test_a_connection_that_was_closed_while_idle(
    authority: Authority, reach: Reach, tls: bool
) -> None:
    """What creates something is not written to it, though the loop has not heard of the end yet."""
    with closing(authority, tls, Wire.goodbye if tls else Wire.close) as (provider, port):
        async with reach(port, unsafe_plaintext=not tls) as to:
            await body_of(await to.send())
            provider.close()
            await body_of(await to.send(creates=True))
    assert len(provider.read) == 2


@linux
@pytest.mark.parametrize(
    ("tls", "how", "sent"),
    [
        (False, Wire.close, "unread"),
        (True, Wire.goodbye, "unread"),
        (True, Wire.reset, "stale"),
    ],
    ids=["closed", "TLS ended and closed", "reset"],
)
async def test_a_connection_that_is_closed_before_the_request_comes(
    authority: Authority, reach: Reach, tls: bool, how: Callable[[Wire], None], sent: str
) -> None:
    """The server's end came, and it had acknowledged nothing of the request: it can't have read it. A reset says nothing."""
    with closing(authority, tls, how) as (provider, port):
        async with reach(port, unsafe_plaintext=not tls) as to:
            await body_of(await to.send())
            with pytest.raises(UpstreamError) as caught:
                # Behind the look at the connection, and before the first byte.
                await to.send(on_leaving=provider.close, creates=True)
            assert (caught.value.code, caught.value.sent) == ("upstream_unreachable", sent)
    assert len(provider.read) == 1
