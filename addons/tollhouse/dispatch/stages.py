"""What an answer passes on its way back, one stage after the other. Each takes the bytes of the one before and gives its
own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from tollhouse.call import Hold
from tollhouse.credential.redact import Redactor
from tollhouse.denial import Denial
from tollhouse.dispatch.breaker import Breaker
from tollhouse.families.base import Meter
from tollhouse.families.formats.errors import is_providers_fault

_REST: Final = 65_536
"""Bytes that an event may still have after the budget's end came in the middle of it; then the answer is cut."""
_QUIET_S: Final = 1.0
"""Of each silence: what network and queue take, and no reasoning."""


class AnswerStage(Protocol):
    def feed(self, data: bytes) -> bytes:
        """What of the answer goes on now; may be empty."""

    def flush(self) -> bytes:
        """At the end of the answer: what was held back."""


class Redaction:
    """The gateway's own key is taken out. It stands before the meter: what that reads goes into the line."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self.feed = redactor.feed
        self.flush = redactor.finish


class Metering:
    """The usage is read, and what only the meter asked for is taken out. It also counts the silences: seconds in which the
    provider was waited for and no text came."""

    def __init__(self, meter: Meter, silence_s: float) -> None:
        self.meter = meter
        self.silent_s = 0.0
        self._seen = 0
        self._silence = silence_s
        """Seconds that the provider has been waited for since the request left, or since the last text."""

    def feed(self, data: bytes) -> bytes:
        out = self.meter.feed(data)
        seen = self.meter.output_seen
        if seen > self._seen:
            self._seen = seen
            self.end_silence()
        return out

    def flush(self) -> bytes:
        return self.meter.flush()

    def waited(self, seconds: float) -> None:
        self._silence += seconds

    def end_silence(self) -> None:
        self.silent_s += max(self._silence - _QUIET_S, 0.0)
        self._silence = 0.0


class Judging:
    """The breaker is told how an answer of status 2xx went. The first text is a success, and an error of the provider's own is a
    failure, before the text or behind it. An answer that ends with neither is a success: its head had come."""

    def __init__(self, meter: Meter, breaker: Breaker) -> None:
        self._meter = meter
        self._breaker = breaker
        self._told = False
        self._failed = False

    def feed(self, data: bytes) -> bytes:
        self._judge(ended=False)
        return data

    def flush(self) -> bytes:
        self._judge(ended=True)
        return b""

    def _judge(self, *, ended: bool) -> None:
        error = self._meter.error
        if error and not self._failed and is_providers_fault(error):
            self._told = self._failed = True
            self._breaker.failure()
        elif not self._told and (ended or self._meter.output_seen):
            self._told = True
            self._breaker.success()


class BudgetTap:
    """The stream ends where its budget ends: behind an event, where the client can still be told why."""

    def __init__(self, hold: Hold, meter: Meter) -> None:
        self._hold = hold
        self._meter = meter
        self._denial: Denial | None = None
        self._rest = _REST

    @property
    def between_events(self) -> bool:
        boundary = self._meter.boundary
        return boundary is not None and boundary.between

    def feed(self, data: bytes) -> bytes:
        """After the budget's end no more than to the end of an event."""
        boundary = self._meter.boundary
        if self._denial is not None and boundary is not None:
            data = boundary.cut(data)
            self._rest -= len(data)
        return data

    def flush(self) -> bytes:
        return b""

    async def sent(self, data: bytes) -> Denial | None:
        """``data`` went to the client. Why the stream is to end here; None if it goes on.

        The budget is asked wherever a piece ends: a client that reads slowly decides where they do, and could see to it that
        none is the end of an event.
        """
        boundary = self._meter.boundary
        if boundary is not None and data:
            boundary.sent(data)
        if not self._hold.grows:
            return None
        if self._denial is None:
            self._denial = await self._hold.covers(self._meter.output_seen)
        return self._denial if boundary is None or boundary.between or self._rest < 0 else None


def fed(stages: Sequence[AnswerStage], data: bytes) -> bytes:
    for stage in stages:
        if not data:
            break
        data = stage.feed(data)
    return data


def flushed(stages: Sequence[AnswerStage]) -> bytes:
    data = b""
    for stage in stages:
        data = (stage.feed(data) if data else b"") + stage.flush()
    return data
