"""The one clock of the tests: seconds that pass when a test says so, and the timers set by them."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable


class Clock:
    """Calling it gives the time. `sleep` takes no time of its own: it moves the clock and notes how long it was asked for."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now
        self.slept: list[float] = []
        self._order = itertools.count()
        self._timers: list[tuple[float, int, Callable[[], None], list[bool]]] = []

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Time goes on, and no timer is called."""
        self.now += seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        alive = [True]
        heapq.heappush(self._timers, (self.now + delay_s, next(self._order), callback, alive))
        return Timer(alive)

    async def pass_(self, seconds: float, *, wait: bool = True) -> None:
        """Let time pass, each timer called at its time and its read finished before the clock goes on."""
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end:
            at, _, callback, alive = heapq.heappop(self._timers)
            self.now = max(self.now, at)
            if alive[0]:
                callback()
                if wait:
                    await settle()
        self.now = end


class Timer:
    def __init__(self, alive: list[bool]) -> None:
        self._alive = alive

    def cancel(self) -> None:
        self._alive[0] = False


async def settle() -> None:
    """Wait for the reads under way and the login's tending."""
    me = asyncio.current_task()
    while others := [
        task
        for task in asyncio.all_tasks()
        if task is not me and task.get_name().startswith(("read ", "tend "))
    ]:
        await asyncio.wait(others, timeout=5)
