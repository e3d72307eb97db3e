"""A clock in Redis that tests move; the scripts read it instead of ``TIME``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import ClassVar

from redis.asyncio import Redis


class RedisClock:
    """For the scripts of `TENANTS`. On a Cluster a script reads what its tenant's slot has, so each has one."""

    TENANTS: ClassVar = ("acme", "other")
    LUA: ClassVar = "{redis.call('GET', 'test:' .. string.match(KEYS[1], '{.+}')), '0'}"
    START: ClassVar = datetime(2026, 8, 30, 12, tzinfo=UTC).timestamp()

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.now = self.START

    async def set(self, now: float) -> None:
        self.now = now
        for tenant in self.TENANTS:
            await self._redis.set(f"test:{{{tenant}}}", f"{now:.3f}")

    async def add(self, seconds: float) -> None:
        await self.set(self.now + seconds)
