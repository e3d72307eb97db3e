"""An exchange's way back to its client: `exchange.Wire` over the layers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING

from mitmproxy import http
from mitmproxy.proxy import events
from mitmproxy.proxy.layers.http import _events

from tollhouse.listen.mitm.http2 import BoundedHttp2Server
from tollhouse.listen.mitm.message import SentResponse

if TYPE_CHECKING:
    from tollhouse.listen.mitm.layer import CallLayer

_HIGH_WATER = 256 * 1024
"""Bytes in the client's send buffer above which the owner of a call waits."""


class Reply(events.Event):
    """An event of ours on its way down to the `CallLayer` of a connection."""

    def __init__(self, event: _events.HttpEvent | bytes) -> None:
        self.event = event
        """The event for the client's HTTP connection, or raw bytes to send."""


class ClientWire:
    """`exchange.Wire` over an `CallLayer`."""

    switches = False

    def __init__(self, side: CallLayer, stream_id: int, request: http.Request) -> None:
        self._side = side
        self._stream_id = stream_id
        self._http_version = request.data.http_version
        self._method = request.data.method

    def _reply(self, *given: _events.HttpEvent | bytes) -> None:
        self._side.handler.process(*map(Reply, given))

    def send_continue(self) -> None:
        http_side = self._side.http
        if isinstance(http_side, BoundedHttp2Server):
            self._reply(http_side.send_continue(self._stream_id))
        else:
            if http_side is not None:
                http_side.awaits_continue = False
            self._reply(b"HTTP/1.1 100 Continue\r\n\r\n")

    def send_head(
        self, status: int, headers: Sequence[tuple[str, str]], data: bytes, *, end: bool
    ) -> None:
        fields = [
            (k.encode("utf-8", "surrogateescape"), v.encode("utf-8", "surrogateescape"))
            for k, v in headers
        ]
        if self._http_version == b"HTTP/2.0":
            version = b"HTTP/2.0"
        else:
            version = b"HTTP/1.1"
            sized = any(k == b"content-length" for k, _ in fields)
            if (
                not sized
                and (data or not end)
                and status not in (204, 304)
                and self._method != b"HEAD"
            ):
                if self._http_version == b"HTTP/1.1":
                    fields.append((b"transfer-encoding", b"chunked"))
                else:
                    fields.append((b"connection", b"close"))
        phrase = b"" if version == b"HTTP/2.0" else reason(status)
        response = SentResponse(version, status, phrase, http.Headers(fields))
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

    def switch(self, headers: Sequence[tuple[str, str]]) -> None:
        raise AssertionError("this wire does not switch")

    def abort(self) -> None:
        # For other codes mitmproxy sends a page of its own on HTTP/2 if there was no head yet.
        self._reply(
            _events.ResponseProtocolError(
                self._stream_id, "the answer was cut", _events.ErrorCode.KILL
            )
        )

    def congested(self) -> bool:
        http_side = self._side.http
        if isinstance(http_side, BoundedHttp2Server) and http_side.pending(self._stream_id):
            return True
        return self._side.handler.send_buffer_size() > _HIGH_WATER

    async def drain(self) -> None:
        side = self._side
        try:
            async with asyncio.timeout(side.handler.bounds.stalled_timeout_s):
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


def reason(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""
