"""Usage in an answer of Google's, read as it streams by: one JSON object, a JSON array, or events.

The first bytes tell which it is. Every byte is passed on at once.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any, Final

from tollhouse.families.base import AnswerHead, Asked, Boundary
from tollhouse.families.formats.json_array import ArrayBoundary, Elements
from tollhouse.families.formats.sniffed import Sniffed
from tollhouse.families.formats.sse import EventData, EventSplitter, SseBoundary
from tollhouse.families.formats.topmost import Topmost
from tollhouse.families.google.errors import error_in
from tollhouse.families.google.told import WANTED, Cached, Embedded, Interacted, Metadata, NewObject
from tollhouse.families.units import Charge

_QUERIES: Final = b'"webSearchQueries"'
_LONGEST: Final = 1 << 14
"""The most bytes of a list of queries in an answer too large to be kept."""
_MEMBERS: Final = (
    WANTED
    | {"usage", "id", "model", "service_tier", "name", "file", "event_type"}
    | {
        "interaction",
        "metadata",
    }
)
_decode = json.JSONDecoder().raw_decode


def generate_meter(asked: Asked, head: AnswerHead) -> Sniffed:
    return _meter(asked, head, Metadata)


def embed_meter(asked: Asked, head: AnswerHead) -> Sniffed:
    return _meter(asked, head, Embedded)


def interaction_meter(asked: Asked, head: AnswerHead) -> Sniffed:
    return _meter(asked, head, Interacted)


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

    def finish(self) -> tuple[Charge, ...]:
        return self._told.charges()

    def _read(self, raw: bytes | str) -> None:
        """What is no JSON, or nests too deep, says nothing."""
        with contextlib.suppress(ValueError, RecursionError):
            self._told.read(json.loads(raw))


class ElementMeter(_Reading):
    """Reads a JSON object, or an array of them that is delivered in pieces. Of an object above
    1 MiB the outermost members and the searches are read as they pass by."""

    def __init__(self, told: Metadata, *, streams: bool) -> None:
        super().__init__(told)
        self.boundary = ArrayBoundary() if streams else None
        self._streams = streams
        self._elements = Elements(_MEMBERS)
        self._searches = _Searches(told)

    @property
    def output_seen(self) -> int:
        """An answer that is no stream is made whole before its first byte comes."""
        return self._told.output_seen if self._streams else 0

    @property
    def done(self) -> bool:
        return self._streams and self._elements.over

    def feed(self, data: bytes) -> bytes:
        self._searches.feed(data)
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
        self._large: Topmost | None = None
        self._searches: _Searches | None = None
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
            self._large, self._searches = Topmost(_MEMBERS), _Searches(self._told)
            self._told.texts += 1
        self._large.feed(raw)
        if self._searches is not None:
            self._searches.feed(raw)
        self._told.read(self._large.found)


class _Searches:
    """Finds lists of queries in an answer that passes by, at any depth. A quote without a backslash
    before it begins or ends a string, and a key is a string with a colon behind it."""

    def __init__(self, told: Metadata) -> None:
        self._grounded = told.grounded
        self._tail = b""
        self._list: bytearray | None = None

    def feed(self, data: bytes) -> None:
        if self._list is not None:
            self._list += data[: _LONGEST - len(self._list)]
            self._try()
            return
        window = self._tail + data
        at = window.find(_QUERIES)
        while at >= 0 and self._list is None:
            if at == 0 or window[at - 1] != 0x5C:
                self._list = bytearray(window[at + len(_QUERIES) :][:_LONGEST])
                self._try()
            at = window.find(_QUERIES, at + 1)
        self._tail = b"" if self._list is not None else window[-len(_QUERIES) :]

    def _try(self) -> None:
        assert self._list is not None
        text = bytes(self._list).decode("utf-8", "ignore").lstrip().removeprefix(":").lstrip()
        try:
            found: Any = _decode(text)[0] if text else None
        except (ValueError, RecursionError):
            found = None
        if found is not None or len(self._list) >= _LONGEST:
            self._grounded.queries(found)
            self._list = None
