"""A client's connection: its bytes through TLS and tunnels to the HTTP that it speaks, and its end.

proxy listener        [TLS ->] HTTP/1 -(CONNECT)-> TLS -> HTTP
base URL listener     [TLS ->] HTTP
transparent listener  TLS -> HTTP

HTTP/1 is `http1.Http1`. HTTP/2 is mitmproxy's (`listen.mitm`), behind `Beyond`.

Past 400 lines because each callback of asyncio has to be seen beside the flags that it may find.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, cast

from tollhouse.admit.connection_limits import Occupant
from tollhouse.call import ListenerKind, RequestHead
from tollhouse.listen import half_closed
from tollhouse.listen.client_hello import BadHello, read_hello
from tollhouse.listen.doors import ConnectRequest
from tollhouse.listen.exchange import Exchange
from tollhouse.listen.http1 import READ_AHEAD, Http1
from tollhouse.listen.request_head import Http1Head
from tollhouse.listen.shared import Shared, Spoken
from tollhouse.listen.tls import MAX_HELLO_READS, UNRECOGNIZED_NAME, TlsError, TlsStream

log = logging.getLogger(__name__)

_HIGH_WATER: Final = 256 * 1024
"""Bytes in the client's send buffer above which the owner of a call waits."""
_LINGER_S: Final = 2.0
"""How long a refused client's bytes are read on after the answer. A close with unread bytes is a
reset, and a reset can overtake the answer."""
_FLUSH_S: Final = 5.0
"""How long a client may take to read the last bytes of a closed connection. A client that reads nothing would keep its
socket for ever."""
_HANDSHAKE: Final = 0x16


