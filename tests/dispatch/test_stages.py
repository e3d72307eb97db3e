"""Each stage of an answer's way back by itself, and their order."""

from __future__ import annotations

import pytest

from tollhouse.credential.redact import Redactor
from tollhouse.credential.secret import Secret
from tollhouse.denial import Denial
from tollhouse.dispatch.breaker import Breaker, State
from tollhouse.dispatch.stages import BudgetTap, Judging, Metering, Redaction, fed, flushed
from tollhouse.families.formats.sse import SseBoundary
from tollhouse.families.meters import Boundary, PassThrough
from tollhouse.families.units import Charge, Units

KEY = "sk-0123456789"
SPENT = Denial("budget_exceeded")


class Meter(PassThrough):
    """A meter that has seen what a test says."""

    def __init__(self, boundary: Boundary | None = None) -> None:
        self.output_seen = 0
        self.error = ""
        self.boundary = boundary  # type: ignore[assignment]


class Upper(PassThrough):
    """A meter that changes what passes, and holds a byte back."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        data = self._held + data.upper()
        self._held = data[-1:]
        return data[:-1]

    def flush(self) -> bytes:
        return self._held


def test_one_stage_after_the_other() -> None:
    """The key is taken out before the meter reads, and what a stage holds back passes the stages behind it."""
    stages = (Redaction(Redactor([Secret(KEY)])), Metering(Upper, 0.0))
    assert fed(stages, b"a" + KEY.encode() + b"b sk-01") == b"A[REDACTED BY B"
    assert flushed(stages) == b" SK-01"


# Silences.


def test_a_silence_ends_with_text() -> None:
    """Each one counts but for its first second; what is no text does not end it."""
    meter = Meter()
    metering = Metering(lambda: meter, 5.0)
    metering.waited(3.0)
    metering.feed(b": waiting\n\n")
    assert metering.silent_s == 0.0
    meter.output_seen = 1
    metering.feed(b"text")
    assert metering.silent_s == 7.0
    metering.waited(0.5)
    meter.output_seen = 2
    metering.feed(b"text")
    assert metering.silent_s == 7.0, "what network and queue take"
    metering.waited(2.5)
    metering.end_silence()
    metering.end_silence()
    assert metering.silent_s == 8.5


# A meter that raises. None does; a fault of ours is not to harm the answer.


class Faulty(Meter):
    """Raises at one of its parts, once it has read ``sound`` pieces. It holds one byte back."""

    def __init__(self, part: str, sound: int = 1, boundary: Boundary | None = None) -> None:
        super().__init__(boundary)
        self.part = part
        self.sound = sound
        self.held = b""

    def _at(self, part: str) -> None:
        if part == self.part and self.sound <= 0:
            raise RuntimeError("injected")

    def feed(self, data: bytes) -> bytes:
        self._at("feed")
        self.sound -= 1
        self.output_seen += 1
        data = self.held + data
        self.held = data[-1:]
        return data[:-1]

    def flush(self) -> bytes:
        held, self.held = self.held, b""
        self._at("flush")
        return held

    def finish(self) -> tuple[Charge, ...]:
        self._at("finish")
        return (Charge("m", Units(input=3)),)

    @property
    def done(self) -> bool:  # type: ignore[override]
        self._at("done")
        return False


@pytest.mark.parametrize("sound", [0, 1, 2])
@pytest.mark.parametrize("part", ["feed", "done"])
def test_a_meter_that_raises_harms_no_byte(part: str, sound: int) -> None:
    """What it held back goes on, and all that comes, each byte once; the fault is told once."""
    faults: list[str] = []
    metering = Metering(lambda: Faulty(part, sound), 0.0, lambda: faults.append(part))
    out = (
        b"".join(metering.feed(piece) for piece in (b"one ", b"two ", b"three ", b"four"))
        + metering.flush()
    )
    assert out == b"one two three four"
    assert (metering.failed, faults, metering.edits) == (True, [part], True)
    assert metering.charges == (Charge("m", Units(input=3)),)


def test_a_meter_that_can_not_be_made() -> None:
    """The answer goes on without one."""
    faults: list[str] = []

    def make() -> Meter:
        raise RuntimeError("injected")

    metering = Metering(make, 0.0, lambda: faults.append("made"))
    assert (metering.feed(b"one "), metering.feed(b"two"), metering.flush()) == (
        b"one ",
        b"two",
        b"",
    )
    assert (metering.failed, faults, metering.charges) == (True, ["made"], ())


def test_a_meter_that_raises_at_the_end() -> None:
    """The last bytes that it held are lost with it; its charges are not asked from a broken one twice."""
    metering = Metering(lambda: Faulty("finish", 0), 0.0)
    assert metering.feed(b"one") == b"on"
    assert (metering.charges, metering.failed) == ((), True)
    assert metering.flush() == b"e"


def test_what_is_not_read_counts_for_the_budget() -> None:
    """A stream without a cap does not go on for nothing: each 4 bytes count as a token."""
    metering = Metering(lambda: Faulty("feed", 1), 0.0)
    metering.feed(b"text")
    assert metering.output_seen == 1
    metering.feed(b"x" * 400)
    assert metering.output_seen == 101
    metering.feed(b"x" * 40)
    assert metering.output_seen == 111


# The breaker.


class Told(Breaker):
    """What was told, in order."""

    def __init__(self) -> None:
        super().__init__("api.openai.com", lambda: 0.0)
        self.told = ""

    def success(self) -> None:
        self.told += "s"

    def failure(self) -> None:
        self.told += "f"


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ([(0, "")], "s"),
        ([(1, ""), (2, "")], "s"),
        ([(0, "server_error")], "f"),
        ([(0, "502"), (0, "overloaded_error")], "f"),
        ([(1, ""), (1, "server_error")], "sf"),
        ([(1, "server_error")], "f"),
        ([(0, "invalid_request_error")], "s"),
        ([(0, "429"), (0, "server_error")], "f"),
        ([], "s"),
    ],
)
def test_what_the_breaker_is_told(steps: list[tuple[int, str]], told: str) -> None:
    """One thing a call, and two where text came before the provider's error; the end is told once."""
    meter, breaker = Meter(), Told()
    metering = Metering(lambda: meter, 0.0)
    judging = Judging(metering, breaker)
    for seen, error in steps:
        meter.output_seen, meter.error = seen, error
        metering.feed(b"data")
        assert judging.feed(b"data") == b"data"
    assert (judging.flush(), judging.flush()) == (b"", b"")
    assert breaker.told == told
    assert breaker.state is State.CLOSED


