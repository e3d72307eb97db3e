"""The sockets that workloads connect to. Opened last and closed first: there is no listener while the gateway is not ready."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from tollhouse.call import ListenerKind
from tollhouse.denial import Denial
from tollhouse.listen.answer_head import raw_refusal
from tollhouse.listen.client_connection import ClientConnection
from tollhouse.listen.doors import Bounds, ConnectRequest, Judge, Owner
from tollhouse.listen.mitm import Beyond, GateMaster
from tollhouse.listen.passed_tunnel import PassedTunnels
from tollhouse.listen.shared import Spoken
from tollhouse.listen.tls import choosing
from tollhouse.sources import source_of

log = logging.getLogger(__name__)

_FORGOTTEN_AFTER_S: Final = 5
"""For how long an idle connection keeps the head of its last request, some kilobytes."""

_BACKLOG: Final = 1024
_TURNS: Final = 4
_FLUSH_S: Final = 6.0
"""More than a connection has for its last bytes."""
_RETRY: Final = (("retry-after", "1"),)


@dataclass(frozen=True)
class ListenerParts:
    """What the connections of all listeners share. ``first`` gives the context that TLS handshakes begin with. HTTP/1 is
    mitmproxy's as well where ``own_http1`` is false."""

    master: GateMaster
    judge: Judge
    owner: Owner
    bounds: Bounds
    max_connections: int
    first: Callable[[], ssl.SSLContext]
    own_http1: bool = True
    clock: Callable[[], float] = time.monotonic
    passed_tunnels: PassedTunnels | None = None
    asking: ssl.SSLContext | None = None
    """What `first` is for the listeners' own TLS, if that asks for client certificates."""
    max_of_source: int | None = None
    """Connections of one address. None: as many as there may be of all."""


