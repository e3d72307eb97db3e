"""A client of the connection handler over a real socket pair, and an addon that is played."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tollhouse.call import ListenerKind
from tollhouse.denial import Denial
from tollhouse.listen.exchange import Exchange
from tollhouse.listen.mitm import (
    Bounds,
    ConnectRequest,
    GateMaster,
    Handshake,
    TollhouseConnectionHandler,
)

BOUNDS = Bounds(max_header_bytes=2000, request_timeout_s=30.0, max_discarded_bytes=10_000)

Owner = Callable[[Exchange], Awaitable[None]]


async def say_ok(exchange: Exchange) -> None:
    exchange.answer(200, [], b"ok")


@dataclass
class Played:
    """The addon: hands each exchange to ``owner``, admits no tunnel unless ``host`` is set."""

    owner: Owner = say_ok
    host: str | None = None
    exchanges: list[Exchange] = field(default_factory=list)
    connects: list[ConnectRequest] = field(default_factory=list)

    async def tollhouse_call(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)
        if exchange.defect is not None:
            exchange.answer(exchange.defect.status, [("x-reason", exchange.defect.code)], b"")
            return
        await self.owner(exchange)

    def tollhouse_connect(self, data: ConnectRequest) -> None:
        self.connects.append(data)
        data.host = self.host
        if self.host is None:
            data.denial = Denial("host_not_allowed")

    def tollhouse_handshake(self, data: Handshake) -> None:
        """Brings nothing: every handshake is refused."""


@dataclass
class Client:
    """The other end of the socket."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    handler: TollhouseConnectionHandler

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def pause(self) -> None:
        """Read nothing more from the socket."""
        transport = self.writer.transport
        assert isinstance(transport, asyncio.ReadTransport)
        transport.pause_reading()

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
    alpn: bytes | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[Client]:
    """``alpn`` is what TLS would have negotiated, had there been any."""
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    handler = TollhouseConnectionHandler(
        reader, writer, kind=kind, tls=False, master=GateMaster([addon]), bounds=bounds, clock=clock
    )
    handler.client.alpn = alpn
    serving = asyncio.ensure_future(handler.handle_client())
    client_reader, client_writer = await asyncio.open_connection(sock=theirs)
    try:
        yield Client(client_reader, client_writer, handler)
    finally:
        client_writer.close()
        handler.close()
        await asyncio.wait_for(serving, 5)
        writer.close()


async def until(condition: Callable[[], bool]) -> None:
    """Turns of the loop until it is so, at most 10,000."""
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never became so")
