"""The budgets that keep storms of retries down: each tenant has its own at each provider, within what the provider gets of all.
The clock is passed in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tollhouse.dispatch.window import Window

_RATIO: Final = 0.1
_WINDOW_S: Final = 10.0
_TENANTS: Final = 4
"""A tenant gets a quarter of what a provider gets beyond the tenth of its calls. So the storms of three leave the others theirs."""


class RetryBudget:
    """How many retries one tenant's calls to a provider may make: a tenth of these calls of the last 10 s, and at least
    ``a_second``.

    The tenth is the tenant's own, whatever others do, and all tenths together are a tenth of the provider's calls. What goes
    beyond it comes out of ``beyond``, which the tenants share: ``second`` counts it. So a provider that fails every call gets at
    most 1.1 times the load of its calls and 4 times ``a_second``, and not 3 times the load.
    """

    __slots__ = ("_beyond", "_least", "_window")

    def __init__(
        self, clock: Callable[[], float], *, a_second: float = 1.0, beyond: Window | None = None
    ) -> None:
        """A worker of several has its part of ``a_second``, and at least one retry in 10 s. ``beyond`` is
        `beyond_the_tenth` of the provider; without it there is no other tenant."""
        self._window = Window(_WINDOW_S, clock)
        self._beyond = beyond_the_tenth(clock) if beyond is None else beyond
        self._least = max(1.0, a_second * _WINDOW_S)

    def call(self) -> None:
        """A call was begun."""
        self._window.add(first=1)

    def take(self) -> bool:
        """Whether one more retry may be made. If so, it is counted."""
        window, beyond = self._window, self._beyond
        window.forget()
        wanted = window.second + 1
        if wanted > _RATIO * window.first:
            beyond.forget()
            if wanted > self._least or beyond.second + 1 > _TENANTS * self._least:
                return False
            beyond.add(second=1)
        window.add(second=1)
        return True


def beyond_the_tenth(clock: Callable[[], float]) -> Window:
    """What the tenants of one provider share."""
    return Window(_WINDOW_S, clock)
