"""One path of the store as an operator may see it, and what the cache notes of it beside its keys. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from tollhouse.credential.lease import CredentialUnavailable, Lease
from tollhouse.credential.pauses import Pauses
from tollhouse.refreshed import Seen

RETRY_S: Final = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Before the next try in the background while nobody answers, by the number of failures in a row."""
NEGATIVE_S: Final = (5.0, 10.0, 15.0, 20.0, 25.0, 30.0)
"""How long a refusal is remembered, the same way; the first, how long a secret that is at no path."""

Shown = Literal["fresh", "stale", "missing", "failed"]
"""Of what is known of a path; ``failed`` is a path of which nothing may be said."""
OUTCOMES: Final = ("value", "missing", "away", "refused", "malformed")
"""How a read may end: what is there, or why nobody knows, or why what is there is no key."""

Leases = tuple[Lease, ...]
"""One a key of a secret, in its order; never empty."""


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
    """Why the last read told nothing; empty when it told something."""
    provider: str = ""
    reads: Mapping[str, int] = field(default_factory=dict)
    """How many reads ended so, by `OUTCOMES`."""
    error_age_s: float | None = None
    """Since the last read that told nothing; None when there was none."""
    versions_refused: int = 0
    """How many versions of the secret were no key that could be used, each counted once."""


@dataclass(slots=True, eq=False)
class PathNotes:
    """What `KeyCache`, which alone changes it, notes of one path."""

    provider: str = ""
    """Whose key it is."""
    turn: int = 0
    """Which of several keys is next."""
    reads: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    failed_at: float | None = None
    """When the last read that told nothing ended, however many succeeded since."""
    asked_again: dict[str, float] = field(default_factory=dict)
    """By fingerprint, until when a key that was refused is not read again for that."""
    malformed: tuple[str, str] | None = None
    """The version that was refused last, and why; None once another one could be used."""
    versions_refused: int = 0


def among(lease: Lease, leases: Leases) -> bool:
    """Whether the key of ``lease`` is one of ``leases``."""
    return any(known.secret == lease.secret for known in leases)


def told_of(leases: Leases) -> str:
    return (
        f"version {leases[0].version}, key {', '.join(lease.fingerprint for lease in leases)}" if leases else "missing"
    )


def shown(seen: Seen[Leases], now: float) -> Shown:
    if not seen.serves or seen.kept is None:
        return "failed"
    if seen.kept.value is None:
        return "missing"
    return "fresh" if now < seen.kept.ends_at else "stale"


def status(path: str, notes: PathNotes, seen: Seen[Leases], now: float, pauses: Pauses) -> KeyStatus:
    leases = seen.kept.value if seen.kept is not None and seen.serves else None
    keys = []
    for lease in leases or ():
        pause = pauses.of(lease.secret.digest)
        keys.append(KeyState(lease.fingerprint, pause.why, pause.until - now) if pause else KeyState(lease.fingerprint))
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
    )
