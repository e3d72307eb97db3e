"""Overwrites the gateway's key in an answer that repeats it, as the answer streams by.

These spellings are found: the key as it is, and in base64 (RFC 4648, both alphabets, at each of the
three places where it can begin within a group). Either may be percent-encoded, in all of its
characters or in some (RFC 3986), or escaped for JSON (RFC 8259, section 7), or both.

These are not found: base64 that is broken into lines, base64 of base64, a key that is spread over
several JSON strings, a compressed answer (the provider is asked for ``identity``).
"""

from __future__ import annotations

import base64
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final

from tollhouse.credential.secret import Secret

MARK: Final = b"[redacted by tollhouse]"
SHORTEST: Final = 8
"""A key with fewer characters is not searched for: it would stand in many answers by chance."""
PASSED: Final = 3
"""So many bytes of what may become a key go on at once. Else an event that happens to end like the
beginning of a key would wait for the next event: of AWS's event stream each ends with a checksum,
which is any bytes. When the key comes after all, its bytes behind these are overwritten."""
_FAR: Final = 1024
"""When more bytes than this are held back, new bytes are kept unread until they are an eighth of
the held ones. No honest answer comes so far. But an answer that sends a beginning of the key byte
by byte, all of it escaped, would have everything searched anew with each byte."""

# ``done`` and ``pair`` are escapes of a printable character. ``cut`` is an escape that the end of
# the data has cut off. Any other escape is a token too, so that the second backslash of ``\\``
# begins no escape.
_JSON: Final = re.compile(
    rb'\\(?:u00(?P<done>[2-7][0-9A-Fa-f])|(?P<pair>["\\/])|(?P<cut>(?:u(?:0(?:0[2-7]?)?)?)?\Z)|[\s\S])'
)
_PERCENT: Final = re.compile(rb"%(?:(?P<done>[2-7][0-9A-Fa-f])|(?P<cut>[2-7]?\Z))")
_SPELT: Final = re.compile(rb"(?:%|\\u00)([2-7][0-9A-Fa-f])")
_BEGUN: Final = re.compile(rb"(?:%[2-7]?|\\(?:u(?:0(?:0[2-7]?)?)?)?)\Z")
_LONGEST_BEGUN: Final = 5

_Span = tuple[int, int]
_NO_CUT: Final = -1
_ANY: Final = 0


class Forms:
    """The spellings that are searched for, without escapes. They have no readable text form."""

    __slots__ = ("ends", "escapes", "pairs", "spelt")

    def __init__(self, *keys: str) -> None:
        self.spelt = tuple(
            dict.fromkeys(
                form for key in keys if len(key) >= SHORTEST for form in _spellings(key.encode())
            )
        )
        self.ends = frozenset(b"".join(self.spelt))
        """Every byte that stands in a spelling."""
        self.escapes = self.ends | frozenset(b"%0123456789ABCDEFabcdef")
        """Every byte whose escape is undone. The bytes of an escape are among them: an escape may
        itself be escaped."""
        self.pairs = tuple(b"\\" + sign for sign in (b'"', b"/", b"\\") if sign[0] in self.ends)

    def __repr__(self) -> str:
        return "Forms(redacted)"


