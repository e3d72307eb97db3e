"""The outbox on each of the ledger's stores."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis
from tests.ledger.clock import RedisClock
from tests.ledger.conftest import ledger, new_ledger, redis

from tollhouse.alerts.outbox import Outbox
from tollhouse.ledger.ledger import Ledger

__all__ = ["clock", "ledger", "new_ledger", "outbox", "redis"]


class WholeClock(RedisClock):
    """Of what belongs to no tenant, too."""

    TENANTS = (*RedisClock.TENANTS, "directory")


@pytest.fixture
async def clock(redis: Redis) -> RedisClock:
    """The time that the scripts see."""
    clock = WholeClock(redis)
    await clock.set(RedisClock.START)
    return clock


@pytest.fixture
def outbox(redis: Redis, ledger: Ledger) -> Outbox:
    return Outbox(redis, ledger.run_script)
