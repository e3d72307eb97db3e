"""The task of a process: it notes what it sees, and of all processes on one Redis one looks at the limits and sends, by a lease."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from tollhouse.alerts.conditions import Conditions
from tollhouse.alerts.event import AlertEvent
from tollhouse.alerts.outbox import BEFORE, NO_ROOM, Outbox
from tollhouse.alerts.receiver import Receiver
from tollhouse.alerts.sender import AlertSender
from tollhouse.alerts.thresholds import Thresholds
from tollhouse.ledger import names
from tollhouse.ledger.ledger import Ledger, LedgerUnavailable
from tollhouse.parties import Project

log = logging.getLogger(__name__)

TURN_S: Final = 1.0
LOOK_EVERY_S: Final = 5.0
"""At keys, breakers and the spool."""
LIMITS_EVERY_S: Final = 2.0
LIST_EVERY_S: Final = 10.0
"""How often the list of projects is read."""
_LEASE_MS: Final = 15_000
_TURN_BOUND_S: Final = 10.0
"""Less than the lease."""


class Watch:
    """``projects`` gives all of them. ``clock`` never goes back."""

    def __init__(
        self,
        ledger: Ledger,
        outbox: Outbox,
        receivers: Sequence[Receiver],
        conditions: Conditions,
        projects: Callable[[], Awaitable[Sequence[Project]]],
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        turn_s: float = TURN_S,
    ) -> None:
        self._ledger = ledger
        self._outbox = outbox
        self._receivers = receivers
        self._all_projects = projects
        self._clock = clock
        self._turn_s = turn_s
        interests = {one.name: one.interest for one in receivers}
        self._thresholds = Thresholds(ledger, interests, wall_clock=wall_clock)
        self._name = secrets.token_hex(16)
        self._looked = self._measured = self._listed = float("-inf")
        self._projects: Sequence[Project] = ()
        self._task: asyncio.Task[None] | None = None
        self._away = False
        self.conditions = conditions
        self.sender = AlertSender(outbox, receivers, wall_clock=wall_clock)
        self.dropped: Counter[str] = Counter()
        """By receiver: events for which there was no room. Those of this process."""

    @property
    def names(self) -> list[str]:
        """Of the receivers."""
        return [one.name for one in self._receivers]

    @property
    def waiting(self) -> Mapping[str, int]:
        """How many wait for each receiver, as far as this process sends."""
        return self.sender.waiting

    @property
    def attempts(self) -> Mapping[tuple[str, str], int]:
        """Of `AlertSender`."""
        return self.sender.attempts

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Gives the lease back, so that another gateway goes on at once."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        with contextlib.suppress(LedgerUnavailable):
            await self._note()
        await self.sender.stop()
        with contextlib.suppress(LedgerUnavailable):
            await self._lease(0)
        for receiver in self._receivers:
            await receiver.close()

    async def turn(self) -> None:
        """Called about once a second. Raises nothing but a cancellation."""
        try:
            now = self._clock()
            if now - self._looked >= LOOK_EVERY_S:
                self._looked = now
                self.conditions.look()
            async with asyncio.timeout(_TURN_BOUND_S):
                await self._note()
                if await self._lease(_LEASE_MS):
                    # First, so that many projects hold up nothing that waits.
                    await self.sender.turn()
                    if await self._measure(now):
                        await self.sender.turn()
                else:
                    self.sender.waiting.clear()
            self._away = False
        except LedgerUnavailable as error:
            self._say(str(error))
        except TimeoutError:
            self._say("Redis did not answer in time")
        except Exception:
            log.exception("alerts could not be looked for; it is tried again")

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._turn_s)
            await self.turn()

    def _say(self, why: str) -> None:
        if not self._away:
            log.warning("no alerts are sent until Redis answers (%s)", why)
        self._away = True

    async def _lease(self, for_ms: int) -> bool:
        arguments = [self._name, str(for_ms)]
        return bool(await self._ledger.run_script("lease", [names.ALERTER], arguments))

    async def _note(self) -> None:
        """Puts what this process has seen into the outbox."""
        for event in list(self.conditions.noted.values()):
            await self._fire(event)
            self.conditions.known(event)

    async def _measure(self, now: float) -> bool:
        """Whether there is something new."""
        if now - self._measured < LIMITS_EVERY_S:
            return False
        if now - self._listed >= LIST_EVERY_S:
            self._projects = await self._all_projects()
            self._listed = now
        self._measured = now
        reached = await self._thresholds.reached(self._projects)
        for event in reached:
            await self._fire(event)
            self._thresholds.known(event)
        return bool(reached)

    async def _fire(self, event: AlertEvent) -> None:
        told = [one.name for one in self._receivers if one.interest.has(event)]
        if not told:
            return
        for name, answer in zip(told, await self._outbox.fire(event, told), strict=True):
            if answer == BEFORE:
                continue
            if answer == NO_ROOM:
                self.dropped[name] += 1
                log.error(
                    "alert %s is not sent to %s, for which too many wait. It was: %s",
                    event.id,
                    name,
                    event.body,
                )
