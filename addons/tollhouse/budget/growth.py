"""Streams without an output cap: a first slice is held, and more as the answer goes on.

How much an answer has used is not known before its end. The output seen is one bound. Where the
model and the request can reason, the seconds gone by times `TOKENS_PER_SECOND` are another: hidden
reasoning sends no bytes for minutes. The larger of the two is the need, and the hold is kept ahead
of the need. When the hold can't be kept ahead, the stream ends and is charged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from tollhouse.denial import Denial
from tollhouse.families.asked import Asked

SLICE_TOKENS: Final = 2_048
AHEAD_TOKENS: Final = 512
"""More is asked for when the hold is less than this ahead of the need."""
LEAST_TOKENS: Final = 16
"""When a full slice does not fit, a smaller one is taken. It has at least this many tokens."""
TOKENS_PER_SECOND: Final = 100.0
"""For each answer: about what OpenAI's reasoning models write a second
(https://artificialanalysis.ai/models, 2025: 50 to 150). A faster model is charged what it used all
the same. Only its hold is late."""
_ASK_AGAIN_S: Final = 1.0


class Interruptible(Protocol):
    """What ends a stream that waits for the provider."""

    def refuse(self, denial: Denial) -> None: ...


class Growth:
    """One stream's hold. ``held`` is the output that is held at first, in tokens. ``extend`` asks
    for so many tokens more; it gives how many were added, and the denial if they are fewer.
    ``clock`` is monotonic."""

    def __init__(
        self,
        asked: Asked,
        held: int,
        exchange: Interruptible,
        extend: Callable[[int], Awaitable[tuple[int, Denial | None]]],
        clock: Callable[[], float],
    ) -> None:
        self._a_second = TOKENS_PER_SECOND * asked.choices if asked.reasons else 0.0
        self._exchange = exchange
        self._extend = extend
        self._clock = clock
        self._began = clock()
        self._covered = held
        self._seen = 0
        self._ask_at = self._began
        self._denial: Denial | None = None
        self._asking = asyncio.Lock()

    def _need(self, now: float) -> int:
        return max(self._seen, int((now - self._began) * self._a_second))

    async def covers(self, seen: int) -> Denial | None:
        """The denial, if the budget does not cover what the answer has used by now; else None."""
        self._seen = max(self._seen, seen)
        now = self._clock()
        need = self._need(now)
        if need + AHEAD_TOKENS <= self._covered:
            return None
        async with self._asking:
            need = self._need(now)
            if need + AHEAD_TOKENS > self._covered and now >= self._ask_at:
                more, self._denial = await self._extend(need + SLICE_TOKENS - self._covered)
                self._covered += more
                if self._denial is not None:
                    self._ask_at = now + _ASK_AGAIN_S
            return None if need <= self._covered else self._denial

    async def tick(self) -> None:
        """Called once a second: ends a silent stream that the budget no longer covers."""
        denial = await self.covers(0)
        if denial is not None:
            self._exchange.refuse(denial)
