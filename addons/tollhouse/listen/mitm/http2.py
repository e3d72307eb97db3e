"""HTTP/2 with a client: mitmproxy's connection, bounded, and asked when a stream's buffer is empty."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Generator
from typing import Any

import h2.errors
import h2.events
import h2.exceptions
from hyperframe.frame import GoAwayFrame
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import _base, _events, _http2

from tollhouse.listen.doors import Bounds
from tollhouse.listen.mitm.head import empty_request, parse_http2
from tollhouse.listen.mitm.hooks import Commands
from tollhouse.listen.mitm.http1 import DefectiveRequest
from tollhouse.listen.request_head import Defect

_WINDOW = 1024 * 1024
"""Bytes of a stream's body that a client may send ahead (RFC 9113 5.2); mitmproxy opens the window
to 2 GiB."""
_FRAME = 16_384
"""The largest frame taken; hyper-h2 keeps up to 64 of them until a header block is complete."""


class BoundedHttp2Server(_http2.Http2Server):
    """HTTP/2 that tells when a stream's send buffer is empty again."""

    def __init__(self, context: Context, bounds: Bounds, behind: Callable[[int], bool]) -> None:
        """``behind`` says whether the owner of a stream has unread bytes. If so, the owner calls
        `acknowledge` itself when it has read them."""
        super().__init__(context)
        self._behind = behind
        self._unacknowledged: Counter[int] = Counter()
        self._malformed: set[int] = set()
        """Streams whose request can't be read, and whose answer has not ended."""
        self._no_more = False
        self._most = 0
        """The last stream that the client was told of, where ``_no_more`` was said."""
        self.h2_conn.local_settings.initial_window_size = _WINDOW
        self.drained: dict[int, asyncio.Future[None]] = {}
        self.h2_conn.decoder.max_header_list_size = bounds.max_header_bytes
        self.h2_conn.local_settings.max_frame_size = _FRAME
        self.h2_conn.local_settings.acknowledge()
        self.h2_conn.max_inbound_frame_size = _FRAME

    @property
    def rests(self) -> bool:
        """There has been a request, and none is under way."""
        return bool(self._last_stream()) and not self.h2_conn.open_inbound_streams

    def go_away(self) -> bytes:
        """Asks the client to open no more streams here. One that is on its way is not looked at, and the client sends it again over
        another connection (RFC 9113 6.8). hyper-h2 would take it for the end of all streams, so it is not told."""
        self._no_more = True
        self._most = self._last_stream()
        return GoAwayFrame(last_stream_id=self._most).serialize()

    def _last_stream(self) -> int:
        return self.h2_conn.highest_inbound_stream_id or 0

    def pending(self, stream_id: int) -> bool:
        """Whether data of this stream waits for the client's flow control window."""
        return bool(self.h2_conn.stream_buffers.get(stream_id))

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, _events.ResponseEndOfMessage) and event.stream_id in self._malformed:
            yield from self._reset(event.stream_id)
            return
        yield from super()._handle_event(event)
        if (
            isinstance(event, events.DataReceived)
            and len(self.h2_conn.incoming_buffer._data) > _FRAME + 9
        ):
            # hyper-h2 judges a frame's length when all of it is there: up to 16 MB.
            yield from self.protocol_error(
                "a frame is too large", h2.errors.ErrorCodes.FRAME_SIZE_ERROR
            )
        if self.drained and not isinstance(event, _events.HttpEvent):
            for stream_id in [s for s in self.drained if not self.pending(s)]:
                waiter = self.drained.pop(stream_id)
                if not waiter.done():
                    waiter.set_result(None)

    def handle_h2_event(self, event: h2.events.Event) -> Generator[commands.Command, Any, bool]:
        if self._no_more and (getattr(event, "stream_id", None) or 0) > self._most:
            if isinstance(event, h2.events.DataReceived):
                self.h2_conn.acknowledge_received_data(
                    event.flow_controlled_length or 0, event.stream_id or 0
                )
            return False
        if isinstance(event, h2.events.DataReceived):
            stream_id = event.stream_id or 0
            if self.streams.get(stream_id) is not _http2.StreamState.HEADERS_RECEIVED:
                return (yield from super().handle_h2_event(event))
            if event.data:
                yield _base.ReceiveHttp(_events.RequestData(stream_id, event.data))
            self._unacknowledged[stream_id] += event.flow_controlled_length or 0
            if not self._behind(stream_id):
                self._open_window(stream_id)
            return False
        if not isinstance(event, h2.events.RequestReceived):
            return (yield from super().handle_h2_event(event))
        # hyper-h2 ends the whole connection because of one malformed head, without an answer. So
        # its check is switched off, and the stream gets an answer of ours.
        stream_id, end = event.stream_id or 0, event.stream_ended is not None
        self.streams[stream_id] = _http2.StreamState.HEADERS_RECEIVED
        try:
            request = parse_http2(event.headers or ())
        except Defect as defect:
            self._malformed.add(stream_id)
            empty = empty_request(b"HTTP/2.0")
            yield _base.ReceiveHttp(DefectiveRequest(stream_id, empty, end, denial=defect.denial))
        else:
            yield _base.ReceiveHttp(_events.RequestHeaders(stream_id, request, end))
        return False

    def _reset(self, stream_id: int) -> Commands:
        """Ends the stream of a malformed request behind its answer (RFC 9113 8.1.1)."""
        self._malformed.discard(stream_id)
        if self.is_open_for_us(stream_id):
            self.h2_conn.reset_stream(stream_id, h2.errors.ErrorCodes.PROTOCOL_ERROR)
            yield commands.SendData(self.conn, self.h2_conn.data_to_send())

    def acknowledge(self, stream_id: int) -> bytes:
        """Opens the client's window again by the bytes that the stream's owner has read."""
        self._open_window(stream_id)
        return self.h2_conn.data_to_send()

    def _open_window(self, stream_id: int) -> None:
        size = self._unacknowledged.pop(stream_id, 0)
        if size:
            self.h2_conn.acknowledge_received_data(size, stream_id)

    def take_no_more(self, stream_id: int) -> bytes:
        """Ends the client's direction of a stream that has been answered (RFC 9113 8.1)."""
        try:
            self.h2_conn.reset_stream(stream_id, h2.errors.ErrorCodes.NO_ERROR)
        except h2.exceptions.StreamClosedError:
            pass
        return self.h2_conn.data_to_send()

    def send_continue(self, stream_id: int) -> bytes:
        if self.is_open_for_us(stream_id):
            self.h2_conn.send_headers(stream_id, [(b":status", b"100")])
        return self.h2_conn.data_to_send()
