"""Server-sent events cut out of a byte stream, each with its own raw bytes.

The rules are those of https://html.spec.whatwg.org/multipage/server-sent-events.html: a line ends with LF, CRLF or CR,
an event ends with an empty line, a byte order mark may open the stream, several ``data`` lines make one text.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import Final

MAX_EVENT: Final = 1 << 20
"""The most bytes of an event that is read. A longer event is passed on in pieces, unread."""

_END: Final = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_LINE: Final = re.compile(rb"[^\r\n]+")
_BOM: Final = b"\xef\xbb\xbf"


class EventSplitter:
    """Cuts a stream into events. The pieces of all `feed` calls and `rest` joined are the stream, byte for byte.

    A piece is ``(raw, whole)``. A whole piece is an event with the empty line that ends it. A piece
    that is not whole is one of two things. It may be a part of an event above the limit. Or it is
    the LF of a CRLF whose CR has ended the event before: an event that ends in CR is complete at
    the CR and does not wait for an LF. That piece is ``b"\\n"`` and comes directly behind its
    event.
    """

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self._limit = limit
        self._kept = bytearray()  # not a list: pieces of a few bytes would take many times theirs
        self._last = (
            b""  # up to 3 bytes before the next chunk: a line end is at most 2, an event's end 4
        )
        self._after_cr = False
        self._skipping = False
        self._plain = True  # nothing kept, not after a CR, not skipping

    def feed(self, chunk: bytes) -> list[tuple[bytes, bool]]:
        # The common case, one event of one line: the first LF is the last byte but one.
        # `find` takes a fifth of the time of `in`.
        if (
            self._plain
            and chunk.find(b"\n") == len(chunk) - 2
            and chunk.endswith(b"\n\n")
            and chunk.find(b"\r") < 0
        ):
            return [(chunk, True)]
        pieces = self._feed(chunk)
        self._plain = not (self._kept or self._after_cr or self._skipping)
        return pieces

    def rest(self) -> bytes:
        """The bytes of an event that has not ended."""
        return bytes(self._kept)

    def _feed(self, chunk: bytes) -> list[tuple[bytes, bool]]:
        pieces: list[tuple[bytes, bool]] = []
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk[0] == 0x0A:
                pieces.append((b"\n", False))
                chunk = chunk[1:]
        if not chunk:
            return pieces
        if self._kept or self._skipping:
            probe = self._last + chunk
            end = _end(probe)
            if end < 0:
                self._last = probe[-3:]
                if self._skipping:
                    pieces.append((chunk, False))
                else:
                    self._keep(chunk, pieces)
                return pieces
            if self._skipping:
                end -= len(self._last)
                pieces.append((chunk[:end], False))
                self._after_cr = end == len(chunk) and chunk[-1] == 0x0D
                self._skipping = False
                chunk = chunk[end:]
            else:
                chunk = bytes(self._kept) + chunk
                self._kept = bytearray()
        at = 0
        if b"\r" not in chunk:
            # Looked for once: a piece may have an event in every second byte.
            while (end := chunk.find(b"\n\n", at) + 2) >= 2:
                pieces.append((chunk[at:end], True))
                at = end
        else:
            for match in _END.finditer(chunk):
                pieces.append((chunk[at : match.end()], True))
                at = match.end()
        if at == len(chunk):
            self._after_cr = self._after_cr or (at > 0 and chunk[-1] == 0x0D)
        else:
            self._last = chunk[at:][-3:]
            self._keep(chunk[at:], pieces)
        return pieces

    def _keep(self, part: bytes, pieces: list[tuple[bytes, bool]]) -> None:
        self._kept += part
        if len(self._kept) > self._limit:
            pieces.append((bytes(self._kept), False))
            self._kept = bytearray()
            self._skipping = True


def _end(buffer: bytes) -> int:
    """Where the first event ends, or -1."""
    if buffer.find(b"\r") < 0:
        found = buffer.find(b"\n\n")
        return found + 2 if found >= 0 else -1
    match = _END.search(buffer)
    return match.end() if match else -1


class EventData:
    """The text of an event's ``data`` lines, and where each byte of it stands in the event.

    ``text`` is Latin-1 of the UTF-8 bytes (see jsonscan.py), lines joined by LF; None when the event has no ``data``
    line.
    """

    __slots__ = ("_raw_starts", "_starts", "text")

    def __init__(self, raw: bytes) -> None:
        lines: list[str] = []
        self._starts: list[int] = []
        self._raw_starts: list[int] = []
        length = 0
        for match in _LINE.finditer(raw, 3 if raw.startswith(_BOM) else 0):
            start, end = match.span()
            if raw.startswith(b"data:", start):
                start += 6 if raw.startswith(b" ", start + 5) else 5
            elif raw[start:end] == b"data":
                start = end
            else:
                continue
            self._starts.append(length)
            self._raw_starts.append(start)
            lines.append(raw[start:end].decode("latin-1"))
            length += end - start + 1
        self.text: str | None = "\n".join(lines) if lines else None

    def raw_span(self, start: int, end: int) -> tuple[int, int]:
        """The event's bytes for ``text[start:end]``, which is not empty; line ends and ``data:`` between lines
        included."""
        return self._raw_offset(start), self._raw_offset(end - 1) + 1

    def _raw_offset(self, offset: int) -> int:
        line = bisect_right(self._starts, offset) - 1
        return self._raw_starts[line] + offset - self._starts[line]


_EVENT_ENDS: Final = (b"\n\n", b"\r\n\r\n", b"\r\r")


class SseBoundary:
    """`meters.Boundary` of server-sent events. A client that reads slowly decides where pieces end,
    and could make none of them end with an event. So `cut` finds the end of an event inside a
    piece."""

    __slots__ = ("between",)

    def __init__(self) -> None:
        self.between = True

    def sent(self, data: bytes) -> None:
        self.between = data.endswith(_EVENT_ENDS)

    def cut(self, data: bytes) -> bytes:
        ends = [at + len(end) for end in _EVENT_ENDS if (at := data.find(end)) >= 0]
        return data[: min(ends, default=len(data))]
