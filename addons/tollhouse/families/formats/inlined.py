"""Members of a JSON object at any depth, and the objects of arrays inside it, as its bytes pass by. Nothing else is kept: an answer
that shows a batch may have megabytes of what was answered to its requests."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any, Final

Path = tuple[str, ...]
"""The keys from the outermost object on."""

LONGEST_ELEMENT: Final = 1 << 20
"""Bytes of an object of an array: as many as of a line of `result_lines`."""
_LONGEST_VALUE: Final = 4_096
"""Bytes of a member that is read, and of a key."""
_MAX_DEPTH: Final = 100
"""A document that nests deeper is not read on."""
_MARK: Final = re.compile(rb'["{}\[\]:,]')
_BRACKET: Final = re.compile(rb'["{}\[\]]')
_INSIDE: Final = re.compile(rb'["\\]')


class Inlined:
    """It is fed with the bytes of the object. ``found`` has the ``wanted`` members that have ended by now. Of the arrays in
    ``arrays`` each object is given when it has ended."""

    def __init__(self, wanted: Collection[Path], arrays: Collection[Path]) -> None:
        self.found: dict[Path, Any] = {}
        self.whole = False
        """The outermost object has ended."""
        self._wanted = frozenset(wanted)
        self._arrays = frozenset(arrays)
        self._stack: list[str | None] = []
        """For each open bracket the key of its value. None stands in an array."""
        self._key: str | None = None
        """Of the member that passes by."""
        self._in_string = False
        self._skip = False
        """The piece before has ended with a backslash. The next character belongs to it."""
        self._text: bytearray | None = None
        """The string that may be a key, up to `_LONGEST_VALUE` bytes."""
        self._value: tuple[Path, bytearray] | None = None
        self._element: tuple[Path, int, bytearray] | None = None
        """The array, how many brackets are open around the object, and what has come of the object."""
        self._over = False

    def feed(self, data: bytes) -> list[tuple[Path, bytes | None]]:
        """The objects that end in ``data``, each with the path of its array. None stands for one that is too long."""
        ended: list[tuple[Path, bytes | None]] = []
        at = kept = 0
        """What lies before ``kept`` was taken into the parts that are kept."""
        while at < len(data) and not self._over:
            if self._in_string:
                at = self._pass_string(data, at)
                continue
            mark = (_MARK if self._element is None else _BRACKET).search(data, at)
            if mark is None:
                break
            start, at = mark.start(), mark.end()
            sign = data[start]
            if sign == 0x22:
                self._in_string = True
                self._text = bytearray() if self._element is None else None
            elif sign == 0x3A:
                kept = self._begin_value(at, kept)
            elif sign == 0x2C:
                self._end_value(data[kept:start])
                self._key = None
            elif sign in b"{[":
                kept = self._open(sign, start, kept)
            else:
                kept = self._close(data, start, kept, ended)
        if not self._over:
            self._keep(data[kept:])
        return ended

    def _pass_string(self, data: bytes, at: int) -> int:
        if self._skip:
            self._skip = False
            self._add_text(data[at : at + 1])
            return at + 1
        mark = _INSIDE.search(data, at)
        if mark is None:
            self._add_text(data[at:])
            return len(data)
        self._add_text(data[at : mark.start()])
        if data[mark.start()] == 0x5C:
            self._skip = True
            self._add_text(b"\\")
        else:
            self._in_string = False
        return mark.end()

    def _add_text(self, part: bytes) -> None:
        if self._text is not None:
            self._text += part
            if len(self._text) > _LONGEST_VALUE:
                self._text = None

    def _begin_value(self, at: int, kept: int) -> int:
        self._key = None
        if self._text is not None:
            try:
                self._key = json.loads(b'"' + self._text + b'"')
            except ValueError:
                self._key = None
        self._text = None
        path = self._path()
        if self._value is None and path in self._wanted:
            self._value = (path, bytearray())
            return at
        return kept

    def _path(self) -> Path:
        """Of the member that passes by. () inside an array."""
        keys = (*self._stack[1:], self._key)
        path = tuple(key for key in keys if key is not None)
        return path if len(path) == len(keys) else ()

    def _array(self) -> Path:
        """Of the array in which a value begins here. () if there is none."""
        keys = tuple(key for key in self._stack[1:] if key is not None)
        inside = len(self._stack) > 1 and self._stack[-1] is None
        return keys if inside and len(keys) == len(self._stack) - 2 else ()

    def _end_value(self, rest: bytes) -> None:
        if self._value is None or self._value[0] != self._path():
            return
        path, value = self._value
        self._value = None
        value += rest
        if len(value) <= _LONGEST_VALUE:
            try:
                self.found[path] = json.loads(value)
            except (ValueError, RecursionError):
                return

    def _open(self, sign: int, start: int, kept: int) -> int:
        if sign == 0x7B and self._element is None and self._value is None:
            array = self._array()
            if array in self._arrays:
                self._element = (array, len(self._stack), bytearray())
                kept = start
        if sign == 0x5B and self._element is None:
            # The array's own bracket, and one more for what stands in it.
            self._stack += [self._key, None]
        else:
            self._stack.append(self._key)
        self._key = None
        self._over = len(self._stack) > _MAX_DEPTH
        return kept

    def _close(
        self, data: bytes, start: int, kept: int, ended: list[tuple[Path, bytes | None]]
    ) -> int:
        if self._element is None:
            self._end_value(data[kept:start])
        if not self._stack:
            self._over = True
            return kept
        self._key = self._stack.pop()
        if self._element is None and data[start] == 0x5D and self._stack:
            self._key = self._stack.pop()
        if self._element is not None and len(self._stack) == self._element[1]:
            path, _, element = self._element
            element += data[kept : start + 1]
            self._element = None
            ended.append((path, bytes(element) if len(element) <= LONGEST_ELEMENT else None))
            kept = start + 1
        if not self._stack:
            self.whole = self._over = True
        return kept

    def _keep(self, rest: bytes) -> None:
        """Of a part that is too long one byte more than is allowed."""
        if self._element is not None:
            element = self._element[2]
            element += rest[: LONGEST_ELEMENT + 1 - len(element)]
        elif self._value is not None:
            value = self._value[1]
            value += rest[: _LONGEST_VALUE + 1 - len(value)]
