"""The circuit breaker: it pauses calls to a provider that keeps failing. Pure; its states are the
table below.

There is one breaker for each host, credential and model, because one region, one account or one
model of a provider may fail while the others work; and each tenant has its own of them, because a
request may be what makes the provider fail. Behind those of all tenants stands one that they share.
It opens when several tenants fail, so that the others need not find out by themselves. It opens
again only when several fail again: one whose own requests are at fault would keep it open for all.

A failure is a connection or TLS error, a timeout, an answer that is no HTTP, a 5xx (529 included), or
an error of the provider's own under status 200. 408 and 429 are neither failure nor success: the
provider lives, and asks for less. So are a stale connection, an address that may not be dialled, and a
client that left. Any other answer is a success.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tollhouse.denial import Refused
from tollhouse.dispatch.latest import kept
from tollhouse.dispatch.window import Window


class State(StrEnum):
    CLOSED = "closed"
    """Calls go out."""
    OPEN = "open"
    """Calls are refused."""
    HALF_OPEN = "half_open"
    """A few calls are let through to see. The first that tells something decides."""


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
    """Failures in a row that open it: what a quiet project sees of an outage. For the shared one: of
    which no tenant counts for more than half, so that one tenant alone never opens it."""
    ratio: float = 0.5
    """Share of failures within ``window_s`` that opens a tenant's own, once there were ``least`` results: what a busy one
    sees."""
    least: int = 20
    window_s: float = 30.0
    pause_s: float = 10.0
    """How long it stays open, and after how long a silent probe is given up and another call let through: a probe may
    be a call whose answer takes minutes."""
    probes: int = 3
    """Calls that a half-open one lets through at a time. One alone could be the call that fails by its own fault."""


class _Circuit:
    """What the two kinds of breakers have in common: the state, and the probes."""

    __slots__ = ("_changed_at", "_clock", "_probes", "_settings", "state")

    def __init__(self, clock: Callable[[], float], settings: BreakerSettings) -> None:
        self.state = State.CLOSED
        self._clock = clock
        self._settings = settings
        self._changed_at = clock()
        self._probes: deque[float] = deque()
        """When the probes under way began."""

    def let_through(self) -> None:
        """A call goes out: after `wait_s` has said 0."""
        if self.state is State.OPEN:
            self._move(Event.COOLED)
        if self.state is State.HALF_OPEN:
            if len(self._probes) >= self._settings.probes:
                self._probes.popleft()
            self._probes.append(self._clock())

    def wait_s(self) -> float:
        """Seconds until a call may be let through; 0 when it may be now."""
        if self.state is State.CLOSED:
            return 0.0
        if self.state is State.OPEN:
            since = self._changed_at
        elif len(self._probes) >= self._settings.probes:
            since = self._probes[0]
        else:
            return 0.0
        return max(0.0, since + self._settings.pause_s - self._clock())

    @property
    def pausing(self) -> bool:
        """It is open itself, and its pause is not over."""
        pause_s = self._settings.pause_s
        return self.state is State.OPEN and self._clock() < self._changed_at + pause_s

    def tells_nothing(self) -> None:
        """If the call was a probe, another one may be."""
        if self._probes:
            self._probes.pop()

    def _move(self, event: Event) -> bool:
        """Whether the state has changed."""
        after = TRANSITIONS[self.state, event]
        if after is self.state:
            return False
        self.state = after
        self._changed_at = self._clock()
        self._probes.clear()
        return True


class SharedBreaker(_Circuit):
    """The one behind the breakers of all tenants."""

    __slots__ = ("_failed",)

    def __init__(self, clock: Callable[[], float], settings: BreakerSettings) -> None:
        super().__init__(clock, settings)
        self._failed: Counter[str] = Counter()
        """Failures since the last success or opening, by tenant. There are fewer tenants in it than
        failures open it."""

    def success(self) -> None:
        if self._failed:
            self._failed.clear()
        if self.state is not State.CLOSED:
            self._move(Event.SUCCESS)

    def failure(self, tenant: str) -> None:
        if self.state is State.OPEN:
            return
        self._failed[tenant] += 1
        if self.state is State.HALF_OPEN:
            if len(self._failed) == 1:
                # It may be that tenant's requests. Its own breaker pauses them.
                self.tells_nothing()
            elif self._move(Event.FAILURE):
                self._failed.clear()
            return
        most = self._settings.consecutive
        if sum(min(count, most // 2) for count in self._failed.values()) >= most:
            self._failed.clear()
            self._move(Event.TRIPPED)


class Breaker(_Circuit):
    """One tenant's breaker of one provider host, credential and model. ``clock`` gives seconds that never go back.

    Each call that `enter` let through ends in one of `success`, `failure`, `neither`. Only a stream that had text before an error
    of the provider's own ends in two: it succeeded, and it failed.
    """

    __slots__ = ("_in_a_row", "_results", "_shared", "_tenant", "where")

    def __init__(
        self,
        where: str,
        clock: Callable[[], float],
        settings: BreakerSettings = BreakerSettings(),
        *,
        shared: SharedBreaker | None = None,
        tenant: str = "",
    ) -> None:
        super().__init__(clock, settings)
        self.where = where
        self._shared = shared or SharedBreaker(clock, settings)
        self._tenant = tenant
        self._in_a_row = 0
        self._results = Window(settings.window_s, clock)

    @property
    def shown(self) -> State:
        """What the line says: the state that decides."""
        return max(self.state, self._shared.state, key=_WORSE.index)

    def enter(self) -> None:
        """Lets a call through, or raises Refused("breaker_open") with ``Retry-After`` in whole seconds."""
        if self.state is State.CLOSED and self._shared.state is State.CLOSED:
            return
        wait = self.wait_s()
        if wait > 0:
            raise Refused(
                "breaker_open",
                f"Too many calls to {self.where} failed; the next attempt is in {math.ceil(wait)} s.",
                (("retry-after", str(math.ceil(wait))),),
            )
        self.let_through()
        self._shared.let_through()

    def wait_s(self) -> float:
        """Seconds until `enter` may let a call through; 0 when it does now."""
        return max(super().wait_s(), self._shared.wait_s())

    def success(self) -> None:
        self._shared.success()
        self._in_a_row = 0
        self._results.add(first=1)
        if self.state is not State.CLOSED:
            self._change(Event.SUCCESS)

    def failure(self) -> None:
        self._shared.failure(self._tenant)
        self._in_a_row += 1
        self._results.add(first=1, second=1)
        self._change(
            Event.TRIPPED if self.state is State.CLOSED and self._too_many() else Event.FAILURE
        )

    def neither(self) -> None:
        """The call said nothing about the provider."""
        self.tells_nothing()
        self._shared.tells_nothing()

    def _too_many(self) -> bool:
        settings = self._settings
        if self._in_a_row >= settings.consecutive:
            return True
        total = self._results.first
        return total >= settings.least and self._results.second >= settings.ratio * total

    def _change(self, event: Event) -> None:
        if self._move(event):
            self._in_a_row = 0
            self._results.clear()


_WORSE: Final = (State.CLOSED, State.HALF_OPEN, State.OPEN)


class Breakers:
    """All breakers of a process: at most ``limit`` of tenants, and as many shared ones. Beyond that the one that was unused
    for longest is dropped."""

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
        self._all: OrderedDict[tuple[str, str, int | str, str], Breaker] = OrderedDict()
        self._shared: OrderedDict[tuple[str, str, int | str], SharedBreaker] = OrderedDict()

    def states(self) -> Counter[State]:
        """How many tenants' own there are in each state."""
        return Counter(breaker.state for breaker in self._all.values())

    def shared_states(self) -> Counter[State]:
        """How many shared ones there are in each state."""
        return Counter(breaker.state for breaker in self._shared.values())

    def paused(self) -> Iterator[tuple[str, str]]:
        """Host and tenant of those that are open and let no call through yet. The tenant is empty for a shared one."""
        for (host, *_), shared in self._shared.items():
            if shared.pausing:
                yield host, ""
        for (host, _, _, tenant), breaker in self._all.items():
            if breaker.pausing:
                yield host, tenant

    def of(self, host: str, credential: str, model: int | str = "", tenant: str = "") -> Breaker:
        """``tenant``'s breaker for ``host``, the credential with this `Secret.digest`, and ``model``: a model's entry in the
        table of prices, or a name from the configuration. What is in neither is "": a client could name as many as it likes."""
        key = (host, credential, model, tenant)
        breaker = self._all.get(key)
        if breaker is None:
            shared = kept(
                self._shared,
                (host, credential, model),
                lambda: SharedBreaker(self._clock, self._settings),
                self._limit,
            )
            breaker = self._all[key] = Breaker(
                host, self._clock, self._settings, shared=shared, tenant=tenant
            )
            if len(self._all) > self._limit:
                self._all.popitem(last=False)
        else:
            self._all.move_to_end(key)
        return breaker
