"""An operator's addon for the bench alone: what holds up a worker's event loop. `bench.timeline` has a gateway load it.

It has no hook of a call, so that no call has a flow and none costs more. ``done`` writes what was seen to the file that
``BENCH_WATCH`` names: moments by `time.perf_counter`, which Linux counts alike in all processes.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import time
from collections import deque
from pathlib import Path
from typing import Any

TICK_S = 0.002
LATE_S = 0.002
"""A tick that is as late as this is a stall."""
MOST = 100_000


class Ticker:
    """Of one event loop: the times in which it did not turn."""

    def __init__(self) -> None:
        self.stalls: deque[tuple[float, float]] = deque(maxlen=MOST)
        """Begin and end."""
        self._loop = asyncio.get_running_loop()
        self._due = 0.0
        self._next: asyncio.TimerHandle | None = None
        self._again()

    def _again(self) -> None:
        self._due = time.perf_counter() + TICK_S
        self._next = self._loop.call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        now = time.perf_counter()
        if now - self._due >= LATE_S:
            self.stalls.append((self._due, now))
        self._again()

    def stop(self) -> None:
        if self._next is not None:
            self._next.cancel()


class Watch:
    """A class of mitmproxy's: its public methods are hooks."""

    def __init__(self) -> None:
        self._collections: deque[tuple[float, float, int]] = deque(maxlen=MOST)
        """Begin, end, generation."""
        self._began = 0.0
        self._ticker: Ticker | None = None

    def running(self) -> None:
        gc.callbacks.append(self._collected)
        self._ticker = Ticker()

    def _collected(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        else:
            self._collections.append((self._began, time.perf_counter(), info["generation"]))

    def done(self) -> None:
        assert self._ticker is not None
        self._ticker.stop()
        gc.callbacks.remove(self._collected)
        found = {"collections": list(self._collections), "stalls": list(self._ticker.stalls)}
        Path(os.environ["BENCH_WATCH"]).write_text(json.dumps(found))
