"""Failed logins are bounded, by source and together: each token that nobody knows is a question to Redis."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

BURST: Final = 20
"""Failures of one source at once; then one in `EACH_S`."""
EACH_S: Final = 6.0
BURST_OF_ALL: Final = 400
EACH_OF_ALL_S: Final = 0.3
SOURCES: Final = 4096


class LoginAttempts:
    """Buckets of failures that are left. ``clock`` is monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Source -> failures that were left at a moment, and the moment. One that is not there is full."""
        self._all = (float(BURST_OF_ALL), clock())

    def wait_s(self, source: str) -> float:
        """How long ``source`` has to wait before a login of it is judged. 0: not at all."""
        own = _wait(self._bucket(source), EACH_S)
        return max(own, _wait(self._left(self._all, BURST_OF_ALL, EACH_OF_ALL_S), EACH_OF_ALL_S))

    def failed(self, source: str) -> None:
        now = self._clock()
        self._buckets[source] = self._bucket(source) - 1, now
        self._buckets.move_to_end(source)
        if len(self._buckets) > SOURCES:
            self._buckets.popitem(last=False)
        self._all = self._left(self._all, BURST_OF_ALL, EACH_OF_ALL_S) - 1, now

    def _bucket(self, source: str) -> float:
        return self._left(self._buckets.get(source, (float(BURST), 0.0)), BURST, EACH_S)

    def _left(self, bucket: tuple[float, float], burst: int, each_s: float) -> float:
        left, since = bucket
        return min(float(burst), left + (self._clock() - since) / each_s)


def _wait(left: float, each_s: float) -> float:
    return max(0.0, (1 - left) * each_s)
