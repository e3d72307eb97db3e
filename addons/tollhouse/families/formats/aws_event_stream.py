"""AWS's event streams: binary frames in a byte stream, each with its own two checksums.

https://docs.aws.amazon.com/transcribe/latest/dg/streaming-setting-up.html, "Event stream encoding", and botocore
`eventstream.py`. A frame is: the length of the whole frame, the length of its headers, the CRC of
these two (the prelude), the headers, the payload, the CRC of all bytes before it. Lengths and CRCs
are 4 bytes each, with the highest byte first.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from zlib import crc32

MAX_FRAME: Final = 1 << 20
"""The most bytes of a frame that is read. A longer frame is passed over."""
_LONGEST: Final = (24 << 20) + (128 << 10) + 16
"""The most that a frame may have: botocore `eventstream.py`, `_MAX_PAYLOAD_LENGTH` and `_MAX_HEADERS_LENGTH`."""
_PRELUDE: Final = struct.Struct("!III")
_NUMBER: Final = struct.Struct("!I")
_SHORT: Final = struct.Struct("!H")
_LEAST: Final = _PRELUDE.size + _NUMBER.size
_SIZES: Final = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of a header's value by its type. Types 6 (bytes) and 7 (text) have a length of their own."""
_BYTES: Final = 6
_TEXT: Final = 7


class BrokenFrame(ValueError):
    """The bytes are no frame. Nobody can tell where the next one begins."""


class Frame(NamedTuple):
    """One frame. ``headers`` has the headers that are text; a name that stands twice has its first
    value."""

    headers: Mapping[str, str]
    payload: bytes


class FrameSplitter:
    """Cuts a stream into frames, however its bytes come."""

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._limit = limit
        self._kept = bytearray()
        self._wanted = 0
        """Bytes that have to be kept before there is something to read."""
        self._skip = 0
        self._broken: BrokenFrame | None = None

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that have ended with ``data``. A frame whose own CRC is wrong is left out, and
        so is one above the limit. Raises `BrokenFrame` for a prelude that is none; nothing can be
        read from then on. If frames stand before it in ``data``, they are given first, and the next
        call raises."""
        if self._broken is not None:
            raise self._broken
        found: list[Frame] = []
        if self._skip:
            passed = min(self._skip, len(data))
            self._skip -= passed
            data = data[passed:]
        if self._kept:
            self._kept += data
            if len(self._kept) < self._wanted:
                return found
            data = bytes(self._kept)
            self._kept.clear()
        at = 0
        while len(data) - at >= _PRELUDE.size:
            total, of_headers, told = _PRELUDE.unpack_from(data, at)
            try:
                _check_prelude(data, at, total, of_headers, told)
            except BrokenFrame as broken:
                if not found:
                    raise
                self._broken = broken
                return found
            if len(data) - at < total:
                break
            if total <= self._limit and (frame := _frame(data, at, total, of_headers)) is not None:
                found.append(frame)
            at += total
        else:
            total = _PRELUDE.size
        if total > self._limit:
            self._skip = total - (len(data) - at)
        else:
            self._kept += data[at:]
            self._wanted = total
        return found


def _check_prelude(data: bytes, at: int, total: int, of_headers: int, told: int) -> None:
    if crc32(data[at : at + 8]) != told:
        raise BrokenFrame("the CRC of a prelude is wrong")
    if not _LEAST + of_headers <= total <= _LONGEST:
        raise BrokenFrame("the lengths of a prelude can't be")


def _frame(data: bytes, at: int, total: int, of_headers: int) -> Frame | None:
    end = at + total - _NUMBER.size
    (told,) = _NUMBER.unpack_from(data, end)
    if crc32(data[at:end]) != told:
        return None
    payload_at = at + _PRELUDE.size + of_headers
    try:
        headers = _headers(data[at + _PRELUDE.size : payload_at])
    except (struct.error, IndexError, KeyError, UnicodeDecodeError):
        return None
    return Frame(headers, data[payload_at:end])


def _headers(raw: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    while at < len(raw):
        name_end = at + 1 + raw[at]
        name, kind = raw[at + 1 : name_end].decode(), raw[name_end]
        at = name_end + 1
        if kind not in (_BYTES, _TEXT):
            at += _SIZES[kind]
            continue
        (length,) = _SHORT.unpack_from(raw, at)
        at += _SHORT.size
        if kind == _TEXT:
            found.setdefault(name, raw[at : at + length].decode())
        at += length
    return found


def frame(headers: Sequence[tuple[str, str]], payload: bytes) -> bytes:
    """The bytes of one frame. Its headers are text."""
    parts = []
    for name, value in headers:
        key, text = name.encode(), value.encode()
        parts.append(bytes((len(key),)) + key + bytes((_TEXT,)) + _SHORT.pack(len(text)) + text)
    head = b"".join(parts)
    lengths = struct.pack("!II", _LEAST + len(head) + len(payload), len(head))
    whole = lengths + _NUMBER.pack(crc32(lengths)) + head + payload
    return whole + _NUMBER.pack(crc32(whole))


def exception_frame(kind: str, payload: bytes) -> bytes:
    """The frame that an SDK raises as an error of the type ``kind``; ``payload`` is JSON."""
    return frame(
        (
            (":exception-type", kind),
            (":content-type", "application/json"),
            (":message-type", "exception"),
        ),
        payload,
    )


class FrameBoundary:
    """`meters.Boundary` of an event stream. Only the lengths of frames are looked at."""

    __slots__ = ("_head", "_left", "_lost")

    def __init__(self) -> None:
        self._head = b""
        """The first bytes of a frame, before its length is known: 3 at the most."""
        self._left = 0
        """Bytes that the frame still has."""
        self._lost = False

    @property
    def between(self) -> bool:
        return not (self._lost or self._left or self._head)

    def sent(self, data: bytes) -> None:
        at = 0
        while at < len(data) and not self._lost:
            at = self._advance(data, at)

    def cut(self, data: bytes) -> bytes:
        ahead = FrameBoundary()
        ahead._head, ahead._left, ahead._lost = self._head, self._left, self._lost
        at = 0
        while at < len(data) and not ahead._lost:
            at = ahead._advance(data, at)
            if ahead.between:
                return data[:at]
        return data

    def _advance(self, data: bytes, at: int) -> int:
        if self._left:
            passed = min(self._left, len(data) - at)
            self._left -= passed
            return at + passed
        wanted = _NUMBER.size - len(self._head)
        self._head += data[at : at + wanted]
        if len(self._head) == _NUMBER.size:
            (total,) = _NUMBER.unpack(self._head)
            self._lost = not _LEAST <= total <= _LONGEST
            self._left, self._head = total - _NUMBER.size, b""
        return min(at + wanted, len(data))
