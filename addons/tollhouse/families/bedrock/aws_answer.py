"""Readers of Bedrock's answers as they pass by: one JSON object, or a stream of frames. What is in
them is for the reader that each is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from tollhouse.families.formats.aws_event_stream import (
    BrokenFrame,
    Frame,
    FrameBoundary,
    FrameSplitter,
)
from tollhouse.families.units import Charge


class Answered:
    """`formats.watched.HeardWhole` of an answer of one object. ``read`` gets its members, and gives the
    charges."""

    error = ""
    created: tuple[str, ...] = ()

    def __init__(self, read: Callable[[Mapping[str, Any]], tuple[Charge, ...]]) -> None:
        self._read = read
        self._charges: tuple[Charge, ...] = ()

    def event(self, document: Mapping[str, Any]) -> bool:
        self._charges = self._read(document)
        return False

    def charges(self) -> tuple[Charge, ...]:
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
    """`meters.Meter` of an event stream. Every byte is passed on at once."""

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
