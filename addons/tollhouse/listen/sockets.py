"""The sockets that workloads connect to. Opened last and closed first: there is no listener while the gateway is not ready."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass

from tollhouse.call import ListenerKind
from tollhouse.denial import Denial
from tollhouse.listen.mitm import Bounds, GateMaster, TollhouseConnectionHandler, raw_refusal

log = logging.getLogger(__name__)

_BACKLOG = 1024
_FLUSH_S = 5.0
"""How long a client may take to read the last bytes of a closed connection."""
_TOO_MANY = raw_refusal(Denial("too_many_connections", headers=(("retry-after", "1"),)), "none")


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
        self._nobody = asyncio.Event()
        self._nobody.set()
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def connections(self) -> int:
        """How many are open, or not yet closed to their end."""
        return len(self._handlers)

    async def open(self, kind: ListenerKind, host: str, port: int, *, tls: bool) -> tuple[str, int]:
        """Begins to listen. Gives the address that was bound: port 0 takes a free one. Raises
        `OSError`."""

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._connected(reader, writer, kind, tls)

        server = await asyncio.start_server(connected, host, port, backlog=_BACKLOG)
        self._servers.append(server)
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep())
        bound: tuple[str, int] = server.sockets[0].getsockname()[:2]
        return bound

    async def _connected(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        kind: ListenerKind,
        tls: bool,
    ) -> None:
        if len(self._handlers) >= self._parts.max_connections:
            log.warning("connection refused: %d are open", len(self._handlers))
            if not tls and kind != "transparent":
                writer.write(_TOO_MANY)
            await _closed(writer)
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
        self._nobody.clear()
        try:
            await handler.handle_client()
        finally:
            try:
                await _closed(writer)
            finally:
                self._handlers.discard(handler)
                if not self._handlers:
                    self._nobody.set()

    async def _sweep(self) -> None:
        """Closes, once a second, connections that take too long for a handshake or a head, or that
        are idle for too long."""
        while True:
            await asyncio.sleep(1)
            now = time.monotonic()
            for handler in tuple(self._handlers):
                try:
                    if handler.overdue(now):
                        handler.close()
                except Exception:
                    log.exception("a connection could not be looked after; the others are")

    def close(self) -> None:
        """Take no more connections."""
        for server in self._servers:
            server.close()
        self._servers.clear()

    async def close_connections(self) -> None:
        """Closes the connections that are left, and waits until their last bytes are sent."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for handler in tuple(self._handlers):
            handler.close()
        try:
            async with asyncio.timeout(_FLUSH_S + 1):
                await self._nobody.wait()
        except TimeoutError:
            log.warning("%d connections could not be closed", len(self._handlers))


async def _closed(writer: asyncio.StreamWriter) -> None:
    """Closes a connection and waits for a bounded time until the client has read the rest. A client
    that reads nothing would keep its socket for ever, and that socket counts in no bound any
    more."""
    writer.close()
    try:
        async with asyncio.timeout(_FLUSH_S):
            await writer.wait_closed()
    except TimeoutError:
        writer.transport.abort()
    except OSError:
        pass  # The client has closed it meanwhile.
