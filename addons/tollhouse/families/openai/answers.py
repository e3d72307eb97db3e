"""Answers of images, sound and decisions: what they say of their usage, read as they pass by.

An image of some megabytes stands in one member of the answer, or of one event. So nothing is kept
but the members that are wanted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from tollhouse.families.formats.sse import SseBoundary
from tollhouse.families.formats.topmost import Topmost
from tollhouse.families.meters import Boundary
from tollhouse.families.openai.usage import error_of
from tollhouse.families.units import Charge

Members = Mapping[str, Any]
Reader = Callable[[Members, tuple[Charge, ...]], tuple[Charge, ...]]
"""Gets the outermost members of an answer or an event, and the charges so far; gives the charges
now."""

WANTED: Final = (
    *("usage", "model", "service_tier", "error", "type"),
    *("svg_usage", "duration", "data"),
)
_LINE_ENDS: Final = re.compile(rb"[\r\n]+")
_SHORT: Final = 16_384
_FEW: Final = 64
"""Bytes and pieces of an event that are kept until it ends."""
_FIELD: Final = b"data:"


class WholeMeter:
    """Reads an answer that is one JSON object. The charges are there after `flush`."""

    done = False
    edits = False
    boundary: Boundary | None = None
    created: tuple[str, ...] = ()
    output_seen = 0

    def __init__(self, reader: Reader) -> None:
        self.error = ""
        self._reader = reader
        self._topmost = Topmost(WANTED)
        self._charges: tuple[Charge, ...] = ()

    def feed(self, data: bytes) -> bytes:
        self._topmost.feed(data)
        return data

    def flush(self) -> bytes:
        found = self._topmost.found
        self.error = error_of(found.get("error")) or self.error
        if self._topmost.whole and not self.error:
            self._charges = self._reader(found, self._charges)
        return b""

    def finish(self) -> tuple[Charge, ...]:
        return self._charges


class EventsMeter:
    """Reads a stream whose last events have the usage. ``end`` are the types of such an event, and
    ``ends`` is how many of them come. An event may be longer than what is kept of a chat's.

    ``each`` are the tokens of output of any event. ``bytes_each`` are its bytes that stand for one
    token more; 0 if no bytes do.
    """

    edits = False
    created: tuple[str, ...] = ()

    def __init__(
        self,
        reader: Reader,
        end: tuple[str, ...],
        *,
        ends: int = 1,
        each: int = 1,
        bytes_each: int = 0,
    ) -> None:
        self.error = ""
        self.output_seen = 0
        self.boundary = SseBoundary()
        self._reader = reader
        self._end = end
        self._left = ends
        self._each = each
        self._bytes_each = bytes_each
        self._charges: tuple[Charge, ...] = ()
        self._parts: list[bytes] = []
        """The data of the event, while it is short."""
        self._size = 0
        self._topmost: Topmost | None = None
        """What reads the data of a longer event."""
        self._start: bytes | None = b""
        """How the line begins, while it is shorter than a field's name; None once that is read."""
        self._in_data = False
        self._after_cr = False

    @property
    def done(self) -> bool:
        return self._left <= 0

    def feed(self, data: bytes) -> bytes:
        at = 0
        for match in _LINE_ENDS.finditer(data):
            start, run = match.start(), match[0]
            if self._after_cr and start == 0 and run[0] == 0x0A:
                run = run[1:]
            self._after_cr = False
            if run:
                self._line(data[at:start])
                self._lines_end(len(run) - run.count(b"\r\n"))
            at = match.end()
            self._after_cr = at == len(data) and data[-1] == 0x0D
        if at < len(data):
            self._after_cr = False
            self._line(data[at:])
        return data

    def flush(self) -> bytes:
        self._event_ends()
        return b""

    def finish(self) -> tuple[Charge, ...]:
        return self._charges

    def _line(self, piece: bytes) -> None:
        if self._start is not None:
            start = self._start + piece
            if len(start) < len(_FIELD):
                self._start = start
                return
            self._start = None
            self._in_data = start.startswith(_FIELD)
            piece = start[len(_FIELD) :]
        if not self._in_data:
            return
        self._size += len(piece)
        if self._topmost is not None:
            self._topmost.feed(piece)
            return
        self._parts.append(piece)
        if self._size > _SHORT or len(self._parts) > _FEW:
            self._topmost = Topmost(WANTED)
            self._topmost.feed(b"".join(self._parts))
            self._parts = []

    def _lines_end(self, count: int) -> None:
        """The line ends, and ``count`` - 1 empty lines behind it."""
        if self._start == b"" or count > 1:
            self._event_ends()
        self._start, self._in_data = b"", False

    def _event_ends(self) -> None:
        if not self._size:
            return
        found = self._members()
        size, self._size, self._parts, self._topmost = self._size, 0, [], None
        self.output_seen += self._each + (size // self._bytes_each if self._bytes_each else 0)
        self.error = error_of(found.get("error")) or self.error
        if found.get("type") in self._end:
            self._charges = self._reader(found, self._charges)
            self._left -= 1

    def _members(self) -> Members:
        """The outermost members of the event, as far as they are wanted; none if it is not whole."""
        if self._topmost is not None:
            told = self._topmost.found if self._topmost.whole else {}
            return told if "usage" in told or "error" in told else {}
        data = b"".join(self._parts)
        if data.find(b'"usage"') < 0 and data.find(b'"error"') < 0:
            return {}
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


class FixedMeter:
    """An answer of sound or of anything else, whose charge the request has told."""

    done = False
    edits = False
    boundary: Boundary | None = None
    created: tuple[str, ...] = ()
    output_seen = 0
    error = ""

    def __init__(self, charges: tuple[Charge, ...]) -> None:
        self._charges = charges

    def feed(self, data: bytes) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""

    def finish(self) -> tuple[Charge, ...]:
        return self._charges
