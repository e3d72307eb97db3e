"""Counts over the last seconds, for the breaker's failure ratio. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

_SLICES: Final = 10


class Window:
    """Two counts of the last ``seconds``. They are kept in ten slices, and the oldest slice is
    dropped whole.

    ``clock`` gives seconds that never go back.
    """

    __slots__ = ("_clock", "_slice_s", "_slices", "first", "second")

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._slice_s = seconds / _SLICES
        self._slices: deque[list[int]] = deque()
        self.first = 0
        self.second = 0

    def add(self, first: int = 0, second: int = 0) -> None:
        now = self.forget()
        if not self._slices or self._slices[-1][0] != now:
            self._slices.append([now, 0, 0])
        self._slices[-1][1] += first
        self._slices[-1][2] += second
        self.first += first
        self.second += second

    def forget(self) -> int:
        """Drops the slices that are too old. Gives the number of the current slice."""
        now = int(self._clock() / self._slice_s)
        while self._slices and self._slices[0][0] <= now - _SLICES:
            _, first, second = self._slices.popleft()
            self.first -= first
            self.second -= second
        return now

    def clear(self) -> None:
        self._slices.clear()
        self.first = self.second = 0
