"""A client that leaves at each moment of a call, over HTTP/1.1, HTTP/2 and a WebSocket; through the running gateway.

Whenever it leaves: the call is settled once, and no task, no hold, and no connection with the client is
left. The provider's connection is closed, or read to the answer's end where the gateway is configured so.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple

import psutil
import pytest
from tests.support.attack import HOST, Attacked, post, watched
from tests.support.inproc import Inside, open_inside
from tests.support.raw import H2Client, RawClient
from tests.support.raw_socket import RawSocket, handshake, text

from tollhouse.demo.standin_script import Behaviour, Latch, Steps

STREAM = json.dumps(
    {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "nobody waits for this"}],
        "max_completion_tokens": 50,
        "stream": True,
    }
).encode()
H2_POST: list[tuple[str, str]] = [
    (":method", "POST"),
    (":scheme", "https"),
    (":authority", HOST),
    (":path", "/v1/chat/completions"),
    ("content-type", "application/json"),
]


@pytest.fixture(scope="module", params=[0.05, 30.0], ids=["closed", "drained"])
def gateway(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Inside]:
    """One that gives an abandoned answer up at once, and one that reads it to its end."""
    settings = {"limits": {"abandoned_read_s": request.param}}
    with open_inside(tmp_path_factory.mktemp("left"), settings) as inside:
        yield inside


@pytest.fixture
def left(gateway: Inside, caplog: pytest.LogCaptureFixture) -> Iterator[Attacked]:
    yield from watched(gateway, caplog)


Leave = Callable[[RawClient], None]


def by_reset(client: RawClient) -> None:
    client.reset()


def by_close(client: RawClient) -> None:
    client.close()


class Call:
    """One call up to the moment at which its client leaves. ``wait`` and ``steps`` hold the provider up."""

    def __init__(self, left: Attacked, protocol: str) -> None:
        self._left = left
        self._h2 = protocol == "h2"
        self.wait = Latch()
        self.steps = Steps()
        self._stream = 0

    def in_connect(self) -> RawClient:
        client = self._left.client()
        client.send_plain(f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}".encode())
        self._left.turn()
        return client

    def in_tls(self) -> RawClient:
        client = self._left.client()
        assert client.connect(f"{HOST}:443", self._left.credentials).status == 200
        hello = client.hello(HOST, ("h2" if self._h2 else "http/1.1",))
        client.send_plain(hello[:60])
        self._left.turn()
        return client

    def in_head(self) -> RawClient:
        return self._begun(post(STREAM)[:40], None)

    def in_body(self) -> RawClient:
        client = self._begun(post(STREAM)[:-20], STREAM[:-20])
        self._left.under_way()
        return client

    def waiting(self) -> RawClient:
        self._left.inside.standin.script(Behaviour(wait=self.wait))
        client = self._begun(post(STREAM), STREAM, whole=True)
        self._left.inside.standin.wait_count(1)
        return client

    def in_stream(self) -> RawClient:
        self._left.inside.standin.script(Behaviour(steps=self.steps))
        client = self._begun(post(STREAM), STREAM, whole=True)
        self.steps.release(3)
        self._read_until(client, b"toll")
        return client

    def at_the_end(self) -> RawClient:
        client = self._begun(post(STREAM), STREAM, whole=True)
        self._read_until(client, b"[DONE]")
        return client

    def _begun(self, h1: bytes, body: bytes | None, *, whole: bool = False) -> RawClient:
        if not self._h2:
            client = self._left.tunnel()
            client.send(h1)
            self._left.turn()
            return client
        self._client = H2Client(self._left.tunnel(alpn=("h2",)))
        connection = self._client.connection
        if body is None:
            # Nine bytes of a frame's head, and a part of its block.
            connection.send_headers(1, H2_POST)
            self._client.raw.send(connection.data_to_send()[:20])
        else:
            connection.send_headers(1, H2_POST)
            connection.send_data(1, body, end_stream=whole)
            self._client.flush()
        self._left.turn()
        return self._client.raw

    def _read_until(self, client: RawClient, marker: bytes) -> None:
        seen = b""
        while marker not in seen:
            data = client.receive()
            assert data, seen
            # Frames of HTTP/2 have the text as it is.
            seen += data


class SocketCall(Call):
    """The same in a session over a WebSocket: its head is that of the handshake, its body a message."""

    def __init__(self, left: Attacked) -> None:
        super().__init__(left, "http/1.1")

    def in_head(self) -> RawClient:
        return self._begun(handshake()[:40], None)

    def in_body(self) -> RawClient:
        client = self._opened().client
        client.send(text(type="response.create")[:12])
        self._left.turn()
        return client

    def waiting(self) -> RawClient:
        return self._asked().client

    def in_stream(self) -> RawClient:
        socket = self._asked()
        self.steps.release(3)
        socket.until("response.output_audio_transcript.delta")
        return socket.client

    def at_the_end(self) -> RawClient:
        socket = self._asked()
        self.steps.release_all()
        socket.until("response.done")
        return socket.client

    def _opened(self) -> RawSocket:
        self._left.inside.standin.script(Behaviour(steps=self.steps))
        socket = RawSocket(self._left.tunnel(), handshake())
        self.steps.release(1)
        socket.until("session.created")
        return socket

    def _asked(self) -> RawSocket:
        socket = self._opened()
        socket.client.send(text(type="response.create"))
        assert self._left.inside.standin.wait_for(lambda book: bool(book[0].messages))
        return socket


class Moment(NamedTuple):
    reach: Callable[[Any], RawClient]
    line: tuple[str, str] | None
    """Its ``reason`` and ``charged_by``; None where nothing has been asked of the gateway yet."""
    asked: int
    """Requests that the provider got."""
    drained: str = ""
    """``charged_by`` where the answer is read to its end."""


MOMENTS: dict[str, Moment] = {
    "CONNECT": Moment(Call.in_connect, None, 0),
    "TLS": Moment(Call.in_tls, ("tls_refused", "none"), 0),
    "the head": Moment(Call.in_head, None, 0),
    "half a body": Moment(Call.in_body, ("client_gone", "none"), 0),
    "waiting": Moment(Call.waiting, ("client_gone", "disconnect"), 1),
    "the stream": Moment(Call.in_stream, ("client_gone", "disconnect"), 1, drained="usage"),
    "the end": Moment(Call.at_the_end, ("", "usage"), 1),
}

IN_SESSION: dict[str, Moment] = {
    "CONNECT": Moment(SocketCall.in_connect, None, 0),
    "TLS": Moment(SocketCall.in_tls, ("tls_refused", "none"), 0),
    "the head": Moment(SocketCall.in_head, None, 0),
    "half a body": Moment(SocketCall.in_body, ("client_gone", "none"), 1),
    "waiting": Moment(SocketCall.waiting, ("client_gone", "disconnect"), 1, drained="usage"),
    "the stream": Moment(SocketCall.in_stream, ("client_gone", "disconnect"), 1, drained="usage"),
    "the end": Moment(SocketCall.at_the_end, ("client_gone", "usage"), 1),
}


@pytest.mark.parametrize("leave", [by_reset, by_close])
@pytest.mark.parametrize("protocol", ["http/1.1", "h2", "websocket"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_it_leaves(
    left: Attacked, gateway: Inside, moment: str, protocol: str, leave: Leave
) -> None:
    """Settled once, and nothing of the call is left."""
    in_session, ended = protocol == "websocket", ""
    reach, line, asked, drained = (IN_SESSION if in_session else MOMENTS)[moment]
    left.alone()
    tasks = gateway.do(_tasks())
    used, sockets, dialled = _used(gateway), provider_sockets(gateway), gateway.standin.dialled
    call = SocketCall(left) if in_session else Call(left, protocol)
    leave(reach(call))
    gateway.until(lambda inner: all(exchange.gone for exchange in inner.journey.under_way))
    reads_on = gateway.gateway.config.limits.abandoned_read_s > 1
    if reads_on:
        call.steps.release_all()
    left.alone()
    found = left.lines(int(line is not None))
    if line is not None:
        reason, rule = line
        rule = (drained or rule) if reads_on else rule
        assert [(one["reason"], one["charged_by"]) for one in found] == [(reason, rule)]
    assert _used(gateway) - used == sum(Decimal(one["cost_usd"]) for one in found)
    book = gateway.standin.snapshot()
    assert len(book) == asked
    if not asked:
        # Neither a request nor a connection.
        assert gateway.standin.dialled == dialled
    if asked and in_session:
        # The provider has had a close (1001), or its connection has ended (1006), perhaps while it waited for its permit.
        assert gateway.standin.wait_for(lambda seen: seen[-1].outcome != "open")
        [received] = gateway.standin.snapshot()
        assert received.close_code in (1001, 1006) or received.outcome == "client_gone"
    elif asked:
        ended = (
            "client_gone"
            if moment == "waiting" or (moment == "the stream" and not reads_on)
            else "answered"
        )
        assert gateway.standin.wait_for(lambda seen: seen[-1].outcome != "open")
        assert gateway.standin.snapshot()[-1].outcome == ended
    # A connection whose answer was read to its end is kept for the next call.
    sockets += ended == "answered"
    gateway.until(
        lambda inner: len(asyncio.all_tasks()) <= tasks and provider_sockets(gateway) <= sockets
    )
    # No later line either, now that no task is left to write one.
    assert left.lines(len(found)) == found
    call.wait.open()
    call.steps.release_all()


def provider_sockets(gateway: Inside) -> int:
    """How many sockets to the provider the gateway has, whatever their state."""
    port = gateway.standin.port
    held = psutil.Process().net_connections("tcp")
    return sum(bool(one.raddr) and one.raddr.port == port for one in held)


async def _tasks() -> int:
    return len(asyncio.all_tasks())


def _used(gateway: Inside) -> Decimal:
    return Decimal(gateway.budget()["10 usd/day"]["used"])
