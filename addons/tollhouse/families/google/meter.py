"""Usage in an answer of Google's, read as it streams by: one JSON object, a JSON array, or events.

The first bytes tell which it is. Every byte is passed on at once.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from typing import Final

from tollhouse.families.asked import Asked
from tollhouse.families.formats.json_array import ArrayBoundary, Elements
from tollhouse.families.formats.sniffed import Sniffed
from tollhouse.families.formats.sse import EventData, EventSplitter, SseBoundary
from tollhouse.families.formats.topmost import Topmost
from tollhouse.families.google import batch_operations
from tollhouse.families.google.errors import error_in
from tollhouse.families.google.interacted import Interacted, asked_before
from tollhouse.families.google.told import WANTED, Cached, Embedded, Metadata, NewObject
from tollhouse.families.google.usage import Grounded
from tollhouse.families.meters import AnswerHead, Boundary, LateMeter, Later
from tollhouse.families.units import Charge

_KEY: Final = re.compile(
    rb'"(webSearchQueries|imageSearchQueries|groundingChunks|maps|web)"[ \t\r\n]*+:'
)
_OVERLAP: Final = 64
"""Bytes of a piece that are looked at again with the next one: more than a match of `_KEY` has."""
_LONGEST: Final = 1 << 14
"""The most bytes of a list of queries in an answer too large to be kept."""
_MEMBERS: Final = WANTED | {
    *("usage", "id", "model", "service_tier", "name", "file"),
    *("event_type", "interaction", "metadata", "status"),
}
_decode: Final = json.JSONDecoder().raw_decode


def generate_meter(asked: Asked, head: AnswerHead) -> Sniffed:
    return _meter(asked, head, Metadata)


def embed_meter(asked: Asked, head: AnswerHead) -> Sniffed:
    return _meter(asked, head, Embedded)


def interaction_meter(asked: Asked, head: AnswerHead) -> Sniffed:
    return _meter(asked, head, Interacted)


def late_meter(later: Later, head: AnswerHead) -> LateMeter:
    """The meter of an answer that shows an interaction, a batch or its output."""
    if batch_operations.is_of_batch(later):
        return batch_operations.late_meter(later, head)
    return interaction_meter(asked_before(later.facts), head)


def made_meter(asked: Asked, head: AnswerHead) -> Sniffed:
    return _meter(asked, head, NewObject)


def cache_meter(asked: Asked, head: AnswerHead) -> Sniffed:
    return _meter(asked, head, Cached)


def _meter(
    asked: Asked, head: AnswerHead, kind: Callable[[Asked, AnswerHead], Metadata]
) -> Sniffed:
    told = kind(asked, head)
    framing = getattr(asked.detail, "framing", "")
    return Sniffed(
        asked.stream and framing != "array",
        head.get("content-type"),
        of_json=lambda: ElementMeter(told, streams=framing == "array"),
        of_events=lambda: EventMeter(told, told_of=framing == "sse"),
        may_edit=False,
    )


class _Reading:
    """What both framings share."""

    edits = False
    boundary: Boundary | None = None

    def __init__(self, told: Metadata) -> None:
        self._told = told

    @property
    def output_seen(self) -> int:
        return self._told.output_seen

    @property
    def error(self) -> str:
        return self._told.error

    @property
    def created(self) -> tuple[str, ...]:
        return self._told.created

    @property
    def later(self) -> Later | None:
        return self._told.later

    @property
    def ended(self) -> bool:
        return self._told.ended

    def finish(self) -> tuple[Charge, ...]:
        return self._told.charges()

    def _read(self, raw: bytes | str) -> None:
        """What is no JSON, or nests too deep, says nothing."""
        with contextlib.suppress(ValueError, RecursionError):
            self._told.read(json.loads(raw))


class ElementMeter(_Reading):
    """Reads a JSON object, or an array of them that is delivered in pieces. Of an object above
    1 MiB the outermost members and what it is grounded in are read as they pass by."""

    def __init__(self, told: Metadata, *, streams: bool) -> None:
        super().__init__(told)
        self.boundary = ArrayBoundary() if streams else None
        self._streams = streams
        self._elements = Elements(lambda: _Large(told))

    @property
    def output_seen(self) -> int:
        """An answer that is no stream is made whole before its first byte comes."""
        return self._told.output_seen if self._streams else 0

    @property
    def done(self) -> bool:
        return self._streams and self._elements.over

    def feed(self, data: bytes) -> bytes:
        for element in self._elements.feed(data):
            if isinstance(element, bytes):
                self._read(element)
            else:
                self._told.read(element)
        return data

    def flush(self) -> bytes:
        if (found := self._elements.rest()) is not None:
            self._told.read(found)
        return b""


class EventMeter(_Reading):
    """Reads server-sent events. ``told_of``: the client asked for events, so that ours can be put
    among them."""

    def __init__(self, told: Metadata, *, told_of: bool) -> None:
        super().__init__(told)
        self.done = False
        self.boundary = SseBoundary() if told_of else None
        self._splitter = EventSplitter()
        self._large: _Large | None = None
        self._failed = False

    def feed(self, data: bytes) -> bytes:
        if self._failed:
            return data
        try:
            pieces = self._splitter.feed(data)
        except Exception:
            self._failed = True
            return data
        for raw, whole in pieces:
            if whole:
                self._large = None
                self._event(raw)
            elif raw != b"\n":
                self._part(raw)
        return data

    def flush(self) -> bytes:
        rest = self._splitter.rest()
        self._splitter = EventSplitter()
        if rest and not self._failed:
            self._event(rest)
        return b""

    def _event(self, raw: bytes) -> None:
        if raw.find(b"{") < 0:
            self.done = self.done or raw.find(b"[DONE]") >= 0
            return
        text = EventData(raw).text
        if text is not None:
            self._read(text.encode("latin-1"))
            self.done = self.done or self._told.done
        elif error := error_in(raw):
            # An error in the middle comes as bare JSON over several lines, without a `data:`.
            self._told.error = error

    def _part(self, raw: bytes) -> None:
        """A part of an event above the limit: its outermost members are read as they pass by."""
        if self._large is None or raw.startswith(b"data:"):
            self._large = _Large(self._told)
            self._told.texts += 1
        self._large.feed(raw)
        self._told.read(self._large.found)


class _Large(Topmost):
    """A part of an answer that is not kept: its outermost members, and what it is grounded in. That
    is found at any depth. A quote without a backslash before it begins or ends a string, and a key is
    a string with a colon behind it."""

    def __init__(self, told: Metadata) -> None:
        super().__init__(_MEMBERS)
        self._grounded = told.grounded if told.may_search else None
        self._rest = b""
        self._chunks = False

    def feed(self, data: bytes) -> None:
        super().feed(data)
        if self._grounded is not None:
            self._find(self._rest + data, self._grounded)

    def _find(self, window: bytes, grounded: Grounded) -> None:
        """What can't be judged yet is looked at again with the next piece."""
        at = 0
        while (match := _KEY.search(window, at)) is not None:
            at = match.end()
            if window[match.start() - 1 : match.start()] == b"\\":
                continue
            name = match[1].decode()
            if name == "groundingChunks":
                self._chunks = True
            elif not name.endswith("Queries"):
                if self._chunks:
                    grounded.chunk(name)
            elif (found := _list(window[at : at + _LONGEST])) is not None:
                grounded.queries(found, name[0])
            elif len(window) - at < _LONGEST:
                self._rest = window[max(match.start() - 1, 0) :]
                return
        self._rest = window[max(at, len(window) - _OVERLAP) :]


def _list(text: bytes) -> list[object] | None:
    """The list at the beginning of a JSON text, [] for another value; None if it has not come whole."""
    try:
        found = _decode(text.decode("utf-8", "ignore").lstrip())[0]
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) else []
