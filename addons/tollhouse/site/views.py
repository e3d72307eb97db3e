"""What the page shows, computed once for all who look at the same: reading it costs Redis and the loop, and anybody with a token
may ask for it without end."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from tollhouse.site.access import Viewer

Perform = Callable[[str, Mapping[str, Any]], Awaitable[Any]]

MOST: Final = 200
"""Views that are kept; the one asked for longest ago goes for a new one."""
AT_ONCE: Final = 2
"""Views that are computed at the same time."""
_REST: Final = 10.0
"""A view is kept for so many times what it took, so that one that is dear is computed seldom."""


class Views:
    """``perform`` does an operation, and ``every_s`` is how old a view may be. ``clock`` is monotonic."""

    def __init__(
        self, perform: Perform, every_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._perform = perform
        self._every_s = every_s
        self._clock = clock
        self._kept: OrderedDict[tuple[str, int], tuple[asyncio.Future[Any], float]] = OrderedDict()
        """Viewer and days -> the view, which may be on its way, and until when it is good."""
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def of(self, viewer: Viewer, days: int) -> Any:
        """The operation ``overview``. Raises what ``perform`` raises; that is not kept."""
        sees = f"{viewer['tenant']} {viewer['projects']}"
        key = sees, days
        kept = self._kept.get(key)
        if kept is None or (kept[0].done() and kept[1] <= self._clock()):
            made = asyncio.ensure_future(self._compute(key, viewer, days))
            self._kept[key] = kept = made, float("inf")
            while len(self._kept) > MOST:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        # A request that ends takes the view from no other.
        return await asyncio.shield(kept[0])

    async def _compute(self, key: tuple[str, int], viewer: Viewer, days: int) -> Any:
        good_until = float("-inf")
        try:
            async with self._turns:
                began = self._clock()
                found = await self._perform("overview", {"viewer": viewer, "days": days})
                took = self._clock() - began
            good_until = self._clock() + max(self._every_s, _REST * took)
            return found
        finally:
            if (mine := self._kept.get(key)) is not None:
                self._kept[key] = mine[0], good_until
