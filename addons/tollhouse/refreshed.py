"""Values that are read from a source far away. However many callers ask, there is one read. A value
is read again ahead of its end. While the source is away, it is kept for a while.

Past 400 lines because it is one class, and the values that it takes and gives.

This module knows no particular value, source or error. Of each key it keeps at most four things:
the result of the last good read, the error of the last read if it failed, when the key was last
asked for, and one timer.

| what is kept | the last read | `get` |
|---|---|---|
| a value that lives still | any | gives it |
| a value past its end | is under way | gives it for ``grace_s``, then waits for the read |
| a value past its end | failed, the source is away | gives it for ``stale_for_s``, then as with nothing |
| that there is nothing | any | the same, with ``missing_s`` for the life |
| nothing | failed just now | raises the same error again, without a read; waits, with ``once_more_s`` |
| nothing | is under way | waits for it; with ``once_more_s`` for one more, if it fails as the source is away |
| nothing | none, or failed a while ago | begins one and waits for it |
"""

from __future__ import annotations

import asyncio
import copy
import logging
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

_log = logging.getLogger(__name__)

_RENEW_AT_LEAST: Final = 0.5
"""A value is not read again before this part of its life is over, whatever `Times.ahead_s` is."""
_RETRY_SPREAD: Final = 0.5
"""A wait before another try of a source that is away is shortened by chance, by up to this part of
it."""


class Timer(Protocol):
    """What `later` gives."""

    def cancel(self) -> None:
        """The callback is not called any more."""