class ClientConnection(asyncio.Protocol):
    """One client connection. ``tls``: the listener itself speaks TLS."""

    def __init__(
        self,
        shared: Shared,
        listener: ListenerKind,
        *,
        tls: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shared = shared
        self.bounds = shared.bounds
        self.listener: ListenerKind = listener
        self.clock = clock
        self.client_ip = ""
        self.client_certificate: bytes | None = None
        """DER, of the listener's own TLS."""
        self.occupant = Occupant(self.retire)
        self.alpn: str | None = None
        self.last_active = clock()
        """The last time at which a request was under way or a byte of an answer went out. Other
        bytes of the client do not count: with them it could keep an idle connection for ever."""
        self._listener_tls = tls
        self._transport: asyncio.Transport | None = None
        self._streams: list[TlsStream] = []
        """TLS, the outermost first."""
        self._connect: ConnectRequest | None = None
        self.http: Http1 | None = None
        self._spoken: Spoken | None = None
        self._handshake_since: float | None = None
        self._refused = False
        """The handshake has failed, and its line is written."""
        self._why_refused = ""
        """What was wrong with the name that it was made for."""
        self._hello = bytearray()
        """A redirected connection's first message, until it is whole and was read."""
        self._hello_reads = 0
        """In how many pieces it has come; -1 once it is whole."""
        self.lingering_since: float | None = None
        """When our direction was closed while the client's stayed open."""
        self._closing_since: float | None = None
        self.half_closed = False
        """The client has ended its direction."""
        self._congested = False
        self._held = False
        """The socket is not read until the client has taken enough of its answers. Else one that takes none could ask on."""
        self._turn = False
        """The next request begins in the next turn of the loop, and the socket is not read until then."""
        self._drained: list[asyncio.Future[None]] = []
        self._paused = False
        self._tasks: set[asyncio.Task[None]] = set()

    # asyncio's side. An exception in one of these would leave the connection open and silent.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self._transport = transport = cast(asyncio.Transport, transport)
        try:
            peer = transport.get_extra_info("peername")
            self.client_ip = peer[0] if isinstance(peer, tuple) else ""
            transport.set_write_buffer_limits(_HIGH_WATER)
            if not self._shared.opened(self):
                return
            if self._listener_tls or self.listener == "transparent":
                self._secure(None)
            elif self.listener == "proxy":
                self.http = Http1(self, secure=False, tunnels=True)
            else:
                self._speak(None)
        except Exception:
            log.exception("a connection could not be opened; it is closed")
            transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            if self.exchange is not None:
                self.last_active = self.clock()
            if self.lingering_since is None and self._closing_since is None:
                if self.listener == "transparent" and self._hello_reads >= 0:
                    self._receive_hello(data)
                else:
                    self._receive(0, data)
        except Exception:
            log.exception("a connection failed; it is closed")
            self.end()

    def eof_received(self) -> bool:
        """True while the answer to a whole request is still to be sent."""
        try:
            if self._closing_since is not None or self.lingering_since is not None:
                return False
            self.half_closed = True
            if self._spoken is not None and not self._streams:
                self._spoken.receive_end()
                return True
            if self._streams or self._left():
                # TCP has ended, and so the client is gone. One that ends its direction of TLS alone leaves TCP open.
                self._lose("the connection ended")
                return False
            if self.http is not None:
                self.http.receive_end()
            return self.half_closed and self._closing_since is None
        except Exception:
            log.exception("a connection failed; it is closed")
            return False

    def connection_lost(self, error: Exception | None) -> None:
        try:
            self._lose("the connection ended")
        except Exception:
            log.exception("the end of a connection could not be told")
        finally:
            self._closing_since = self._closing_since or self.clock()
            self._transport = None
            self._wake()
            # They lead back here. Such a cycle would keep OpenSSL's memory until the collector runs.
            self._streams.clear()
            self.http = None
            self.occupant.end()
            self._shared.closed(self)

    def pause_writing(self) -> None:
        self._congested = True
        if self._spoken is not None:
            self._spoken.pause_writing()
        else:
            self._held = True
            self.pause_reading()

    def resume_writing(self) -> None:
        self._congested = False
        try:
            if self._held:
                self._held = False
                self._read_on()
            elif self._spoken is not None:
                self._spoken.resume_writing()
            self._wake()
            if self.http is not None:
                self.http.read_on()
        except Exception:
            log.exception("a connection failed; it is closed")
            self.end()

    def _wake(self) -> None:
        waiting, self._drained = self._drained, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    # From the socket upwards.

    def _receive_hello(self, data: bytes) -> None:
        """The network brings anything here, so it is read strictly before OpenSSL sees it, and its line says what was wrong."""
        self._hello += data
        self._hello_reads += 1
        try:
            if self._hello_reads > MAX_HELLO_READS:
                raise BadHello("the ClientHello comes in too many pieces")
            if read_hello(self._hello) is None:
                return
        except BadHello as error:
            self._why_refused = str(error)
            if self._transport is not None and self._hello[0] == _HANDSHAKE:
                self._transport.write(UNRECOGNIZED_NAME)
            self._lose("TLS failed")
            self.close()
            return
        whole, self._hello, self._hello_reads = bytes(self._hello), bytearray(), -1
        self._receive(0, whole)

    def _receive(self, level: int, data: bytes) -> None:
        """Bytes for the TLS connection at ``level``, or for what is behind the last one."""
        while level < len(self._streams):
            stream = self._streams[level]
            begins = not stream.established
            try:
                data = stream.receive(data)
            except (TlsError, BadHello) as error:
                if isinstance(error, BadHello):
                    self._why_refused = str(error)
                self._send(level, stream.pending())
                self._fail(stream, str(error))
                return
            self._send(level, stream.pending())
            if not stream.established:
                return
            if begins:
                self._established(stream, level)
            if data:
                self._receive(level + 1, data)
            if stream.ended and self._closing_since is None and self.lingering_since is None:
                self._receive_end()
            return
        if self.http is not None:
            self.http.receive(data)
        elif self._spoken is not None:
            self._spoken.receive(data)

    def _receive_end(self) -> None:
        if self.http is not None:
            self.http.receive_end()
        elif self._spoken is not None:
            self._spoken.receive_end()

    def _secure(self, connect: ConnectRequest | None) -> None:
        """TLS begins: the listener's own, or that of a tunnel."""
        self._connect = connect
        self.http = None
        self._handshake_since = self.clock()
        own = self._listener_tls and not self._streams
        # The name in a handshake with the listener itself decides nothing.
        refuses_ech = self._shared.judge.refuses_ech and not own
        first = self._shared.tls(own=own)
        self._streams.append(TlsStream(first, self._choose, refuses_ech=refuses_ech))

    def _choose(self, sni: str | None) -> ssl.SSLContext | None:
        try:
            chosen = self._shared.judge.context(self.listener, self._connect, sni)
        except Exception:
            log.exception("a handshake could not be judged; it is refused")
            chosen = None
        if chosen is None:
            self._why_refused = "it names a host that may not be called here"
        return chosen

    def _established(self, stream: TlsStream, level: int) -> None:
        self._handshake_since = None
        self.alpn = stream.alpn
        if self._listener_tls and level == 0:
            self.client_certificate = stream.certificate
        if self._listener_tls and self.listener == "proxy" and level == 0:
            self.http = Http1(self, secure=True, sni=stream.sni, tunnels=True)
            return
        self._speak(stream)

    def _speak(self, stream: TlsStream | None) -> None:
        secure, sni = stream is not None, stream.sni if stream is not None else None
        connect = self._connect
        self._spoken = self._shared.speaks(self, secure=secure, sni=sni, connect=connect)
        if self._spoken is None:
            self.http = Http1(self, secure=secure, sni=sni, connect=connect)

    def _fail(self, stream: TlsStream, why: str) -> None:
        log.info("TLS with a client failed: %s", why)
        if not stream.established:
            self._why_refused = self._why_refused or f"the handshake failed ({why})"
            self._record()
        self._lose("TLS failed")
        self.close()

    def _record(self) -> None:
        """The line of a handshake that was refused or has failed."""
        if self._refused or not self._streams or self._streams[-1].established:
            return
        self._refused = True
        connect = self._connect
        head = RequestHead(
            listener=self.listener,
            http_version="1.1",
            method="",
            target="",
            scheme="https",
            absolute_authority=None,
            authority=None,
            headers=(),
            connect_host=connect.host if connect is not None else None,
            sni=self._streams[-1].sni,
            client_ip=self.client_ip,
        )
        try:
            self._shared.judge.tls_refused(
                head, self._why_refused or "the connection ended in the handshake"
            )
        except Exception:
            log.exception("a handshake that failed could not be recorded")

    def _lose(self, why: str) -> None:
        self._record()
        if self.http is not None:
            self.http.lose(why)
        if self._spoken is not None:
            self._spoken.lose(why)

    # From HTTP downwards: `http1_connection.Http1Connection`.

    @property
    def exchange(self) -> Exchange | None:
        return self.http.exchange if self.http is not None else None

    def write(self, data: bytes) -> None:
        self.last_active = self.clock()
        self._send(len(self._streams), data)

    def _send(self, level: int, data: bytes) -> None:
        """Sends what the TLS connection at ``level``, or HTTP, has made."""
        transport = self._transport
        if not data or transport is None or transport.is_closing():
            return
        try:
            for stream in reversed(self._streams[:level]):
                stream.send(data)
                data = stream.pending()
        except TlsError as error:
            log.info("TLS with a client failed: %s", error)
            transport.abort()
            return
        transport.write(data)

    def _end_streams(self) -> None:
        for level in range(len(self._streams) - 1, -1, -1):
            self._streams[level].close()
            self._send(level, self._streams[level].pending())

    @property
    def retiring(self) -> bool:
        return self._shared.retiring or self.occupant.refused

    @property
    def leaves_by(self) -> float:
        return self._shared.leaves_by

    def retire(self) -> None:
        """The client is told, where its protocol has a word for it, that its next request belongs on another connection."""
        if self._spoken is not None:
            self._spoken.retire()

    def close(self) -> None:
        """Sends what is written, and ends the connection."""
        transport = self._transport
        if transport is None or self._closing_since is not None:
            return
        self._closing_since = self.clock()
        if self.http is None or not self.http.cut:
            self._end_streams()
        transport.close()

    def refuse(self, answer: bytes) -> None:
        """Ends a connection before it began. In TLS there is nothing that could be said."""
        if not self._listener_tls and self.listener != "transparent":
            self.write(answer)
        self.close()

    def linger(self) -> None:
        """Nothing more is sent, and what still comes is dropped."""
        transport = self._transport
        if transport is None or self._closing_since is not None or self.lingering_since is not None:
            return
        self.lingering_since = self.clock()
        self._end_streams()
        try:
            transport.write_eof()
        except (OSError, RuntimeError):
            self.close()

    def watch(self) -> None:
        """The client has ended its direction (``shutdown(SHUT_WR)``). That direction is not read any more, so the end of the
        connection is noticed in another way."""
        self.half_closed = True
        connection = self._socket()
        if connection is not None:
            half_closed.watch(connection)

    def _socket(self) -> socket.socket | None:
        return None if self._transport is None else self._transport.get_extra_info("socket")

    def congested(self) -> bool:
        return self._congested

    async def drained(self) -> None:
        """Until the client has taken enough of what was sent, or is gone."""
        if self._congested and self._transport is not None:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._drained.append(future)
            await future

    def pause(self, exchange: Exchange) -> None:
        """Reads no more from the socket until the owner has read the body."""
        if not self._paused:
            self._paused = True
            self.pause_reading()
            self.run(self._until_read(exchange))

    async def _until_read(self, exchange: Exchange) -> None:
        await exchange.room(READ_AHEAD)
        self._paused = False
        self._read_on()

    def _read_on(self) -> None:
        if not self._paused and not self._held and not self._turn:
            self.resume_reading()

    def soon(self, begin: Callable[[], None]) -> None:
        self._turn = True
        self.pause_reading()
        asyncio.get_running_loop().call_soon(self._take_turn, begin)

    def _take_turn(self, begin: Callable[[], None]) -> None:
        self._turn = False
        try:
            begin()
            self._read_on()
        except Exception:
            log.exception("a connection failed; it is closed")
            self.end()

    def pause_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    @property
    def closing(self) -> bool:
        return self._closing_since is not None

    def unsent(self) -> int:
        """Bytes that the client has not taken."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def about(self, name: str, default: Any = None) -> Any:
        """`asyncio.BaseTransport.get_extra_info`."""
        return default if self._transport is None else self._transport.get_extra_info(name, default)

    def own(self, exchange: Exchange) -> None:
        self.run(self._own(exchange))

    async def _own(self, exchange: Exchange) -> None:
        try:
            await self._shared.owner(exchange)
        except Exception:
            log.exception("the owner of a call failed; the call is cut")
        finally:
            exchange.abort()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs ``work`` in a task of its own, which is kept until it has ended."""
        task = asyncio.get_running_loop().create_task(work)
        if not task.done():
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def tunnel(self, head: Http1Head) -> ConnectRequest:
        """Judges a CONNECT."""
        asked = ConnectRequest(
            head.authority,
            head.headers,
            self.client_ip,
            client_certificate=self.client_certificate,
        )
        try:
            self._shared.judge.connect(asked)
        except Exception:
            log.exception("a tunnel could not be judged; it is refused")
            asked.host = None
        return asked

    def pass_on(self, connect: ConnectRequest, rest: bytes) -> None:
        """The tunnel's bytes go on unread."""
        self.http = None
        self._spoken = self._shared.passes(self, connect, rest)

    def enter(self, connect: ConnectRequest, rest: bytes) -> None:
        """The tunnel's TLS begins, with the bytes that came behind the CONNECT."""
        self._secure(connect)
        if rest:
            self._receive(len(self._streams) - 1, rest)

    # Its end.

    def overdue(self, now: float) -> bool:
        """Whether this connection has to be closed: it takes too long for a handshake, for a
        request's head or for a body that nobody wants any more, it is idle for too long, or its
        client is gone. Each time is bounded as a whole, and not only between two bytes."""
        if self._closing_since is not None:
            return now - self._closing_since > _FLUSH_S
        if self.lingering_since is not None:
            return now - self.lingering_since > _LINGER_S
        if self.half_closed and self._left():
            return True
        if self._spoken is not None:
            return self._spoken.overdue(now)
        limit = self.bounds.request_timeout_s
        since = self._handshake_since
        if self.http is not None:
            unread = self.http.unread_since
            if unread is not None and now - unread > limit:
                return True
            if self.exchange is not None and not self.exchange.finished:
                return False
            since = self.http.head_since
        if since is not None:
            return now - since > limit
        return now - self.last_active > self.bounds.idle_connection_s

    def forget(self) -> None:
        """Frees what a next request might have had in common with the last one."""
        if self.http is not None:
            self.http.forget()

    def _left(self) -> bool:
        """Whether the client has ended both directions."""
        connection = self._socket()
        return connection is None or half_closed.left(connection)

    def end(self) -> None:
        """Ends it now: its exchange is lost. Bytes that are written have `_FLUSH_S` to go out."""
        if self._closing_since is not None:
            if self._transport is not None and self.overdue(self.clock()):
                self._transport.abort()
            return
        self._lose("the connection ended")
        self.close()
