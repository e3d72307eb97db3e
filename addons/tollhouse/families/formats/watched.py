"""Meters of answers that are only read: a stream of events or of lines, and one JSON object.

Every byte is passed on at once. What an answer means is for a `Heard`.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, Protocol

from tollhouse.families.formats.sse import MAX_EVENT, EventData, EventSplitter, SseBoundary
from tollhouse.families.formats.text_tokens import raw_tokens
from tollhouse.families.formats.topmost import Topmost
from tollhouse.families.meters import Boundary
from tollhouse.families.units import Charge

SMALL: Final = 1 << 16
"""Bytes of a JSON answer that are kept. Of a longer one the outermost members are read as they pass by."""
_LOOKS: Final = 8
"""Events that are read for the name of the model."""


class HeardWhole(Protocol):
    """What an answer of one object has said. It raises nothing."""

    @property
    def error(self) -> str: ...
    @property
    def created(self) -> tuple[str, ...]: ...
    def event(self, document: Mapping[str, Any]) -> bool:
        """Takes one event, or a whole answer. True: it repeats text that has been streamed before."""

    def charges(self) -> tuple[Charge, ...]: ...


class Heard(HeardWhole, Protocol):
    """What an answer of any kind has said so far."""

    model: str
    done: bool

    @property
    def output(self) -> int:
        """Tokens of output that the provider has counted."""


def texts_of(*keys: str) -> re.Pattern[bytes]:
    """Finds the strings that are members with one of these keys."""
    names = "|".join(map(re.escape, keys)).encode()
    return re.compile(
        rb'"(?:' + names + rb')"[ ]?:[ ]?"([^"\\]+(?:\\.[^"\\]*)*|(?:\\.[^"\\]*)+)"', re.DOTALL
    )


class LineSplitter:
    """Cuts a stream into lines, as `EventSplitter` cuts one into events."""

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self._limit = limit
        self._kept = bytearray()
        self._skipping = False

    def feed(self, chunk: bytes) -> list[tuple[bytes, bool]]:
        *ended, rest = chunk.split(b"\n")
        pieces: list[tuple[bytes, bool]] = []
        for line in ended:
            pieces.append((bytes(self._kept) + line if self._kept else line, not self._skipping))
            self._kept, self._skipping = bytearray(), False
        if rest and not self._skipping:
            self._kept += rest
            if len(self._kept) > self._limit:
                self._kept, self._skipping = bytearray(), True
        return pieces

    def rest(self) -> bytes:
        return bytes(self._kept)


class LineBoundary:
    """`meters.Boundary` of lines."""

    __slots__ = ("between",)

    def __init__(self) -> None:
        self.between = True

    def sent(self, data: bytes) -> None:
        self.between = data.endswith(b"\n")

    def cut(self, data: bytes) -> bytes:
        end = data.find(b"\n") + 1
        return data[:end] if end else data


class WatchedStream:
    """Reads the events with one of the words ``wanted``, and counts the texts of all others. ``lines``: each line is an event
    of JSON."""

    edits = False

    def __init__(
        self,
        told: Heard,
        wanted: Sequence[bytes],
        texts: re.Pattern[bytes],
        *,
        lines: bool = False,
        names_model: bool = True,
    ) -> None:
        self._told = told
        self._wanted = tuple(wanted)
        self._texts = texts
        self._lines = lines
        self._splitter: EventSplitter | LineSplitter = LineSplitter() if lines else EventSplitter()
        self.boundary: Boundary | None = LineBoundary() if lines else SseBoundary()
        self._looks = _LOOKS if names_model else 0
        self._failed = False
        """The events could not be told apart, and the rest of the stream passes unread."""
        self._count = 0
        self._tokens = 0.0

    @property
    def done(self) -> bool:
        return self._told.done

    @property
    def error(self) -> str:
        return self._told.error

    @property
    def created(self) -> tuple[str, ...]:
        return self._told.created

    @property
    def output_seen(self) -> int:
        """By the text, at least one token for each piece of it; or the stream's own count, if that is more by now."""
        return max(self._count, -int(-self._tokens // 1), self._told.output)

    def finish(self) -> tuple[Charge, ...]:
        return self._told.charges()

    def feed(self, data: bytes) -> bytes:
        if not self._failed:
            try:
                for raw, whole in self._splitter.feed(data):
                    if whole:
                        self._event(raw)
            except Exception:
                self._failed = True
        return data

    def flush(self) -> bytes:
        if not self._failed and (rest := self._splitter.rest()):
            with contextlib.suppress(Exception):
                self._event(rest)
        return b""

    def _event(self, raw: bytes) -> None:
        look = self._looks > 0 and not self._told.model
        # `find` takes a fifth of the time of `in`.
        if look or any(raw.find(word) >= 0 for word in self._wanted):
            self._looks -= look
            text = raw.decode("latin-1") if self._lines else EventData(raw).text
            if text is not None and self._read(text.encode("latin-1")):
                return
        for found in self._texts.findall(raw):
            self._count += 1
            self._tokens += raw_tokens(found)

    def _read(self, text: bytes) -> bool:
        """Whether the event's text is not to be counted."""
        # An event that can't be read (no JSON, too deep) says nothing; the next one may be sound.
        with contextlib.suppress(ValueError, RecursionError):
            document = json.loads(text)
            return isinstance(document, dict) and self._told.event(document)
        self._told.done = self._told.done or text.strip() == b"[DONE]"
        return False


class WatchedJson:
    """Reads an answer of one JSON object. The counts are there after `flush`."""

    done = False
    edits = False
    boundary: Boundary | None = None
    output_seen = 0
    """A JSON answer is made whole before its first byte comes."""

    def __init__(self, told: HeardWhole, wanted: Collection[str], most: int = SMALL) -> None:
        """Of an answer above ``most`` bytes only the members ``wanted`` are read."""
        self._told = told
        self._wanted = wanted
        self._most = most
        self._kept = bytearray()  # not a list: pieces of a few bytes would take many times theirs
        self._topmost: Topmost | None = None

    @property
    def error(self) -> str:
        return self._told.error

    @property
    def created(self) -> tuple[str, ...]:
        return self._told.created

    def feed(self, data: bytes) -> bytes:
        if self._topmost is not None:
            self._topmost.feed(data)
            return data
        self._kept += data
        if len(self._kept) > self._most:
            self._topmost = Topmost(self._wanted)
            self._topmost.feed(bytes(self._kept))
            self._kept = bytearray()
        return data

    def flush(self) -> bytes:
        document: Any = None
        if self._topmost is not None:
            document = self._topmost.found
        elif self._kept:
            # A body that is no JSON, or nests too deep, has no counts.
            with contextlib.suppress(ValueError, RecursionError):
                document = json.loads(self._kept)
        self._kept = bytearray()
        if isinstance(document, dict):
            self._told.event(document)
        return b""

    def finish(self) -> tuple[Charge, ...]:
        return self._told.charges()