def later(delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
    """Calls ``callback`` after ``delay_s`` seconds, by the running loop."""
    return asyncio.get_running_loop().call_later(delay_s, callback)


class NotRead(Exception):
    """The read was given up (`Refreshed.close`), or its value had ended before it came."""


@dataclass(frozen=True, slots=True)
class Fresh[V]:
    """A value that a source gave, which lives for ``life_s`` seconds."""

    value: V
    life_s: float


@dataclass(frozen=True, slots=True)
class Times:
    """Times in seconds (``_s``) and as parts of a value's life (``_share``, ``_lives``).

    There are two margins before a value's end. The first is ``ahead_s`` or ``ahead_share``,
    whichever is longer: from then on the value is read again in the background, but not before half
    of its life. Without both it is not read ahead. The second is ``least_s`` or ``least_share``,
    whichever is shorter: from then on the value is not given any more.
    """

    ahead_s: float = 0.0
    ahead_share: float = 0.0
    spread: float = 0.0
    """The background read is earlier by chance, by up to this part of the wait for it."""
    least_s: float = 0.0
    least_share: float = 1.0
    missing_s: float = 0.0
    """The life of an answer that there is nothing."""
    once_more_s: float = 0.0
    """While the source is away, a caller without a value waits so long after the last failed read, and begins another one
    then. 0: it gets the error of the last read until ``retry_s`` is over."""
    from_asked: bool = True
    """A life is counted from the beginning of the read. False: from its end."""
    grace_s: float = 0.0
    """How long past its end a value is given while it is being read again."""
    stale_for_s: float = 0.0
    """The same while the source is away."""
    retry_s: tuple[float, ...] = ()
    """Waits before another try of a source that is away, by the number of failures in a row. Empty:
    the error is not remembered."""
    refused_s: tuple[float, ...] = ()
    """The same after every other error. No try is made before somebody asks."""
    idle_s: float = 60.0
    idle_lives: float = 0.0
    """A key that nobody asked for in ``idle_s``, or in this many lives of its value, whichever is
    longer, is forgotten and not read again."""


@dataclass(frozen=True, slots=True)
class Kept[V]:
    """The result of a read. ``value`` is None if the source has nothing."""

    value: V | None
    at: float
    """The moment from which its life is counted."""
    ends_at: float
    """From then on the value is given only within ``grace_s`` and ``stale_for_s``."""
    life_s: float


@dataclass(frozen=True, slots=True)
class Ended[V]:
    """How a read ended: with a result in ``told``, or with an ``error``. ``before`` is the result
    that was kept until then, however old. ``error_before`` is the error of the read before this
    one."""

    asked_at: float
    ended_at: float
    before: Kept[V] | None
    told: Kept[V] | None
    error: Exception | None
    error_before: Exception | None


@dataclass(frozen=True, slots=True)
class Seen[V]:
    """The state of a key. ``serves``: `peek` gives ``kept`` now. ``error`` is that of the last
    read."""

    kept: Kept[V] | None
    serves: bool
    error: Exception | None
    used_at: float


@dataclass(slots=True, eq=False)
class _Slot[V]:
    """What is kept of one key. Only `Refreshed` changes it: when a read has ended, and when the key is
    asked for."""

    used_at: float
    kept: Kept[V] | None = None
    error: Exception | None = None
    failures: int = 0
    retry_at: float = 0.0
    once_more_at: float = 0.0
    """As ``retry_at``, of callers that wait for it (`Times.once_more_s`)."""
    believed_until: float = 0.0
    """Until then `Refreshed.drop` does not drop the value."""
    timer: Timer | None = None


@dataclass(slots=True, eq=False)
class _Flight[V]:
    """One read under way. It goes on even if nobody waits for it any more."""

    number: int
    asked_at: float
    over: asyncio.Future[None]
    told: Kept[V] | None = None
    error: Exception | None = None
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Refreshed[K, V]:
    """``read`` gets a key and its kept value (None without one). It gives a `Fresh` value, or None
    if the source has nothing. It bounds its own time. An error of the types ``away`` means that the
    source can't answer: a kept value serves on. Every other error ends the kept value.

    An error is raised to all callers that waited for its read. If `Times` has a wait for it, the
    error is remembered for that time. It is kept as a copy without frames, because frames may hold
    a secret. Each `get` raises a copy of its own.

    At most ``limit`` keys with a value are kept, and as many keys without one. Of either the key
    that was unused for longest is dropped first. So keys without a value can't push out keys that
    have one.

    ``on_read`` gets how each read ended, before the result counts. If it raises, a good read has
    failed with that error. ``on_forgotten`` gets each key that is no longer kept. All methods
    belong to one event loop. ``clock`` is monotonic seconds, ``jitter`` gives 0 to 1.
    """

    def __init__(
        self,
        read: Callable[[K, V | None], Awaitable[Fresh[V] | None]],
        times: Times,
        *,
        away: tuple[type[Exception], ...] = (),
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
        call_later: Callable[[float, Callable[[], None]], Timer] = later,
        limit: int = 10_000,
        on_read: Callable[[K, Ended[V]], None] = lambda key, ended: None,
        on_forgotten: Callable[[K], None] = lambda key: None,
    ) -> None:
        self._read = read
        self._times = times
        self._away = away
        self._clock = clock
        self._jitter = jitter
        self._call_later = call_later
        self._limit = limit
        self._on_read = on_read
        self._on_forgotten = on_forgotten
        # The key that was unused for longest stands first.
        self._with: OrderedDict[K, _Slot[V]] = OrderedDict()
        self._without: OrderedDict[K, _Slot[V]] = OrderedDict()
        self._flights: dict[K, _Flight[V]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._begun = 0
        self._closed = False

    def __len__(self) -> int:
        return len(self._with) + len(self._without)

    def __contains__(self, key: K) -> bool:
        return key in self._with or key in self._without

    def keys(self) -> list[K]:
        """Every key that is kept, those with a value first."""
        return [*self._with, *self._without]

    def seen(self, key: K) -> Seen[V] | None:
        """The state of ``key``. None before its first read has ended. This does not count as a use
        of the key."""
        entry = self._with.get(key) or self._without.get(key)
        if entry is None:
            return None
        serves = self._serves(entry, self._clock(), key in self._flights, None)
        return Seen(entry.kept, serves, entry.error, entry.used_at)

    def peek(self, key: K, missing_s: float | None = None) -> Kept[V] | None:
        """The result that `get` would give without waiting. None if `get` would wait or raise."""
        entry = self._with.get(key)
        if entry is not None:
            self._with.move_to_end(key)
        else:
            entry = self._without.get(key)
            if entry is None:
                return None
            self._without.move_to_end(key)
        entry.used_at = now = self._clock()
        kept = entry.kept
        # This is the usual case. The rest takes three times as long.
        if missing_s is None and kept is not None and now < kept.ends_at:
            return kept
        return kept if self._serves(entry, now, key in self._flights, missing_s) else None

    async def get(self, key: K, missing_s: float | None = None) -> V | None:
        """The value, or None if the source has nothing. The answer that it has nothing is believed
        for ``missing_s``, if that is less than `Times.missing_s`. A caller that is cancelled does
        not end the read. Raises the error of the read, and `NotRead`."""
        flight = None
        for first in (True, False):
            if (kept := self.peek(key, missing_s)) is not None:
                return kept.value
            entry = self._find(key)
            waited_for = entry.once_more_at if entry is not None else 0.0
            if waited_for > self._clock():
                await self._until(waited_for)
                if (kept := self.peek(key, missing_s)) is not None:
                    return kept.value
                entry = self._find(key)
            # A timer may call a little before its time, and whoever has waited is not told of that failure.
            known_until = 0.0 if entry is None or entry.retry_at == waited_for else entry.retry_at
            if entry is not None and entry.error is not None and self._clock() < known_until:
                raise _bare(entry.error)
            if self._closed:
                raise NotRead
            joined = key in self._flights
            flight = self._flights.get(key) or self._begin(key)
            await asyncio.wait([flight.over])
            told = flight.told
            if told is not None and (told.value is None or self._clock() < told.ends_at):
                return told.value
            # The source may have been asked before it came back, and this caller came after that.
            if not (first and joined and self._times.once_more_s and self._is_away(flight.error)):
                break
        # The source is known to be away now, so a value past its end may serve on.
        if (kept := self.peek(key, missing_s)) is not None:
            return kept.value
        if flight is None or flight.error is None:
            raise NotRead
        raise _bare(flight.error) if _is_bare(flight.error) else flight.error

    async def again(self, key: K, until: Callable[[V | None], bool] = lambda value: False) -> None:
        """Waits for a read that begins after this call, because an earlier read may give the old
        value. A read that is under way counts too if its value satisfies ``until``. `seen` has the
        result."""
        mark = self._begun
        self.peek(key)
        while not self._closed:
            flight = self._flights.get(key) or self._begin(key)
            await asyncio.wait([flight.over])
            if flight.number > mark or (flight.told is not None and until(flight.told.value)):
                return

    def drop(self, key: K, value: V, every_s: float = 0.0) -> bool:
        """Called when ``value`` was refused where it was used. Says whether `get` will give another
        one. The values that are read after that are dropped at most once in ``every_s``: the
        refusal may have another reason than the value."""
        entry = self._find(key)
        if entry is None or entry.kept is None or entry.kept.value != value:
            return True
        now = self._clock()
        if now < entry.believed_until:
            return False
        entry.believed_until = now + every_s
        entry.kept = None
        self._place(key, entry)
        return True

    def forget(self, key: K) -> None:
        """Forgets ``key``. The result of a read under way goes to its callers and is not kept."""
        self._flights.pop(key, None)
        entry = self._with.pop(key, None) or self._without.pop(key, None)
        if entry is not None:
            self._end(key, entry)

    def clear(self) -> None:
        """Forgets every key. ``on_forgotten`` is not called."""
        for entry in (*self._with.values(), *self._without.values()):
            _cancel(entry)
        self._with.clear()
        self._without.clear()
        self._flights.clear()

    async def close(self) -> None:
        """Ends every read and forgets everything. Waiting callers get `NotRead`."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.clear()

    # What may be handed out

    def _serves(self, entry: _Slot[V], now: float, reading: bool, missing_s: float | None) -> bool:
        kept = entry.kept
        if kept is None:
            return False
        ends_at = kept.ends_at
        if entry.error is not None:
            return now < ends_at + self._times.stale_for_s
        if missing_s is not None and kept.value is None:
            ends_at = min(ends_at, kept.at + missing_s)
        return now < (ends_at + self._times.grace_s if reading else ends_at)

    async def _until(self, at: float) -> None:
        over = asyncio.Event()
        timer = self._call_later(at - self._clock(), over.set)
        try:
            await over.wait()
        finally:
            timer.cancel()

    def _is_away(self, error: Exception | None) -> bool:
        return isinstance(error, self._away)

    def _find(self, key: K) -> _Slot[V] | None:
        return self._with.get(key) or self._without.get(key)

    # Reads

    def _begin(self, key: K) -> _Flight[V]:
        entry = self._find(key)
        if entry is not None:
            _cancel(entry)
        self._begun += 1
        loop = asyncio.get_running_loop()
        flight = self._flights[key] = _Flight(self._begun, self._clock(), loop.create_future())
        # With eager tasks the read may be over when this returns.
        task = flight.task = loop.create_task(self._run(key, flight), name=f"read {key}")
        if not task.done():
            self._tasks.add(task)
            # If a task is cancelled before its first step, its ``finally`` does not run.
            task.add_done_callback(lambda _: self._land(key, flight))
            task.add_done_callback(self._tasks.discard)
        return flight

    def _land(self, key: K, flight: _Flight[V]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        if not flight.over.done():
            flight.over.set_result(None)

    async def _run(self, key: K, flight: _Flight[V]) -> None:
        entry = self._find(key)
        value = entry.kept.value if entry is not None and entry.kept is not None else None
        del entry
        try:
            told = self._told(await self._read(key, value), flight.asked_at)
            if self._flights.get(key) is flight:
                self._tell(key, flight, told, None)
                self._keep(key, flight, told)
            flight.told = told
        except Exception as error:
            self._failed(key, flight, error)
        finally:
            self._land(key, flight)

    def _told(self, fresh: Fresh[V] | None, asked_at: float) -> Kept[V]:
        times = self._times
        at = asked_at if times.from_asked else self._clock()
        if fresh is None:
            return Kept(None, at, at + times.missing_s, times.missing_s)
        least_s = min(times.least_s, times.least_share * fresh.life_s)
        return Kept(fresh.value, at, at + fresh.life_s - least_s, fresh.life_s)

    def _keep(self, key: K, flight: _Flight[V], told: Kept[V]) -> None:
        times = self._times
        entry = self._find(key) or _Slot(flight.asked_at)
        entry.kept, entry.error, entry.failures = told, None, 0
        entry.once_more_at = 0.0
        self._place(key, entry)
        ahead_s = max(times.ahead_s, times.ahead_share * told.life_s)
        if ahead_s:
            wait_s = max(told.life_s - ahead_s, _RENEW_AT_LEAST * told.life_s)
            wait_s *= 1 - times.spread * self._jitter()
            self._set_timer(key, entry, told.at + wait_s - self._clock(), self._on_renewal)

    def _failed(self, key: K, flight: _Flight[V], error: Exception) -> None:
        times = self._times
        away = self._is_away(error)
        waits = times.retry_s if away else times.refused_s
        flight.error = error = _bare(error) if waits else error
        if self._flights.get(key) is not flight:
            return
        try:
            self._tell(key, flight, None, error)
        except Exception:
            _log.exception("a failed read could not be told of")
        if not waits:
            if not away:
                self.forget(key)
            return
        entry = self._find(key) or _Slot(flight.asked_at)
        wait_s = waits[min(entry.failures, len(waits) - 1)]
        if away:
            wait_s *= 1 - _RETRY_SPREAD * self._jitter()
        else:
            entry.kept = None
        once_more = away and times.once_more_s > 0
        until = self._clock() + (min(wait_s, times.once_more_s) if once_more else wait_s)
        entry.error, entry.retry_at = error, until
        entry.once_more_at = until if once_more else 0.0
        entry.failures += 1
        self._place(key, entry)
        if away:
            self._set_timer(key, entry, wait_s, self._on_renewal)
        else:
            self._set_timer(key, entry, self._idle_s(entry), self._on_idle)

    def _tell(
        self, key: K, flight: _Flight[V], told: Kept[V] | None, error: Exception | None
    ) -> None:
        entry = self._find(key)
        before, error_before = (entry.kept, entry.error) if entry is not None else (None, None)
        self._on_read(key, Ended(flight.asked_at, self._clock(), before, told, error, error_before))

    # What is kept, and for how long

    def _place(self, key: K, entry: _Slot[V]) -> None:
        full = entry.kept is not None and entry.kept.value is not None
        there, other = (self._with, self._without) if full else (self._without, self._with)
        other.pop(key, None)
        there[key] = entry
        there.move_to_end(key)
        if len(there) > self._limit:
            self._end(*there.popitem(last=False))

    def _end(self, key: K, entry: _Slot[V]) -> None:
        _cancel(entry)
        entry.kept = None
        self._on_forgotten(key)

    def _set_timer(
        self, key: K, entry: _Slot[V], wait_s: float, then: Callable[[K, _Slot[V]], None]
    ) -> None:
        _cancel(entry)
        if not self._closed:
            entry.timer = self._call_later(wait_s, lambda: then(key, entry))

    def _idle_s(self, entry: _Slot[V]) -> float:
        life_s = entry.kept.life_s if entry.kept is not None else 0.0
        return max(self._times.idle_s, self._times.idle_lives * life_s)

    def _on_renewal(self, key: K, entry: _Slot[V]) -> None:
        entry.timer = None
        if self._closed or key in self._flights or self._find(key) is not entry:
            return
        if self._clock() - entry.used_at > self._idle_s(entry):
            self.forget(key)
        else:
            self._begin(key)

    def _on_idle(self, key: K, entry: _Slot[V]) -> None:
        entry.timer = None
        if self._find(key) is not entry:
            return
        left_s = entry.used_at + self._idle_s(entry) - self._clock()
        if left_s <= 0:
            self.forget(key)
        else:
            self._set_timer(key, entry, left_s, self._on_idle)


def _cancel[V](entry: _Slot[V]) -> None:
    if entry.timer is not None:
        entry.timer.cancel()
        entry.timer = None


def _bare(error: Exception) -> Exception:
    """A copy of ``error`` without its frames, its cause and its context. An exception that is raised twice would keep the frames
    of both callers."""
    try:
        made = copy.copy(error)
    except Exception:
        made = error
    if type(made) is not type(error):
        made = error
    made.__cause__ = made.__context__ = None
    return made.with_traceback(None)


def _is_bare(error: Exception) -> bool:
    return error.__traceback__ is None
