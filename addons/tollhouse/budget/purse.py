"""The gate that holds a call's cost, and the settling of it: what is charged, and by what rule."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from tollhouse.budget.ledger import Ledger, LedgerUnavailable, Scope, Short
from tollhouse.call import Amount, Call, ChargedBy, Usage
from tollhouse.denial import Decision, Denial, Refused
from tollhouse.meter.prices import PriceTable

log = logging.getLogger(__name__)

_LONGEST_RETRY_AFTER_S = 60.0
"""Anthropic's SDK sleeps for as long as it is told, so a longer wait is named in ``x-tollhouse-resets-at`` only."""


class Purse:
    """Holds before anything leaves, settles after. A call it has held is in `held` until it is settled or released."""

    name = "budget"

    def __init__(self, ledger: Ledger, prices: PriceTable, *, deadline_s: float = 60.0) -> None:
        self._ledger = ledger
        self._prices = prices
        self._deadline_s = deadline_s
        self.held: dict[str, tuple[Scope, ...]] = {}

    async def __call__(self, call: Call, exchange: object) -> Decision:
        """Refuses 402, 403 (unpriced) and 429; `LedgerUnavailable` passes through."""
        try:
            call.estimate = self._estimate(call)
        except Refused as refusal:
            return Decision.refuse(self.name, refusal.denial)
        scopes = scopes_of(call)
        # Entered before the answer is known: a hold whose answer is lost must be settled or swept, not forgotten.
        self.held[call.id] = scopes
        try:
            result = await self._ledger.hold(
                call.id, scopes, call.estimate, deadline_s=self._deadline_s, carried=_carried(call)
            )
        except LedgerUnavailable:
            del self.held[call.id]
            call.estimate = Amount(requests=0)
            raise
        if isinstance(result, Short):
            del self.held[call.id]
            denial = _refusal(result, call)
            call.estimate = Amount(requests=0)
            return Decision.refuse(self.name, denial)
        return Decision.allow(self.name)

    def _estimate(self, call: Call) -> Amount:
        if call.endpoint is None or not call.endpoint.billable:
            return Amount(requests=1)
        assert call.provider is not None
        assert call.project is not None
        provider_id = call.provider.prices_from or call.provider.name
        nano_usd = self._prices.ceiling(
            provider_id, call.model, call.input_estimate, call.output_cap, tier=call.service_tier, audio=call.audio
        )
        if nano_usd is None and call.project.unpriced == "dearest":
            nano_usd = self._prices.dearest(provider_id, call.input_estimate, call.output_cap)
        if nano_usd is None:
            if any(" usd/" in limit for limit in call.project.limits):
                raise Refused("model_unpriced", f"The model is {call.model[:80]!a} of {call.provider.name}.")
            nano_usd = 0
        return Amount(nano_usd, call.input_estimate + call.output_cap, 1)

    def charge(self, call: Call) -> tuple[Amount, ChargedBy] | None:
        """What the call costs and by what rule; None if it never left, so that all is given back."""
        if call.upstream_status == 0:
            if call.in_flight:
                return call.estimate, "disconnect"
            return (Amount(requests=1), "none") if call.attempts_unknown else None
        if call.endpoint is None or not call.endpoint.billable or not 200 <= call.upstream_status < 300:
            return Amount(requests=1), "none"
        if call.usage is not None:
            return self._priced(call, call.usage), "usage"
        if call.complete:
            return call.estimate, "hold"
        seen = Usage(input=call.input_estimate, output=min(call.output_seen, call.output_cap))
        return self._priced(call, seen), "estimate" if call.ended == "cut" else "disconnect"

    def _priced(self, call: Call, usage: Usage) -> Amount:
        assert call.provider is not None
        provider_id = call.provider.prices_from or call.provider.name
        served = call.model_served or call.model
        nano_usd = self._prices.cost(
            provider_id, served, usage, call.service_tier, call.timestamp, requested=call.model
        )
        if nano_usd is None:
            # No price (or none any more): what was held for it, which is 0 without a money limit.
            nano_usd = call.estimate.nano_usd
        return Amount(nano_usd, usage.total, 1)

    async def settle(self, call: Call, record: Mapping[str, object]) -> None:
        """End the hold with what `charge` decided; safe to call again. Never raises `LedgerUnavailable`: the hold is then
        charged in full when it is swept, and the log says so."""
        scopes = self.held.pop(call.id, None)
        if scopes is None:
            return
        try:
            if call.charged.requests == 0:
                await self._ledger.release(call.id, scopes)
            else:
                await self._ledger.settle(call.id, scopes, call.charged, record={k: str(v) for k, v in record.items()})
        except LedgerUnavailable as e:
            log.error("call %s could not be settled (%s): its hold will be charged when it expires", call.id, e)

    async def renew(self) -> None:
        """Move the deadline of every hold under way; called well within ``deadline_s``."""
        for call_id, scopes in list(self.held.items()):
            try:
                await self._ledger.renew(call_id, scopes, self._deadline_s)
            except LedgerUnavailable as e:
                log.warning("holds could not be renewed (%s)", e)
                return


def scopes_of(call: Call) -> tuple[Scope, ...]:
    """Whose limits a call is held against: its tenant, its project and its token, in this order."""
    assert call.project is not None
    assert call.identity is not None
    tenant = call.project.tenant
    return (
        Scope("tenant", tenant, tenant),
        Scope("project", tenant, call.project.id),
        Scope("token", tenant, call.identity.token_id),
    )


def _carried(call: Call) -> dict[str, str]:
    """What the hold itself remembers, for the line that a sweep writes if this gateway dies."""
    return {
        "call_id": call.id,
        "project": call.project.id if call.project else "",
        "identity": call.identity.token_id if call.identity else "",
        "provider": call.provider.name if call.provider else "",
        "model": call.model,
        "ts": f"{call.timestamp:.3f}",
    }


def _refusal(short: Short, call: Call) -> Denial:
    assert call.project is not None
    code = {"usd": "budget_exceeded", "concurrent": "concurrency_limited"}.get(short.unit, "rate_limited")
    needs = {
        "usd": f"this call may cost up to {call.estimate.nano_usd / 1e9:.6f} USD",
        "tokens": f"this call may use up to {call.estimate.tokens} tokens",
        "requests": "this call is one request",
        "concurrent": "this call would be one more",
    }[short.unit]
    why = f"The limit {short.limit_text} of {short.scope.kind} {short.scope.id} has not enough left; {needs}."
    headers: list[tuple[str, str]] = []
    if short.never_fits:
        headers.append(("x-should-retry", "false"))
    elif short.resets_at is not None:
        headers.append(("x-tollhouse-resets-at", f"{short.resets_at:.0f}"))
    if short.retry_after_s is not None and code != "budget_exceeded" and not short.never_fits:
        if short.retry_after_s <= _LONGEST_RETRY_AFTER_S:
            headers.append(("retry-after", f"{max(1, round(short.retry_after_s))}"))
        else:
            headers.append(("x-should-retry", "false"))
    return Denial(code, why, tuple(headers))
