"""The budget that keeps storms of retries down. The clock is passed in."""

from __future__ import annotations

from collections.abc import Callable

from tollhouse.dispatch.window import Window


class RetryBudget:
    """How many retries the calls to a provider may make together: a tenth of its calls of the last
    10 s, and at least 1 a second. A worker of several has its part of the latter, and at least one
    in 10 s.

    So a provider that fails every call gets at most 1.1 times the load, and not 3 times.
    """

    __slots__ = ("_least", "_share", "_window")

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        share: float = 0.1,
        a_second: float = 1.0,
        window_s: float = 10.0,
    ) -> None:
        self._window = Window(window_s, clock)
        self._share = share
        self._least = max(1.0, a_second * window_s)

    def call(self) -> None:
        """A call was begun."""
        self._window.add(first=1)

    def take(self) -> bool:
        """Whether one more retry may be made. If so, it is counted."""
        self._window.forget()
        if self._window.second + 1 > max(self._share * self._window.first, self._least):
            return False
        self._window.add(second=1)
        return True
