"""The sockets that workloads connect to. Opened last and closed first: there is no listener while the gateway is not ready."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass

from tollhouse.call import ListenerKind
from tollhouse.config_values import Address
from tollhouse.dispatch.layer import Bounds, GateMaster, TollhouseConnectionHandler

log = logging.getLogger(__name__)

_BACKLOG = 1024
_TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nx-tollhouse-reason: too_many_connections\r\n"
    b"retry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
)


@dataclass(frozen=True)
class ListenerParts:
    """What the connections of all listeners share."""

    master: GateMaster
    bounds: Bounds
    max_connections: int


class Listeners:
    """All listeners of a gateway and the connections that came in through them."""

    def __init__(self, parts: ListenerParts) -> None:
        self._parts = parts
        self._servers: list[asyncio.Server] = []
        self._handlers: set[TollhouseConnectionHandler] = set()
        self._sweeper: asyncio.Task[None] | None = None

    async def open(self, kind: ListenerKind, address: Address, *, tls: bool) -> Address:
        """Listen; the address really bound (port 0 takes a free one). Raises `OSError`."""

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._connected(reader, writer, kind, tls)

        server = await asyncio.start_server(connected, address.host, address.port, backlog=_BACKLOG)
        self._servers.append(server)
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep())
        host, port = server.sockets[0].getsockname()[:2]
        return Address(host=host, port=port)

    async def _connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: ListenerKind, tls: bool
    ) -> None:
        if len(self._handlers) >= self._parts.max_connections:
            log.warning("connection refused: %d are open", len(self._handlers))
            writer.write(_TOO_MANY)
            writer.close()
            return
        parts = self._parts
        handler = TollhouseConnectionHandler(
            reader,
            writer,
            kind=kind,
            tls=tls,
            master=parts.master,
            bounds=parts.bounds,
        )
        self._handlers.add(handler)
        try:
            await handler.handle_client()
        finally:
            self._handlers.discard(handler)

    async def _sweep(self) -> None:
        """Once a second, close what takes too long over a handshake or a head, or has been idle for too long."""
        while True:
            await asyncio.sleep(1)
            now = time.monotonic()
            for handler in tuple(self._handlers):
                if handler.overdue(now):
                    handler.close()

    def close(self) -> None:
        """Take no more connections."""
        for server in self._servers:
            server.close()
        self._servers.clear()

    async def close_connections(self) -> None:
        """Close what is still connected and wait until it is."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for handler in tuple(self._handlers):
            handler.close()
        for _ in range(100):
            if not self._handlers:
                return
            await asyncio.sleep(0.01)