def _spellings(key: bytes) -> Iterator[bytes]:
    yield key
    for encode in (base64.standard_b64encode, base64.urlsafe_b64encode):
        for before in range(3):
            # Characters at the edges hold bits of the neighbouring bytes too. Only those count that
            # the key alone decides.
            start = -(-before * 8 // 6)
            yield encode(b"\0" * before + key)[start : (before + len(key)) * 8 // 6]


class Redactor:
    """Works on one answer: its headers, and its body piece by piece.

    ``secrets`` are the secrets that were put on the call. The strings that they expose are looked
    for. A found key is overwritten by as many bytes (`MARK`, cut or filled up with ``*``), so that
    no length changes. `feed` holds back only the longest end of the data that can still become a
    key, if it has more than `PASSED` bytes; beyond `_FAR` it holds up to an eighth more. `finish`
    gives the held bytes. A key that comes in pieces may so keep its first `PASSED` bytes.
    """

    __slots__ = ("_forms", "_held", "_passed", "_unread", "_wanted", "searched")

    def __init__(self, secrets: Sequence[Secret | str]) -> None:
        if len(secrets) == 1 and isinstance(secrets[0], Secret):
            self._wanted = secrets[0].sought(Forms)
        else:
            each = [
                secret.exposed if isinstance(secret, Secret) else (secret,) for secret in secrets
            ]
            self._wanted = Forms(*chain.from_iterable(each))
        self._forms = self._wanted.spelt
        self._passed = b""
        """Bytes that have gone on, and that what comes next may make the beginning of a key."""
        self._held = b""
        """The bytes behind them that have not."""
        self._unread = b""
        """Bytes that follow the held ones and were not searched yet."""
        self.searched = 0
        """Bytes that were searched. A byte counts each time that it is searched."""

    def __repr__(self) -> str:
        return "Redactor(redacted)"

    def headers(self, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """The headers with clean values. A header whose name holds a key is left out.

        The text is as in `Answer`: UTF-8 with surrogateescape.
        """
        if not self._may_hold(_raw("\n".join(chain.from_iterable(headers)))):
            return headers
        clean = []
        for name, value in headers:
            if not self._spans(_raw(name)):
                raw = _raw(value)
                clean.append(
                    (name, _overwritten(raw, self._spans(raw)).decode("utf-8", "surrogateescape"))
                )
        return clean

    def feed(self, chunk: bytes) -> bytes:
        """The bytes of the body that may go on now. There may be none."""
        if len(self._held) > _FAR:
            chunk = self._unread + chunk
            self._unread = b""
            if len(chunk) < len(self._held) // 8:
                self._unread = chunk
                return b""
        return self._search(chunk)

    def _search(self, chunk: bytes) -> bytes:
        gone = len(self._passed)
        data = self._passed + self._held + chunk if gone or self._held else chunk
        if not self._forms or not data:
            return data
        if not self._may_hold(data):
            if data[-1] not in self._wanted.ends:
                self._passed = self._held = b""
                return data[gone:] if gone else data
            keep = self._beginning(data, 0)
        else:
            spans = self._spans(data)
            data = _overwritten(data, spans)
            keep = self._beginning_in(data, spans[-1][1] if spans else 0)
        end = len(data)
        if end - keep > PASSED:
            # Bytes of it that have gone on stay gone.
            end = max(keep, gone)
        self._passed, self._held = data[keep:end], data[end:]
        return data[gone:end]

    def finish(self) -> bytes:
        """Called at the end of the body. Gives the bytes that were held back."""
        done = self._search(self._unread) if self._unread else b""
        rest, self._held, self._unread = self._held, b"", b""
        return done + rest

    def _may_hold(self, data: bytes) -> bool:
        """Whether ``data`` has a form as it is, or escapes that could spell one. The last escape
        may be unfinished."""
        self.searched += len(data)
        # `find` takes a fifth of the time of `in`, which asks first whether the other side is a number.
        for form in self._forms:
            if data.find(form) >= 0:
                return True
        escaped = data.find(b"\\") >= 0
        if not escaped and data.find(b"%") < 0:
            return False
        if _BEGUN.search(data, len(data) - _LONGEST_BEGUN):
            return True
        if escaped and any(pair in data for pair in self._wanted.pairs):
            return True
        escapes = self._wanted.escapes
        return any(int(code, 16) in escapes for code in _SPELT.findall(data))

    def _spans(self, data: bytes) -> list[_Span]:
        """The places of keys, in order. Places that overlap are joined."""
        found = []
        for reading in _readings(data):
            for form in self._forms:
                at = reading.text.find(form)
                while at >= 0:
                    end = at + len(form)
                    found.append((reading.place(at), reading.place(end)))
                    at = reading.text.find(form, end)
        spans: list[_Span] = []
        for start, end in sorted(found):
            if spans and start < spans[-1][1]:
                spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
            else:
                spans.append((start, end))
        return spans

    def _beginning_in(self, data: bytes, least: int) -> int:
        """`_beginning` in ``data[least:]`` with escapes undone."""
        keep = len(data)
        for reading in _readings(data):
            first = bisect_left(range(len(reading.text) + 1), least, key=reading.place)
            at = self._beginning(reading.text, first, reading.cut)
            if at < len(reading.text) or self._fit_first(reading.cut):
                keep = min(keep, reading.place(at))
        return keep

    def _beginning(self, text: bytes, least: int, cut: int = _NO_CUT) -> int:
        """Where the longest end of ``text[least:]`` begins that can still become a form. The length
        of the text if no end can.

        ``cut``: an unfinished escape follows the text.
        """
        best = len(text)
        for form in self._forms:
            first = form[:1]
            at = text.find(first, max(least, len(text) - len(form) + 1), best)
            while at >= 0:
                if form.startswith(text[at:]) and _fits(form[len(text) - at], cut):
                    best = at
                    break
                at = text.find(first, at + 1, best)
        return best

    def _fit_first(self, cut: int) -> bool:
        """Whether the unfinished escape itself can begin a form."""
        return cut != _NO_CUT and any(_fits(form[0], cut) for form in self._forms)


class _Reading:
    """Data with one kind of escape undone. It knows where in the data each byte of ``text`` stood.

    ``cut`` describes an unfinished escape at the end: its first hexadecimal digit in ASCII, or
    `_ANY` without a digit.
    """

    __slots__ = ("_below", "_data_at", "_text_at", "cut", "text")

    def __init__(self, below: _Reading | bytes, escape: re.Pattern[bytes] | None = None) -> None:
        self._below = None if isinstance(below, bytes) else below
        self._text_at, self._data_at = [0], [0]
        self.cut = _NO_CUT
        self.text: bytes = below if isinstance(below, bytes) else below.text
        if escape is not None:
            self._undo(escape)
        if self._below is not None and self._below.cut != _NO_CUT:
            # An unfinished escape of the reading below may become a "%", and a "%" may begin any
            # character.
            whole = self.cut != _NO_CUT or self._below.cut == ord("2")
            self.cut = _ANY if whole else self._below.cut

    def _undo(self, escape: re.Pattern[bytes]) -> None:
        data, parts, size, end = self.text, [], 0, 0
        for match in escape.finditer(data):
            kind = match.lastgroup
            if kind is None:
                continue
            start = match.start()
            parts.append(data[end:start])
            size += start - end
            end = match.end()
            if kind == "cut":
                digit = match["cut"][-1:]
                self.cut = digit[0] if b"2" <= digit <= b"7" else _ANY
                break
            parts.append(bytes.fromhex(match["done"].decode()) if kind == "done" else match["pair"])
            self._text_at += [size, size + 1]
            self._data_at += [start, end]
            size += 1
        else:
            parts.append(data[end:])
        self.text = b"".join(parts)

    @property
    def changed(self) -> bool:
        return len(self._text_at) > 1 or self.cut != _NO_CUT

    def place(self, at: int) -> int:
        """Where in the data ``text[at]`` began. If ``at`` is the length of the text: where its last
        byte ended."""
        known = bisect_right(self._text_at, at) - 1
        place = self._data_at[known] + at - self._text_at[known]
        return place if self._below is None else self._below.place(place)


def _readings(data: bytes) -> Iterator[_Reading]:
    """The readings of the data: as it is, as a JSON string, as a part of a URL, and as a URL in a
    JSON string. A reading that equals another one is left out."""
    yield _Reading(data)
    if b"%" in data and (url := _Reading(data, _PERCENT)).changed:
        yield url
    if b"\\" in data and (string := _Reading(data, _JSON)).changed:
        yield string
        if (url := _Reading(string, _PERCENT)).changed:
            yield url


def _fits(sign: int, cut: int) -> bool:
    """Whether the unfinished escape ``cut`` can become the character ``sign``."""
    return cut in (_NO_CUT, _ANY) or sign >> 4 == cut & 0x0F


def _overwritten(data: bytes, spans: Sequence[_Span]) -> bytes:
    if not spans:
        return data
    out = bytearray(data)
    for start, end in spans:
        out[start:end] = (MARK + b"*" * (end - start))[: end - start]
    return bytes(out)


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
