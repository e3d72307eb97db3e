"""HTTP/1 with a client: requests become exchanges, one at a time and in order, and their answers become bytes.

Nothing is repaired. A request that two parsers could read in two ways gets a 400, and its connection ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

from tollhouse.call import RequestHead
from tollhouse.denial import Denial
from tollhouse.listen.answer_head import (
    CONTINUE,
    ESTABLISHED,
    answer_head,
    keeps_alive,
    raw_refusal,
    switching_head,
)
from tollhouse.listen.chunks import BadChunks, ChunkedBody, SizedBody
from tollhouse.listen.doors import ConnectRequest
from tollhouse.listen.exchange import Exchange
from tollhouse.listen.http1_connection import HeadMaker, Http1Connection
from tollhouse.listen.repeated_head import RepeatedHead
from tollhouse.listen.request_head import Defect, HeadFinder, Http1Head

READ_AHEAD: Final = 1024 * 1024
"""Bytes of a request's body that are kept for an owner who has not read them yet; then the socket
is not read on."""
_NO_HEAD: Final = Http1Head("", "", "1.1", "", "", (), 0)


class _State(Enum):
    HEAD = auto()
    BODY = auto()
    ANSWER = auto()
    """The request is whole, its answer is not."""
    SWITCHED = auto()
    """Behind a 101: what comes is the owner's, as it is."""
    DONE = auto()
    """Nothing more is read as HTTP."""


