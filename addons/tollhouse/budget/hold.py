"""What is held for one call under way."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from tollhouse.accounts.token import without_tokens
from tollhouse.budget.growth import Growth
from tollhouse.call import Admitted, Amount, Requested
from tollhouse.clipped import clipped
from tollhouse.denial import Denial
from tollhouse.families.units import Estimate
from tollhouse.ledger.limits import MAX_AMOUNT, session_record
from tollhouse.ledger.names import Scope, session_scope
from tollhouse.parties import Identity, Project
from tollhouse.timestamps import rfc3339


class CallHold:
    """`call.Hold`. It changes while the call is under way, because a stream's end is not known when it begins. `Purse` and
    `FailOpen` change it, and nobody else does."""

    def __init__(self, requested: Requested, estimate: Estimate, amount: Amount) -> None:
        self.requested = requested
        self.scopes = scopes_of(requested.admitted)
        self.carried = carried(requested)
        self.estimate = estimate
        """``units.output`` is what is held of output by now."""
        self.amount = amount
        self.first = amount
        """What one attempt may cost."""
        self.priced = True
        """False: nobody knows what the model costs."""
        self.unheld = False
        self.ample = False
        """No limit was near when it was taken."""
        self.clamped: int | None = None
        self.growth: Growth | None = None
        """Of a stream without an output cap."""
        self.repeats = _no_repeat_needed
        self.before: CallHold | None = None
        """As it was for the call's own provider, once its fallback is tried."""
        self.covering = asyncio.Lock()
        """Of a session, whose hold is made larger from both directions."""
        self.priced_anyway = False
        """A session's model has no price, and no limit in money is against it."""

    @property
    def id(self) -> str:
        return self.requested.admitted.id

    @property
    def capped(self) -> bool:
        """The output that is held binds the provider; else it is only what is held."""
        return self.clamped is not None or self.requested.asked.cap is not None

    @property
    def grows(self) -> bool:
        return self.growth is not None

    @property
    def settles_late(self) -> bool:
        """It may be settled behind the answer: no limit was near, and the hold has not grown since."""
        return self.ample and self.amount is self.first and not self.unheld

    async def covers(self, seen: int) -> Denial | None:
        return await self.growth.covers(seen) if self.growth is not None else None

    async def covers_repeat(self) -> bool:
        return await self.repeats(self)


async def _no_repeat_needed(hold: CallHold) -> bool:
    return True


def enlarged(amount: Amount, more: Amount) -> Amount:
    """Of the same request, up to what the ledger can count."""
    return Amount(
        min(amount.nano_usd + more.nano_usd, MAX_AMOUNT),
        min(amount.tokens + more.tokens, MAX_AMOUNT),
        amount.requests,
    )


def scopes_of(admitted: Admitted) -> tuple[Scope, ...]:
    """Whose limits a call is held against: its tenant, its project, its session as far as project
    and token have limits by session, and its token, in this order. The token is always the last."""
    return scopes_for(admitted.project, admitted.identity, admitted.arrival.session)


def scopes_for(project: Project, identity: Identity, session: str = "") -> tuple[Scope, ...]:
    """`scopes_of` by its parts."""
    tenant = project.tenant
    whole = Scope("tenant", tenant, tenant)
    payer = Scope("project", tenant, project.id)
    token = Scope("token", tenant, identity.charged_as or identity.token_id)
    if not session:
        return (whole, payer, token)
    owners = ((payer, project.limits), (token, identity.limits))
    sessions = (
        session_scope(owner, session, record)
        for owner, limits in owners
        if (record := session_record(limits))
    )
    return (whole, payer, *sessions, token)


def carried(requested: Requested) -> Mapping[str, str]:
    """What the hold itself remembers, for the line that a sweep writes if this gateway dies. The model is what a client chose
    itself: it may carry a token, and it is kept in at most 512 bytes."""
    admitted = requested.admitted
    session = admitted.arrival.session
    return {
        "call_id": admitted.id,
        "project": admitted.project.id,
        "identity": admitted.identity.token_id,
        "provider": admitted.provider.name,
        "model": clipped(without_tokens(requested.asked.model)),
        "ts": rfc3339(admitted.arrival.timestamp, "milliseconds"),
        **({"session": session} if session else {}),
    }
