"""Readers of Bedrock's answers as they pass by: one JSON object, or a stream of frames. What is in
them is for the reader that each is given."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, Protocol

from tollhouse.families.base import Boundary
from tollhouse.families.formats.aws_event_stream import (
    BrokenFrame,
    Frame,
    FrameBoundary,
    FrameSplitter,
)
from tollhouse.families.formats.topmost import Topmost
from tollhouse.families.units import Charge

_WHOLE: Final = 1 << 16
"""The most bytes of a JSON answer that is parsed whole. Of a larger one the outermost members are
read as they pass by."""


class WholeAnswer:
    """`base.Meter` of a JSON answer. ``read`` gets the ``wanted`` members at its end, and gives the
    charges."""

    done = False
    edits = False
    error = ""
    boundary: Boundary | None = None
    created: tuple[str, ...] = ()
    output_seen = 0
    """A JSON answer is made whole before its first byte comes."""

    def __init__(
        self,
        wanted: Collection[str],
        read: Callable[[Mapping[str, Any]], tuple[Charge, ...]],
    ) -> None:
        self._wanted = wanted
        self._read = read
        self._kept = bytearray()
        self._topmost: Topmost | None = None
        self._charges: tuple[Charge, ...] = ()

    def feed(self, data: bytes) -> bytes:
        if self._topmost is None:
            self._kept += data
            if len(self._kept) > _WHOLE:
                self._topmost = Topmost(self._wanted)
                self._topmost.feed(bytes(self._kept))
                self._kept.clear()
        else:
            self._topmost.feed(data)
        return data

    def flush(self) -> bytes:
        found: Any = self._topmost.found if self._topmost is not None else self._parsed()
        if isinstance(found, dict):
            self._charges = self._read(found)
        return b""

    def _parsed(self) -> Any:
        try:
            return json.loads(bytes(self._kept))
        except (ValueError, RecursionError):
            # A body that is no JSON, or nests too deep, has no counts.
            return None
        finally:
            self._kept.clear()

    def finish(self) -> tuple[Charge, ...]:
        return self._charges


class FrameReader(Protocol):
    """Reads the frames of one stream."""

    @property
    def done(self) -> bool: ...
    @property
    def output_seen(self) -> int: ...
    def event(self, kind: str, payload: bytes) -> None:
        """One event, by its ``:event-type``. It may raise `ValueError`; the event is passed over
        then."""

    def charges(self) -> tuple[Charge, ...]: ...


class FramedAnswer:
    """`base.Meter` of an event stream. Every byte is passed on at once."""

    edits = False
    created: tuple[str, ...] = ()

    def __init__(self, reader: FrameReader) -> None:
        self.error = ""
        self.boundary = FrameBoundary()
        self._reader = reader
        self._splitter: FrameSplitter | None = FrameSplitter()

    @property
    def done(self) -> bool:
        return self._reader.done

    @property
    def output_seen(self) -> int:
        return self._reader.output_seen

    def feed(self, data: bytes) -> bytes:
        if self._splitter is not None:
            try:
                frames = self._splitter.feed(data)
            except BrokenFrame:
                # The rest of the stream passes unread.
                self._splitter = None
                return data
            for frame in frames:
                self._take(frame)
        return data

    def _take(self, frame: Frame) -> None:
        headers = frame.headers
        kind = headers.get(":message-type", "")
        if kind == "event":
            try:
                self._reader.event(headers.get(":event-type", ""), frame.payload)
            except (ValueError, RecursionError):
                return
        elif kind in ("exception", "error"):
            name = headers.get(":exception-type") or headers.get(":error-code") or kind
            self.error = name[:64] if name.isascii() and name.isprintable() else kind

    def flush(self) -> bytes:
        return b""

    def finish(self) -> tuple[Charge, ...]:
        return self._reader.charges()
