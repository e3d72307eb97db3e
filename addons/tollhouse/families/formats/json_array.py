"""A JSON array that passes by in pieces, element by element: how Google streams without ``alt=sse``.

Each element is an object. One that is larger than `MAX_ELEMENT` is not kept: its outermost members
are read as they pass by. An object that stands alone counts as an array of one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import copy
from typing import Any, Final

from tollhouse.families.formats.topmost import Topmost

MAX_ELEMENT: Final = 1 << 20
"""The most bytes of an element that is kept whole."""
_MAX_DEPTH: Final = 200
"""An array that nests deeper is not read on."""
_FLAT: Final = re.compile(rb'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)
"""What has no bracket: whole strings, and all that stands between."""
_IN_STRING: Final = re.compile(rb'["\\]')


def _whole(levels: int) -> bytes:
    """Whole objects and arrays with up to so many more inside."""
    inner = rb'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+"'
    inner += b"|" + _whole(levels - 1) + b")*+" if levels else b")*+"
    return rb"[{\[]" + inner + rb"[}\]]"


_WHOLE: Final = re.compile(_whole(8), re.DOTALL)
"""Most elements, in one step. The text of an answer is the sixth level of one."""


class _Depth:
    """Counts brackets outside of strings over pieces of any size."""

    __slots__ = ("_in_string", "_skip", "depth")

    def __init__(self) -> None:
        self.depth = 0
        self._in_string = False
        self._skip = False
        """The piece before has ended with a backslash. The next character belongs to it."""

    def whole(self, data: bytes, at: int) -> int:
        """The end of an object that begins at ``at`` and ends in ``data``, or -1. It is passed over."""
        if self._in_string or not data.startswith(b"{", at):
            return -1
        found = _WHOLE.match(data, at)
        return -1 if found is None else found.end()

    def next(self, data: bytes, at: int) -> tuple[int, int]:
        """The next bracket at or behind ``at``: the place behind it, and +1 or -1. At the end of
        ``data`` its length and 0."""
        end = len(data)
        while at < end:
            if self._in_string:
                if self._skip:
                    self._skip = False
                    at += 1
                    continue
                mark = _IN_STRING.search(data, at)
                if mark is None:
                    return end, 0
                at = mark.end()
                if data[mark.start()] == 0x5C:
                    self._skip = True
                else:
                    self._in_string = False
                continue
            flat = _FLAT.match(data, at)
            at = flat.end() if flat is not None else at
            if at == end:
                return end, 0
            found = data[at]
            at += 1
            if found == 0x22:
                self._in_string = True
                continue
            step = 1 if found in b"{[" else -1
            self.depth += step
            return at, step
        return end, 0


class Elements:
    """It is fed with the bytes of the array. ``over`` is true once the array has ended. ``large``
    makes the reader of an element that is not kept."""

    def __init__(self, large: Callable[[], Topmost]) -> None:
        self.over = False
        self._make_large = large
        self._brackets = _Depth()
        self._base = -1
        """The depth at which elements stand: 1 in an array, 0 for an object alone."""
        self._kept: bytearray | None = None
        self._large: Topmost | None = None

    def feed(self, data: bytes) -> list[bytes | dict[str, Any]]:
        """The elements that end in ``data``: the bytes of each, or of a large one the members of
        the names that are wanted."""
        ended: list[bytes | dict[str, Any]] = []
        at = start = 0
        while not self.over and at < len(data):
            if self._base >= 0 and not self._open and self._brackets.depth == self._base:
                start = _separated(data, at)
                end = self._brackets.whole(data, start)
                if start < end <= start + MAX_ELEMENT:
                    ended.append(data[start:end])
                    at = end
                    self.over = self._base == 0
                    continue
            at, step = self._brackets.next(data, at)
            depth = self._brackets.depth
            if step == 0:
                break
            if self._base < 0:
                self._base = 1 if data[at - 1] == 0x5B else 0
                if self._base:
                    continue
            if step > 0 and depth == self._base + 1:
                self._kept, self._large, start = bytearray(), None, at - 1
            elif step < 0 and depth == self._base and self._open:
                self._keep(data[start:at])
                ended.append(self._taken())
            self.over = depth <= 0 or depth > _MAX_DEPTH
        if self._open:
            self._keep(data[start:])
        return ended

    def rest(self) -> dict[str, Any] | None:
        """What was found in a large element that has not ended."""
        return None if self._large is None else self._large.found

    @property
    def _open(self) -> bool:
        return self._kept is not None or self._large is not None

    def _keep(self, part: bytes) -> None:
        if self._large is not None:
            self._large.feed(part)
            return
        assert self._kept is not None
        self._kept += part
        if len(self._kept) > MAX_ELEMENT:
            self._large = self._make_large()
            self._large.feed(bytes(self._kept))
            self._kept = None

    def _taken(self) -> bytes | dict[str, Any]:
        large, kept = self._large, self._kept
        self._large = self._kept = None
        return bytes(kept or b"") if large is None else large.found


_SEPARATOR: Final = re.compile(rb"[ \t\r\n,]*+")


def _separated(data: bytes, at: int) -> int:
    """Where the next element can begin."""
    found = _SEPARATOR.match(data, at)
    return at if found is None else found.end()


class ArrayBoundary:
    """`meters.Boundary` of a JSON array: a comma and another element may follow directly behind one
    that has ended."""

    def __init__(self) -> None:
        self.between = False
        self._brackets = _Depth()

    def sent(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            start = at
            if self._brackets.depth == 1:
                end = self._brackets.whole(data, _separated(data, at))
                if end > 0:
                    at, self.between = end, True
                    continue
            at, step = self._brackets.next(data, at)
            if self.between and data[start : at - abs(step)].strip():
                self.between = False
            if step:
                self.between = step < 0 and self._brackets.depth == 1

    def cut(self, data: bytes) -> bytes:
        """Up to the end of the first element that ends in ``data``."""
        look = copy(self._brackets)
        at = 0
        while at < len(data):
            at, step = look.next(data, at)
            if step < 0 and look.depth <= 1:
                break
        return data[:at]
