"""What an answer passes on its way back, one stage after the other. Each takes the bytes of the one before and gives its
own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from tollhouse.call import Hold
from tollhouse.credential.redact import Redactor
from tollhouse.denial import Denial
from tollhouse.dispatch.breaker import Breaker
from tollhouse.families.formats.errors import is_providers_fault
from tollhouse.families.formats.text_tokens import BYTES_PER_TOKEN
from tollhouse.families.meters import Boundary, Later, Meter, PassThrough
from tollhouse.families.units import Charge

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


class _Unread(PassThrough):
    """In place of a meter that has raised and had ``held`` back: nothing is read, and each 4 bytes may be a token."""

    def __init__(self, seen: int, held: bytes) -> None:
        self._seen = seen
        self._held = held
        self._bytes = 0

    @property
    def output_seen(self) -> int:  # type: ignore[override]
        return self._seen + self._bytes // BYTES_PER_TOKEN

    def feed(self, data: bytes) -> bytes:
        self._bytes += len(data)
        return self.flush() + data

    def flush(self) -> bytes:
        held, self._held = self._held, b""
        return held


class Metering:
    """The usage is read, and what only the meter asked for is taken out. It also counts the silences: seconds in which the
    provider was waited for and no text came.

    Nothing else asks the meter that ``make`` gives. One that raises harms no answer: what it held back and all that comes is
    passed on unread, and ``failed`` is true from then on. ``on_fault`` is called once, inside the handler of the exception.
    """

    def __init__(
        self,
        make: Callable[[], Meter],
        silence_s: float,
        on_fault: Callable[[], None] = lambda: None,
    ) -> None:
        self.failed = False
        # What the meter said after the last piece: each piece has several readers.
        self.output_seen = 0
        self.done = False
        self.error = ""
        self.boundary: Boundary | None = None
        self.silent_s = 0.0
        self._silence = silence_s
        """Seconds that the provider has been waited for since the request left, or since the last text."""
        self._on_fault = on_fault
        self._charges: tuple[Charge, ...] = ()
        """What a meter had counted that has raised since."""
        self._meter: Meter = PassThrough()
        try:
            self._meter = make()
        except Exception:
            self._fail()

    def feed(self, data: bytes) -> bytes:
        try:
            out = self._meter.feed(data)
        except Exception:
            self._fail()
            out = self._meter.feed(data)
        self._look()
        return out

    def flush(self) -> bytes:
        out = b""
        try:
            out = self._meter.flush()
        except Exception:
            self._fail()
        self._look()
        return out + self._meter.flush() if self.failed else out

    @property
    def edits(self) -> bool:
        """The answer may go on shorter than it came."""
        try:
            return self.failed or self._meter.edits
        except Exception:
            self._fail()
            return True

    @property
    def charges(self) -> tuple[Charge, ...]:
        """What the provider has counted so far."""
        if not self.failed:
            try:
                return self._meter.finish()
            except Exception:
                self._fail()
        return self._charges

    @property
    def created(self) -> tuple[str, ...]:
        """Ids of objects that the answer says exist now; none of a meter that has raised."""
        if not self.failed:
            try:
                return self._meter.created
            except Exception:
                self._fail()
        return ()

    @property
    def later(self) -> Later | None:
        """The answer whose usage comes later; None of a meter that has raised."""
        if not self.failed:
            try:
                found: Later | None = getattr(self._meter, "later", None)
                return found
            except Exception:
                self._fail()
        return None

    @property
    def ended(self) -> bool:
        """The answer shows that one before it is over."""
        if not self.failed:
            try:
                return bool(getattr(self._meter, "ended", False))
            except Exception:
                self._fail()
        return False

    def waited(self, seconds: float) -> None:
        self._silence += seconds

    def end_silence(self) -> None:
        self.silent_s += max(self._silence - _QUIET_S, 0.0)
        self._silence = 0.0

    def _look(self) -> None:
        meter = self._meter
        try:
            if not self.failed:
                self.done, self.error = meter.done, meter.error
                if self.boundary is None:
                    self.boundary = meter.boundary
            seen = meter.output_seen
        except Exception:
            self._fail()
            return
        if seen > self.output_seen:
            self.output_seen = seen
            self.end_silence()

    def _fail(self) -> None:
        self.failed = True
        self._on_fault()
        held = b""
        with contextlib.suppress(Exception):
            held = self._meter.flush()
        with contextlib.suppress(Exception):
            self._charges = self._meter.finish()
        self._meter = _Unread(self.output_seen, held)


class Judging:
    """The breaker is told how an answer of status 2xx went. The first text is a success, and an error of the provider's own is a
    failure, before the text or behind it. An answer that ends with neither is a success: its head had come."""

    def __init__(self, metering: Metering, breaker: Breaker) -> None:
        self._metering = metering
        self._breaker = breaker
        self._told = False
        self._failed = False

    def feed(self, data: bytes) -> bytes:
        if not self._told or self._metering.error:
            self._judge(ended=False)
        return data

    def flush(self) -> bytes:
        self._judge(ended=True)
        return b""

    def _judge(self, *, ended: bool) -> None:
        error = self._metering.error
        if error and not self._failed and is_providers_fault(error):
            self._told = self._failed = True
            self._breaker.failure()
        elif not self._told and (ended or self._metering.output_seen):
            self._told = True
            self._breaker.success()


class BudgetTap:
    """The stream ends where its budget ends: behind an event, where the client can still be told why.

    ``grows`` is `Hold.grows`: without it `due` need not be asked.
    """

    def __init__(self, hold: Hold, metering: Metering) -> None:
        self.grows = hold.grows
        self._hold = hold
        self._metering = metering
        self._denial: Denial | None = None
        self._rest = _REST

    @property
    def between_events(self) -> bool:
        boundary = self._metering.boundary
        return boundary is not None and boundary.between

    def feed(self, data: bytes) -> bytes:
        """After the budget's end no more than to the end of an event."""
        if self._denial is not None and (boundary := self._metering.boundary) is not None:
            data = boundary.cut(data)
            self._rest -= len(data)
        return data

    def flush(self) -> bytes:
        return b""

    def sent(self, data: bytes) -> None:
        """``data`` went to the client."""
        boundary = self._metering.boundary
        if boundary is not None and data:
            boundary.sent(data)

    async def due(self) -> Denial | None:
        """Why the stream is to end behind what was sent; None if it goes on.

        The budget is asked wherever a piece ends: a client that reads slowly decides where they do, and could see to it that
        none is the end of an event.
        """
        if not self.grows:
            return None
        if self._denial is None:
            self._denial = await self._hold.covers(self._metering.output_seen)
        boundary = self._metering.boundary
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
