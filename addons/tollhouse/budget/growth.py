"""Streams without an output cap: a first slice is held, and more as the answer goes on.

What an answer has used by now is not known before its end. It is taken to be the output seen. Where the model and the request
can reason it is the time gone by times a bound of tokens a second, if that is more: hidden reasoning sends no bytes for
minutes. The hold is kept ahead of that. When it can't be, the stream ends, and what was seen is paid.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from tollhouse.denial import Denial
from tollhouse.families.base import Asked

SLICE_TOKENS: Final = 2_048
AHEAD_TOKENS: Final = 512
"""More is asked for when the hold is no further ahead than this."""
LEAST_TOKENS: Final = 16
"""What is left below a full slice is still taken, down to this."""
TOKENS_PER_SECOND: Final = 100.0
"""For each answer: what OpenAI's reasoning models write a second, thereabouts (https://artificialanalysis.ai/models, 2025:
50 to 150). A faster one is charged what it used all the same; only the hold is late."""
_ASK_AGAIN_S: Final = 1.0


class Interruptible(Protocol):
    """What ends a stream that waits for the provider."""

    def refuse(self, denial: Denial) -> None: ...


class Growth:
    """One stream's hold. ``extend`` asks for so many tokens more and gives how many there are now, with the reason if they
    are fewer; ``clock`` is monotonic. ``held`` is what is held of output at first, in tokens."""

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
        """Why the budget does not cover what the answer has used by now, None if it does."""
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
        """Once a second: ends a silent stream that the budget does not cover any more."""
        denial = await self.covers(0)
        if denial is not None:
            self._exchange.refuse(denial)
