"""Keys, kept ready: a call that finds its key here does not wait.

The cache has an entry for each path of the store, and not for each (provider, tenant, project). So
a key is read once, however many projects share it. A path is read before its time ends, in a
thread, and never twice at the same time.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Literal

from tollhouse.credential.entry import (
    NEGATIVE_S,
    RETRY_S,
    KeyStatus,
    Leases,
    PathNotes,
    Shown,
    among,
    shown,
    status,
)
from tollhouse.credential.lease import (
    CredentialUnavailable,
    Lease,
    Malformed,
    NoKey,
    RawSecret,
    Reader,
    StoreAway,
)
from tollhouse.credential.lease_reader import LeaseReader
from tollhouse.credential.login import TendedLogin
from tollhouse.credential.paths import fill, template_problem
from tollhouse.credential.pauses import Pauses
from tollhouse.credential.read_notes import note
from tollhouse.credential.workers import Workers
from tollhouse.refreshed import Fresh, NotRead, Refreshed, Seen, Timer, Times, later

_log = logging.getLogger("tollhouse.credential")

_REFUSED_AGAIN_S: Final = 10.0
_IDLE_S: Final = 3600.0
_MAX_CALLERS: Final = 10_000
_MAX_PATHS: Final = 10_000
"""The most paths with a key, and the most paths without one."""
_MAX_REFUSALS: Final = 1000
"""The most keys whose refusals are counted."""
_THREADS: Final = 8


class KeyCache:
    """The keys of ``reader``'s store. A key is looked for at each of ``paths`` (templates) in turn,
    and the first path that exists gives it.

    A value serves for ``refresh_s`` seconds. It is read again in the background after two thirds of
    that time, as long as calls use it. While the store is away, the value serves ``stale_for_s``
    longer (RFC 5861's stale-if-error). The same holds while the latest version is malformed: that
    version is refused, and the key before it serves on. If the store refuses the read, or the
    secret is deleted, the value ends at that refresh.

    If a secret is missing at one path, the next path is asked. If the store refuses the read of a
    path, the next path is not asked: a project with a key of its own must not pay with the common
    key because a policy is wrong. One refresh takes at most ``bound_s`` as a whole, and so does a
    call's wait.

    A secret may have several keys. Each call gets the next one in turn, so that they share the
    load. A key is passed over after `cooling`, `exhausted` or `refused`, as long as another key is
    free. If no key is free, the call gets the key that is free first. So it is the provider that
    refuses the call, and not the gateway.

    All methods belong to one event loop. ``clock`` is monotonic seconds, ``jitter`` gives 0 to 1,
    ``place`` is the mount, for messages. ``account_headers`` is as in `contents`. ``judge`` raises
    `CredentialUnavailable` for a lease that the provider of this name can't use. Raises
    `ValueError` for a text that is no template.
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
        judge: Callable[[Lease, str], None] = lambda lease, provider: None,
    ) -> None:
        for template in paths:
            if problem := template_problem(template):
                raise ValueError(problem)
        if not paths:
            raise ValueError("there is no path to look for keys at")
        self._reader = reader
        self._templates = tuple(paths)
        self._place = f"{place}/" if place else ""
        self._leases = LeaseReader(
            reader, self._templates, field, self._place, dict(account_headers or {}), judge
        )
        self.refresh_s = refresh_s
        self._bound_s = bound_s
        self._clock = clock
        self._pauses = Pauses(clock)
        self._workers = Workers(_THREADS, bound_s)
        self._reads: Refreshed[str, Leases] = Refreshed(
            self._read,
            Times(
                ahead_share=1 / 3,
                spread=0.2,
                missing_s=refresh_s,
                from_asked=False,
                grace_s=bound_s,
                stale_for_s=stale_for_s,
                retry_s=RETRY_S,
                refused_s=NEGATIVE_S,
                idle_s=_IDLE_S,
                idle_lives=2,
            ),
            away=(StoreAway, Malformed),
            clock=clock,
            jitter=jitter,
            call_later=call_later,
            limit=_MAX_PATHS,
            on_read=lambda path, read: note(self._notes_of(path), self._place + path, read),
            on_forgotten=self._forgotten,
        )
        self._notes: dict[str, PathNotes] = {}
        self._callers: dict[tuple[str, str, str], tuple[str, ...]] = {}
        self._refusals: Counter[tuple[str, str, str]] = Counter()
        self._login = TendedLogin(reader, self._workers, call_later)
        self._closed = False

    # What a call asks

    def peek(self, provider: str, tenant: str, project: str) -> Lease | None:
        """The key, if it is there without waiting. None: ask `get`."""
        for path in self._callers.get((provider, tenant, project), ()):
            kept = self._reads.peek(path)
            if kept is None:
                return None
            if kept.value is not None:
                return self._next(path, kept.value)
        return None

    async def get(self, provider: str, tenant: str, project: str) -> Lease:
        """The key. Raises `NoKey` when no path has a key, and `CredentialUnavailable` when no key
        may be used."""
        # A call that need not wait saves 7 us: what the time limit and the coroutine below would
        # cost.
        if (ready := self.peek(provider, tenant, project)) is not None:
            return ready
        paths = self._paths_of(provider, tenant, project)
        try:
            async with asyncio.timeout(self._bound_s):
                lease = await self._first(paths, self.refresh_s)
                if lease is None:
                    # No path had a key. Somebody may have put one there a moment ago.
                    lease = await self._first(paths, NEGATIVE_S[0])
        except TimeoutError:
            raise StoreAway(f"The store of keys gave no key within {self._bound_s:g} s.") from None
        if lease is None:
            places = ", ".join(self._place + path for path in paths)
            raise NoKey(f"There is no secret at {places}.")
        return lease

    def cooling(self, lease: Lease, seconds: float | None = None) -> Lease | None:
        """Called when the provider limits the rate of this key for ``seconds`` (None: it does not
        say how long). Gives another key of the same secret that is free, or None."""
        return self._pause(lease, "rate", seconds)

    def exhausted(self, lease: Lease) -> Lease | None:
        """Called when the account of this key is empty. Gives another key of the same secret that
        is free, or None."""
        if self._pauses.of(lease.secret.digest) is None:
            _log.error(
                "the account of key %s of %s%s is empty", lease.fingerprint, self._place, lease.path
            )
        return self._pause(lease, "money", None)

    async def refused(self, lease: Lease) -> Lease | None:
        """Called when the provider has refused this key. Gives the lease to try instead, or None
        when the store has no other key.

        The store is read again for it. If it still has the same key, it is not read again for this
        reason for 10 s.
        """
        notes = self._notes_of(lease.path)
        if self._holds(lease) and self._clock() < notes.asked_again.get(lease.fingerprint, 0.0):
            self._alarm(notes, lease)
            return self._other(lease)
        if self._holds(lease) or not self._known(lease.path):
            await self._reads.again(
                lease.path, lambda leases: leases is not None and not among(lease, leases)
            )
            notes = self._notes_of(lease.path)
        if self._holds(lease):
            self._alarm(notes, lease)
            notes.asked_again[lease.fingerprint] = self._clock() + _REFUSED_AGAIN_S
            self._pauses.add(lease.secret.digest, "refused")
            seen = self._reads.seen(lease.path)
            if seen is not None and seen.error is None:
                place, key = self._place + lease.path, lease.fingerprint
                _log.error(
                    "the provider refuses key %s, which %s, version %s, still has",
                    key,
                    place,
                    lease.version,
                )
        return self._other(lease)

    def _alarm(self, notes: PathNotes, lease: Lease) -> None:
        key = (notes.provider, lease.path, lease.fingerprint)
        if key in self._refusals or len(self._refusals) < _MAX_REFUSALS:
            self._refusals[key] += 1

    async def raw(self, path: str) -> RawSecret | None:
        """The secret at ``path``, whatever is in it. Raises `CredentialUnavailable`."""
        try:
            return await self._workers.run(lambda: self._reader.read(path))
        finally:
            self._login.tend()

    # What the gateway and its operator ask

    async def connect(self) -> None:
        """Log in to the store. Raises `CredentialUnavailable`."""
        await self._workers.run(self._reader.connect)
        self._login.tend()

    def status(self) -> list[KeyStatus]:
        """Every path that was read at least once, sorted by path."""
        now = self._clock()
        return [
            status(path, notes, seen, now, self._pauses)
            for path, notes, seen in sorted(self._seen(), key=lambda one: one[0])
        ]

    def states(self) -> Counter[Shown]:
        """How many paths are in each state."""
        now = self._clock()
        return Counter(shown(seen, now) for _, _, seen in self._seen())

    def notable(self, most: int) -> list[KeyStatus]:
        """As `status`, but only paths that have or had a key or could not be read, and of these the
        ``most`` that were used last."""
        now = self._clock()
        found = [
            one for one in self._seen() if one[1].reads["value"] or one[1].failed_at is not None
        ]
        latest = heapq.nlargest(most, found, key=lambda one: one[2].used_at)
        return [
            status(path, notes, seen, now, self._pauses)
            for path, notes, seen in sorted(latest, key=lambda one: one[0])
        ]

    @property
    def trouble(self) -> str:
        """Why the login to the store could not be kept alive. Empty when all is well."""
        return self._reader.trouble

    @property
    def notice(self) -> str:
        """What a person will have to do for the login, though all is well now. Empty if nothing."""
        return self._reader.notice

    def login_left_s(self) -> float | None:
        """Seconds until the login to the store ends. None if it does not end, and before the first
        login."""
        return self._reader.left_s()

    def refusals(self) -> dict[tuple[str, str, str], int]:
        """How often the provider has refused a key that the store did not replace, by provider,
        path and fingerprint. A key that is kept and was never refused has 0."""
        found = dict(self._refusals)
        for path, notes, seen in self._seen():
            for lease in (seen.kept.value if seen.kept is not None else None) or ():
                found.setdefault((notes.provider, path, lease.fingerprint), 0)
        return found

    async def read_now(self, path: str) -> tuple[Lease, ...]:
        """The keys at ``path``, read from the store now. The cache is neither asked nor changed.
        Raises `CredentialUnavailable`."""
        return await self._workers.run(lambda: self._leases.read(path, (), ""))

    def forget(self) -> None:
        """Empties the cache and forgets all refusals. The counts of `refusals` stay."""
        self._reads.clear()
        self._callers.clear()
        self._notes.clear()
        self._pauses = Pauses(self._clock)

    async def close(self) -> None:
        """Stops every refresh and gives the login back. It takes a second at most."""
        self._closed = True
        await self._reads.close()
        self._callers.clear()
        self._notes.clear()
        await self._login.close()

    # Paths

    def _paths_of(self, provider: str, tenant: str, project: str) -> tuple[str, ...]:
        caller = (provider, tenant, project)
        paths = self._callers.get(caller)
        if paths is None:
            if self._closed:
                raise CredentialUnavailable("The gateway is stopping.")
            paths = tuple(
                dict.fromkeys(
                    fill(template, provider, tenant, project) for template in self._templates
                )
            )
            if len(self._callers) >= _MAX_CALLERS:
                self._callers.clear()
                self._notes = {
                    path: notes for path, notes in self._notes.items() if path in self._reads
                }
            self._callers[caller] = paths
        for path in paths:
            self._notes_of(path).provider = provider
        return paths

    def _notes_of(self, path: str) -> PathNotes:
        notes = self._notes.get(path)
        if notes is None:
            notes = self._notes[path] = PathNotes()
        return notes

    def _forgotten(self, path: str) -> None:
        self._notes.pop(path, None)

    def _seen(self) -> Iterator[tuple[str, PathNotes, Seen[Leases]]]:
        for path in self._reads.keys():  # noqa: SIM118 - not a mapping
            if (seen := self._reads.seen(path)) is not None:
                yield path, self._notes_of(path), seen

    def _known(self, path: str) -> Leases:
        """The keys at ``path`` as they were read last. That may be long ago."""
        seen = self._reads.seen(path)
        return (seen.kept.value if seen is not None and seen.kept is not None else None) or ()

    def _holds(self, lease: Lease) -> bool:
        return among(lease, self._known(lease.path))

    async def _first(self, paths: Sequence[str], missing_s: float) -> Lease | None:
        for path in paths:
            try:
                leases = await self._reads.get(path, missing_s)
            except NotRead:
                raise CredentialUnavailable(
                    f"The key at {self._place}{path} was not read."
                ) from None
            if leases is not None:
                return self._next(path, leases)
        return None

    def _next(self, path: str, leases: Leases) -> Lease:
        notes = self._notes_of(path)
        lease = self._pauses.first(leases, notes.turn)
        notes.turn = (notes.turn + 1) % len(leases)
        return lease

    def _other(self, lease: Lease, *, free: bool = False) -> Lease | None:
        """Another key at the path of ``lease``. With ``free`` it is in no pause."""
        others = [known for known in self._known(lease.path) if known.secret != lease.secret]
        if free:
            others = self._pauses.free(others)
        return self._pauses.first(others, self._notes_of(lease.path).turn) if others else None

    def _pause(
        self, lease: Lease, why: Literal["rate", "money"], seconds: float | None
    ) -> Lease | None:
        self._pauses.add(lease.secret.digest, why, seconds)
        seen = self._reads.seen(lease.path)
        return self._other(lease, free=True) if seen is not None and seen.serves else None

    # Reads

    async def _read(self, path: str, known: Leases | None) -> Fresh[Leases] | None:
        provider = self._notes_of(path).provider
        try:
            leases = await self._workers.run(lambda: self._leases.read(path, known or (), provider))
        finally:
            self._login.tend()
        return Fresh(leases, self.refresh_s) if leases else None
