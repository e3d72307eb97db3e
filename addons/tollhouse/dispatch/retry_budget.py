"""The budget that keeps a storm of retries down: each provider has one, which its tenants share. The clock is passed in."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

_OF_CALLS: Final = 10
"""A retry for so many calls."""
_WINDOW_S: Final = 10
_MOST_TENANTS: Final = 4096
"""Those beyond, within one window, share one part."""


class ProviderRetries:
    """How many retries the calls to one provider may make: a tenth of its calls of the last 10 s, and at least ``a_second``.

    The tenth of a tenant's own calls is always that tenant's. What the tenths leave of the bound is shared equally by the tenants
    that have called within the 10 s. A retry of that kind is made only if all retries, and all tenths that are not used yet, stay
    within the bound. The window goes on by whole seconds.
    """

    __slots__ = (
        "_callers",
        "_calls",
        "_clock",
        "_least",
        "_now",
        "_seconds",
        "_set_apart",
        "_tenants",
        "_tenths",
    )

    def __init__(self, clock: Callable[[], float], *, a_second: float = 1.0) -> None:
        """``clock`` gives seconds that never go back. A worker of several has its part of ``a_second``, and at least one retry
        in 10 s."""
        self._clock = clock
        self._least = max(1, int(a_second * _WINDOW_S))
        self._seconds: deque[tuple[int, dict[str, _Count]]] = deque()
        self._now = -1
        self._tenants: dict[str, _Count] = {}
        self._calls = 0
        self._callers = 0
        """Tenants with a call in the window."""
        self._tenths = 0
        """Retries that the tenants' own calls give."""
        self._set_apart = 0
        """Of each tenant its tenth, or its retries where they are more."""

    def of(self, tenant: str) -> RetryBudget:
        return RetryBudget(self, tenant)

    def call(self, tenant: str) -> None:
        """A call was begun."""
        self._go_on()
        self._count(tenant, calls=1)

    def take(self, tenant: str) -> bool:
        """Whether one more retry may be made. If so, it is counted."""
        self._go_on()
        count = self._tenants.get(self._name(tenant))
        beyond = 0 if count is None else count.beyond
        if beyond >= 0 and not self._has_room(beyond):
            return False
        self._count(tenant, retries=1)
        return True

    def _has_room(self, beyond: int) -> bool:
        """For one more retry of a tenant that has made ``beyond`` beyond its tenth."""
        bound = max(self._calls // _OF_CALLS, self._least)
        if self._set_apart >= bound:
            return False
        free = bound - self._tenths
        share = free // (self._callers or 1)
        if beyond != share or not share:
            return beyond <= share
        # What is left over by equal shares is for whoever comes first. The tenants are no more than what is free.
        kept = (max(one.beyond, share if one.calls else 0) for one in self._tenants.values())
        return sum(kept) < free

    def _go_on(self) -> None:
        now = int(self._clock())
        if now == self._now:
            return
        self._now = now
        if self._seconds and self._seconds[-1][0] <= now - _WINDOW_S:
            # All of it has passed. With thousands of tenants, second by second would take the loop for long.
            self._seconds.clear()
            self._tenants.clear()
            self._calls = self._callers = self._tenths = self._set_apart = 0
        while self._seconds and self._seconds[0][0] <= now - _WINDOW_S:
            for tenant, past in self._seconds.popleft()[1].items():
                self._add(tenant, -past.calls, -past.retries)
        self._seconds.append((now, {}))

    def _count(self, tenant: str, calls: int = 0, retries: int = 0) -> None:
        tenant = self._name(tenant)
        second = self._seconds[-1][1]
        count = second.get(tenant)
        if count is None:
            count = second[tenant] = _Count()
        count.calls += calls
        count.retries += retries
        self._add(tenant, calls, retries)

    def _name(self, tenant: str) -> str:
        """Under which it is counted."""
        full = len(self._tenants) >= _MOST_TENANTS
        return "" if full and tenant not in self._tenants else tenant

    def _add(self, tenant: str, calls: int, retries: int) -> None:
        count = self._tenants.get(tenant)
        if count is None:
            count = self._tenants[tenant] = _Count()
        before, made = count.calls, count.retries
        count.calls = after = before + calls
        count.retries = made + retries
        self._calls += calls
        if not before or not after:
            self._callers += (after > 0) - (before > 0)
        if retries or before // _OF_CALLS != after // _OF_CALLS:
            tenth = before // _OF_CALLS
            self._tenths += count.tenth - tenth
            self._set_apart += max(count.tenth, count.retries) - max(tenth, made)
        if not count.calls and not count.retries:
            del self._tenants[tenant]


class _Count:
    """Calls and retries of one tenant. They are counted on."""

    __slots__ = ("calls", "retries")

    def __init__(self) -> None:
        self.calls = self.retries = 0

    @property
    def tenth(self) -> int:
        return self.calls // _OF_CALLS

    @property
    def beyond(self) -> int:
        """Retries beyond its tenth; below 0 where the tenth is not used up."""
        return self.retries - self.tenth


class RetryBudget:
    """One tenant's part of `ProviderRetries`."""

    __slots__ = ("_all", "_tenant")

    def __init__(self, all_retries: ProviderRetries, tenant: str) -> None:
        self._all = all_retries
        self._tenant = tenant

    def call(self) -> None:
        """A call was begun."""
        self._all.call(self._tenant)

    def take(self) -> bool:
        """Whether one more retry may be made. If so, it is counted."""
        return self._all.take(self._tenant)
