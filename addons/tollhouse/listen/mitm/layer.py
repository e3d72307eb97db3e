"""The layers of a client's connection, from its first byte to an `Exchange`.

proxy listener        TopLayer -> ProxyLayer -(CONNECT)-> GateTLSLayer -> CallLayer
base URL listener     TopLayer -> [GateTLSLayer ->] CallLayer
transparent listener  TopLayer -> GateTLSLayer -> CallLayer

Past 400 lines because the layers of one connection hand over to each other.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from mitmproxy import http
from mitmproxy.connection import Client
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import _base, _events
from mitmproxy.proxy.layers.tls import ClientTLSLayer

from tollhouse.call import ListenerKind, RequestHead
from tollhouse.denial import Denial, error_headers
from tollhouse.families import DEFAULT
from tollhouse.listen.exchange import Exchange
from tollhouse.listen.mitm.head import empty_request
from tollhouse.listen.mitm.hooks import (
    Commands,
    ConnectRequest,
    Handshake,
    TollhouseCallHook,
    TollhouseConnectHook,
    TollhouseHandshakeHook,
    TollhouseTlsRefusedHook,
)
from tollhouse.listen.mitm.http1 import BrokenBody, DefectiveRequest, StrictHttp1Server
from tollhouse.listen.mitm.http2 import BoundedHttp2Server
from tollhouse.listen.mitm.wire import ClientWire, Reply, reason

if TYPE_CHECKING:
    from tollhouse.listen.mitm.handler import TollhouseConnectionHandler

log = logging.getLogger(__name__)

_UNREAD = 256 * 1024
"""When the owner of an HTTP/2 body has more unread bytes than this, the client's window is not
opened further."""
_MAX_HELLO = 16_384
"""Bytes of a ClientHello; one with post-quantum key shares has about 2,000."""
_MAX_HELLO_READS = 64
"""Each read parses all that has come of the hello again."""
# A fatal TLS alert "unrecognized_name" in the clear (RFC 8446 6, RFC 6066 3), for a handshake that is ended before it began.
_ALERT_UNRECOGNIZED_NAME = b"\x15\x03\x03\x00\x02\x02\x70"


class HttpSide(layer.Layer):
    """The client's HTTP connection and the exchanges on it, by stream id."""

    listener: ListenerKind

    def __init__(
        self, context: Context, handler: TollhouseConnectionHandler, connect: ConnectRequest | None
    ) -> None:
        super().__init__(context)
        self.handler = handler
        self.connect = connect
        self.http: StrictHttp1Server | BoundedHttp2Server | None = None
        self.exchanges: dict[int, Exchange] = {}
        self._catching_up: set[int] = set()
        self._unread: dict[int, float] = {}
        """By stream: when an answer was complete while its request's body was not."""

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, events.Start):
            if self.context.client.alpn == b"h2":
                self.http = BoundedHttp2Server(
                    self.context.fork(), self.handler.bounds, self._behind
                )
            else:
                self.http = StrictHttp1Server(
                    self.context.fork(), self.handler.bounds, self.handler.clock
                )
            yield from self._to_http(event)
        elif isinstance(event, Reply):
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
        """Drops an exchange whose answer has ended. While its request goes on, the discarded bytes
        are still counted."""
        exchange = self.exchanges.get(event.stream_id)
        if exchange is None:
            return
        if exchange.finished and not exchange.body_complete:
            self._unread.setdefault(event.stream_id, self.handler.clock())
        ended = isinstance(event, _events.ResponseEndOfMessage) and exchange.body_complete
        bare = (
            isinstance(event, _events.ResponseHeaders)
            and event.end_stream
            and exchange.body_complete
        )
        if ended or bare or isinstance(event, _events.ResponseProtocolError):
            self._drop(event.stream_id)

    def _behind(self, stream_id: int) -> bool:
        """Whether the owner of a stream has unread bytes of the body. The client may send on when
        they are read."""
        exchange = self.exchanges.get(stream_id)
        if exchange is None or exchange.buffered <= _UNREAD:
            return False
        if stream_id not in self._catching_up:
            self._catching_up.add(stream_id)
            self.handler.run(self._catch_up(stream_id, exchange))
        return True

    async def _catch_up(self, stream_id: int, exchange: Exchange) -> None:
        await exchange.room(_UNREAD)
        self._catching_up.discard(stream_id)
        if isinstance(self.http, BoundedHttp2Server):
            self.handler.process(Reply(self.http.acknowledge(stream_id)))

    def _drop(self, stream_id: int) -> None:
        self.exchanges.pop(stream_id, None)
        self._unread.pop(stream_id, None)

    def end_unread(self, before: float) -> bool:
        """Ends each stream whose answer was complete before the time ``before`` and whose request
        is still being sent. True if that ends the connection, as in HTTP/1."""
        late = [stream_id for stream_id, since in self._unread.items() if since < before]
        if not isinstance(self.http, BoundedHttp2Server):
            return bool(late)
        for stream_id in late:
            self._drop(stream_id)
            self.handler.process(Reply(self.http.take_no_more(stream_id)))
        return False

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
        elif isinstance(event, BrokenBody):
            if exchange.finished:
                yield commands.CloseConnection(self.context.client)
            exchange.spoil(event.denial)
        elif isinstance(event, _events.RequestEndOfMessage):
            exchange.feed_end()
            if exchange.finished:
                self._drop(event.stream_id)
        elif isinstance(event, _events.RequestProtocolError):
            self._drop(event.stream_id)
            if isinstance(self.http, BoundedHttp2Server):
                waiter = self.http.drained.pop(event.stream_id, None)
                if waiter is not None and not waiter.done():
                    waiter.set_result(None)
            exchange.lose(event.message)

    def request(self, event: _events.RequestHeaders) -> Commands:
        """A request's head has arrived."""
        defect = event.denial if isinstance(event, DefectiveRequest) else None
        head: RequestHead
        try:
            head = self.head_of(event.request)
        except UnicodeDecodeError:
            head = self.head_of(empty_request(event.request.data.http_version))
            defect = defect or Denial("bad_request", "The request target is not UTF-8.")
        exchange = Exchange(head, ClientWire(self, event.stream_id, event.request), defect)
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
            scheme=data.scheme.decode()
            if is_http2 or absolute is not None
            else "https"
            if client.tls
            else "http",
            absolute_authority=absolute,
            authority=(data.authority.decode() or None) if is_http2 else None,
            headers=_read_fields(data.headers.fields),
            connect_host=self.connect.host if self.connect else None,
            connect_proxy_authorization=_first(self.connect.headers, "proxy-authorization")
            if self.connect
            else None,
            sni=client.sni,
            client_ip=_ip_of(client),
        )


