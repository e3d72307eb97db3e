"""The body of an HTTP/1 request, taken out of a connection's bytes (RFC 9112 6 and 7)."""

from __future__ import annotations

import re
from typing import Final

# White space behind the size is what many senders write, and h11 takes.
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[^\x00-\x08\x0a-\x1f\x7f]*|[ \t]*)")
_TRAILER: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\x00-\x08\x0a-\x1f\x7f]*")


MOST_LINES: Final = 4_000
"""Heads of chunks that are read at once. 256 KB, which one read may bring, have up to 40,000."""


class BadChunks(Exception):
    """The framing of the body is malformed, or too large. The text says which."""


class SizedBody:
    """One of a known length."""

    __slots__ = ("_left", "over")
    more: Final = False
    """There may be more in the buffer than was taken."""

    def __init__(self, size: int) -> None:
        self._left = size
        self.over = size == 0

    def take(self, buffer: bytearray) -> bytes:
        """The bytes of the body in ``buffer``, which are taken out of it."""
        size = min(self._left, len(buffer))
        data = bytes(buffer) if size == len(buffer) else bytes(buffer[:size])
        del buffer[:size]
        self._left -= size
        self.over = self._left == 0
        return data


class ChunkedBody:
    """One in chunks. ``limit`` is the most bytes of a chunk's head, and of all trailers. Trailers are dropped, as RFC 9110 6.5.1
    allows: nothing in them was judged."""

    __slots__ = ("_left", "_limit", "_scanned", "_trailers", "more", "over")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._left = -1
        """Of a chunk, with the CRLF behind it; -1 between two chunks."""
        self._scanned = 0
        """Bytes of the buffer in which no line ends."""
        self._trailers: int | None = None
        """Bytes of trailers, once the last chunk has come."""
        self.over = self.more = False

    def take(self, buffer: bytearray) -> bytes:
        """Raises `BadChunks`."""
        parts: list[bytes] = []
        at = lines = 0
        self.more = False
        while not self.over and not self.more:
            if self._left > 2:
                size = min(self._left - 2, len(buffer) - at)
                if not size:
                    break
                parts.append(bytes(buffer[at : at + size]))
                at += size
                self._left -= size
            elif self._left >= 0:
                end = buffer[at : at + self._left]
                if not end:
                    break
                if end != b"\r\n"[2 - self._left :][: len(end)]:
                    raise BadChunks("The body's chunks are malformed.")
                at += len(end)
                self._left -= len(end)
                if self._left == 0:
                    self._left = -1
            else:
                # Only new bytes are searched. Else a line that comes byte by byte would cost the square of its length.
                line_end = buffer.find(b"\r\n", max(at, self._scanned - 1))
                self._scanned = 0
                if line_end < 0:
                    self._scanned = len(buffer) - at
                    if len(buffer) - at > self._limit:
                        raise BadChunks("The body's chunk framing is too large.")
                    break
                line = bytes(buffer[at:line_end])
                at = line_end + 2
                self._line(line)
                lines += 1
                self.more = lines >= MOST_LINES
        del buffer[:at]
        return b"".join(parts) if len(parts) != 1 else parts[0]

    def _line(self, line: bytes) -> None:
        if len(line) > self._limit:
            raise BadChunks("The body's chunk framing is too large.")
        if self._trailers is not None:
            self._trailer(line)
            return
        match = _SIZE.fullmatch(line)
        if match is None:
            raise BadChunks("The body's chunks are malformed.")
        size = int(match[1], 16)
        if size:
            self._left = size + 2
        else:
            self._trailers = 0

    def _trailer(self, line: bytes) -> None:
        assert self._trailers is not None
        self._trailers += len(line) + 2
        if not line:
            self.over = True
        elif _TRAILER.fullmatch(line) is None:
            raise BadChunks("The body's chunks are malformed.")
        elif self._trailers > self._limit:
            raise BadChunks("The body's chunk framing is too large.")
