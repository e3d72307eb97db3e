"""What the ledger needs again and again: it is pinged, spooled settles are told to it, holds under
way are renewed, and holds of dead gateways are swept."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from tollhouse.budget.purse import Purse
from tollhouse.budget.renewal import RENEW_EVERY_S, Renewer
from tollhouse.ledger.ledger import SWEEP_AT_ONCE, Ledger, LedgerUnavailable

log = logging.getLogger(__name__)

RENEW_LATE_S: Final = 30.0
"""The event loop renews the holds when the thread has not done so for this long: half of a hold's
deadline."""
SWEEP_EVERY_S: Final = 5.0
LOOK_EVERY_S: Final = 60.0
"""How often the list of all tenants is read. Holds of another gateway are swept too, and this one
may not have seen a call of their tenants."""


class Keeper:
    """Its `turn` is called once a second. ``tenants`` gives the names of all tenants. ``clock`` is
    monotonic. ``renewer`` is the thread that renews holds, where there is one."""

    def __init__(
        self,
        ledger: Ledger,
        purse: Purse,
        tenants: Callable[[], Awaitable[Iterable[str]]],
        clock: Callable[[], float],
        renewer: Renewer | None = None,
    ) -> None:
        self._renewer = renewer
        self._ledger = ledger
        self._purse = purse
        self._all_tenants = tenants
        self._clock = clock
        self._renewed = clock()
        self._swept = self._looked = float("-inf")
        self._tenants: frozenset[str] = frozenset()

    async def turn(self) -> list[str]:
        """Gives the reasons why no call can be held now; none if calls can be held. Raises nothing:
        if the turns ended, the holds of long calls would be swept."""
        try:
            await self._ledger.ping()
        except LedgerUnavailable as error:
            problems = [f"redis: {error.why.removeprefix('Redis: ')}"]
        except Exception as error:
            log.exception("the ledger could not be asked; it is tried again")
            problems = [f"redis: {type(error).__name__}"]
        else:
            problems = []
        # One server of a Cluster may be away. The tenants of the other servers do not wait for it.
        some_answer = not problems or self._ledger.divided
        if some_answer:
            await self._do(self._purse.retry(), "spooled settles could not be told")
        await self._do(self._purse.grow(), "holds of streams could not be extended")
        now = self._clock()
        if self._renewal_is_due(now):
            self._renewed = now
            await self._do(self._purse.renew(), "holds could not be renewed")
        if some_answer and now - self._swept >= SWEEP_EVERY_S:
            self._swept = now
            await self._do(self._sweep(now), "holds could not be swept")
        return problems + (self._renewer.turn() if self._renewer is not None else [])

    def _renewal_is_due(self, now: float) -> bool:
        if self._renewer is None:
            return now - self._renewed >= RENEW_EVERY_S
        return now - max(self._renewed, self._renewer.renewed_at) >= RENEW_LATE_S

    async def _sweep(self, now: float) -> None:
        if now - self._looked >= LOOK_EVERY_S:
            try:
                self._tenants = frozenset(await self._all_tenants())
                self._looked = now
            except LedgerUnavailable as error:
                log.warning(
                    "the tenants could not be asked for (%s): those that are known are swept", error
                )
        names = self._tenants | self._ledger.tenants
        results = await asyncio.gather(
            *(self._sweep_tenant(name) for name in names), return_exceptions=True
        )
        total = sum(result for result in results if isinstance(result, int))
        if total:
            log.warning(
                "%d holds that nobody ended were swept: what they held is charged in full", total
            )
        failure = next((result for result in results if isinstance(result, BaseException)), None)
        if failure is not None:
            raise failure

    async def _sweep_tenant(self, tenant: str) -> int:
        total = 0
        while swept := await self._ledger.sweep(tenant):
            total += swept
            if swept < SWEEP_AT_ONCE:
                break
        return total

    @staticmethod
    async def _do(work: Awaitable[None], failure: str) -> None:
        try:
            await work
        except LedgerUnavailable as error:
            log.warning("%s (%s); it is tried again", failure, error)
        except Exception:
            log.exception("%s; it is tried again", failure)
