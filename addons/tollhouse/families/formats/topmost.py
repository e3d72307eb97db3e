"""The outermost members of a JSON object that passes by in pieces. They are found wherever they
stand, and nothing else is kept."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any, Final

_OUTSIDE: Final = re.compile(rb'["{}\[\],]')
_INSIDE: Final = re.compile(rb'["\\]')
_STRING: Final = rb'"(?:[^"\\]++|\\.)*+"'
_FLAT: Final = rb'(?:[^"{}\[\]]++|' + _STRING + rb")*+"
_ONE_DEEP: Final = rb"(?:[^\"{}\[\]]++|" + _STRING + rb"|[{\[]" + _FLAT + rb"[}\]])*+"
_DEEP: Final = re.compile(
    rb"(?:[^\"{}\[\]]++|" + _STRING + rb"|[{\[]" + _ONE_DEEP + rb"[}\]])*+", re.DOTALL
)
"""What stands inside a member, as far as its brackets are closed again: most of a long answer, in one step."""
_MAX_DEPTH: Final = 100
"""A document that nests deeper is not read on."""
_LONGEST: Final = 65_536
"""The most bytes of a member that is read."""


class Topmost:
    """It is fed with the bytes of the object. ``found`` has the values of the ``wanted`` members
    that have ended by now. ``array`` is a member of which it is told where its array begins."""

    def __init__(self, wanted: Collection[str], array: str = "") -> None:
        self.found: dict[str, Any] = {}
        self.begins: int | None = None
        """Where that array begins in the piece that was fed last; None if it does not."""
        self._array = json.dumps(array).encode() if array else b""
        self._wanted = frozenset(json.dumps(key).encode() for key in wanted)
        self._depth = 0
        self._in_string = False
        self._skip = 0
        self._member: bytearray | None = None
        """The outermost member that passes by, up to `_LONGEST` bytes of it."""
        self._over = False

    @property
    def whole(self) -> bool:
        """Whether the object has ended."""
        return self._over and self._depth == 0

    def feed(self, data: bytes) -> None:
        at, end, kept = 0, len(data), 0
        self.begins = None
        if self._skip:
            # The piece before has ended with a backslash. This character belongs to it.
            at, self._skip = 1, 0
        while at < end and not self._over:
            if self._in_string:
                match = _INSIDE.search(data, at)
                if match is None:
                    break
                at = match.end()
                if data[match.start()] == 0x5C:
                    self._skip = int(at == end)
                    at += 1
                else:
                    self._in_string = False
                continue
            if self._depth > 1:
                deep = _DEEP.match(data, at)
                at = deep.end() if deep is not None else at
            match = _OUTSIDE.search(data, at)
            if match is None:
                break
            at = match.end()
            mark = data[match.start()]
            if mark == 0x22:
                self._in_string = True
            elif mark in b"{[":
                self._depth += 1
                if self._depth == 1:
                    self._member, kept = bytearray(), at
                elif self._array and mark == 0x5B and self._depth == 2:
                    before = bytes(self._member or b"") + data[kept : match.start()]
                    if before.rstrip(b": \t\r\n").lstrip() == self._array:
                        self.begins = match.start()
                self._over = self._depth > _MAX_DEPTH
            elif mark in b"}]":
                self._depth -= 1
                if self._depth == 0:
                    self._take(data[kept : match.start()])
                    self._over = True
            elif self._depth == 1:
                self._take(data[kept : match.start()])
                self._member, kept = bytearray(), at
        if not self._over and self._member is not None:
            self._member += data[kept : kept + _LONGEST + 1 - len(self._member)]
            if len(self._member) > _LONGEST:
                self._member = None

    def _take(self, rest: bytes) -> None:
        member, self._member = self._member, None
        if member is None or len(member) + len(rest) > _LONGEST:
            return
        text = bytes(member) + rest
        key, _, value = text.partition(b":")
        if key.strip() in self._wanted:
            try:
                self.found[json.loads(key)] = json.loads(value)
            except (ValueError, RecursionError):
                return
