"""When a worker that died is started again. Pure."""

from __future__ import annotations

from collections import deque
from typing import Final

FIRST_S: Final = 0.5
LONGEST_S: Final = 30.0
FORGOTTEN_S: Final = 60.0
"""A worker that lived so long died of something new."""
LOOP: Final = 5
"""Deaths within `FORGOTTEN_S` that are told to probes and people."""


class Restarts:
    """Of one place. The first death is followed by a start at once; then the wait doubles from `FIRST_S` to `LONGEST_S`."""

    def __init__(self) -> None:
        self.count = 0
        """Deaths since the start of the gateway."""
        self._wait_s = 0.0
        self._deaths: deque[float] = deque(maxlen=LOOP)

    def died(self, now: float, lived_s: float) -> float:
        """When the next one may begin, in the seconds of ``now``."""
        self.count += 1
        self._deaths.append(now)
        if lived_s >= FORGOTTEN_S:
            self._wait_s = 0.0
        wait_s, self._wait_s = (
            self._wait_s,
            min(max(FIRST_S, 2 * self._wait_s), LONGEST_S),
        )
        return now + wait_s

    def looping(self, now: float) -> bool:
        """Whether the last `LOOP` deaths came within `FORGOTTEN_S`."""
        return len(self._deaths) == LOOP and now - self._deaths[0] < FORGOTTEN_S
