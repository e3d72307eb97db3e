"""A client of the connection handler over a real socket pair, and an addon that is played."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from tollhouse.call import ListenerKind, RequestHead
from tollhouse.denial import Denial
from tollhouse.listen.client_connection import ClientConnection
from tollhouse.listen.doors import Bounds, ConnectRequest
from tollhouse.listen.exchange import Exchange
from tollhouse.listen.mitm import GateMaster
from tollhouse.listen.sockets import ListenerParts, Listeners
from tollhouse.trust.leaf import server_context

BOUNDS = Bounds(max_header_bytes=2000, request_timeout_s=30.0, max_discarded_bytes=10_000)
OWN_HTTP1 = True
"""HTTP/1 is not mitmproxy's."""

Owner = Callable[[Exchange], Awaitable[None]]


async def say_ok(exchange: Exchange) -> None:
    exchange.answer(200, [], b"ok")


@dataclass
class Played:
    """The addon: hands each exchange to ``owner``, admits no tunnel unless ``host`` is set."""

    owner: Owner = say_ok
    host: str | None = None
    refuses_ech: bool = False
    exchanges: list[Exchange] = field(default_factory=list)
    connects: list[ConnectRequest] = field(default_factory=list)
    refused: list[RequestHead] = field(default_factory=list)

    async def tollhouse_call(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)
        if exchange.defect is not None:
            exchange.answer(exchange.defect.status, [("x-reason", exchange.defect.code)], b"")
            return
        await self.owner(exchange)

    async def __call__(self, exchange: Exchange) -> None:
        await self.tollhouse_call(exchange)

    def connect(self, data: ConnectRequest) -> None:
        self.connects.append(data)
        data.host = self.host
        if self.host is None:
            data.denial = Denial("host_not_allowed")

    def context(
        self, listener: ListenerKind, connect: ConnectRequest | None, sni: str | None
    ) -> ssl.SSLContext | None:
        """Every handshake is refused."""
        return None

    def tls_refused(self, head: RequestHead, why: str) -> None:
        self.refused.append(head)


@dataclass
class Client:
    """The other end of the socket."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    connection: ClientConnection
    listeners: Listeners
    """Whose connection it is."""

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def pause(self) -> None:
        """Read nothing more from the socket."""
        transport = self.writer.transport
        assert isinstance(transport, asyncio.ReadTransport)
        transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        transport = self.writer.transport
        assert isinstance(transport, asyncio.ReadTransport)
        transport.resume_reading()

    async def ask(self, data: bytes) -> bytes:
        """The head of the answer, its body left to read."""
        self.send(data)
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 5)

    async def take(self, size: int) -> bytes:
        return await asyncio.wait_for(self.reader.readexactly(size), 5)

    async def rest(self) -> bytes:
        """All that comes until the end."""
        return await asyncio.wait_for(self.reader.read(), 5)


@asynccontextmanager
async def connected(
    addon: Played,
    kind: ListenerKind = "base_url",
    bounds: Bounds = BOUNDS,
    alpn: str | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[Client]:
    """``alpn`` is what TLS would have negotiated, had there been any."""
    listeners = Listeners(
        ListenerParts(
            GateMaster([addon]),
            addon,
            addon,
            bounds,
            100,
            partial(server_context, ()),
            own_http1=OWN_HTTP1,
            clock=clock,
        )
    )
    connection = listeners.connection(kind)
    connection.alpn = alpn
    ours, theirs = socket.socketpair()
    await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, ours)
    client_reader, client_writer = await asyncio.open_connection(sock=theirs)
    try:
        yield Client(client_reader, client_writer, connection, listeners)
    finally:
        client_writer.close()
        await listeners.close_connections()


async def until(condition: Callable[[], bool]) -> None:
    """Turns of the loop until it is so, at most 10,000."""
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never became so")
