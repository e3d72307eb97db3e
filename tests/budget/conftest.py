"""The ledger on both of its stores, embedded and a real redis-server, with a clock that a test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis
from tests.budget.clock import Clock

from tollhouse.budget.ledger import Ledger
from tollhouse.budget.store import connect


@pytest.fixture(params=["embedded", "redis"])
async def redis(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Redis]:
    """An empty store, of each kind in turn."""
    url = "embedded" if request.param == "embedded" else request.getfixturevalue("redis_url")
    client = connect(url, tmp_path)
    yield client
    await client.aclose()


@pytest.fixture
async def clock(redis: Redis) -> Clock:
    """The time that the scripts see, Sunday 2026-08-30 12:00:00 UTC at first."""
    clock = Clock(redis)
    await clock.set(Clock.START)
    return clock


@pytest.fixture
async def new_ledger(redis: Redis, clock: Clock) -> AsyncIterator[Callable[[], Ledger]]:
    """Makes gateways' ledgers on the same store."""
    made: list[Ledger] = []

    def make() -> Ledger:
        made.append(Ledger(redis, clock=Clock.LUA))
        return made[-1]

    yield make
    for ledger in made:
        await ledger.close()


@pytest.fixture
def ledger(new_ledger: Callable[[], Ledger]) -> Ledger:
    return new_ledger()
