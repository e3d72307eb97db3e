"""One path of the store as the cache knows it, and what it may answer from that. No I/O and no clock of its own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from tollhouse.credential.lease import CredentialUnavailable, Lease, StoreAway
from tollhouse.credential.pauses import Pauses

# Seconds before the next read in the background while the store is away, by the number of failures in a row.
_RETRY_S: Final = (1.0, 2.0, 4.0, 8.0, 15.0)
NEGATIVE_S: Final = 5.0
"""How long a refusal, or a secret that is at no path, is remembered."""

Answered = Literal["value", "missing", "failed", "unknown"]


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
    state: Literal["fresh", "stale", "missing", "failed"]
    version: str = ""
    keys: tuple[KeyState, ...] = ()
    age_s: float | None = None
    error: str = ""


@dataclass(slots=True, eq=False)
class Entry:
    """``known``: the store has told what is at ``path`` (``leases``, or nothing), at ``read_at``; ``failure`` is why the
    last read told nothing.

    ``begun`` and ``ended`` number the reads; they differ while ``task`` is under way.
    """

    path: str
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
        self.asked_again = {key: until for key, until in self.asked_again.items() if until > now}
        self.failure, self.failures = None, 0

    def away(self, error: StoreAway, now: float, jitter: float) -> float:
        """The store did not tell: what was known stays. Returns the seconds until it should be asked again."""
        wait = _RETRY_S[min(self.failures, len(_RETRY_S) - 1)] * (1 - 0.5 * jitter)
        self.failure, self.retry_at = error, now + wait
        self.failures += 1
        return wait

    def refused(self, error: CredentialUnavailable, now: float) -> None:
        """The store said no, or what it has is no key: what was known ends."""
        self.known, self.leases = False, ()
        self.failures += 1
        self.failure, self.retry_at = error, now + min(NEGATIVE_S * self.failures, 30.0)

    def holds(self, lease: Lease) -> bool:
        """Whether the key of ``lease`` is among those here."""
        return any(known.secret == lease.secret for known in self.leases)

    def status(self, now: float, times: Times, pauses: Pauses) -> KeyStatus:
        error = self.failure.why if self.failure else ""
        state = self.state(now, times, times.refresh_s)
        if state == "missing":
            return KeyStatus(self.path, "missing", error=error)
        if state != "value":
            return KeyStatus(self.path, "failed", error=error)
        age_s = now - self.read_at
        shown: Literal["fresh", "stale"] = "fresh" if age_s <= times.refresh_s else "stale"
        keys = []
        for lease in self.leases:
            pause = pauses.of(lease.fingerprint)
            keys.append(
                KeyState(lease.fingerprint, pause.why, pause.until - now) if pause else KeyState(lease.fingerprint)
            )
        return KeyStatus(self.path, shown, self.leases[0].version, tuple(keys), age_s, error)
