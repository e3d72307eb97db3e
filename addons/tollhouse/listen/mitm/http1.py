"""HTTP/1 with a client: mitmproxy's connection, its reading of heads and bodies replaced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import _base, _events, _http1

from tollhouse.denial import Denial
from tollhouse.listen.chunks import BadChunks, ChunkedBody, SizedBody
from tollhouse.listen.doors import Bounds
from tollhouse.listen.mitm.head import empty_request, parse_http1
from tollhouse.listen.mitm.hooks import Commands
from tollhouse.listen.request_head import Defect, HeadFinder


@dataclass
class DefectiveRequest(_events.RequestHeaders):
    """An HTTP/1 request whose head could not be parsed."""

    denial: Denial = field(default_factory=lambda: Denial("bad_request"))


class BrokenBody(_events.HttpEvent):
    """The framing of an HTTP/1 request's body could not be parsed."""

    def __init__(self, stream_id: int, denial: Denial) -> None:
        super().__init__(stream_id)
        self.denial = denial


class StrictHttp1Server(_http1.Http1Server):
    """HTTP/1 with a parser that repairs nothing. A request that two parsers could read in two ways
    gets a 400."""

    def __init__(self, context: Context, bounds: Bounds, clock: Callable[[], float]) -> None:
        super().__init__(context)
        self.bounds = bounds
        self.clock = clock
        self.half_closed = False
        """The client has ended its direction behind a whole request, and waits for the answer (RFC
        9112 9.6)."""
        self.head_since: float | None = None
        """When the first byte of an incomplete head arrived."""
        self.defective = False
        self.retired = False
        """Its next request belongs on another connection."""
        self.awaits_continue = False
        """The client sends its body after a 100 only, and has had none."""
        self._finder = HeadFinder(bounds.max_header_bytes)
        self._body: SizedBody | ChunkedBody = SizedBody(0)

    def read_headers(self, event: events.ConnectionEvent) -> Commands:
        if not isinstance(event, events.DataReceived):
            yield commands.CloseConnection(self.conn)
            return
        try:
            head = self._take_head()
            if head is None:
                return
            request, size = parse_http1(head)
        except Defect as defect:
            yield from self._refuse(defect.denial)
            return
        self.request = request
        self.awaits_continue = (
            size != 0
            and b"100-" in head
            and request.data.http_version == b"HTTP/1.1"
            and request.headers.get("expect", "").lower() == "100-continue"
        )
        yield _base.ReceiveHttp(_events.RequestHeaders(self.stream_id, request, size == 0))
        # It knows what an end in the middle of the body is.
        self.body_reader = _http1.make_body_reader(size)
        self._body = ChunkedBody(self.bounds.max_header_bytes) if size is None else SizedBody(size)
        self.state = self.read_body
        yield from self.state(event)

    def _take_head(self) -> bytes | None:
        """The next request's head without its last CRLF, or None while it is not complete."""
        data: bytearray = self.buf._data
        if not data:
            return None
        if self.head_since is None:
            self.head_since = self.clock()
        if data.startswith(b"\r\n"):  # RFC 9112 2.2: one empty line before a request is ignored.
            self.buf.maybe_extract_at_most(2)
            data = self.buf._data
        end = self._finder.end(data)
        if end < 0:
            return None
        self.head_since = None
        head = bytes(data[:end])
        self.buf.maybe_extract_at_most(end + 2)
        return head

    def _refuse(self, denial: Denial) -> Commands:
        self.head_since = None
        self.defective = True
        self.state = self.done
        self.request = empty_request()
        yield _base.ReceiveHttp(DefectiveRequest(self.stream_id, self.request, True, denial=denial))

    def read_body(self, event: events.Event) -> Commands:
        if not isinstance(event, events.DataReceived):
            yield from super().read_body(event)
            return
        # mitmproxy would give the bytes to h11, which takes a bare CR in a chunk's extension and a bare LF behind a trailer.
        body = self._body
        while True:
            try:
                data = body.take(self.buf._data)
            except BadChunks as error:
                yield from self._break(str(error))
                return
            if data:
                self.awaits_continue = False
                yield _base.ReceiveHttp(_events.RequestData(self.stream_id, data))
            if body.over:
                yield _base.ReceiveHttp(_events.RequestEndOfMessage(self.stream_id))
                yield from self.mark_done(request=True)
                return
            if not body.more:
                return

    def _break(self, why: str) -> Commands:
        self.defective = True
        self.state = self.done
        yield _base.ReceiveHttp(BrokenBody(self.stream_id, Denial("bad_request", why)))

    def done(self, event: events.ConnectionEvent) -> Commands:
        self.buf.maybe_extract_at_most(len(self.buf))
        yield from super().done(event)

    def send(self, event: _events.HttpEvent) -> Commands:
        # Behind a refused head, or where a body was never asked for, nobody knows where the next
        # request begins.
        last = self.defective or self.awaits_continue or self.retired
        if last and isinstance(event, _events.ResponseHeaders):
            event.response.headers["connection"] = "close"
        if last and isinstance(event, _events.ResponseEndOfMessage):
            self.state = self.done
            yield commands.CloseTcpConnection(self.conn, half_close=True)
        elif isinstance(event, _events.ResponseProtocolError):
            # The answer so far is incomplete. In HTTP/1 a close says so.
            yield commands.CloseConnection(self.conn)
        elif isinstance(event, _events.ResponseData):
            if self.response is not None and b"transfer-encoding" in self.response.headers:
                yield commands.SendData(self.conn, b"%x\r\n%s\r\n" % (len(event.data), event.data))
            else:
                yield commands.SendData(self.conn, event.data)
        else:
            yield from super().send(event)
            if self.half_closed and isinstance(event, _events.ResponseEndOfMessage):
                yield from self._no_more()

    def _no_more(self) -> Commands:
        """Called when the answer is out and the client has ended its direction. Another whole
        request may have come before that; nothing else can come."""
        if self.state in (self.read_headers, self.read_body):
            yield from self.state(events.ConnectionClosed(self.conn))

    def wait(self, event: events.Event) -> Commands:
        if (
            isinstance(event, events.ConnectionClosed)
            and event.connection.state & ConnectionState.CAN_WRITE
        ):
            self.half_closed = True
            return
        if isinstance(event, events.DataReceived) and len(self.buf) > self.bounds.max_header_bytes:
            # Pipelined requests are read one at a time; what comes meanwhile is bounded.
            yield commands.CloseConnection(self.conn)
            event = events.ConnectionClosed(self.conn)
        yield from super().wait(event)
