"""`asyncio.timeout` for a block that many tasks enter with the same limit: all of them share one timer of the loop.

A call enters several such blocks, and nearly none of them ends by its limit. With a timer for each a block takes three times
as long.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final

_EARLY_S: Final = 0.001
"""uvloop tells the time in milliseconds."""


class TimeLimit:
    """``async with limit.block():`` is ``async with asyncio.timeout(seconds):``. ``seconds`` None is no limit. For one loop at a
    time."""

    __slots__ = ("_loop", "_open", "seconds")

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._open: dict[_Block, None] = {}
        """The blocks that tasks are in. All last equally long, so they end in this order."""
        self._loop: asyncio.AbstractEventLoop | None = None
        """The one that has a timer for the first of them, or for one before it."""

    def block(self) -> _Block:
        """It is entered once, and raises TimeoutError."""
        return _Block(self)

    def enter(self, block: _Block) -> None:
        """``block`` is open from now on."""
        if self.seconds is None:
            return
        loop = asyncio.get_running_loop()
        block.ends_at = loop.time() + self.seconds
        if self._loop is not loop:
            self._open.clear()
            self._loop = loop
            loop.call_at(block.ends_at, self._end_overdue, loop)
        self._open[block] = None

    def leave(self, block: _Block) -> None:
        """``block`` is open no more."""
        self._open.pop(block, None)

    def _end_overdue(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not loop:
            return
        now = loop.time() + _EARLY_S
        while self._open:
            block = next(iter(self._open))
            if block.ends_at > now:
                loop.call_at(block.ends_at, self._end_overdue, loop)
                return
            del self._open[block]
            block.end()
        self._loop = None


class _Block:
    """What `asyncio.Timeout` is."""

    __slots__ = ("_cancelling", "_limit", "_over", "_task", "ends_at")

    def __init__(self, limit: TimeLimit) -> None:
        self._limit = limit
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._over = False
        self.ends_at = 0.0

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a time limit is for tasks")
        self._task, self._cancelling = task, task.cancelling()
        self._limit.enter(self)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._limit.leave(self)
        task, self._task = self._task, None
        if self._over and task is not None:
            mine = task.uncancel() <= self._cancelling
            if mine and kind is not None and issubclass(kind, asyncio.CancelledError):
                raise TimeoutError from error

    def end(self) -> None:
        """The time is over."""
        self._over = True
        if self._task is not None:
            self._task.cancel()
