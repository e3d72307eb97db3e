"""A clock in Redis that tests move; the scripts read it instead of ``TIME``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import ClassVar

from redis.asyncio import Redis


class Clock:
    LUA: ClassVar = "{redis.call('GET', 'test:clock'), '0'}"
    START: ClassVar = datetime(2026, 8, 30, 12, tzinfo=UTC).timestamp()

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.now = self.START

    async def set(self, now: float) -> None:
        self.now = now
        await self._redis.set("test:clock", f"{now:.3f}")

    async def add(self, seconds: float) -> None:
        await self.set(self.now + seconds)
