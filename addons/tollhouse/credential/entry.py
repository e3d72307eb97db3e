"""One path of the store as the cache knows it, and what it may answer from that. No I/O and no clock of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, Protocol

from tollhouse.credential.lease import CredentialUnavailable, Lease, StoreAway
from tollhouse.credential.pauses import Pauses

RETRY_S: Final = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Before the next try in the background while nobody answers, by the number of failures in a row."""
NEGATIVE_S: Final = 5.0
"""How long a refusal, or a secret that is at no path, is remembered."""

Answered = Literal["value", "missing", "failed", "unknown"]
Shown = Literal["fresh", "stale", "missing", "failed"]
"""Of what is known of a path; ``failed`` is a path of which nothing may be said."""
OUTCOMES: Final = ("value", "missing", "away", "refused")
"""How a read may end: what is there, or why nobody knows."""


class Timer(Protocol):
    def cancel(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Times:
    """In seconds; see `KeyCache`."""

    refresh_s: float
    stale_for_s: float
    bound_s: float


@dataclass(frozen=True, slots=True)
class KeyState:
    """One key as an operator may see it. ``paused`` is why the provider wants it left alone, for ``paused_s`` more."""

    fingerprint: str
    paused: Literal["", "rate", "money", "refused"] = ""
    paused_s: float = 0.0


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """A path as an operator may see it. ``age_s`` is since the read that gave the value; None when there is none."""

    path: str
    state: Shown
    version: str = ""
    keys: tuple[KeyState, ...] = ()
    age_s: float | None = None
    error: str = ""
    """Why the last read told nothing; empty when it told something, or is the first and under way."""
    provider: str = ""
    reads: Mapping[str, int] = field(default_factory=dict)
    """How many reads ended so, by `OUTCOMES`."""
    error_age_s: float | None = None
    """Since the last read that told nothing; None when there was none."""


@dataclass(slots=True, eq=False)
class Entry:
    """``known``: the store has told what is at ``path`` (``leases``, or nothing), at ``read_at``; ``failure`` is why the
    last read told nothing.

    ``begun`` and ``ended`` number the reads; they differ while ``task`` is under way.
    """

    path: str
    provider: str = ""
    """Whose key it is."""
    known: bool = False
    leases: tuple[Lease, ...] = ()
    """One a key of the secret, in its order."""
    turn: int = 0
    """Which of them is next."""
    read_at: float = 0.0
    used_at: float = 0.0
    failure: CredentialUnavailable | None = None
    failures: int = 0
    retry_at: float = 0.0
    task: asyncio.Task[None] | None = None
    timer: Timer | None = None
    begun: int = 0
    ended: int = 0
    reads: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    failed_at: float | None = None
    """When the last read that told nothing ended, however many succeeded since."""
    asked_again: dict[str, float] = field(default_factory=dict)
    """By fingerprint, until when a key that was refused is not read again for that."""

    def state(self, now: float, times: Times, missing_s: float) -> Answered:
        """What may be answered without a read. ``missing_s``: how long a missing secret is believed.

        A value outlives ``refresh_s`` only while it is being read again, and while the store is away.
        """
        if self.known:
            limit = times.refresh_s if self.leases else missing_s
            if self.failure is not None:
                limit = times.refresh_s + times.stale_for_s
            elif self.task is not None:
                limit += times.bound_s
            if now - self.read_at <= limit:
                return "value" if self.leases else "missing"
        if self.failure is not None and now < self.retry_at:
            return "failed"
        return "unknown"

    def found(self, leases: tuple[Lease, ...], now: float) -> None:
        """The store told what is there; may be nothing."""
        self.known, self.leases, self.read_at = True, leases, now
        self.reads["value" if leases else "missing"] += 1
        self.asked_again = {key: until for key, until in self.asked_again.items() if until > now}
        self.failure, self.failures = None, 0

    def away(self, error: StoreAway, now: float, jitter: float) -> float:
        """The store did not tell: what was known stays. Returns the seconds until it should be asked again."""
        wait = RETRY_S[min(self.failures, len(RETRY_S) - 1)] * (1 - 0.5 * jitter)
        self.reads["away"] += 1
        self.failed_at = now
        self.failure, self.retry_at = error, now + wait
        self.failures += 1
        return wait

    def refused(self, error: CredentialUnavailable, now: float) -> None:
        """The store said no, or what it has is no key: what was known ends."""
        self.known, self.leases = False, ()
        self.reads["refused"] += 1
        self.failed_at = now
        self.failures += 1
        self.failure, self.retry_at = error, now + min(NEGATIVE_S * self.failures, 30.0)

    def holds(self, lease: Lease) -> bool:
        """Whether the key of ``lease`` is among those here."""
        return any(known.secret == lease.secret for known in self.leases)

    def shown(self, now: float, times: Times) -> Shown:
        state = self.state(now, times, times.refresh_s)
        if state == "value":
            return "fresh" if now - self.read_at <= times.refresh_s else "stale"
        return "missing" if state == "missing" else "failed"

    def status(self, now: float, times: Times, pauses: Pauses) -> KeyStatus:
        state = self.shown(now, times)
        shared = KeyStatus(
            self.path,
            state,
            error=self.failure.why if self.failure else "",
            provider=self.provider,
            reads=dict(self.reads),
            error_age_s=None if self.failed_at is None else now - self.failed_at,
        )
        if state in ("missing", "failed"):
            return shared
        keys = []
        for lease in self.leases:
            pause = pauses.of(lease.secret.digest)
            keys.append(
                KeyState(lease.fingerprint, pause.why, pause.until - now) if pause else KeyState(lease.fingerprint)
            )
        return replace(shared, version=self.leases[0].version, keys=tuple(keys), age_s=now - self.read_at)