class CallLayer(HttpSide):
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


class ProxyLayer(HttpSide):
    """HTTP/1 as spoken to a forward proxy: CONNECT opens a tunnel, everything else is a call like any other (refused there)."""

    listener: ListenerKind = "proxy"

    def request(self, event: _events.RequestHeaders) -> Commands:
        if event.request.data.method != b"CONNECT" or isinstance(event, DefectiveRequest):
            yield from super().request(event)
            return
        client, http1_side = self.context.client, self.http
        assert isinstance(http1_side, StrictHttp1Server)
        try:
            target = event.request.data.authority.decode()
        except UnicodeDecodeError:
            http1_side.defective = True
            http1_side.state = http1_side.done
            yield from super().request(event)
            return
        connect = ConnectRequest(
            target, _read_fields(event.request.data.headers.fields), _ip_of(client)
        )
        yield TollhouseConnectHook(connect)
        http1_side.state = http1_side.done
        if connect.host is None:
            denial = connect.denial or Denial("internal", "No gate has judged the tunnel.")
            yield commands.SendData(client, raw_refusal(denial, connect.call_id))
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
        handler.handshake_since = handler.clock()
        if inner is ProxyLayer:
            self.child_layer = ProxyLayer(context, handler, None)
        else:
            self.child_layer = CallLayer(context, handler, listener, connect)
        handler.http = self.child_layer

    def receive_handshake_data(
        self, data: bytes
    ) -> Generator[commands.Command, Any, tuple[bool, str | None]]:
        if not self.client_hello_parsed and data:
            self._hello_reads += 1
            if (
                len(self.recv_buffer) + len(data) > _MAX_HELLO
                or self._hello_reads > _MAX_HELLO_READS
            ):
                return False, "the ClientHello has no end"
            if not self.recv_buffer and data[0] != 0x16:  # A handshake record, RFC 8446 5.1.
                return False, "this is no TLS"
        done, error = yield from super().receive_handshake_data(data)
        if done:
            self.handler.handshake_since = None
        return done, error

    def receive_close(self) -> Commands:
        """TCP has ended, and so the client is gone. One that ends its direction of TLS alone sends
        a close_notify (RFC 8446 6.1) and leaves TCP open."""
        yield commands.CloseConnection(self.conn)
        yield from super().receive_close()

    def receive_data(self, data: bytes) -> Commands:
        if self.refused:
            return  # These bytes were on their way when the handshake was ended.
        for command in super().receive_data(data):
            yield command
            if isinstance(command, commands.Log) and command.message.startswith("TLS Error"):
                # mitmproxy would go on and keep all further bytes for an OpenSSL that never reads
                # them.
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
                sni=client.sni,
                client_ip=_ip_of(client),
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


def raw_refusal(denial: Denial, call_id: str) -> bytes:
    """A refusal in HTTP/1, whole and closing, where there is no exchange to answer: of a CONNECT, of a connection."""
    body = DEFAULT.error_body(denial, call_id)
    lines = [f"HTTP/1.1 {denial.status} {reason(denial.status).decode()}"]
    lines += [f"{k}: {v}" for k, v in error_headers(denial, call_id)]
    lines += [f"content-length: {len(body)}", "connection: close", "", ""]
    return "\r\n".join(lines).encode() + body


def _read_fields(fields: Sequence[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    """`RequestHead.headers` of what came; the names are ASCII."""
    return tuple((k.decode().lower(), v.decode("utf-8", "surrogateescape")) for k, v in fields)


def _ip_of(client: Client) -> str:
    return client.peername[0] if client.peername else ""


def _first(headers: Sequence[tuple[str, str]], name: str) -> str | None:
    return next((value for key, value in headers if key == name), None)
