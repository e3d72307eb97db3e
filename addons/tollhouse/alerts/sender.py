"""Sends what is in the outbox, again and again until the receiver has it. Each receiver is sent to by itself, so that a dead one
holds up nobody.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Final, cast

from tenacity.wait import wait_exponential, wait_random

from tollhouse.alerts.outbox import CLAIM_S, Outbox, OutboxEntry
from tollhouse.alerts.receiver import BOUND_S, AlertAttempt, Receiver
from tollhouse.ledger.ledger import LedgerUnavailable

if TYPE_CHECKING:
    from tenacity import RetryCallState

log = logging.getLogger(__name__)

GIVEN_UP_S: Final = 24 * 3600.0
"""From the event to the last attempt."""
AT_ONCE: Final = 2
"""Attempts at one receiver."""
WAIT: Final = wait_exponential(multiplier=2, max=3600) + wait_random(0, 2)
"""Seconds behind an attempt that failed: 2, 4, 8 ... 2,048, 3,600, and a part of 2 more."""
_END_S: Final = 3.0


class AlertSender:
    """``wall_clock`` is seconds since the epoch. It belongs to one event loop."""

    def __init__(
        self,
        outbox: Outbox,
        receivers: Sequence[Receiver],
        *,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._outbox = outbox
        self._receivers = receivers
        self._wall_clock = wall_clock
        self._tasks: dict[str, set[asyncio.Task[None]]] = {one.name: set() for one in receivers}
        self.waiting: dict[str, int] = {}
        """How many wait for each receiver. Empty in a process that does not send."""
        self.attempts: Counter[tuple[str, str]] = Counter()
        """By receiver, and ``delivered``, ``failed`` or ``given_up``: those of this process."""

    async def turn(self) -> None:
        """Begins to send what is due, and waits for none of it. Raises `LedgerUnavailable`."""
        for receiver in self._receivers:
            tasks = self._tasks[receiver.name]
            free = AT_ONCE - len(tasks)
            if free <= 0:
                continue
            self.waiting[receiver.name], entries = await self._outbox.claim(receiver.name, free)
            for entry in entries:
                task = asyncio.create_task(self._send(receiver, entry))
                tasks.add(task)
                task.add_done_callback(tasks.discard)

    async def stop(self) -> None:
        """Attempts that do not end in seconds are broken off, and made again by whoever is next."""
        self.waiting.clear()
        tasks = [task for some in self._tasks.values() for task in some]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_END_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, receiver: Receiver, entry: OutboxEntry) -> None:
        name = receiver.name
        told = await receiver.tell(entry.id, entry.body)
        try:
            if not told.why:
                self.attempts[name, "delivered"] += 1
                await self._outbox.over(name, entry, "delivered")
            elif told.gone or self._wall_clock() - _seen_at(entry.body) >= GIVEN_UP_S:
                await self._give_up(name, entry, told)
            else:
                self.attempts[name, "failed"] += 1
                await self._outbox.again(name, entry, wait_s(entry.attempts, told), told.why)
        except LedgerUnavailable as error:
            log.warning("alert %s is sent to %s again (%s)", entry.id, name, error)

    async def _give_up(self, name: str, entry: OutboxEntry, told: AlertAttempt) -> None:
        self.attempts[name, "given_up"] += 1
        if await self._outbox.over(name, entry, "given_up"):
            log.error(
                "alert %s is not sent to %s any more, after %d attempts. %s It was: %s",
                entry.id,
                name,
                entry.attempts,
                told.why,
                entry.body,
            )


def wait_s(attempts: int, told: AlertAttempt) -> float:
    """How long to wait behind as many attempts. What the receiver asks for is the least."""
    state = cast("RetryCallState", SimpleNamespace(attempt_number=attempts))
    return max(WAIT(state), told.retry_after_s)


def _seen_at(body: str) -> float:
    return datetime.fromisoformat(json.loads(body)["timestamp"]).timestamp()


assert CLAIM_S > BOUND_S, "an attempt ends before its claim does"
