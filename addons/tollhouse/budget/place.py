"""The gate that takes a place under the limits of calls at the same time, before a body is read.

A body that is still coming keeps memory. A place is a hold of no money, no tokens and no request, so that nothing but such a
limit can refuse it, and its sweep charges nothing. It ends when the call's own hold is asked for, or when the call ends
before that. A body that is there already needs none: its hold is asked for at once.
"""

from __future__ import annotations

import asyncio
import logging
from typing import ClassVar, Protocol

from tollhouse.budget.hold import scopes_of
from tollhouse.budget.refusals import refusal
from tollhouse.budget.renewal import Holds, Scoped
from tollhouse.call import NOTHING, Admitted
from tollhouse.denial import Refused
from tollhouse.ledger.hold_reply import Held, Short
from tollhouse.ledger.ledger import Ledger, LedgerUnavailable, Scope
from tollhouse.parties import Project

log = logging.getLogger(__name__)


class Arriving(Protocol):
    """A request whose body may still be on its way."""

    body_complete: bool


class Taken:
    """`renewal.Scoped`: what is renewed while the body comes."""

    def __init__(self, scopes: tuple[Scope, ...]) -> None:
        self.scopes = scopes


class Place:
    """``held`` is where places are entered to be renewed. With ``fail_open`` a call goes on without a place while Redis is
    away: its hold judges it."""

    name: ClassVar = "budget"
    gives: ClassVar = Admitted

    def __init__(
        self,
        ledger: Ledger,
        held: Holds[Scoped],
        *,
        deadline_s: float = 60.0,
        fail_open: bool = False,
    ) -> None:
        self._ledger = ledger
        self._held = held
        self._deadline_s = deadline_s
        self._fail_open = fail_open

    async def __call__(self, admitted: Admitted, exchange: Arriving) -> Admitted:
        """Refuses 429 (``concurrency_limited``) and 503 (the ledger is away)."""
        if exchange.body_complete or not admitted.operation.reads_body:
            return admitted
        await self.take(
            admitted.id, scopes_of(admitted), admitted.project, admitted.arrival.session
        )
        return admitted

    async def take(
        self, call_id: str, scopes: tuple[Scope, ...], project: Project, session: str = ""
    ) -> None:
        """Takes a place for what has this id. Raises `Refused` as a call of this gate does."""
        place = place_of(call_id)
        # Entered before the answer is known, as a hold is.
        self._held[place] = Taken(scopes)
        try:
            result = await self._ledger.hold(place, scopes, NOTHING, deadline_s=self._deadline_s)
        except LedgerUnavailable as error:
            # The ledger gives back by itself what it may have taken.
            del self._held[place]
            if self._fail_open:
                return
            log.error("call %s: the ledger is away (%s)", call_id, error)
            raise Refused("ledger_unavailable", headers=(("retry-after", "1"),)) from None
        if not isinstance(result, Held):
            del self._held[place]
            if isinstance(result, Short):
                raise Refused.of(refusal(result, project, NOTHING, 0, session=session))
            raise TypeError("a place has no price")

    def taken(self, call_id: str) -> bool:
        return place_of(call_id) in self._held

    async def leave(self, call_id: str) -> None:
        """Gives the call's place up, if it has one. What Redis can't be told now it is told in the background."""
        place = place_of(call_id)
        taken = self._held.pop(place, None)
        if taken is None:
            return
        try:
            await self._ledger.release(place, taken.scopes)
        except (LedgerUnavailable, asyncio.CancelledError) as error:
            self._ledger.give_back(place, taken.scopes)
            if not isinstance(error, LedgerUnavailable):
                raise


def place_of(call_id: str) -> str:
    """The id of a call's place in the ledger."""
    return f"{call_id}.place"
