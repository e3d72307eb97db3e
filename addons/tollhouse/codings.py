"""Content codings (RFC 9110 8.4.1): gzip, deflate, br and zstd, undone in bounded pieces."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final, Protocol

import brotli
import zstandard

PIECE: Final = 1 << 16
"""About so many bytes are given at once."""
_SLICE: Final = 64
"""zstandard bounds what it takes and not what it gives. A block of 4 bytes may stand for 128 KiB
(RFC 8878 3.1.1.2), so that this many bytes come to 2 MiB at most."""
_ZSTD_WINDOW: Final = 8 << 20
"""RFC 8878 3.1.1.1.2: a decoder supports at least 8 MiB, and may refuse more."""


class BadCoding(Exception):
    """The bytes are not of the coding that was named, or they end too early."""


class TooLong(Exception):
    """More comes out than may."""


class _Inner(Protocol):
    rest: bytes
    """What was given and not read yet."""

    @property
    def ended(self) -> bool: ...

    def take(self) -> bytes:
        """The next bytes. b"" if more has to be given first, or at the end."""


class _Zlib:
    def __init__(self, wbits: int) -> None:
        self.ended = False
        self.rest = b""
        self._inflate = zlib.decompressobj(wbits)

    def take(self) -> bytes:
        out = self._inflate.decompress(self.rest, PIECE)
        self.ended = self._inflate.eof
        self.rest = self._inflate.unused_data if self.ended else self._inflate.unconsumed_tail
        return out


class _Deflate:
    """With zlib's two bytes ahead, as the standard wants it, or without, as some servers send it."""

    def __init__(self) -> None:
        self.rest = b""
        self._inner: _Zlib | None = None

    @property
    def ended(self) -> bool:
        return self._inner is not None and self._inner.ended

    def take(self) -> bytes:
        if self._inner is None:
            if len(self.rest) < 2:
                return b""
            first = int.from_bytes(self.rest[:2])
            zlibs = first >> 8 & 0xF == 8 and first % 31 == 0
            self._inner = _Zlib(zlib.MAX_WBITS if zlibs else -zlib.MAX_WBITS)
        self._inner.rest = self.rest
        out = self._inner.take()
        self.rest = self._inner.rest
        return out


class _Brotli:
    def __init__(self) -> None:
        self.rest = b""
        self._decompressor = brotli.Decompressor()

    @property
    def ended(self) -> bool:
        return bool(self._decompressor.is_finished())

    def take(self) -> bytes:
        if self.ended:
            return b""
        given = b""
        if self._decompressor.can_accept_more_data():
            given, self.rest = self.rest, b""
        return bytes(self._decompressor.process(given, output_buffer_limit=PIECE))


class _Zstd:
    def __init__(self) -> None:
        self.rest = b""
        self._inflate = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()

    @property
    def ended(self) -> bool:
        return self._inflate.eof

    def take(self) -> bytes:
        out: list[bytes] = []
        size = 0
        while size < PIECE and self.rest and not self._inflate.eof:
            given, self.rest = self.rest[:_SLICE], self.rest[_SLICE:]
            out.append(self._inflate.decompress(given))
            size += len(out[-1])
        if self._inflate.eof:
            self.rest = self._inflate.unused_data + self.rest
        return b"".join(out)


_GZIP: Final = 16 + zlib.MAX_WBITS
_CODINGS: Final[dict[str, Callable[[], _Inner]]] = {
    "gzip": lambda: _Zlib(_GZIP),
    "x-gzip": lambda: _Zlib(_GZIP),
    "deflate": _Deflate,
    "br": _Brotli,
    "zstd": _Zstd,
}
KNOWN: Final = frozenset(_CODINGS)
_IN_MEMBERS: Final = frozenset({"gzip", "x-gzip", "zstd"})
"""Several may stand one behind the other (RFC 1952 2.2, RFC 8878 3)."""
_ERRORS: Final = (zlib.error, brotli.error, zstandard.ZstdError)


class Decoder:
    """Undoes ``coding``, one of `KNOWN`. It keeps no more than what it was given last."""

    def __init__(self, coding: str) -> None:
        self._make = _CODINGS[coding]
        self._in_members = coding in _IN_MEMBERS
        self._inner = self._make()
        self._started = False

    @property
    def complete(self) -> bool:
        """The bytes so far end where the coding ends. It is so before the first byte: a body may be
        empty."""
        return not self._started or (self._inner.ended and not self._inner.rest)

    def give(self, data: bytes) -> None:
        """Called when `take` has given b""."""
        self._started = self._started or bool(data)
        self._inner.rest += data

    def take(self) -> bytes:
        """The next bytes, not many more than `PIECE`. b"" if more has to be given first. Raises
        `BadCoding`."""
        try:
            while True:
                if self._inner.ended:
                    if not self._inner.rest:
                        return b""
                    if not self._in_members:
                        raise BadCoding("it goes on behind its end")
                    rest, self._inner = self._inner.rest, self._make()
                    self._inner.rest = rest
                before = self._inner.rest
                out = self._inner.take()
                if out or (self._inner.rest == before and not self._inner.ended):
                    return out
                if not self._inner.rest and not self._inner.ended:
                    return b""
        except _ERRORS:
            raise BadCoding("it is not what its Content-Encoding says") from None


def inflated(body: bytes, coding: str, limit: int) -> bytes:
    """All of ``body``. Raises `BadCoding`, and `TooLong` above ``limit`` bytes."""
    decoder = Decoder(coding)
    decoder.give(body)
    out: list[bytes] = []
    size = 0
    while piece := decoder.take():
        out.append(piece)
        size += len(piece)
        if size > limit:
            raise TooLong
    if not decoder.complete:
        raise BadCoding("it ends too early")
    return b"".join(out)
