"""The one clock of the tests: seconds that pass when a test says so."""

from __future__ import annotations


class Clock:
    """Calling it gives the time. `sleep` takes no time of its own: it moves the clock and notes how long it was asked for."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
