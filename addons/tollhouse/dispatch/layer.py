"""The only file that knows mitmproxy's proxy core: from a client's bytes to an `Exchange`, and back.

mitmproxy brings TLS, HTTP/1 and HTTP/2; everything behind them is replaced. Its `HttpLayer` and `HttpStream` are not used:
they keep bodies, put the whole message through hooks whose exceptions are logged and ignored (the request is then sent), and
open one upstream connection a client connection. Here a request becomes an `Exchange` for one coroutine, and there is
no way upstream at all: this file cannot dial.

    proxy listener        TopLayer -> ProxyLayer -(CONNECT)-> ClientTLSLayer -> CallLayer
    base URL listener     TopLayer -> [ClientTLSLayer ->] CallLayer
    transparent listener  TopLayer -> ClientTLSLayer -> CallLayer

mitmproxy's internals that this leans on, to be looked at when its upper bound in pyproject.toml is raised: `Layer` appends
itself to ``context.layers`` when it is constructed, so none is built that is not used; `Http1Server` and `Http2Server`
yield `ReceiveHttp`; a hook has exactly one field; `ConnectionHandler.server_event` is replaced whole; `h11`'s ReceiveBuffer
and `BufferedH2Connection.stream_buffers` are read.

The file is longer than others because it is the whole of this boundary.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import h2.errors
import h2.events
import h11
from mitmproxy import http
from mitmproxy.addonmanager import AddonManager
from mitmproxy.hooks import all_hooks
from mitmproxy.net.http import http1
from mitmproxy.net.http.validate import validate_headers
from mitmproxy.options import Options
from mitmproxy.proxy import commands, events, layer, mode_specs
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import _base, _events, _http1, _http2
from mitmproxy.proxy.layers.tls import ClientTLSLayer
from mitmproxy.proxy.server import LiveConnectionHandler
from OpenSSL import SSL

from tollhouse.call import ListenerKind, RequestHead
from tollhouse.denial import Denial, error_body, error_headers
from tollhouse.dispatch.exchange import Exchange

log = logging.getLogger(__name__)
Commands = Generator[commands.Command, Any, None]

_HIGH_WATER = 256 * 1024
"""Bytes in the client's send buffer above which the owner of a call waits."""
_READ_AHEAD = 1024 * 1024
"""Bytes of a request's body that are kept for an owner who has not read them yet (HTTP/1: the socket is not read on)."""

_REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}) ([\x21-\x7e\x80-\xff]+) (HTTP/1\.[01])")
_METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}")
_TARGET = re.compile(rb"[\x21-\x7e\x80-\xff]+")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*(.*?)[ \t]*", re.DOTALL)
# RFC 9112 2.2 and 5.2: a bare CR or LF, a NUL, and line folding are refused, not repaired.
_UNSAFE_HEAD = re.compile(rb"\r(?!\n|\Z)|(?<!\r)\n|\x00|\r\n[ \t]")
_UNSAFE_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
# RFC 9113 8.2: lower case, no colon but the first of a pseudo-header, none of the connection's headers.
_H2_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_H2_PSEUDO = frozenset({b":method", b":scheme", b":path", b":authority"})
_H2_NEVER = frozenset({b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"})
_H2_FRAME = 16_384
"""The largest frame taken; hyper-h2 keeps up to 64 of them until a header block is complete."""
_MAX_HELLO = 16_384
"""Bytes of a ClientHello; one with post-quantum key shares has about 2,000."""
_MAX_HELLO_READS = 64
"""Each read parses all that has come of the hello again."""
_STALLED = 10
"""How many times `Bounds.request_timeout_s` a client may take nothing of an answer: it holds money, a connection of the
provider's and memory."""
_LINGER_S = 2.0
"""How long a refused client's bytes are read on after our last: a close with bytes unread is a reset, which can overtake
the answer."""
# A fatal TLS alert "unrecognized_name" in the clear (RFC 8446 6, RFC 6066 3), for a handshake that is ended before it began.
_ALERT_UNRECOGNIZED_NAME = b"\x15\x03\x03\x00\x02\x02\x70"


@dataclass(frozen=True)
class Bounds:
    """What a listener lets a client use up."""

    max_header_bytes: int
    request_timeout_s: float
    max_discarded_bytes: int
    """How much of a body that nobody wants is read on, so that the client sees the answer and not a reset."""


@dataclass
class ConnectRequest:
    """A CONNECT to be judged. ``host`` stays None unless an addon admits it: no answer is a refusal."""

    target: str
    headers: tuple[tuple[str, str], ...]
    client_ip: str
    host: str | None = None
    denial: Denial | None = None
    call_id: str = ""


@dataclass(eq=False)
class TollhouseConnectHook(commands.StartHook):
    """A client asks for a tunnel."""

    data: ConnectRequest


@dataclass(eq=False)
class TollhouseCallHook(commands.StartHook):
    """A request's head has arrived. The addon's coroutine owns the exchange from here to its end."""

    data: Exchange
    blocking = False


@dataclass
class Handshake:
    """A TLS handshake to be judged by its SNI. ``connection`` stays None unless an addon brings one: no answer ends it.

    ``connect`` is the tunnel it is in, None on a listener of ours that speaks TLS itself and on the transparent one.
    """

    listener: ListenerKind
    connect: ConnectRequest | None
    sni: str | None
    connection: SSL.Connection | None = None


@dataclass(eq=False)
class TollhouseHandshakeHook(commands.StartHook):
    """A client has said for which host it wants TLS."""

    data: Handshake


@dataclass(eq=False)
class TollhouseTlsRefusedHook(commands.StartHook):
    """A TLS handshake with a client was refused or failed; for the record only."""

    data: RequestHead
    blocking = False


class _Defect(Exception):
    def __init__(self, denial: Denial) -> None:
        self.denial = denial


@dataclass
class _DefectiveRequest(_events.RequestHeaders):
    """An HTTP/1 request whose head could not be parsed."""

    denial: Denial = field(default_factory=lambda: Denial("bad_request"))


class _BrokenBody(_events.HttpEvent):
    """The framing of an HTTP/1 request's body could not be parsed."""

    def __init__(self, stream_id: int, denial: Denial) -> None:
        super().__init__(stream_id)
        self.denial = denial


class _Reply(events.Event):
    """An event of ours on its way down to the `CallLayer` of a connection."""

    def __init__(self, event: _events.HttpEvent | bytes) -> None:
        self.event = event
        """What the client's HTTP connection is told, or raw bytes to send."""


def _bad(why: str) -> _Defect:
    return _Defect(Denial("bad_request", why))


class StrictHttp1Server(_http1.Http1Server):
    """HTTP/1 with a parser that repairs nothing: what two parsers could read in two ways is a 400."""

    def __init__(self, context: Context, bounds: Bounds) -> None:
        super().__init__(context)
        self.bounds = bounds
        self.head_since: float | None = None
        """`time.monotonic()` when the first byte of a head that is not complete yet arrived."""
        self.defective = False
        self.awaits_continue = False
        """The client sends its body after a 100 only, and has had none."""
        self._scanned = 0

    def read_headers(self, event: events.ConnectionEvent) -> Commands:
        if not isinstance(event, events.DataReceived):
            yield commands.CloseConnection(self.conn)
            return
        try:
            head = self._take_head()
            if head is None:
                return
            request = _parse_head(head)
            size = http1.expected_http_body_size(request)
        except _Defect as defect:
            yield from self._refuse(defect.denial)
            return
        except ValueError as e:
            yield from self._refuse(Denial("bad_request", f"{str(e)[:120].capitalize()}."))
            return
        self.request = request
        self.awaits_continue = (
            size != 0
            and b"100-" in head
            and request.data.http_version == b"HTTP/1.1"
            and request.headers.get("expect", "").lower() == "100-continue"
        )
        yield _base.ReceiveHttp(_events.RequestHeaders(self.stream_id, request, size == 0))
        if self.state != self.read_headers:
            return  # The connection became a tunnel.
        self.body_reader = _http1.make_body_reader(size)
        self.state = self.read_body
        yield from self.state(event)

    def _take_head(self) -> bytes | None:
        """The next request's head without its last CRLF, or None while it is not complete."""
        data: bytearray = self.buf._data
        if not data:
            return None
        if self.head_since is None:
            self.head_since = time.monotonic()
        if data.startswith(b"\r\n"):  # RFC 9112 2.2: one empty line before a request is ignored.
            self.buf.maybe_extract_at_most(2)
            data = self.buf._data
        # Only what is new is looked through: a head that comes byte by byte would cost its length squared.
        since = max(0, self._scanned - 3)
        end = data.find(b"\r\n\r\n", since, self.bounds.max_header_bytes + 4)
        if end < 0:
            if len(data) > self.bounds.max_header_bytes:
                raise _Defect(Denial("headers_too_large", f"The limit is {self.bounds.max_header_bytes} bytes."))
            if _UNSAFE_HEAD.search(data, since):
                raise _bad("The head has a bare CR or LF, a NUL or a folded line.")
            self._scanned = len(data)
            return None
        self._scanned = 0
        self.head_since = None
        head = bytes(data[: end + 2])
        if _UNSAFE_HEAD.search(head):
            raise _bad("The head has a bare CR or LF, a NUL or a folded line.")
        self.buf.maybe_extract_at_most(end + 4)
        return head

    def _refuse(self, denial: Denial) -> Commands:
        self.head_since = None
        self.defective = True
        self.state = self.done
        self.request = _empty_request()
        yield _base.ReceiveHttp(_DefectiveRequest(self.stream_id, self.request, True, denial=denial))

    def read_body(self, event: events.Event) -> Commands:
        if not isinstance(event, events.DataReceived):
            yield from super().read_body(event)
            return
        while True:
            try:
                part = self.body_reader(self.buf)
            except h11.ProtocolError:
                yield from self._break("The body's chunks are malformed.")
                return
            if part is None:
                break
            if isinstance(part, h11.EndOfMessage):
                # Trailers are dropped, as RFC 9110 6.5.1 allows: nothing in them was judged.
                if self.request is not None and self.request.data.method != b"CONNECT":
                    yield _base.ReceiveHttp(_events.RequestEndOfMessage(self.stream_id))
                yield from self.mark_done(request=True)
                return
            if part.data:
                self.awaits_continue = False
                yield _base.ReceiveHttp(_events.RequestData(self.stream_id, bytes(part.data)))
        if len(self.buf) > self.bounds.max_header_bytes:
            # A chunk's extension or the trailers: h11 keeps a line until it is complete.
            yield from self._break("The body's chunk framing is too large.")

    def _break(self, why: str) -> Commands:
        self.defective = True
        self.state = self.done
        yield _base.ReceiveHttp(_BrokenBody(self.stream_id, Denial("bad_request", why)))

    def done(self, event: events.ConnectionEvent) -> Commands:
        self.buf.maybe_extract_at_most(len(self.buf))
        yield from super().done(event)

    def send(self, event: _events.HttpEvent) -> Commands:
        # Behind a head that was refused, or in place of a body that was never asked for, nothing can be told apart.
        last = self.defective or self.awaits_continue
        if last and isinstance(event, _events.ResponseHeaders):
            event.response.headers["connection"] = "close"
        if last and isinstance(event, _events.ResponseEndOfMessage):
            self.state = self.done
            yield commands.CloseTcpConnection(self.conn, half_close=True)
        elif isinstance(event, _events.ResponseProtocolError):
            # Whatever was sent so far is incomplete, and a close is how HTTP/1 says so.
            yield commands.CloseConnection(self.conn)
        elif isinstance(event, _events.ResponseData):
            if self.response is not None and b"transfer-encoding" in self.response.headers:
                yield commands.SendData(self.conn, b"%x\r\n%s\r\n" % (len(event.data), event.data))
            else:
                yield commands.SendData(self.conn, event.data)
        else:
            yield from super().send(event)

    def wait(self, event: events.Event) -> Commands:
        if isinstance(event, events.DataReceived) and len(self.buf) > self.bounds.max_header_bytes:
            # Pipelined requests are read one at a time; what comes meanwhile is bounded.
            yield commands.CloseConnection(self.conn)
            event = events.ConnectionClosed(self.conn)
        yield from super().wait(event)

    def release(self) -> bytes:
        """What was received after a CONNECT, for the tunnel's first layer."""
        rest = bytes(self.buf._data)
        self.buf.maybe_extract_at_most(len(self.buf))
        return rest


class BoundedHttp2Server(_http2.Http2Server):
    """HTTP/2 that tells when a stream's send buffer is empty again."""

    def __init__(self, context: Context, bounds: Bounds) -> None:
        super().__init__(context)
        self.drained: dict[int, asyncio.Future[None]] = {}
        self.h2_conn.decoder.max_header_list_size = bounds.max_header_bytes
        self.h2_conn.local_settings.max_frame_size = _H2_FRAME
        self.h2_conn.local_settings.acknowledge()
        self.h2_conn.max_inbound_frame_size = _H2_FRAME

    def pending(self, stream_id: int) -> bool:
        """Whether data of this stream waits for the client's flow control window."""
        return bool(self.h2_conn.stream_buffers.get(stream_id))

    def _handle_event(self, event: events.Event) -> Commands:
        yield from super()._handle_event(event)
        if isinstance(event, events.DataReceived) and len(self.h2_conn.incoming_buffer._data) > _H2_FRAME + 9:
            # hyper-h2 judges a frame's length when all of it is there: up to 16 MB.
            yield from self.protocol_error("a frame is too large", h2.errors.ErrorCodes.FRAME_SIZE_ERROR)
        if self.drained and not isinstance(event, _events.HttpEvent):
            for stream_id in [s for s in self.drained if not self.pending(s)]:
                waiter = self.drained.pop(stream_id)
                if not waiter.done():
                    waiter.set_result(None)

    def handle_h2_event(self, event: h2.events.Event) -> Generator[commands.Command, Any, bool]:
        if not isinstance(event, h2.events.RequestReceived):
            return (yield from super().handle_h2_event(event))
        # hyper-h2 ends the whole connection over one malformed head, without a word to anybody: it is told not to look,
        # and the stream gets an answer.
        stream_id, end = event.stream_id or 0, event.stream_ended is not None
        self.streams[stream_id] = _http2.StreamState.HEADERS_RECEIVED
        try:
            request = _parse_h2_head(event.headers or ())
        except _Defect as defect:
            empty = _empty_request(b"HTTP/2.0")
            yield _base.ReceiveHttp(_DefectiveRequest(stream_id, empty, end, denial=defect.denial))
        else:
            yield _base.ReceiveHttp(_events.RequestHeaders(stream_id, request, end))
        return False

    def send_continue(self, stream_id: int) -> bytes:
        if self.is_open_for_us(stream_id):
            self.h2_conn.send_headers(stream_id, [(b":status", b"100")])
        return self.h2_conn.data_to_send()


class _HttpSide(layer.Layer):
    """The client's HTTP connection and the exchanges on it, by stream id."""

    listener: ListenerKind

    def __init__(self, context: Context, handler: TollhouseConnectionHandler, connect: ConnectRequest | None) -> None:
        super().__init__(context)
        self.handler = handler
        self.connect = connect
        self.http: StrictHttp1Server | BoundedHttp2Server | None = None
        self.exchanges: dict[int, Exchange] = {}

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, events.Start):
            if self.context.client.alpn == b"h2":
                self.http = BoundedHttp2Server(self.context.fork(), self.handler.bounds)
            else:
                self.http = StrictHttp1Server(self.context.fork(), self.handler.bounds)
            yield from self._to_http(event)
        elif isinstance(event, _Reply):
            if isinstance(event.event, bytes):
                yield commands.SendData(self.context.client, event.event)
            else:
                yield from self._to_http(event.event)
                self._forget(event.event)
        elif isinstance(event, events.ConnectionEvent):
            yield from self._to_http(event)
        else:
            raise AssertionError(f"unexpected {event}")

    def _forget(self, event: _events.HttpEvent) -> None:
        """Drop an exchange whose answer has ended; while its request has not, it still counts what is discarded."""
        exchange = self.exchanges.get(event.stream_id)
        if exchange is None:
            return
        ended = isinstance(event, _events.ResponseEndOfMessage) and exchange.body_complete
        bare = isinstance(event, _events.ResponseHeaders) and event.end_stream and exchange.body_complete
        if ended or bare or isinstance(event, _events.ResponseProtocolError):
            del self.exchanges[event.stream_id]

    def _to_http(self, event: events.Event) -> Commands:
        assert self.http is not None
        for command in self.http.handle_event(event):
            if isinstance(command, _base.ReceiveHttp):
                yield from self._receive(command.event)
            else:
                yield command

    def _receive(self, event: _events.HttpEvent) -> Commands:
        if isinstance(event, _events.RequestHeaders):
            yield from self.request(event)
            return
        exchange = self.exchanges.get(event.stream_id)
        if exchange is None:
            return
        if isinstance(event, _events.RequestData):
            exchange.feed(event.data)
            unread = exchange.received if exchange.finished else exchange.buffered
            if unread > self.handler.bounds.max_discarded_bytes:
                yield commands.CloseConnection(self.context.client)
        elif isinstance(event, _BrokenBody):
            if exchange.finished:
                yield commands.CloseConnection(self.context.client)
            exchange.spoil(event.denial)
        elif isinstance(event, _events.RequestEndOfMessage):
            exchange.feed_end()
            if exchange.finished:
                self.exchanges.pop(event.stream_id, None)
        elif isinstance(event, _events.RequestProtocolError):
            self.exchanges.pop(event.stream_id, None)
            if isinstance(self.http, BoundedHttp2Server):
                waiter = self.http.drained.pop(event.stream_id, None)
                if waiter is not None and not waiter.done():
                    waiter.set_result(None)
            exchange.lose(event.message)

    def request(self, event: _events.RequestHeaders) -> Commands:
        """A request's head has arrived."""
        defect = event.denial if isinstance(event, _DefectiveRequest) else None
        head: RequestHead
        try:
            head = self.head_of(event.request)
        except UnicodeDecodeError:
            head = self.head_of(_empty_request(event.request.data.http_version))
            defect = defect or Denial("bad_request", "A header is not UTF-8.")
        exchange = Exchange(head, _ClientWire(self, event.stream_id, event.request), defect)
        self.exchanges[event.stream_id] = exchange
        self.handler.exchanges.add(exchange)
        if event.end_stream:
            exchange.feed_end()
        yield TollhouseCallHook(exchange)

    def head_of(self, request: http.Request) -> RequestHead:
        """Raises UnicodeDecodeError."""
        client = self.context.client
        data = request.data
        is_http2 = data.http_version == b"HTTP/2.0"
        absolute = data.authority.decode() if data.authority and not is_http2 else None
        return RequestHead(
            listener=self.listener,
            http_version="2" if is_http2 else "1.0" if data.http_version == b"HTTP/1.0" else "1.1",
            method=data.method.decode(),
            target=data.path.decode(),
            scheme=data.scheme.decode() if is_http2 or absolute is not None else "https" if client.tls else "http",
            absolute_authority=absolute,
            authority=(data.authority.decode() or None) if is_http2 else None,
            headers=tuple((k.decode().lower(), v.decode()) for k, v in data.headers.fields),
            connect_host=self.connect.host if self.connect else None,
            connect_proxy_authorization=_first(self.connect.headers, "proxy-authorization") if self.connect else None,
            sni=client.sni,
            client_ip=client.peername[0] if client.peername else "",
        )


class CallLayer(_HttpSide):
    """HTTP on a connection that is either a tunnel to a provider, or plain and addressed to ourselves."""

    def __init__(
        self,
        context: Context,
        handler: TollhouseConnectionHandler,
        listener: ListenerKind,
        connect: ConnectRequest | None,
    ) -> None:
        self.listener = listener
        super().__init__(context, handler, connect)


class ProxyLayer(_HttpSide):
    """HTTP/1 as spoken to a forward proxy: CONNECT opens a tunnel, everything else is a call like any other (refused there)."""

    listener: ListenerKind = "proxy"

    def request(self, event: _events.RequestHeaders) -> Commands:
        if event.request.data.method != b"CONNECT" or isinstance(event, _DefectiveRequest):
            yield from super().request(event)
            return
        client, http1_side = self.context.client, self.http
        assert isinstance(http1_side, StrictHttp1Server)
        try:
            target = event.request.data.authority.decode()
            headers = tuple((k.decode().lower(), v.decode()) for k, v in event.request.data.headers.fields)
        except UnicodeDecodeError:
            http1_side.defective = True
            http1_side.state = http1_side.done
            yield from super().request(event)
            return
        connect = ConnectRequest(target, headers, client.peername[0] if client.peername else "")
        yield TollhouseConnectHook(connect)
        http1_side.state = http1_side.done
        if connect.host is None:
            denial = connect.denial or Denial("internal", "No gate has judged the tunnel.")
            yield commands.SendData(client, _raw_refusal(denial, connect.call_id))
            yield commands.CloseTcpConnection(client, half_close=True)
            return
        yield commands.SendData(client, b"HTTP/1.1 200 Connection established\r\n\r\n")
        tls = GateTLSLayer(self.context, self.handler, "proxy", connect)
        # From here on the connection is the tunnel: the layers above are not asked again.
        self.handle_event = tls.handle_event  # type: ignore[method-assign]
        self._handle_event = tls.handle_event  # type: ignore[method-assign]
        if not self.handler.tls:
            self.handler.layer.handle_event = tls.handle_event  # type: ignore[method-assign]
        yield from tls.handle_event(events.Start())
        rest = http1_side.release()
        if rest:
            yield from tls.handle_event(events.DataReceived(client, rest))


class GateTLSLayer(ClientTLSLayer):
    """TLS with the client. The addon brings the connection object; none means that the handshake is refused."""

    def __init__(
        self,
        context: Context,
        handler: TollhouseConnectionHandler,
        listener: ListenerKind,
        connect: ConnectRequest | None,
        inner: type[ProxyLayer] | type[CallLayer] = CallLayer,
    ) -> None:
        super().__init__(context)
        self.handler = handler
        self.listener = listener
        self.connect = connect
        self.refused = False
        self._hello_reads = 0
        if inner is ProxyLayer:
            self.child_layer = ProxyLayer(context, handler, None)
        else:
            self.child_layer = CallLayer(context, handler, listener, connect)
        handler.http = self.child_layer

    def receive_handshake_data(self, data: bytes) -> Generator[commands.Command, Any, tuple[bool, str | None]]:
        if not self.client_hello_parsed and data:
            self._hello_reads += 1
            if len(self.recv_buffer) + len(data) > _MAX_HELLO or self._hello_reads > _MAX_HELLO_READS:
                return False, "the ClientHello has no end"
            if not self.recv_buffer and data[0] != 0x16:  # A handshake record, RFC 8446 5.1.
                return False, "this is no TLS"
        return (yield from super().receive_handshake_data(data))

    def receive_data(self, data: bytes) -> Commands:
        for command in super().receive_data(data):
            yield command
            if isinstance(command, commands.Log) and command.message.startswith("TLS Error"):
                # mitmproxy goes on, and all that comes is kept for an OpenSSL that will never read it.
                yield commands.CloseConnection(self.conn)

    def start_tls(self) -> Commands:
        data = Handshake(self.listener, self.connect, self.context.client.sni)
        yield TollhouseHandshakeHook(data)
        if data.connection is None:
            self.refused = True
            yield commands.SendData(self.context.client, _ALERT_UNRECOGNIZED_NAME)
            yield from self._record()
            yield commands.CloseConnection(self.context.client)
            return
        self.tls = data.connection

    def on_handshake_error(self, err: str) -> Commands:
        if not self.refused:
            self.refused = True
            yield from self._record()
        # What follows a colon may be the client's bytes, and a token among them.
        log.info("TLS with a client failed: %s", err.partition(":")[0])
        yield commands.CloseConnection(self.context.client)
        self.event_to_child = self.errored  # type: ignore[method-assign]

    def _record(self) -> Commands:
        client = self.context.client
        yield TollhouseTlsRefusedHook(
            RequestHead(
                listener=self.listener,
                http_version="1.1",
                method="",
                target="",
                scheme="https",
                absolute_authority=None,
                authority=None,
                headers=(),
                connect_host=self.connect.host if self.connect else None,
                connect_proxy_authorization=None,
                sni=client.sni,
                client_ip=client.peername[0] if client.peername else "",
            )
        )


class TopLayer(layer.Layer):
    """The first layer of a connection: picks what the listener speaks."""

    def __init__(self, context: Context, handler: TollhouseConnectionHandler) -> None:
        super().__init__(context)
        self.handler = handler

    def _handle_event(self, event: events.Event) -> Commands:
        handler, kind = self.handler, self.handler.kind
        child: layer.Layer
        if kind == "transparent":
            child = GateTLSLayer(self.context, handler, kind, None)
        elif handler.tls:
            inner = ProxyLayer if kind == "proxy" else CallLayer
            child = GateTLSLayer(self.context, handler, kind, None, inner)
        elif kind == "proxy":
            child = ProxyLayer(self.context, handler, None)
            handler.http = child
        else:
            child = CallLayer(self.context, handler, kind, None)
            handler.http = child
        self.handle_event = child.handle_event  # type: ignore[method-assign]
        yield from child.handle_event(event)


class _ClientWire:
    """`exchange.Wire` over a `CallLayer`."""

    def __init__(self, side: _HttpSide, stream_id: int, request: http.Request) -> None:
        self._side = side
        self._stream_id = stream_id
        self._http_version = request.data.http_version
        self._method = request.data.method

    def _reply(self, *given: _events.HttpEvent | bytes) -> None:
        self._side.handler.process(*map(_Reply, given))

    def send_continue(self) -> None:
        http_side = self._side.http
        if isinstance(http_side, BoundedHttp2Server):
            self._reply(http_side.send_continue(self._stream_id))
        else:
            if http_side is not None:
                http_side.awaits_continue = False
            self._reply(b"HTTP/1.1 100 Continue\r\n\r\n")

    def send_head(self, status: int, headers: Sequence[tuple[str, str]], data: bytes, *, end: bool) -> None:
        fields = [(k.encode("utf-8", "surrogateescape"), v.encode("utf-8", "surrogateescape")) for k, v in headers]
        if self._http_version == b"HTTP/2.0":
            version = b"HTTP/2.0"
        else:
            version = b"HTTP/1.1"
            sized = any(k == b"content-length" for k, _ in fields)
            if not sized and (data or not end) and status not in (204, 304) and self._method != b"HEAD":
                if self._http_version == b"HTTP/1.1":
                    fields.append((b"transfer-encoding", b"chunked"))
                else:
                    fields.append((b"connection", b"close"))
        now = time.time()
        reason = b"" if version == b"HTTP/2.0" else _reason(status)
        response = http.Response(version, status, reason, http.Headers(fields), None, None, now, now)
        bare = end and not data and version == b"HTTP/2.0"
        given: list[_events.HttpEvent] = [_events.ResponseHeaders(self._stream_id, response, bare)]
        if data:
            given.append(_events.ResponseData(self._stream_id, data))
        if end and not bare:
            given.append(_events.ResponseEndOfMessage(self._stream_id))
        self._reply(*given)

    def send_data(self, data: bytes) -> None:
        self._reply(_events.ResponseData(self._stream_id, data))

    def send_end(self) -> None:
        self._reply(_events.ResponseEndOfMessage(self._stream_id))

    def abort(self) -> None:
        # For other codes mitmproxy sends a page of its own on HTTP/2 if there was no head yet.
        self._reply(_events.ResponseProtocolError(self._stream_id, "the answer was cut", _events.ErrorCode.KILL))

    def congested(self) -> bool:
        http_side = self._side.http
        if isinstance(http_side, BoundedHttp2Server) and http_side.pending(self._stream_id):
            return True
        return self._side.handler.send_buffer_size() > _HIGH_WATER

    async def drain(self) -> None:
        side = self._side
        try:
            async with asyncio.timeout(_STALLED * side.handler.bounds.request_timeout_s):
                if isinstance(side.http, BoundedHttp2Server) and side.http.pending(self._stream_id):
                    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    side.http.drained[self._stream_id] = waiter
                    await waiter
                await side.handler.drain_client()
        except TimeoutError:
            exchange = side.exchanges.get(self._stream_id)
            self.abort()
            if exchange is not None:
                exchange.lose("the client takes nothing")


class TollhouseConnectionHandler(LiveConnectionHandler):
    """One client connection. Differs from mitmproxy's in that it never dials, runs hooks that nobody implements without
    making a task of each (57% of a bare request's time), and starts hook tasks only after the layers have been left, so
    that an answer given at once does not re-enter them."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        kind: ListenerKind,
        tls: bool,
        master: GateMaster,
        bounds: Bounds,
    ) -> None:
        super().__init__(reader, writer, master.options, _MODE)
        self.kind: ListenerKind = kind
        self.tls = tls
        self.addons = master.addons
        self.bounds = bounds
        self.exchanges: set[Exchange] = set()
        self.http: _HttpSide | None = None
        """The layer that speaks HTTP at the moment; None while a tunnel's TLS is being set up."""
        self.last_active = time.monotonic()
        self.lingering_since: float | None = None
        """`time.monotonic()` when our side was closed and the client's left open."""
        self._hooks = master.hooks
        self._tasks: set[asyncio.Task[None]] = set()
        self._writer = writer
        self.layer = TopLayer(self.layer.context, self)

    async def handle_client(self) -> None:
        try:
            await super().handle_client()
        finally:
            for exchange in tuple(self.exchanges):
                exchange.lose("the connection ended")

    async def server_event(self, event: events.Event) -> None:
        self.process(event)

    def process(self, *given: events.Event) -> None:
        """Give events to the layers and do what they ask; what goes to the client is one write. Never awaits, so the layers
        are never entered twice."""
        self.last_active = time.monotonic()
        queue: deque[events.Event] = deque(given)
        hooks: list[commands.StartHook] = []
        out: list[bytes] = []
        try:
            while queue:
                for command in self.layer.handle_event(queue.popleft()):
                    if isinstance(command, commands.SendData):
                        out.append(command.data)
                    elif isinstance(command, commands.StartHook):
                        if command.name in self._hooks:
                            hooks.append(command)
                        elif command.blocking:
                            queue.append(events.HookCompleted(command))
                    elif isinstance(command, commands.CloseConnection):
                        self._write(out)
                        if isinstance(command, commands.CloseTcpConnection) and command.half_close:
                            self._linger()
                        else:
                            self.close()
                    elif isinstance(command, commands.Log):
                        log.log(min(command.level, logging.INFO), "%s", command.message)
                    else:
                        raise RuntimeError(f"a layer asked for {type(command).__name__}, which is never done here")
        except Exception:
            log.exception("a connection's layers failed; it is closed")
            self.close()
        self._write(out)
        for hook in hooks:
            task = asyncio.get_running_loop().create_task(self.hook_task(hook))
            if not task.done():
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def _write(self, out: list[bytes]) -> None:
        if out and self.client in self.transports and not self._writer.is_closing():
            self._writer.write(b"".join(out) if len(out) > 1 else out[0])
        out.clear()

    async def handle_hook(self, hook: commands.StartHook) -> None:
        if hook.name not in self._hooks:
            return
        await self.addons.trigger_event(hook)
        if isinstance(hook, TollhouseCallHook):
            # mitmproxy logs what a hook raises and goes on: an exchange that is not finished then is cut here.
            exchange = hook.data
            exchange.abort()
            self.exchanges.discard(exchange)

    def send_buffer_size(self) -> int:
        return self._writer.transport.get_write_buffer_size()

    async def drain_client(self) -> None:
        try:
            await self._writer.drain()
        except OSError:
            pass  # The reader's side sees the same loss and reports it.

    async def drain_writers(self) -> None:
        """Called after each read: the next one waits until the client takes answers and the owners take request bodies."""
        await self.drain_client()
        if self.client.alpn != b"h2":
            for exchange in tuple(self.exchanges):
                await exchange.room(_READ_AHEAD)

    def overdue(self, now: float) -> bool:
        """Whether this connection has taken too long over a request's head, a handshake, or over sending nothing at all."""
        if self.lingering_since is not None:
            return now - self.lingering_since > _LINGER_S
        if any(not e.finished for e in self.exchanges):
            return False
        http_side = self.http.http if self.http is not None else None
        since = http_side.head_since if isinstance(http_side, StrictHttp1Server) else None
        limit = self.bounds.request_timeout_s
        if since is not None:
            return now - since > limit
        handshaking = self.http is None or (self.client.tls and self.client.timestamp_tls_setup is None)
        return now - self.last_active > (limit if handshaking else 10 * limit)

    def _linger(self) -> None:
        if self.lingering_since is None and self.client in self.transports:
            self.lingering_since = self.last_active
            self.close_connection(self.client, half_close=True)

    def close(self) -> None:
        if self.client in self.transports:
            self.close_connection(self.client)


_MODE = mode_specs.ProxyMode.parse("regular")


class GateMaster:
    """mitmproxy's `Master`, less what importing that brings: all of mitmproxy's addons, 16 MB. It has options and an addon
    manager, and our addons need no commands."""

    def __init__(self, addons: Sequence[object]) -> None:
        self.options = layer_options()
        self.commands = self
        self.addons = AddonManager(self)
        self.addons.add(*addons)
        self.hooks = frozenset(name for name in all_hooks if any(hasattr(addon, name) for addon in addons))

    def collect_commands(self, addon: object) -> None:
        """Asked by the addon manager of each addon."""


def layer_options() -> Options:
    """mitmproxy's options as its layers read them."""
    options = Options()
    options.add_option("connection_strategy", str, "lazy", "")
    # Of HTTP/2; see `BoundedHttp2Server.handle_h2_event`. HTTP/1 is validated in `_parse_head`.
    options.add_option("validate_inbound_headers", bool, False, "")
    options.add_option("normalize_outbound_headers", bool, False, "")
    options.add_option("proxy_debug", bool, False, "")
    # The watchdog of mitmproxy only knows one number for all; `overdue` judges instead.
    options.update(tcp_timeout=10**7)
    return options


def _parse_head(head: bytes) -> http.Request:
    """An HTTP/1 request from its head, every line of which ends with CRLF. Raises `_Defect` and ValueError."""
    first, *lines = head[:-2].split(b"\r\n")
    match = _REQUEST_LINE.fullmatch(first)
    if match is None:
        raise _bad("The request line is not `METHOD target HTTP/1.1`.")
    method, target, version = match.groups()
    fields: list[tuple[bytes, bytes]] = []
    for line in lines:
        parts = _FIELD.fullmatch(line)
        if parts is None or _UNSAFE_VALUE.search(parts[2]):
            raise _bad("A header line is malformed.")
        name, value = parts.groups()
        if len(name) == 17 and name.lower() == b"transfer-encoding" and value.lower() != b"chunked":
            raise _bad("The only transfer coding taken is chunked.")
        fields.append((name, value))
    scheme, authority, path = b"", b"", target
    if method == b"CONNECT":
        authority, path = target, b""
    elif not target.startswith(b"/") and target != b"*":
        scheme, separator, rest = target.partition(b"://")
        scheme = scheme.lower()
        if not separator or scheme not in (b"http", b"https"):
            raise _bad("The request target is neither a path nor an http(s) URL.")
        cut = min((i for i in (rest.find(c) for c in b"/?#") if i >= 0), default=len(rest))
        authority, path = rest[:cut], rest[cut:] or b"/"
        if not authority:
            raise _bad("The request target has no host.")
    request = http.Request(
        "", 0, method, scheme, authority, path, version, http.Headers(fields), None, None, time.time(), None
    )
    validate_headers(request)
    return request


def _parse_h2_head(fields: Sequence[tuple[bytes, bytes]]) -> http.Request:
    """An HTTP/2 request from its header block (RFC 9113 8.2, 8.3). Raises `_Defect`."""
    pseudo: dict[bytes, bytes] = {}
    headers: list[tuple[bytes, bytes]] = []
    for name, value in fields:
        if _UNSAFE_VALUE.search(value) or value[:1] in (b" ", b"\t") or value[-1:] in (b" ", b"\t"):
            raise _bad("A header value has a control character, or a space around it.")
        if name.startswith(b":"):
            if headers or name in pseudo or name not in _H2_PSEUDO or not value:
                raise _bad("A pseudo-header is unknown, empty, given twice or out of place.")
            pseudo[name] = value
        elif not _H2_NAME.fullmatch(name) or name in _H2_NEVER or (name == b"te" and value.lower() != b"trailers"):
            raise _bad("A header is malformed, or is one that HTTP/2 does not have.")
        else:
            headers.append((name, value))
    method, path = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    if not _METHOD.fullmatch(method):
        raise _bad("The method is malformed.")
    if method != b"CONNECT" and (b":scheme" not in pseudo or not _TARGET.fullmatch(path)):
        raise _bad("The scheme or the path is missing or malformed.")
    if sum(name == b"content-length" for name, _ in headers) > 1:
        raise _bad("The request has more than one content-length header.")
    scheme, authority = pseudo.get(b":scheme", b""), pseudo.get(b":authority", b"")
    return http.Request(
        "", 0, method, scheme, authority, path, b"HTTP/2.0", http.Headers(headers), None, None, time.time(), None
    )


def _empty_request(version: bytes = b"HTTP/1.1") -> http.Request:
    return http.Request("", 0, b"", b"", b"", b"", version, http.Headers(), None, None, time.time(), None)


def _raw_refusal(denial: Denial, call_id: str) -> bytes:
    """A refusal of a CONNECT, whole and closing."""
    body = error_body(denial, "openai", call_id)
    lines = [f"HTTP/1.1 {denial.status} {_reason(denial.status).decode()}"]
    lines += [f"{k}: {v}" for k, v in error_headers(denial, call_id)]
    lines += [f"content-length: {len(body)}", "connection: close", "", ""]
    return "\r\n".join(lines).encode() + body


def _reason(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""


def _first(headers: Sequence[tuple[str, str]], name: str) -> str | None:
    return next((value for key, value in headers if key == name), None)
