"""Keys, kept ready: a call that finds one here waits for nothing.

What is cached is a path of the store, not a call's (provider, tenant, project): however many projects share a key, it
is read once. A path is read one at a time, before its time ends, off the event loop.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

from tollhouse.credential.entry import NEGATIVE_S, Entry, KeyStatus, Shown, Timer, Times
from tollhouse.credential.fields import contents
from tollhouse.credential.lease import CredentialUnavailable, Lease, NoKey, Reader, StoreAway
from tollhouse.credential.paths import fill, template_problem
from tollhouse.credential.pauses import Pauses
from tollhouse.credential.workers import Workers, later

_log = logging.getLogger("tollhouse.credential")

_REFUSED_AGAIN_S: Final = 10.0
_IDLE_S: Final = 3600.0
_TEND_AT_LEAST_EVERY_S: Final = 60.0
_MAX_CALLERS: Final = 10_000
_MAX_REFUSALS: Final = 1000
"""Keys of which refusals are counted."""
_THREADS: Final = 8


class KeyCache:
    """The keys of ``reader``'s store, looked for at each of ``paths`` (templates) in turn: the first that exists.

    A value serves for ``refresh_s`` seconds and is read again in the background after two thirds of that, for as long
    as calls use it. While the store is away it serves ``stale_for_s`` longer (RFC 5861's stale-if-error); a refusal, a
    deleted secret or a malformed value ends it at that refresh. A secret that is missing at one path leads to the next
    path; a refusal there does not: a project with a key of its own must not pay with the common one because a policy
    is wrong. One refresh takes at most ``bound_s`` as a whole, and so does a call's wait.

    Of several keys in one secret each call gets the next, around, so that they share the load; one that `cooling`,
    `exhausted` or `refused` was said of is passed over while another is free. When none is, the one that is free first
    is given: the provider, not we, refuses the call.

    All methods belong to one event loop. ``clock`` is monotonic seconds, ``jitter`` gives 0 to 1, ``place`` is the
    mount, for messages; ``account_headers`` as in `contents`. Raises `ValueError` for a template that is none.
    """

    def __init__(
        self,
        reader: Reader,
        paths: Sequence[str],
        field: str = "api_key",
        refresh_s: float = 60.0,
        stale_for_s: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
        *,
        bound_s: float = 5.0,
        jitter: Callable[[], float] = random.random,
        call_later: Callable[[float, Callable[[], None]], Timer] = later,
        place: str = "",
        account_headers: Mapping[str, str] | None = None,
    ) -> None:
        for template in paths:
            if problem := template_problem(template):
                raise ValueError(problem)
        if not paths:
            raise ValueError("there is no path to look for keys at")
        self._reader = reader
        self._templates = tuple(paths)
        self._field = field
        self._place = f"{place}/" if place else ""
        self._account_headers = dict(account_headers or {})
        self._times = Times(refresh_s, stale_for_s, bound_s)
        self._clock = clock
        self._jitter = jitter
        self._call_later = call_later
        self._pauses = Pauses(clock)
        self._workers = Workers(_THREADS, bound_s)
        self._entries: dict[str, Entry] = {}
        self._callers: dict[tuple[str, str, str], tuple[Entry, ...]] = {}
        self._refusals: Counter[tuple[str, str, str]] = Counter()
        self._tend_timer: Timer | None = None
        self._tending: asyncio.Task[None] | None = None
        self._closed = False

    # What a call asks

    def peek(self, provider: str, tenant: str, project: str) -> Lease | None:
        """The key, if it can be had without waiting; None means `get`."""
        entries = self._callers.get((provider, tenant, project))
        if entries is None:
            return None
        now = self._clock()
        for entry in entries:
            entry.used_at = now
            state = entry.state(now, self._times, self._times.refresh_s)
            if state == "value":
                return self._next(entry)
            if state != "missing":
                return None
        return None

    async def get(self, provider: str, tenant: str, project: str) -> Lease:
        """The key. Raises `NoKey` when there is none anywhere, `CredentialUnavailable` when none may be used."""
        # 7 us less than the bound and the coroutine below cost a call that waits for nothing.
        if (ready := self.peek(provider, tenant, project)) is not None:
            return ready
        entries = self._entries_of(provider, tenant, project)
        try:
            async with asyncio.timeout(self._times.bound_s):
                lease = await self._first(entries, self._times.refresh_s)
                if lease is None:
                    # Nothing anywhere: what was not there a moment ago may have been put there.
                    lease = await self._first(entries, min(NEGATIVE_S, self._times.refresh_s))
        except TimeoutError:
            raise StoreAway(f"The store of keys gave no key within {self._times.bound_s:g} s.") from None
        if lease is None:
            places = ", ".join(self._place + entry.path for entry in entries)
            raise NoKey(f"There is no secret at {places}.")
        return lease

    def cooling(self, lease: Lease, seconds: float | None = None) -> Lease | None:
        """The provider limits the rate of this key, for ``seconds`` (None: it does not say): another key of the same
        secret that is free, or None."""
        return self._pause(lease, "rate", seconds)

    def exhausted(self, lease: Lease) -> Lease | None:
        """The account of this key is empty: another key of the same secret that is free, or None."""
        if self._pauses.of(lease.secret.digest) is None:
            _log.error("the account of key %s of %s%s is empty", lease.fingerprint, self._place, lease.path)
        return self._pause(lease, "money", None)

    async def refused(self, lease: Lease) -> Lease | None:
        """The provider refused this key: the lease to try instead, or None when the store has no other.

        A key that was read again in vain is not read again for this reason for 10 s.
        """
        entry = self._entries.setdefault(lease.path, Entry(lease.path))
        entry.used_at = now = self._clock()
        if entry.holds(lease) and now < entry.asked_again.get(lease.fingerprint, 0.0):
            self._alarm(entry, lease)
            return self._other(entry, lease)
        # A read that began before the refusal may have seen the key from before a rotation.
        mark = entry.begun
        while (entry.holds(lease) or not entry.leases) and entry.ended <= mark and not self._closed:
            await self._read(entry)
        if entry.holds(lease):
            self._alarm(entry, lease)
            entry.asked_again[lease.fingerprint] = self._clock() + _REFUSED_AGAIN_S
            self._pauses.add(lease.secret.digest, "refused")
            if entry.failure is None:
                place, key = self._place + entry.path, lease.fingerprint
                _log.error("the provider refuses key %s, which %s, version %s, still has", key, place, lease.version)
        return self._other(entry, lease)

    def _alarm(self, entry: Entry, lease: Lease) -> None:
        key = (entry.provider, entry.path, lease.fingerprint)
        if key in self._refusals or len(self._refusals) < _MAX_REFUSALS:
            self._refusals[key] += 1

    # What the gateway and its operator ask

    async def connect(self) -> None:
        """Log in to the store. Raises `CredentialUnavailable`."""
        await self._workers.run(self._reader.connect)
        self._tend()

    def status(self) -> list[KeyStatus]:
        """Every path that is kept, by path."""
        now = self._clock()
        return [entry.status(now, self._times, self._pauses) for _, entry in sorted(self._entries.items())]

    def states(self) -> Counter[Shown]:
        """How many paths are in each state; one of which no read has ended yet is in none."""
        now = self._clock()
        return Counter(entry.shown(now, self._times) for entry in self._entries.values() if entry.ended)

    def notable(self, most: int) -> list[KeyStatus]:
        """As `status`, the ``most`` latest used of the paths where a key is or was, or that could not be read."""
        now = self._clock()
        found = [entry for entry in self._entries.values() if entry.reads["value"] or entry.failed_at is not None]
        latest = heapq.nlargest(most, found, key=lambda entry: entry.used_at)
        return [entry.status(now, self._times, self._pauses) for entry in sorted(latest, key=lambda entry: entry.path)]

    @property
    def trouble(self) -> str:
        """Why the login to the store could not be kept alive; empty when all is well."""
        return self._reader.trouble

    @property
    def notice(self) -> str:
        """What somebody will have to do for the login though all is well; empty if nothing."""
        return self._reader.notice

    def login_left_s(self) -> float | None:
        """Seconds that the login to the store lives still; None without an end, or before the first login."""
        return self._reader.left_s()

    def refusals(self) -> dict[tuple[str, str, str], int]:
        """By provider, path and fingerprint: how often the provider has refused a key that the store did not replace.
        0 for each key that is kept."""
        found = dict(self._refusals)
        for entry in self._entries.values():
            for lease in entry.leases:
                found.setdefault((entry.provider, entry.path, lease.fingerprint), 0)
        return found

    async def read_now(self, path: str) -> tuple[Lease, ...]:
        """The keys at ``path`` of the store, past the cache and not kept in it. Raises `CredentialUnavailable`."""
        return await self._workers.run(lambda: self._load(path, ()))

    async def close(self) -> None:
        """Stops every refresh and gives the login back, for a second at most."""
        self._closed = True
        for timer in (self._tend_timer, *(entry.timer for entry in self._entries.values())):
            if timer is not None:
                timer.cancel()
        tasks = [task for task in (self._tending, *(entry.task for entry in self._entries.values())) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._entries.clear()
        self._callers.clear()
        try:
            await self._workers.run(self._reader.close, bound_s=1.0)
        except CredentialUnavailable as error:
            _log.info("the login to the store of keys was not given back: %s", error.why)

    # Entries

    def _entries_of(self, provider: str, tenant: str, project: str) -> tuple[Entry, ...]:
        caller = (provider, tenant, project)
        entries = self._callers.get(caller)
        if entries is None:
            if self._closed:
                raise CredentialUnavailable("The gateway is stopping.")
            paths = dict.fromkeys(fill(template, provider, tenant, project) for template in self._templates)
            if len(self._callers) >= _MAX_CALLERS:
                self._callers.clear()
            entries = tuple(self._entries.setdefault(path, Entry(path, provider)) for path in paths)
            self._callers[caller] = entries
        return entries

    async def _first(self, entries: Sequence[Entry], missing_s: float) -> Lease | None:
        for entry in entries:
            entry.used_at = self._clock()
            state = entry.state(entry.used_at, self._times, missing_s)
            if state == "unknown":
                await self._read(entry)
                state = entry.state(self._clock(), self._times, missing_s)
            if state == "value":
                return self._next(entry)
            if state != "missing":
                raise self._why(entry)
        return None

    def _next(self, entry: Entry) -> Lease:
        lease = self._pauses.first(entry.leases, entry.turn)
        entry.turn = (entry.turn + 1) % len(entry.leases)
        return lease

    def _other(self, entry: Entry, lease: Lease, *, free: bool = False) -> Lease | None:
        """A key at this path that is not the one of ``lease``, and in no pause if it must be ``free``."""
        others = [known for known in entry.leases if known.secret != lease.secret]
        if free:
            others = self._pauses.free(others)
        return self._pauses.first(others, entry.turn) if others else None

    def _pause(self, lease: Lease, why: Literal["rate", "money"], seconds: float | None) -> Lease | None:
        self._pauses.add(lease.secret.digest, why, seconds)
        entry = self._entries.get(lease.path)
        if entry is None or entry.state(self._clock(), self._times, 0.0) != "value":
            return None
        return self._other(entry, lease, free=True)

    def _why(self, entry: Entry) -> CredentialUnavailable:
        """A new exception each time: one that is raised twice gathers the frames of both callers."""
        if entry.failure is None:
            return CredentialUnavailable(f"The key at {self._place}{entry.path} was not read.")
        return type(entry.failure)(entry.failure.why)

    # Reads

    async def _read(self, entry: Entry) -> None:
        """Wait for the read under way, or for a new one. A caller that gives up does not end it."""
        if entry.task is None:
            self._begin(entry)
        assert entry.task is not None
        await asyncio.wait([entry.task])

    def _begin(self, entry: Entry) -> None:
        if entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None
        entry.begun += 1
        entry.task = asyncio.get_running_loop().create_task(self._refresh(entry), name=f"read {entry.path}")

    async def _refresh(self, entry: Entry) -> None:
        known, place = entry.leases, self._place + entry.path
        try:
            leases = await self._workers.run(lambda: self._load(entry.path, known))
            if entry.failure is not None:
                _log.info("%s can be read again", place)
            if known and not leases:
                _log.warning("%s is gone; it was %s", place, _told(known))
            elif leases != known:
                _log.info("%s is %s", place, _told(leases))
            entry.found(leases, self._clock())
            self._schedule(entry, self._times.refresh_s * (2 / 3) * (1 - 0.2 * self._jitter()))
        except StoreAway as error:
            now = self._clock()
            if entry.failure is None:
                kept = f"{_told(known)}, {now - entry.read_at:.0f} s old, serves on" if known else "none is kept"
                _log.warning("%s can't be read; %s. %s", place, kept, error.why)
            self._schedule(entry, entry.away(StoreAway(error.why), now, self._jitter()))
        except CredentialUnavailable as error:
            if entry.failure is None or entry.failure.why != error.why:
                _log.error("there is no key from %s. %s", place, error.why)
            # A new exception: the frames of the caught one hold the key that ends here.
            entry.refused(CredentialUnavailable(error.why), self._clock())
        finally:
            entry.ended = entry.begun
            entry.task = None
        self._tend()

    def _load(self, path: str, known: tuple[Lease, ...]) -> tuple[Lease, ...]:
        """In a thread. A key that has not changed stays in the one object that it is in."""
        raw = self._reader.read(path)
        if raw is None:
            return ()
        found = contents(raw, self._field, self._place + path, self._account_headers)
        before = {lease.secret: lease for lease in known}
        leases = []
        for secret in found.secrets:
            kept = before.get(secret)
            if kept is not None:
                secret = kept.secret
            lease = Lease(secret, raw.version, secret.fingerprint, path, found.kind, found.headers)
            leases.append(kept if kept == lease else lease)
        return tuple(leases)

    def _schedule(self, entry: Entry, delay_s: float) -> None:
        if not self._closed:
            entry.timer = self._call_later(delay_s, lambda: self._on_time(entry))

    def _on_time(self, entry: Entry) -> None:
        entry.timer = None
        if entry.task is not None or self._closed:
            return
        if self._clock() - entry.used_at <= max(_IDLE_S, 2 * self._times.refresh_s):
            self._begin(entry)
            return
        self._entries.pop(entry.path, None)
        self._callers = {caller: kept for caller, kept in self._callers.items() if entry not in kept}

    # The login

    def _tend(self) -> None:
        """Have the login looked after, unless a time for that is set already."""
        if self._tending is None and self._tend_timer is None and not self._closed:
            self._tending = asyncio.get_running_loop().create_task(self._tend_once(), name="tend the login")

    async def _tend_once(self) -> None:
        try:
            wait = await self._workers.run(self._reader.tend)
        except CredentialUnavailable:
            wait = _TEND_AT_LEAST_EVERY_S
        finally:
            self._tending = None
        if wait is not None and not self._closed:
            self._tend_timer = self._call_later(min(max(wait, 0.5), _TEND_AT_LEAST_EVERY_S), self._on_tend)

    def _on_tend(self) -> None:
        self._tend_timer = None
        self._tend()


def _told(leases: Sequence[Lease]) -> str:
    return (
        f"version {leases[0].version}, key {', '.join(lease.fingerprint for lease in leases)}" if leases else "missing"
    )
