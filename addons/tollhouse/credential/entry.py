"""One path of the store as the cache knows it, and what it may answer from that. No I/O and no clock of its own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from tollhouse.credential.lease import CredentialUnavailable, Lease, StoreAway

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
class KeyStatus:
    """A path as an operator may see it. ``age_s`` is since the read that gave the value; None when there is none."""

    path: str
    state: Literal["fresh", "stale", "missing", "failed"]
    version: str = ""
    fingerprint: str = ""
    age_s: float | None = None
    error: str = ""


@dataclass(slots=True, eq=False)
class Entry:
    """``known``: the store has told what is at ``path`` (``lease``, or nothing), at ``read_at``; ``failure`` is why the
    last read told nothing.

    ``begun`` and ``ended`` number the reads; they differ while ``task`` is under way.
    """

    path: str
    known: bool = False
    lease: Lease | None = None
    read_at: float = 0.0
    used_at: float = 0.0
    failure: CredentialUnavailable | None = None
    failures: int = 0
    retry_at: float = 0.0
    task: asyncio.Task[None] | None = None
    timer: Timer | None = None
    begun: int = 0
    ended: int = 0
    refused_until: float = 0.0

    def state(self, now: float, times: Times, missing_s: float) -> Answered:
        """What may be answered without a read. ``missing_s``: how long a missing secret is believed.

        A value outlives ``refresh_s`` only while it is being read again, and while the store is away.
        """
        if self.known:
            limit = times.refresh_s if self.lease else missing_s
            if self.failure is not None:
                limit = times.refresh_s + times.stale_for_s
            elif self.task is not None:
                limit += times.bound_s
            if now - self.read_at <= limit:
                return "value" if self.lease else "missing"
        if self.failure is not None and now < self.retry_at:
            return "failed"
        return "unknown"

    def found(self, lease: Lease | None, now: float) -> None:
        """The store told what is there; None: nothing."""
        self.known, self.lease, self.read_at = True, lease, now
        self.failure, self.failures = None, 0

    def away(self, error: StoreAway, now: float, jitter: float) -> float:
        """The store did not tell: what was known stays. Returns the seconds until it should be asked again."""
        wait = _RETRY_S[min(self.failures, len(_RETRY_S) - 1)] * (1 - 0.5 * jitter)
        self.failure, self.retry_at = error, now + wait
        self.failures += 1
        return wait

    def refused(self, error: CredentialUnavailable, now: float) -> None:
        """The store said no, or what it has is no key: what was known ends."""
        self.known, self.lease = False, None
        self.failures += 1
        self.failure, self.retry_at = error, now + min(NEGATIVE_S * self.failures, 30.0)

    def brings_other(self, lease: Lease) -> bool:
        """Whether there is a key here that is not the one of ``lease``."""
        return self.lease is not None and self.lease.secret != lease.secret

    def status(self, now: float, times: Times) -> KeyStatus:
        error = self.failure.why if self.failure else ""
        state = self.state(now, times, times.refresh_s)
        if state == "missing":
            return KeyStatus(self.path, "missing", error=error)
        if state != "value" or self.lease is None:
            return KeyStatus(self.path, "failed", error=error)
        age_s = now - self.read_at
        shown: Literal["fresh", "stale"] = "fresh" if age_s <= times.refresh_s else "stale"
        return KeyStatus(self.path, shown, self.lease.version, self.lease.fingerprint, age_s, error)
