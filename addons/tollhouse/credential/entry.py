"""One path of the store: as an operator may see it, and the notes that the cache keeps beside its
keys. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from tollhouse.credential.lease import CredentialUnavailable, Lease
from tollhouse.credential.pauses import Pauses
from tollhouse.refreshed import Seen

RETRY_S: Final = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds before the next try in the background while the store does not answer, by the number of
failures in a row."""
NEGATIVE_S: Final = (5.0, 10.0, 15.0, 20.0, 25.0, 30.0)
"""Seconds for which a refusal is remembered, by the number of refusals in a row. A secret that is
at no path is remembered as missing for the first of them."""

Shown = Literal["fresh", "stale", "missing", "failed"]
"""The state of a path. ``failed``: it could not be read, and no earlier value may serve."""
OUTCOMES: Final = ("value", "missing", "away", "refused", "malformed")
"""How a read may end. ``value`` and ``missing``: the store has answered. ``away`` and ``refused``:
nobody knows what is there. ``malformed``: what is there is no key."""

Leases = tuple[Lease, ...]
"""A lease for each key of a secret, in the secret's order. Never empty."""


@dataclass(frozen=True, slots=True)
class KeyState:
    """One key as an operator may see it. ``paused`` says why it is left alone; ``paused_s`` is how
    much longer."""

    fingerprint: str
    paused: Literal["", "rate", "money", "refused"] = ""
    paused_s: float = 0.0


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """A path as an operator may see it. ``age_s`` counts from the read that gave the value; None
    without a value."""

    path: str
    state: Shown
    version: str = ""
    keys: tuple[KeyState, ...] = ()
    age_s: float | None = None
    error: str = ""
    """Why the last read failed. Empty if it did not."""
    provider: str = ""
    reads: Mapping[str, int] = field(default_factory=dict)
    """The number of reads by how they ended (`OUTCOMES`)."""
    error_age_s: float | None = None
    """Seconds since the last read that failed. None if none has failed."""
    method: str = ""
    """How it is got, if it is not read from the store."""
    subject: str = ""
    expires_s: float | None = None
    refresh_s: float | None = None
    """Seconds until it is made anew, at the latest."""
    versions_refused: int = 0
    """How many versions of the secret were no usable key. Each version is counted once."""
    created: str = ""
    """When the store made the version in use, as in `RawSecret`."""


@dataclass(slots=True, eq=False)
class PathNotes:
    """The notes of `KeyCache` on one path. Only `KeyCache` changes them."""

    provider: str = ""
    """The provider whose key it is."""
    turn: int = 0
    """The number of the key that is used next."""
    reads: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    failed_at: float | None = None
    """When the last failed read ended. Later reads that succeed do not change it."""
    asked_again: dict[str, float] = field(default_factory=dict)
    """By fingerprint of a refused key: the time until which the path is not read again because of
    it."""
    malformed: tuple[str, str] | None = None
    """The version that was refused last, and why. None once another version could be used."""
    versions_refused: int = 0


def among(lease: Lease, leases: Leases) -> bool:
    """Whether the key of ``lease`` is one of ``leases``."""
    return any(known.secret == lease.secret for known in leases)


def told_of(leases: Leases) -> str:
    return (
        f"version {leases[0].version}, key {', '.join(lease.fingerprint for lease in leases)}"
        if leases
        else "missing"
    )


def shown(seen: Seen[Leases], now: float) -> Shown:
    if not seen.serves or seen.kept is None:
        return "failed"
    if seen.kept.value is None:
        return "missing"
    return "fresh" if now < seen.kept.ends_at else "stale"


def status(
    path: str, notes: PathNotes, seen: Seen[Leases], now: float, pauses: Pauses
) -> KeyStatus:
    leases = seen.kept.value if seen.kept is not None and seen.serves else None
    keys = []
    for lease in leases or ():
        pause = pauses.of(lease.secret.digest)
        keys.append(
            KeyState(lease.fingerprint, pause.why, pause.until - now)
            if pause
            else KeyState(lease.fingerprint)
        )
    return KeyStatus(
        path,
        shown(seen, now),
        version=leases[0].version if leases else "",
        keys=tuple(keys),
        age_s=now - seen.kept.at if leases and seen.kept is not None else None,
        error=seen.error.why if isinstance(seen.error, CredentialUnavailable) else "",
        provider=notes.provider,
        reads=dict(notes.reads),
        error_age_s=None if notes.failed_at is None else now - notes.failed_at,
        versions_refused=notes.versions_refused,
        created=leases[0].created if leases else "",
    )
