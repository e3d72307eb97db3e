"""What is shown is computed once for all who look at the same, and seldom if it is dear."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from tollhouse.site.views import AT_ONCE, MOST, Views

VIEWER = {"id": "tok_1", "label": "", "tenant": "acme", "projects": None}


class Store:
    """Answers an operation when it is let, and counts them. ``took`` is what one takes by the clock."""

    def __init__(self) -> None:
        self.now, self.took = 0.0, 0.0
        self.asked = self.under_way = self.most = 0
        self.go = asyncio.Event()
        self.go.set()

    async def perform(self, name: str, arguments: Mapping[str, Any]) -> int:
        assert name == "overview"
        self.asked += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await self.go.wait()
        self.now += self.took
        self.under_way -= 1
        if self.took < 0:
            raise RuntimeError("the store is away")
        return self.asked

    def clock(self) -> float:
        return self.now


async def test_one_for_all() -> None:
    """Those who ask at the same time, by whatever token, wait for one; it is kept for its time."""
    store = Store()
    views = Views(store.perform, 2.0, store.clock)
    store.go.clear()
    asked = [asyncio.ensure_future(views.of({**VIEWER, "id": f"tok_{n}"}, 30)) for n in range(50)]
    gone = asyncio.ensure_future(views.of(VIEWER, 30))
    await asyncio.sleep(0)
    gone.cancel()
    store.go.set()
    assert set(await asyncio.gather(*asked)) == {1}
    store.now += 1.9
    assert await views.of(VIEWER, 30) == 1
    assert await views.of(VIEWER, 7) == 2
    store.now += 0.2
    assert await views.of(VIEWER, 30) == 3


async def test_what_is_dear_is_computed_seldom() -> None:
    store = Store()
    store.took = 3.0
    views = Views(store.perform, 2.0, store.clock)
    assert await views.of(VIEWER, 30) == 1
    store.now += 29
    assert await views.of(VIEWER, 30) == 1
    store.now += 2
    assert await views.of(VIEWER, 30) == 2


async def test_few_at_once() -> None:
    """Many who look at different things wait for each other, and no more than so many views are kept."""
    store = Store()
    views = Views(store.perform, 1e9, store.clock)
    each = [{**VIEWER, "tenant": f"t{n}"} for n in range(MOST + 10)]
    await asyncio.gather(*(views.of(viewer, 30) for viewer in each))
    assert store.most <= AT_ONCE
    before = store.asked
    await views.of(each[-1], 30)
    assert store.asked == before
    await views.of(each[0], 30)
    assert store.asked == before + 1


async def test_a_fault_is_not_kept() -> None:
    store = Store()
    store.took = -1.0
    views = Views(store.perform, 2.0, store.clock)
    with pytest.raises(RuntimeError):
        await views.of(VIEWER, 30)
    store.took = 0.0
    assert await views.of(VIEWER, 30) == 2