# The budget.


class Hold:
    """Covers what a test says."""

    amount = None
    unheld = False
    clamped = None

    def __init__(self, grows: bool = True) -> None:
        self.grows = grows
        self.denial: Denial | None = None
        self.asked: list[int] = []

    async def covers(self, seen: int) -> Denial | None:
        self.asked.append(seen)
        return self.denial

    async def covers_repeat(self) -> bool:
        return True


def a_tap(hold: Hold, boundary: Boundary | None) -> BudgetTap:
    metering = Metering(lambda: Meter(boundary), 0.0)
    metering.feed(b"what tells the framing")
    return BudgetTap(hold, metering)  # type: ignore[arg-type]


EVENT = b"data: {}\n\n"


async def test_it_ends_between_events() -> None:
    """At once where the client has whole events."""
    hold = Hold()
    tap = a_tap(hold, SseBoundary())
    assert tap.feed(EVENT) == EVENT
    tap.sent(EVENT)
    assert await tap.due() is None
    hold.denial = SPENT
    tap.sent(EVENT)
    assert await tap.due() is SPENT
    assert tap.between_events


async def test_it_ends_behind_the_event_that_was_begun() -> None:
    """What comes of it still passes, and nothing of the next one; the budget is not asked again."""
    hold = Hold()
    tap = a_tap(hold, SseBoundary())
    hold.denial = SPENT
    tap.sent(b"data: {")
    assert await tap.due() is None
    assert not tap.between_events
    assert tap.feed(b'"a":1}\n\ndata: {"b"') == b'"a":1}\n\n'
    tap.sent(b'"a":1}\n\n')
    assert await tap.due() is SPENT
    assert (tap.between_events, hold.asked) == (True, [0])


async def test_it_is_cut_where_no_event_ends() -> None:
    """An event without an end does not go on for ever: 64 KiB of it do."""
    hold = Hold()
    tap = a_tap(hold, SseBoundary())
    hold.denial = SPENT
    tap.sent(b"data: ")
    assert await tap.due() is None
    part = b"x" * 65_536
    assert tap.feed(part) == part
    tap.sent(part)
    assert await tap.due() is None
    assert tap.feed(b"x") == b"x"
    tap.sent(b"x")
    assert await tap.due() is SPENT
    assert not tap.between_events


async def test_without_boundaries_it_is_cut_at_once() -> None:
    """There is no event that one could wait for, and the client can't be told."""
    hold = Hold()
    tap = a_tap(hold, None)
    hold.denial = SPENT
    tap.sent(b"data")
    assert await tap.due() is SPENT
    assert not tap.between_events


async def test_a_hold_that_does_not_grow() -> None:
    """It is never asked: what binds the provider is held."""
    hold = Hold(grows=False)
    hold.denial = SPENT
    tap = a_tap(hold, SseBoundary())
    tap.sent(EVENT)
    assert await tap.due() is None
    assert hold.asked == []
    assert tap.flush() == b""
