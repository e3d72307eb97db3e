"""What an open gateway does again and again, whatever calls there are."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from tollhouse.accounts.objects import KeptObjects
from tollhouse.budget.fail_open import FailOpen
from tollhouse.budget.keeper import Keeper
from tollhouse.budget.poller import Poller
from tollhouse.journey import Journey
from tollhouse.ledger.ledger import Ledger
from tollhouse.readiness import Readiness

log = logging.getLogger(__name__)

IDENTITY_AGAIN_S: Final = 3.0
"""How often it is asked whether the identity of a stream is still valid."""

_JUDGING_S: Final = 0.5
"""How long a turn of that waits for those that hang."""


class Upkeep:
    """Three tasks from `start` to `stop`. The ledger is looked at every ``health_every_s``, and no call may take longer than
    ``call_timeout_s``. ``write_spend`` writes to the disk what an embedded store has counted, and ``note_refusals`` into Redis what
    was refused."""

    def __init__(
        self,
        journey: Journey,
        keeper: Keeper,
        poller: Poller,
        ledger: Ledger,
        objects: KeptObjects,
        readiness: Readiness,
        fail_open: FailOpen | None,
        write_spend: Callable[[], Awaitable[None]],
        note_refusals: Callable[[], Awaitable[None]],
        *,
        health_every_s: float,
        call_timeout_s: float,
    ) -> None:
        self._journey = journey
        self._keeper = keeper
        self._poller = poller
        self._ledger = ledger
        self._objects = objects
        self._readiness = readiness
        self._fail_open = fail_open
        self._write_spend = write_spend
        self._note_refusals = note_refusals
        self._health_every_s = health_every_s
        self._call_timeout_s = call_timeout_s
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins the tasks, each of which waits before its first turn."""
        # A store or an issuer that hangs while an identity is judged holds up no hold: each has a task of its own.
        self._tasks = [
            asyncio.create_task(_every(self._health_every_s, self._keep)),
            asyncio.create_task(
                # A call that hangs does not keep the others from their next turn.
                _every(
                    IDENTITY_AGAIN_S,
                    lambda: self._journey.end_invalid(IDENTITY_AGAIN_S, wait_s=_JUDGING_S),
                )
            ),
            asyncio.create_task(_every(self._health_every_s, self._poller.turn)),
        ]

    async def stop(self) -> None:
        """Ends the tasks. For an upkeep that was started."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await self._journey.stop_judging()

    async def _keep(self) -> None:
        self._journey.end_overdue(self._call_timeout_s)
        problems = await self._keeper.turn()
        await self._write_spend()
        await self._note_refusals()
        if not problems or self._ledger.divided:
            await self._tell_objects()
        warnings = [] if self._fail_open is None else await self._fail_open.turn(problems)
        self._readiness.found(problems, warnings)

    async def _tell_objects(self) -> None:
        try:
            await self._objects.retry()
        except Exception:
            log.exception("objects that tenants have made could not be noted; it is tried again")


async def _every(seconds: float, work: Callable[[], Awaitable[object]]) -> None:
    while True:
        await asyncio.sleep(seconds)
        await work()
