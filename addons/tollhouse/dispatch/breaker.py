"""The circuit breaker: it pauses calls to a provider that keeps failing. Pure; its states are the
table below.

There is one breaker for each host and credential, because one region or one account of a provider
may fail while the others work. A failure is a connection or TLS error, a timeout, or a 5xx (529
included). 408 and 429 are neither failure nor success: the provider lives, and asks for less. Any
other answer is a success.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tollhouse.denial import Refused
from tollhouse.dispatch.window import Window


class State(StrEnum):
    CLOSED = "closed"
    """Calls go out."""
    OPEN = "open"
    """Calls are refused."""
    HALF_OPEN = "half_open"
    """One call is let through to see."""


class Event(StrEnum):
    SUCCESS = "success"
    FAILURE = "failure"
    TRIPPED = "tripped"
    """A failure that opens the breaker."""
    COOLED = "cooled"
    """The pause is over."""


TRANSITIONS: Final[dict[tuple[State, Event], State]] = {
    (State.CLOSED, Event.SUCCESS): State.CLOSED,
    (State.CLOSED, Event.FAILURE): State.CLOSED,
    (State.CLOSED, Event.TRIPPED): State.OPEN,
    # A call that left before the breaker opened may end while it is open. It changes nothing.
    (State.OPEN, Event.SUCCESS): State.OPEN,
    (State.OPEN, Event.FAILURE): State.OPEN,
    (State.OPEN, Event.COOLED): State.HALF_OPEN,
    (State.HALF_OPEN, Event.SUCCESS): State.CLOSED,
    (State.HALF_OPEN, Event.FAILURE): State.OPEN,
}
"""Every pair that can happen. Any other pair is a bug and raises KeyError."""


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    consecutive: int = 10
    """Failures in a row that open it: what a quiet project sees of an outage."""
    ratio: float = 0.5
    """Share of failures within ``window_s`` that opens it, once there were ``least`` results: what a busy one sees."""
    least: int = 20
    window_s: float = 30.0
    pause_s: float = 10.0
    """How long it stays open, and after how long a silent probe is given up and another call let through: a probe may
    be a call whose answer takes minutes."""


class Breaker:
    """The breaker of one provider host and credential. ``clock`` gives seconds that never go back.

    Each call that `enter` let through ends in one of `success`, `failure`, `neither`. Only a stream that had text before an error
    of the provider's own ends in two: it succeeded, and it failed.
    """

    __slots__ = (
        "_changed_at",
        "_clock",
        "_in_a_row",
        "_probe_at",
        "_results",
        "_settings",
        "state",
        "where",
    )

    def __init__(
        self, where: str, clock: Callable[[], float], settings: BreakerSettings = BreakerSettings()
    ) -> None:
        self.where = where
        self.state = State.CLOSED
        self._clock = clock
        self._settings = settings
        self._in_a_row = 0
        self._results = Window(settings.window_s, clock)
        self._changed_at = clock()
        self._probe_at: float | None = None

    def enter(self) -> None:
        """Lets a call through, or raises Refused("breaker_open") with ``Retry-After`` in whole seconds."""
        if self.state is State.CLOSED:
            return
        wait = self.wait_s()
        if wait > 0:
            raise Refused(
                "breaker_open",
                f"Too many calls to {self.where} failed; the next try is in {math.ceil(wait)} s.",
                (("retry-after", str(math.ceil(wait))),),
            )
        if self.state is State.OPEN:
            self._move(Event.COOLED)
        self._probe_at = self._clock()

    def wait_s(self) -> float:
        """Seconds until `enter` may let a call through; 0 when it does now."""
        since = {
            State.CLOSED: None,
            State.OPEN: self._changed_at,
            State.HALF_OPEN: self._probe_at,
        }[self.state]
        return 0.0 if since is None else max(0.0, since + self._settings.pause_s - self._clock())

    def success(self) -> None:
        self._in_a_row = 0
        self._results.add(first=1)
        if self.state is not State.CLOSED:
            self._move(Event.SUCCESS)

    def failure(self) -> None:
        self._in_a_row += 1
        self._results.add(first=1, second=1)
        self._move(
            Event.TRIPPED if self.state is State.CLOSED and self._too_many() else Event.FAILURE
        )

    def neither(self) -> None:
        """The call said nothing about the provider (408, 429, or the client left). If it was a
        probe, the next call may be one."""
        self._probe_at = None

    def _too_many(self) -> bool:
        settings = self._settings
        if self._in_a_row >= settings.consecutive:
            return True
        total = self._results.first
        return total >= settings.least and self._results.second >= settings.ratio * total

    def _move(self, event: Event) -> None:
        after = TRANSITIONS[self.state, event]
        if after is self.state:
            return
        self.state = after
        self._changed_at = self._clock()
        self._probe_at = None
        self._in_a_row = 0
        self._results.clear()


class Breakers:
    """All breakers of a process, at most ``limit``. Beyond that the one that was unused for longest
    is dropped."""

    def __init__(
        self,
        clock: Callable[[], float],
        settings: BreakerSettings = BreakerSettings(),
        *,
        limit: int = 4096,
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._limit = limit
        self._all: OrderedDict[tuple[str, str], Breaker] = OrderedDict()

    def states(self) -> Counter[State]:
        """How many there are in each state."""
        return Counter(breaker.state for breaker in self._all.values())

    def of(self, host: str, credential: str) -> Breaker:
        """The breaker for ``host`` and the credential with this `Secret.digest`."""
        key = (host, credential)
        breaker = self._all.get(key)
        if breaker is None:
            breaker = self._all[key] = Breaker(host, self._clock, self._settings)
            if len(self._all) > self._limit:
                self._all.popitem(last=False)
        else:
            self._all.move_to_end(key)
        return breaker
