"""One connection with a provider: aiohttp's, which parses answers, under our rules, and the same once it speaks no HTTP."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

from tollhouse.dispatch.tcp_info import tcp_info

if TYPE_CHECKING:
    from aiohttp.connector import Connection as Lent

READ_BUFFER: Final = 65_536
"""If the client does not read, twice as many bytes of the answer are kept. Then the provider has to wait."""
_MAX_INTERIM: Final = 16
"""The most 1xx answers before the real one. A provider that follows RFC 9110 sends one or two."""


class Connection(ResponseHandler):
    """aiohttp's connection, with two more refusals. It refuses an answer that nobody asked for:
    aiohttp would give it to the next caller, who may be of another tenant. It refuses interim
    answers without end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._asked = False
        self._interim = 0
        self._made = loop.time()
        self._requests = 0
        self._begun = False
        """The connection was lost behind the first bytes of a head."""
        self._acknowledged: int | None = None
        """As of `TcpInfo`, before the request was written. None if that is not known."""
        self._ended_before = False
        """The server had ended the connection before any byte of the request reached it."""

    def age_s(self) -> float:
        return self._loop.time() - self._made

    @property
    def used(self) -> bool:
        """It has carried a request."""
        return self._requests > 0

    @property
    def stale(self) -> bool:
        """The connection had served a request before, and was closed before any byte of the answer to
        this one. So a server ends a connection that has been idle for too long for it."""
        lost = self._connection_lost_called and not self._begun
        return lost and self._asked and self._requests > 1 and not self._interim

    @property
    def unread(self) -> bool:
        """It is stale, and the server can't have read the request: see `eof_received`."""
        return self.stale and self._ended_before

    def may_be_used_again(self) -> bool:
        """Whether the server has not closed it while it was idle. It is called right before a request is written, and is
        what `unread` needs."""
        info = tcp_info(self.transport)
        self._acknowledged = None if info is None else info.acknowledged
        return info is None or info.established

    def eof_received(self) -> None:
        # What closes a connection acknowledges what its sender's kernel has received by then. If that is
        # nothing of the request, the server had closed before the request came. A reset proves nothing:
        # Linux does not heed what it acknowledges.
        if self._asked and self._acknowledged is not None:
            info = tcp_info(self.transport)
            self._ended_before = info is not None and info.acknowledged == self._acknowledged
        super().eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._asked:
            # There is no body yet whose end the parser could tell.
            self._begun = self.has_surplus()
        super().connection_lost(exc)

    def set_response_params(self, **params: Any) -> None:
        self._asked = True
        self._interim = 0
        self._requests += 1
        super().set_response_params(**params)

    def feed_data(self, data: Any, size: int = 0) -> None:
        interim = 100 <= data[0].code < 200 and data[0].code != 101
        self._interim += interim
        if not self._asked or self._interim > _MAX_INTERIM:
            self.force_close()
            if self._asked:
                self.set_exception(HttpProcessingError(message="interim answers without end"))
            if self.transport is not None:
                self.transport.close()
            return
        if not interim:
            self._asked = False
            self._acknowledged = None
        super().feed_data(data, size)

    def has_surplus(self) -> bool:
        """Whether the beginning of another head has come behind the last answer. aiohttp gives the next request a parser of
        its own: what comes later would be read as the next answer's beginning. Ends the old parser."""
        parser, self._parser = self._parser, None
        try:
            return parser is not None and parser.feed_eof() is not None
        except HttpProcessingError:
            return True

    def write(self, data: bytes) -> None:
        transport = self.transport
        if transport is None or transport.is_closing():
            raise aiohttp.ClientConnectionResetError("the connection was lost")
        transport.write(data)

    async def drained(self) -> None:
        """Returns when the socket takes more. Raises OSError when it is gone."""
        if self._paused:
            await self._drain_helper()


class RawConnection:
    """A connection that speaks no HTTP any more. It is closed, and never goes back to the pool."""

    def __init__(self, lent: Lent) -> None:
        self._lent: Lent | None = lent
        self._protocol = cast(Connection, lent.protocol)
        self._buffer = bytearray()
        self._ended = False
        self._waiter: asyncio.Future[None] | None = None
        self._paused = False
        self._protocol.read_timeout = None
        self._protocol.set_parser(self, None)

    # What aiohttp's connection calls: bytes that came, and the end.

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._buffer += data
        if len(self._buffer) > READ_BUFFER and not self._paused:
            self._paused = True
            self._protocol.pause_reading()
        self._wake()
        return False, b""

    def feed_eof(self) -> None:
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def read(self) -> bytes:
        """The next bytes; b"" at the end, also where the connection is lost."""
        while not self._buffer and not self._ended:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        data = bytes(self._buffer)
        self._buffer.clear()
        if self._paused and not self._ended:
            self._paused = False
            self._protocol.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        """Returns when the socket takes more. Raises OSError when it is gone."""
        self._protocol.write(data)
        if self._protocol.writing_paused:
            await self._protocol.drained()

    def close(self) -> None:
        """May be called twice."""
        self.feed_eof()
        lent, self._lent = self._lent, None
        if lent is not None:
            lent.close()

    def __del__(self) -> None:
        if self._lent is not None and not self._lent._loop.is_closed():
            self._lent.close()
