"""A store in memory, and a clock whose timers the test moves."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tollhouse.credential.lease import RawSecret


@dataclass
class MemoryStore:
    """A `Reader`. ``fail`` is raised by every read of a path in it; a read waits while ``gate`` is closed."""

    secrets: dict[str, tuple[object, str]] = field(default_factory=dict)
    fail: dict[str, Exception] = field(default_factory=dict)
    gate: threading.Event = field(default_factory=threading.Event)
    reading: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    reads: Counter[str] = field(default_factory=Counter)
    tends: int = 0
    trouble: str = ""
    notice: str = ""
    closed: bool = False

    def __post_init__(self) -> None:
        self.gate.set()

    def connect(self) -> None:
        if "" in self.fail:
            raise self.fail[""]

    def read(self, path: str) -> RawSecret | None:
        self.reads[path] += 1
        found = self.secrets.get(path)
        self.reading.release()
        assert self.gate.wait(5)
        if path in self.fail:
            # A new one each time, as a store makes it: one that was raised holds the frames of its reader.
            raise type(self.fail[path])(*self.fail[path].args)
        return RawSecret({"api_key": found[0]}, found[1]) if found else None

    def tend(self) -> float | None:
        self.tends += 1
        return 30.0

    def left_s(self) -> float | None:
        return None

    def close(self) -> None:
        self.closed = True


class Clock:
    """Monotonic seconds and the timers set by them."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._order = itertools.count()
        self._timers: list[tuple[float, int, Callable[[], None], list[bool]]] = []

    def __call__(self) -> float:
        return self.now

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
        task for task in asyncio.all_tasks() if task is not me and task.get_name().startswith(("read ", "tend "))
    ]:
        await asyncio.wait(others, timeout=5)
