"""The heads of one connection's requests. An SDK sends the same one with each call, but for its ``content-length``, and then
it is neither parsed again nor judged again where the head alone decides.

Two heads are the same here if they are byte for byte the same but for the digits of that one header. Whose the call is, what
it may do and what it costs is asked for each call.
"""

from __future__ import annotations

import re
from typing import Final

from tollhouse.call import RequestHead
from tollhouse.listen.http1_connection import HeadMaker
from tollhouse.listen.request_head import LENGTH, Http1Head, parse_head

LONGEST: Final = 8 * 1024
"""Bytes of a head that is kept: one for each connection. SDKs send about 700."""
_VALUE: Final = re.compile(rb"(?i)\r\ncontent-length:[ \t]*([0-9]+)[ \t]*(?=\r\n)")


class RepeatedHead:
    """Of one connection: the last head, and what became of it."""

    def __init__(self, maker: HeadMaker) -> None:
        self._maker = maker
        self._before = self._behind = b""
        """The head up to its length's digits, and from their end on. `_before` is "" while none is kept."""
        self._last: tuple[Http1Head, RequestHead] | None = None

    def read(self, raw: bytes) -> tuple[Http1Head, RequestHead]:
        """The head ``raw``, every line of which ends with CRLF, as HTTP and as the road gets it. Raises `Defect`."""
        if self._last is not None and (found := self._again(raw, *self._last)) is not None:
            return found
        head = parse_head(raw)
        made = head, self._maker.head(head)
        self._keep(raw, made)
        return made

    def forget(self) -> None:
        """Frees what is kept."""
        self._last, self._before, self._behind = None, b"", b""

    def _again(
        self, raw: bytes, head: Http1Head, request: RequestHead
    ) -> tuple[Http1Head, RequestHead] | None:
        before, behind = self._before, self._behind
        if not raw.startswith(before):
            return None
        if not behind:
            return (head, request) if len(raw) == len(before) else None
        digits = raw[len(before) : len(raw) - len(behind)]
        if not digits or not raw.endswith(behind) or not LENGTH.fullmatch(digits.decode("latin-1")):
            return None
        size = int(digits)
        if size != head.size:
            headers = _with_length(head.headers, str(size))
            head = head._replace(headers=headers, size=size)
            request = request.repeated(headers)
            self._last = head, request
        return head, request

    def _keep(self, raw: bytes, made: tuple[Http1Head, RequestHead]) -> None:
        self.forget()
        head, _ = made
        if len(raw) > LONGEST or head.size is None or head.method == "CONNECT":
            return
        length = _VALUE.search(raw)
        if length is not None:
            self._before, self._behind = raw[: length.start(1)], raw[length.end(1) :]
        else:
            self._before = raw
        self._last = made


def _with_length(headers: tuple[tuple[str, str], ...], length: str) -> tuple[tuple[str, str], ...]:
    return tuple([(k, length) if k == "content-length" else (k, v) for k, v in headers])
