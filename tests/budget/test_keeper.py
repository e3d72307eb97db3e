"""What is done once a second, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from tests.budget.priced import under_way
from tests.ledger.clock import RedisClock

from tollhouse.budget.keeper import LOOK_EVERY_S, SWEEP_EVERY_S, Keeper
from tollhouse.budget.purse import Purse
from tollhouse.budget.renewal import RENEW_EVERY_S
from tollhouse.call import Amount
from tollhouse.ledger.ledger import Ledger, Scope
from tollhouse.ledger.limits import parse_limits
from tollhouse.ledger.spool import Spool, SpoolRecord
from tollhouse.ledger.store.client import connect

SCOPES = (Scope("project", "acme", "proj_123"),)
AWAY = "redis://127.0.0.1:1/0"


class World:
    """One gateway that keeps, another that dies."""

    def __init__(
        self, ledger: Ledger, other: Ledger, spool: Spool, clock: RedisClock, redis: Redis
    ) -> None:
        self.ledger, self.other, self.clock = ledger, other, clock
        self.spool = spool
        self.redis = redis
        self.tenants: list[str] = []
        self.asked = 0
        prices: Any = None
        self.purse = Purse(ledger, prices, spool)
        self.keeper = Keeper(ledger, self.purse, self._tenants, lambda: clock.now)

    async def _tenants(self) -> list[str]:
        self.asked += 1
        return self.tenants

    async def held(self) -> int:
        [state] = await self.ledger.show(SCOPES)
        return state.limits[0].held

    async def turns(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            await self.clock.add(1)
            assert await self.keeper.turn() == []


@pytest.fixture
async def world(
    new_ledger: Callable[[], Ledger], clock: RedisClock, tmp_path: Path, redis: Redis
) -> AsyncIterator[World]:
    spool = Spool(tmp_path)
    world = World(new_ledger(), new_ledger(), spool, clock, redis)
    await world.other.set_limits(SCOPES[0], parse_limits(["10 usd/day"]))
    yield world
    await spool.close()


async def test_an_idle_gateway_sweeps_what_another_left(world: World) -> None:
    """It has never seen a call of this tenant; the directory names it."""
    world.tenants = ["acme"]
    await world.keeper.turn()
    await world.other.hold("c1", SCOPES, Amount(5))
    await world.turns(60)
    assert await world.held() == 5
    await world.turns(SWEEP_EVERY_S + 1)
    assert await world.held() == 0
    assert world.asked <= 2 + 60 / LOOK_EVERY_S


async def test_calls_under_way_are_renewed(world: World) -> None:
    """A call of five minutes keeps its hold; when it is forgotten, it ends by the sweep."""
    world.tenants = ["acme"]
    await world.ledger.hold("c1", SCOPES, Amount(5))
    world.purse.held["c1"] = under_way("c1")
    await world.turns(300)
    assert await world.held() == 5
    del world.purse.held["c1"]
    await world.turns(60 + RENEW_EVERY_S + SWEEP_EVERY_S)
    assert await world.held() == 0


async def test_the_spool_is_told_as_soon_as_redis_answers(world: World) -> None:
    """In the next turn."""
    await world.ledger.hold("c1", SCOPES, Amount(5))
    await world.spool.put(SpoolRecord("c1", SCOPES, Amount(3), {"call_id": "c1"}))
    await world.spool.put(SpoolRecord("c2", SCOPES, Amount(0, 0, 0), {}))
    await world.turns(1)
    [state] = await world.ledger.show(SCOPES)
    assert (state.limits[0].used, state.limits[0].held, world.spool.waiting) == (3, 0, 0)


async def test_what_waited_for_days_is_charged_where_redis_knows_the_call(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """A hold that outlasted Redis's own absence is settled; a call that Redis has forgotten is not charged twice, and a person is
    told; one that never had a hold can't have been charged."""
    began = world.clock.now
    await world.ledger.hold("c1", SCOPES, Amount(5))
    await world.ledger.settle("c2", SCOPES, Amount(7), record={"call_id": "c2"})
    await world.clock.add(2 * 86_400)
    for call_id, tried_at in (("c1", began), ("c2", began), ("c3", None)):
        ending = SpoolRecord(
            call_id,
            SCOPES,
            Amount(3),
            {"call_id": call_id, "cost_usd": "0.000000003"},
            tried_at=tried_at,
        )
        await world.spool.put(ending)
    await world.purse.retry()
    records = [fields[b"call_id"] for _, fields in await world.redis.xrange("toll:{acme}:calls")]
    assert (records, world.spool.waiting) == ([b"c2", b"c1", b"c3"], 0)
    assert "call c2 is not charged now" in caplog.text
    assert "0.000000003 USD" in caplog.text


async def test_redis_away_is_a_reason_and_nothing_is_lost(tmp_path: Path) -> None:
    """The turn says why; what is spooled stays there."""
    store: Redis = connect(AWAY, tmp_path)
    ledger, spool = Ledger(store), Spool(tmp_path)
    await spool.put(SpoolRecord("c1", SCOPES, Amount(3), {}))
    prices: Any = None
    purse = Purse(ledger, prices, spool)
    purse.held["c2"] = under_way("c2")

    async def tenants() -> list[str]:
        return ["acme"]

    times = iter(range(0, 1000, 100))
    keeper = Keeper(ledger, purse, tenants, lambda: next(times))
    [problem] = await keeper.turn()
    assert problem.startswith("redis: ConnectionError: ")
    assert spool.waiting == 1
    await spool.close()
    await ledger.close()
