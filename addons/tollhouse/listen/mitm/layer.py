"""The layer of a client's HTTP, from its plain bytes to an `Exchange`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mitmproxy import http
from mitmproxy.connection import Client
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import _base, _events

from tollhouse.call import RequestHead
from tollhouse.denial import Denial
from tollhouse.listen.doors import ConnectRequest
from tollhouse.listen.exchange import Exchange
from tollhouse.listen.mitm.head import empty_request
from tollhouse.listen.mitm.hooks import Commands, TollhouseCallHook
from tollhouse.listen.mitm.http1 import BrokenBody, DefectiveRequest, StrictHttp1Server
from tollhouse.listen.mitm.http2 import BoundedHttp2Server
from tollhouse.listen.mitm.wire import ClientWire, Reply

if TYPE_CHECKING:
    from tollhouse.listen.mitm.handler import TollhouseConnectionHandler

_UNREAD = 256 * 1024
"""When the owner of an HTTP/2 body has more unread bytes than this, the client's window is not
opened further."""


class CallLayer(layer.Layer):
    """The client's HTTP connection and the exchanges on it, by stream id. ``connect`` is the tunnel that it is in."""

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
            unread = exchange.discarded if exchange.finished else exchange.buffered
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
        exchange = Exchange(
            head,
            ClientWire(self, event.stream_id, event.request),
            defect,
            least_body_bytes_s=self.handler.bounds.least_body_bytes_s,
            occupant=self.handler.occupant,
        )
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
            listener=self.handler.kind,
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
            client_certificate=self.handler.client_certificate,
        )


def _read_fields(fields: Sequence[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    """`RequestHead.headers` of what came; the names are ASCII."""
    return tuple((k.decode().lower(), v.decode("utf-8", "surrogateescape")) for k, v in fields)


def _ip_of(client: Client) -> str:
    return client.peername[0] if client.peername else ""


def _first(headers: Sequence[tuple[str, str]], name: str) -> str | None:
    return next((value for key, value in headers if key == name), None)