class Http1:
    """One connection's HTTP/1, and the `exchange.Wire` of its exchanges. ``connect`` is the tunnel that it is in; ``tunnels``
    says whether a CONNECT opens one."""

    def __init__(
        self,
        connection: Http1Connection,
        *,
        secure: bool,
        sni: str | None = None,
        connect: ConnectRequest | None = None,
        tunnels: bool = False,
    ) -> None:
        self._connection = connection
        self._maker = HeadMaker(connection, "https" if secure else "http", sni, connect)
        self._heads = RepeatedHead(self._maker)
        self._tunnels = tunnels
        self._buffer = bytearray()
        self._finder = HeadFinder(connection.bounds.max_header_bytes)
        self._state = _State.HEAD
        self._running = False
        self._queued = False
        """The next request, which came before the answer to the one before it, has to wait for its turn of the loop."""
        self._fresh: Exchange | None = None
        """Its owner has not begun."""
        self._body: SizedBody | ChunkedBody | None = None
        self._head = _NO_HEAD
        self._chunked = self._last = False
        self._half_closed = False
        """The client has ended its direction behind a whole request, and waits for the answer (RFC
        9112 9.6)."""
        self._awaits_continue = False
        """The client sends its body after a 100 only, and has had none."""
        self.exchange: Exchange | None = None
        """The one whose request or answer is not over."""
        self.cut = False
        """An answer was begun and not completed. TLS must not say that it was: an answer to HTTP/1.0 may have no other end."""
        self.head_since: float | None = None
        """When the first byte of an incomplete head arrived."""
        self.unread_since: float | None = None
        """When an answer was complete while its request's body was not."""

    # What comes.

    def receive(self, data: bytes) -> None:
        if self._state is _State.DONE:
            return
        if self._state is _State.SWITCHED:
            self._pass(data)
            return
        self._buffer += data
        if (
            self._state is _State.ANSWER
            and len(self._buffer) > self._connection.bounds.max_header_bytes
        ):
            # Pipelined requests are read one at a time; what comes meanwhile is bounded.
            self._end("the client sends on before it is answered")
            return
        self._run()

    def read_on(self) -> None:
        """The client has taken enough of its answers."""
        if self._state is _State.HEAD:
            self._run()

    def forget(self) -> None:
        """Frees what is kept of the last request's head."""
        self._heads.forget()

    def receive_end(self) -> None:
        """The client has ended its direction."""
        if self._state is _State.ANSWER or self._waits():
            self._half_closed = True
            self._connection.watch()
        elif self._state is not _State.DONE or self.exchange is None:
            self._end("the connection ended")

    def lose(self, why: str) -> None:
        """The connection is gone."""
        self._state = _State.DONE
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            self.cut = exchange.answered and not exchange.finished
            exchange.lose(why)

    def _end(self, why: str) -> None:
        self.lose(why)
        self._connection.close()

    def _run(self) -> None:
        if self._running:
            return  # An owner has answered at once; the loop below goes on by itself.
        self._running = True
        try:
            while self._step():
                pass
        finally:
            self._running = False
        if self._half_closed and self._state in (_State.HEAD, _State.BODY) and not self._waits():
            # Another whole request may have come before the end; nothing else can come.
            self._end("the connection ended")

    def _step(self) -> bool:
        """Whether there may be something more to do."""
        if self._state is _State.HEAD:
            return not self._waits() and self._take_head()
        if self._state is _State.BODY and self._take_body():
            return True
        fresh, self._fresh = self._fresh, None
        if fresh is None:
            return False
        self._connection.own(fresh)
        return True

    def _waits(self) -> bool:
        """Whether the next request may not begin yet: it waits for its turn, or until the client has taken enough of the
        answers before its own."""
        return self._state is _State.HEAD and (self._queued or self._connection.congested())

    def _take_head(self) -> bool:
        try:
            raw = self._next_head()
            if raw is None:
                return False
            head, request = self._heads.read(raw)
        except Defect as defect:
            self.head_since = None
            self._begin(_NO_HEAD, self._maker.head(_NO_HEAD), defect.denial)
            return True
        if head.method == "CONNECT" and self._tunnels:
            self._open_tunnel(head)
            return False
        self._begin(head, request)
        return True

    def _next_head(self) -> bytes | None:
        """The next request's head without its last CRLF, or None while it is not complete. Raises `Defect`."""
        data = self._buffer
        if not data:
            return None
        if self.head_since is None:
            self.head_since = self._connection.clock()
        if data.startswith(b"\r\n"):  # RFC 9112 2.2: one empty line before a request is ignored.
            del data[:2]
        end = self._finder.end(data)
        if end < 0:
            return None
        self.head_since = None
        head = bytes(data[:end])
        del data[: end + 2]
        return head

    def _pass(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is not None:
            exchange.feed(data)
            if exchange.buffered > READ_AHEAD:
                self._connection.pause(exchange)

    def _begin(self, head: Http1Head, request: RequestHead, defect: Denial | None = None) -> None:
        self._head = head
        # Behind a head that can't be read nobody knows where the next request begins.
        self._last = defect is not None
        self._chunked = False
        exchange = Exchange(
            request,
            self,
            defect,
            least_body_bytes_s=self._connection.bounds.least_body_bytes_s,
            occupant=self._connection.occupant,
        )
        self.exchange = self._fresh = exchange
        if defect is not None:
            exchange.feed_end()
            self._state = _State.DONE
            self._buffer.clear()
            return
        if head.size == 0:
            exchange.feed_end()
            self._state = _State.ANSWER
            return
        if head.size is None:
            self._body = ChunkedBody(self._connection.bounds.max_header_bytes)
        else:
            self._body = SizedBody(head.size)
        self._awaits_continue = (
            head.version == "1.1" and (exchange.head.get("expect") or "").lower() == "100-continue"
        )
        self._state = _State.BODY

    def _take_body(self) -> bool:
        """Whether the next request may begin: the answer was given before the body had come."""
        exchange, body = self.exchange, self._body
        assert exchange is not None
        assert body is not None
        try:
            data = body.take(self._buffer)
        except BadChunks as error:
            self._last = True
            self._state = _State.DONE
            self._buffer.clear()
            if exchange.finished:
                self._end("the body is malformed")
            exchange.spoil(Denial("bad_request", str(error)))
            return False
        if data:
            self._awaits_continue = False
            exchange.feed(data)
            unread = exchange.discarded if exchange.finished else exchange.buffered
            if unread > self._connection.bounds.max_discarded_bytes:
                self._end("the client sends more than is read")
                return False
            if exchange.buffered > READ_AHEAD:
                self._connection.pause(exchange)
        if body.more and not body.over:
            # So many small chunks, taken in one turn, would hold up all other clients.
            self._connection.soon(self._run)
            return False
        if body.over:
            self._body = None
            self._state = _State.ANSWER
            exchange.feed_end()
            if exchange.finished:
                self._over()
                return True
        return False

    def _open_tunnel(self, head: Http1Head) -> None:
        self._state = _State.DONE
        connect = self._connection.tunnel(head)
        if connect.host is None:
            denial = connect.denial or Denial("internal", "No gate has judged the tunnel.")
            self._connection.write(raw_refusal(denial, connect.call_id))
            self._connection.linger()
            return
        rest = bytes(self._buffer)
        self._buffer.clear()
        if connect.passable is not None:
            self._connection.pass_on(connect, rest)
            return
        self._connection.write(ESTABLISHED)
        self._connection.enter(connect, rest)

    # What goes: `exchange.Wire`.

    @property
    def switches(self) -> bool:
        """Only behind a request that is whole, and not behind one of HTTP/1.0."""
        return self._head.version == "1.1" and self._head.size == 0 and not self._half_closed

    def switch(self, headers: Sequence[tuple[str, str]]) -> None:
        self._connection.write(switching_head(headers))
        self._state = _State.SWITCHED
        rest = bytes(self._buffer)
        self._buffer.clear()
        if rest:
            self._pass(rest)

    def send_continue(self) -> None:
        self._awaits_continue = False
        self._connection.write(CONTINUE)

    def send_head(
        self, status: int, headers: Sequence[tuple[str, str]], data: bytes, *, end: bool
    ) -> None:
        closes = self._last or self._awaits_continue or self._connection.retiring
        raw, self._chunked, self._last = answer_head(
            self._head, status, headers, has_body=bool(data) or not end, closes=closes
        )
        if data:
            raw += self._framed(data)
        if end:
            if self._chunked:
                raw += b"0\r\n\r\n"
            self._connection.write(raw)
            self._answered()
        else:
            self._connection.write(raw)

    def send_data(self, data: bytes) -> None:
        self._connection.write(self._framed(data))

    def send_end(self) -> None:
        if self._chunked:
            self._connection.write(b"0\r\n\r\n")
        self._answered()

    def _framed(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data

    def abort(self) -> None:
        """The answer so far is incomplete. In HTTP/1 a close says so."""
        answered = self.exchange is not None and self.exchange.answered
        self.lose("the answer was cut")
        self.cut = self.cut or answered
        self._connection.close()

    def congested(self) -> bool:
        return self._connection.congested()

    async def drain(self) -> None:
        try:
            async with asyncio.timeout(self._connection.bounds.stalled_timeout_s):
                await self._connection.drained()
        except TimeoutError:
            self._end("the client takes nothing")

    def _answered(self) -> None:
        """The answer is out. The next request is read when this one is whole as well."""
        exchange = self.exchange
        if exchange is None:
            return
        if self._state is _State.SWITCHED:
            self._state = _State.DONE
            self.exchange = None
            self._connection.linger()
            return
        if self._state is _State.BODY and not self._awaits_continue:
            self.unread_since = self._connection.clock()
            return
        if self._awaits_continue or (self._last and not exchange.body_complete) or self._defective:
            self._state = _State.DONE
            self.exchange = None
            self._connection.linger()
            return
        self._over()

    @property
    def _defective(self) -> bool:
        return self._head is _NO_HEAD

    def _over(self) -> None:
        """Request and answer are whole."""
        self.exchange = None
        self.unread_since = None
        if self._last or not keeps_alive(self._head):
            self._state = _State.DONE
            self._connection.close()
            return
        self._state = _State.HEAD
        if self._buffer:
            # One read can bring thousands of requests. Answered in one turn, they would hold up all other clients.
            self._queued = True
            self._connection.soon(self._begin_queued)
        else:
            self._run()

    def _begin_queued(self) -> None:
        self._queued = False
        self._run()
