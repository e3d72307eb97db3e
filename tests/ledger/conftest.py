"""The ledger on each of its stores, embedded, a real redis-server and a real Cluster, with a clock that a test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis
from tests.ledger.clock import RedisClock

from tollhouse.ledger.ledger import Ledger
from tollhouse.ledger.store.client import connect


@pytest.fixture(params=["embedded", "redis_url", "cluster_url"])
async def redis(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Redis]:
    """An empty store, of each kind in turn."""
    url = "embedded" if request.param == "embedded" else request.getfixturevalue(request.param)
    if request.param == "redis_url":
        # A machine with more to do than time for it may take longer than a gateway waits.
        url += "?socket_timeout=60&socket_connect_timeout=60"
    client = connect(url, tmp_path)
    yield client
    await client.aclose()


@pytest.fixture
async def clock(redis: Redis) -> RedisClock:
    """The time that the scripts see, Sunday 2026-08-30 12:00:00 UTC at first."""
    clock = RedisClock(redis)
    await clock.set(RedisClock.START)
    return clock


@pytest.fixture
async def new_ledger(redis: Redis, clock: RedisClock) -> AsyncIterator[Callable[[], Ledger]]:
    """Makes gateways' ledgers on the same store."""
    made: list[Ledger] = []

    def make() -> Ledger:
        made.append(Ledger(redis, clock=RedisClock.LUA))
        return made[-1]

    yield make
    for ledger in made:
        await ledger.close()


@pytest.fixture
def ledger(new_ledger: Callable[[], Ledger]) -> Ledger:
    return new_ledger()
