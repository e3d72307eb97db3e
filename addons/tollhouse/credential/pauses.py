"""Keys that are left alone for a while because their provider asks for it, and the choice of the
next key. The clock is passed in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from tollhouse.credential.lease import Lease

Why = Literal["rate", "money", "refused"]

_SECONDS: Final[dict[Why, float]] = {"rate": 5.0, "money": 300.0, "refused": 60.0}
"""The length of a pause if the provider does not say one. An account may be topped up at any time,
and a key may become valid again."""
_LONGEST_S: Final = 3600.0
"""A header of a provider can't make a pause longer than this."""
_MANY: Final = 1000


@dataclass(frozen=True, slots=True)
class Pause:
    until: float
    """On the clock of `Pauses`."""
    why: Why


class Pauses:
    """The pauses by `Secret.digest`: a key has its limits wherever in the store it stands."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._pauses: dict[str, Pause] = {}

    def __len__(self) -> int:
        """How many are remembered, those that are over included."""
        return len(self._pauses)

    def add(self, digest: str, why: Why, seconds: float | None = None) -> None:
        """Leaves this key alone for ``seconds``, or for the usual time if None. If a pause that
        ends later is in force, that one stays."""
        now = self._clock()
        until = now + min(_SECONDS[why] if seconds is None else seconds, _LONGEST_S)
        if len(self._pauses) >= _MANY:
            self._pauses = {key: pause for key, pause in self._pauses.items() if pause.until > now}
        known = self._pauses.get(digest)
        if known is None or known.until < until:
            self._pauses[digest] = Pause(until, why)

    def of(self, digest: str) -> Pause | None:
        """The pause of a key. None when the key is free."""
        pause = self._pauses.get(digest)
        return pause if pause is not None and pause.until > self._clock() else None

    def first(self, leases: Sequence[Lease], turn: int) -> Lease:
        """The key to use. It is the first free key from number ``turn`` on, and behind the last
        comes the first. If no key is free, it is the one whose pause ends first. ``leases`` is not
        empty."""
        if len(leases) == 1 or not self._pauses:
            return leases[turn % len(leases)]
        around = [leases[(turn + step) % len(leases)] for step in range(len(leases))]
        return min(around, key=self._free_at)

    def free(self, leases: Sequence[Lease]) -> list[Lease]:
        """The leases whose keys are in no pause."""
        return [lease for lease in leases if self.of(lease.secret.digest) is None]

    def _free_at(self, lease: Lease) -> float:
        pause = self.of(lease.secret.digest)
        return 0.0 if pause is None else pause.until