class Listeners:
    """All listeners of a gateway and the connections that came in through them."""

    def __init__(self, parts: ListenerParts) -> None:
        self._parts = parts
        self.bounds = parts.bounds
        self.judge = parts.judge
        self.owner = parts.owner
        self._first: ssl.SSLContext | None = None
        self._asking: ssl.SSLContext | None = None
        self._servers: list[tuple[asyncio.Server, Callable[[], ClientConnection]]] = []
        self.retiring = False
        """Answers end their connections, because another process takes what comes next."""
        self.leaves_by = float("inf")
        self._connections: set[ClientConnection] = set()
        self._sources: Counter[str] = Counter()
        """How many of them each source has."""
        self._nobody = asyncio.Event()
        self._nobody.set()
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def connections(self) -> int:
        """How many are open, or not yet closed to their end."""
        return len(self._connections)

    async def open(
        self,
        kind: ListenerKind,
        host: str = "",
        port: int = 0,
        *,
        tls: bool,
        bound: socket.socket | None = None,
    ) -> tuple[str, int]:
        """Begins to listen, on ``bound`` if that is given. Gives the address that was bound: port 0 takes a free one. Raises
        `OSError`."""

        def connection() -> ClientConnection:
            return self.connection(kind, tls=tls)

        loop = asyncio.get_running_loop()
        if bound is not None:
            server = await loop.create_server(connection, sock=bound, backlog=_BACKLOG)
        else:
            server = await loop.create_server(connection, host, port, backlog=_BACKLOG)
        self._servers.append((server, connection))
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep())
        name: tuple[str, int] = server.sockets[0].getsockname()[:2]
        return name

    def connection(self, kind: ListenerKind, *, tls: bool = False) -> ClientConnection:
        """The protocol of a connection that comes in."""
        return ClientConnection(self, kind, tls=tls, clock=self._parts.clock)

    # `shared.Shared`.

    def tls(self, *, own: bool) -> ssl.SSLContext:
        if own and self._parts.asking is not None:
            return self._asking or self._begin_asking(self._parts.asking)
        first = self._parts.first()
        if first is not self._first:
            self._first = choosing(first)
        return first

    def _begin_asking(self, context: ssl.SSLContext) -> ssl.SSLContext:
        self._asking = choosing(context)
        return self._asking

    def speaks(
        self,
        connection: ClientConnection,
        *,
        secure: bool,
        sni: str | None,
        connect: ConnectRequest | None,
    ) -> Spoken | None:
        parts = self._parts
        if connection.alpn != "h2" and parts.own_http1:
            return None
        return Beyond(
            connection, parts.master, secure=secure, sni=sni, connect=connect, clock=parts.clock
        )

    def passes(self, connection: ClientConnection, connect: ConnectRequest, rest: bytes) -> Spoken:
        if self._parts.passed_tunnels is None:
            raise RuntimeError("nobody passes tunnels on here")
        return self._parts.passed_tunnels.begin(connection, connect, rest)

    def opened(self, connection: ClientConnection) -> bool:
        source = source_of(connection.client_ip)
        why = ""
        of_source = self._parts.max_of_source
        if of_source is not None and self._sources.get(source, 0) >= of_source:
            why = f"This address has {self._sources[source]} ([limits] max_connections_per_source)."
        elif len(self._connections) >= self._parts.max_connections:
            why = f"There are {len(self._connections)} ([limits] max_connections)."
        self._connections.add(connection)
        self._sources[source] += 1
        self._nobody.clear()
        if why:
            log.warning("connection from %s refused: %s", connection.client_ip, why)
            denial = Denial("too_many_connections", why, _RETRY)
            connection.refuse(raw_refusal(denial, "none"))
        return not why

    def closed(self, connection: ClientConnection) -> None:
        if connection in self._connections:
            self._connections.discard(connection)
            source = source_of(connection.client_ip)
            self._sources[source] -= 1
            if not self._sources[source]:
                del self._sources[source]
        if not self._connections:
            self._nobody.set()

    async def _sweep(self) -> None:
        """Closes, once a second, connections that take too long for a handshake or a head, or that
        are idle for too long. One that is idle keeps nothing of its last request."""
        while True:
            await asyncio.sleep(1)
            now = self._parts.clock()
            for connection in tuple(self._connections):
                try:
                    if connection.overdue(now):
                        connection.end()
                    elif now - connection.last_active > _FORGOTTEN_AFTER_S:
                        connection.forget()
                except Exception:
                    log.exception("a connection could not be looked after; the others are")

    async def close(self) -> None:
        """Takes no more connections than those that are established already: the kernel would reset them."""
        queues = [
            (connection, socket.socket(fileno=os.dup(each.fileno())))
            for server, connection in self._servers
            for each in server.sockets
        ]
        for server, _ in self._servers:
            server.close()
        self._servers.clear()
        loop = asyncio.get_running_loop()
        for connection, queue in queues:
            with queue:
                for accepted in _accepted(queue):
                    await loop.connect_accepted_socket(connection, accepted)

    async def retire(self, within_s: float) -> None:
        """Takes no more connections: another process has the same sockets. Answers end their connections from now on. HTTP/2
        says so to a client that has no request under way, or after ``within_s``."""
        for server, _ in self._servers:
            server.close()
        self._servers.clear()
        # A connection that was just accepted is made known in one of the next turns of the loop.
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        self.leaves_by = self._parts.clock() + within_s
        self.retiring = True
        for connection in tuple(self._connections):
            connection.retire()

    async def empty(self) -> None:
        """Until no connection is open."""
        await self._nobody.wait()

    async def close_connections(self) -> None:
        """Closes the connections that are left, and waits until their last bytes are sent."""
        for connection in tuple(self._connections):
            connection.end()
        try:
            async with asyncio.timeout(_FLUSH_S):
                await self._nobody.wait()
        except TimeoutError:
            log.warning("%d connections could not be closed", len(self._connections))
        if self._sweeper is not None:
            self._sweeper.cancel()


def _accepted(queue: socket.socket) -> Iterator[socket.socket]:
    """The connections that wait in it now."""
    queue.setblocking(False)
    for _ in range(_BACKLOG):
        try:
            accepted, _ = queue.accept()
        except OSError:
            return
        yield accepted
