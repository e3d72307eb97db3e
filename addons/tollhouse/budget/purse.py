"""The gate that holds a call's cost, and the settling of it: what is charged, and by what rule."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Final

from tollhouse.admit.token import without_tokens
from tollhouse.book import moment
from tollhouse.budget.growth import LEAST_TOKENS, Growth, Interruptible
from tollhouse.budget.ledger import Held, Ledger, LedgerUnavailable, Scope, Short, Unpriced
from tollhouse.budget.limits import MAX_AMOUNT, format_usd
from tollhouse.budget.spool import Ending, Spool
from tollhouse.call import Amount, Call, ChargedBy, Usage
from tollhouse.denial import Decision, Denial
from tollhouse.meter.prices import PriceTable
from tollhouse.meter.request import lower_cap

log = logging.getLogger(__name__)

_LONGEST_RETRY_AFTER_S: Final = 60.0
"""Anthropic's SDK sleeps for as long as it is told, so a longer wait is named in ``x-tollhouse-resets-at`` only."""
_CLAMP_TRIES: Final = 4
_AT_ONCE: Final = 256
"""Renewals sent together; the ledger's pipeline makes one write of them."""
_MAX_UNSETTLED: Final = 10_000


class Purse:
    """Holds before anything leaves, settles after. A call it has held is in `held` until it is settled or released, then
    in the spool for as long as Redis could not be told."""

    name = "budget"

    def __init__(
        self,
        ledger: Ledger,
        prices: PriceTable,
        spool: Spool,
        *,
        deadline_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._ledger = ledger
        self._prices = prices
        self._spool = spool
        self._deadline_s = deadline_s
        self.held: dict[str, tuple[Scope, ...]] = {}
        self.growing: dict[str, Growth] = {}
        """Streams under way without an output cap."""
        self.unsettled: dict[str, Ending] = {}
        """What could be told neither to Redis nor to the spool."""

    async def __call__(self, call: Call, exchange: Interruptible) -> Decision:
        """Refuses 402, 403 (unpriced) and 429; `LedgerUnavailable` passes through. May lower the request's output cap."""
        call.estimate = self._estimate(call)
        scopes = scopes_of(call)
        # Entered before the answer is known: a hold whose answer is lost must be settled or swept, not forgotten.
        self.held[call.id] = scopes
        try:
            result = await self._hold(call, scopes)
            if isinstance(result, Short) and call.project is not None and call.project.on_shortfall == "clamp":
                result = await self._clamped(call, scopes, result)
        except LedgerUnavailable:
            del self.held[call.id]
            call.estimate = Amount(requests=0)
            raise
        if not isinstance(result, Held):
            del self.held[call.id]
            denial = _refusal(result, call) if isinstance(result, Short) else _unpriced(call)
            call.estimate = Amount(requests=0)
            return Decision.refuse(self.name, denial)
        if call.stream and not call.capped and call.output_cap:
            growth = self.growing[call.id] = Growth(call, exchange, self._extend, self._clock)
            call.covers = growth.covers
        return Decision.allow(self.name)

    async def _hold(self, call: Call, scopes: tuple[Scope, ...]) -> Held | Short | Unpriced:
        return await self._ledger.hold(
            call.id, scopes, call.estimate, deadline_s=self._deadline_s, carried=_carried(call), priced=call.priced
        )

    async def _clamped(self, call: Call, scopes: tuple[Scope, ...], short: Short) -> Held | Short | Unpriced:
        """Holds what there is, and lowers the output cap in the request to it; the first refusal if there is nothing."""
        whole, result = call.output_cap, short
        for _ in range(_CLAMP_TRIES):
            each = 0 if result.others else self._output_within(call, 0, call.output_cap, result) // call.answers
            if each < 1:
                break
            call.output_cap = each * call.answers
            call.estimate = self._estimate(call)
            held = await self._hold(call, scopes)
            if not isinstance(held, Short):
                if isinstance(held, Held):
                    assert call.body is not None
                    call.body = lower_cap(call.body, each)
                    call.clamped, call.capped = each, True
                return held
            # Others were faster, or another limit is the tighter one now.
            result = held
        call.output_cap = whole
        call.estimate = self._estimate(call)
        return short

    def _output_within(self, call: Call, base: int, most: int, short: Short) -> int:
        """The largest number of output tokens beyond ``base``, at most ``most``, that what is left is enough for. With
        ``base`` 0 the input has to fit as well."""

        def amount(output: int) -> Amount:
            return Amount(self._ceiling(call, output) or 0, call.input_estimate + output)

        start = amount(base) if base else Amount(0, 0)
        low, high = 0, most
        while low < high:
            middle = (low + high + 1) // 2
            end = amount(base + middle)
            fits = (short.left_usd is None or end.nano_usd - start.nano_usd <= short.left_usd) and (
                short.left_tokens is None or end.tokens - start.tokens <= short.left_tokens
            )
            low, high = (middle, high) if fits else (low, middle - 1)
        return low

    async def _extend(self, call: Call, more: int) -> tuple[int, Denial | None]:
        """Holds ``more`` tokens of output for a stream under way, or as many as there is room for: how many, and why not
        all. While Redis is away a stream goes on: it is charged what it used when it is settled."""
        scopes = self.held.get(call.id)
        if scopes is None:
            return more, None
        refused: Short | None = None
        wanted = more
        try:
            while wanted:
                cost = self._ceiling(call, call.output_cap + wanted)
                step = Amount(max((cost or 0) - call.estimate.nano_usd, 0), wanted, 0)
                result = await self._ledger.extend(call.id, scopes, step)
                if isinstance(result, Held):
                    call.output_cap += wanted
                    held = call.estimate
                    call.estimate = Amount(held.nano_usd + step.nano_usd, held.tokens + wanted, held.requests)
                    break
                if refused is not None:
                    wanted = 0
                    break
                refused = result
                wanted = self._output_within(call, call.output_cap, more, result)
                if wanted < LEAST_TOKENS or result.others:
                    wanted = 0
        except (LedgerUnavailable, ValueError) as e:
            log.warning("the hold of call %s could not be extended (%s)", call.id, e)
            return more, None
        return wanted, _refusal(refused, call) if refused is not None else None

    async def grow(self) -> None:
        """Extend the holds of the streams that say nothing; called once a second."""
        if self.growing:
            await asyncio.gather(*(growth.tick() for growth in tuple(self.growing.values())))

    def _estimate(self, call: Call) -> Amount:
        if call.endpoint is None or not call.endpoint.billable:
            return Amount(requests=1)
        assert call.provider is not None
        assert call.project is not None
        nano_usd = self._ceiling(call, call.output_cap)
        # The ledger refuses it then if a limit of the project, its tenant or the token is in money.
        call.priced = nano_usd is not None
        nano_usd = nano_usd or 0
        # A cap of two thousand million tokens, 128 times, is more than the ledger can count: more than any limit, too.
        return Amount(min(nano_usd, MAX_AMOUNT), min(call.input_estimate + call.output_cap, MAX_AMOUNT), 1)

    def _ceiling(self, call: Call, output: int) -> int | None:
        """The most that the call may cost with so many tokens of output, in nano-dollars: by the dearest of the models that
        it can reach. None if one has no price."""
        assert call.provider is not None
        assert call.project is not None
        provider_id = call.provider.price_id
        most: int | None = 0
        for model in (call.model, *call.other_models):
            nano_usd = self._prices.ceiling(
                provider_id, model, call.input_estimate, output, tier=call.service_tier, audio=call.audio
            )
            most = None if nano_usd is None or most is None else max(most, nano_usd)
        if most is not None and not call.models_unknown:
            return most
        return (
            self._prices.dearest(provider_id, call.input_estimate, output)
            if call.project.unpriced == "dearest"
            else None
        )

    def charge(self, call: Call) -> tuple[Amount, ChargedBy] | None:
        """What the call costs and by what rule; None if it never left, so that all is given back.

        ======================================================  ========================  ==========
        nothing of it reached the provider                      all is given back         none
        it ended while its request was away, without answer     the hold                  disconnect
        attempts without an answer, or error answers only       one request, no money     none
        an error status, or an endpoint that costs nothing      one request, no money     none
        an answer with usage, whole or not                      the usage                 usage
        a whole answer without usage                            the hold                  hold
        a stream that the provider or a fault of ours cut       input and output seen     estimate
        a stream that the client or a stop left                 input and output seen     disconnect
        any other answer that was cut or left                   the hold                  the same
        ======================================================  ========================  ==========

        What is not a stream was made whole before its first byte came, and the provider charges all of it.
        """
        if call.upstream_status == 0:
            if call.in_flight:
                return call.estimate, "disconnect"
            # A number is the status of an answer that was to be retried. An attempt that was cancelled and is not in
            # flight was still connecting.
            left = any(
                attempt.outcome.isdigit() or (attempt.unknown and attempt.outcome != "cancelled")
                for attempt in call.attempts
            )
            return (Amount(requests=1), "none") if left else None
        if call.endpoint is None or not call.endpoint.billable or not 200 <= call.upstream_status < 300:
            return Amount(requests=1), "none"
        if call.usage is not None:
            cost = self._priced(call, call.usage)
            if cost.nano_usd <= MAX_AMOUNT and cost.tokens <= MAX_AMOUNT:
                return cost, "usage"
            log.error("call %s: a usage that can't be true (%d tokens); its hold is charged", call.id, cost.tokens)
            return call.estimate, "hold"
        if call.complete:
            return call.estimate, "hold"
        if call.ended == "budget" and not call.output_seen:
            # It said nothing for as long as was held: hidden reasoning, which the provider charges.
            return call.estimate, "hold"
        rule: ChargedBy = "disconnect" if call.ended in ("client_gone", "stopped") else "estimate"
        if not call.stream:
            return call.estimate, rule
        seen = Usage(
            input=call.input_estimate,
            output=min(call.output_seen, call.output_cap) if call.capped else call.output_seen,
        )
        return self._priced(call, seen), rule

    def _priced(self, call: Call, usage: Usage) -> Amount:
        assert call.provider is not None
        provider_id = call.provider.price_id
        served = call.model_served or call.model
        nano_usd = self._prices.cost(
            provider_id, served, usage, call.service_tier, call.timestamp, requested=call.model
        )
        if nano_usd is None and call.project is not None and call.project.unpriced == "dearest":
            nano_usd = self._prices.dearest(provider_id, usage.input, usage.output)
        if nano_usd is None:
            # No price (or none any more): what was held for it, which is 0 without a money limit.
            nano_usd = call.estimate.nano_usd
        return Amount(nano_usd, usage.total, 1)

    async def settle(self, call: Call, record: Mapping[str, object]) -> None:
        """End the hold with what `charge` decided; safe to call again. Raises nothing: what Redis can't be told now is on
        disk when this returns, and told by `retry`; if the hold is swept before, it is charged in full and corrected
        then."""
        scopes = self.held.pop(call.id, None)
        self.growing.pop(call.id, None)
        if scopes is None:
            return
        ending = Ending(call.id, scopes, call.charged, _flat(record))
        try:
            await self._tell(ending)
        except BaseException as e:
            written = self._spool.put(ending)
            log.error("call %s could not be settled (%s): it is spooled and tried again", call.id, e)
            if not isinstance(e, LedgerUnavailable):
                raise  # The task was cancelled.
            try:
                await asyncio.shield(written)
            except OSError as error:
                log.error("call %s could not be spooled (%s): it is kept in memory", call.id, error)
                if len(self.unsettled) < _MAX_UNSETTLED:
                    self.unsettled[call.id] = ending

    async def retry(self) -> None:
        """Settle what could not be settled; called when Redis answers. A call is settled once however often it is told.
        Raises `OSError` when the spool can't be read."""
        try:
            for call_id, ending in list(self.unsettled.items()):
                await self._tell(ending)
                self.unsettled.pop(call_id, None)
            if self._spool.waiting:
                told = await self._spool.replay(self._tell)
                log.warning("%d spooled settles were told to Redis", told)
        except LedgerUnavailable as e:
            log.warning("spooled settles wait on (%s)", e)

    async def _tell(self, ending: Ending) -> None:
        try:
            if ending.charged.requests == 0:
                await self._ledger.release(ending.call_id, ending.scopes)
            else:
                await self._ledger.settle(ending.call_id, ending.scopes, ending.charged, record=ending.record)
        except LedgerUnavailable:
            raise
        except Exception:
            log.exception("call %s cannot be settled: its hold will be charged when it expires", ending.call_id)

    async def renew(self) -> None:
        """Move the deadline of every hold under way; called well within ``deadline_s``."""
        holds = list(self.held.items())
        for start in range(0, len(holds), _AT_ONCE):
            results = await asyncio.gather(
                *(self._ledger.renew(*hold, self._deadline_s) for hold in holds[start : start + _AT_ONCE]),
                return_exceptions=True,
            )
            failure = next((result for result in results if isinstance(result, BaseException)), None)
            if failure is not None:
                log.warning("holds could not be renewed (%s)", failure)
                return


def scopes_of(call: Call) -> tuple[Scope, ...]:
    """Whose limits a call is held against: its tenant, its project and its token, in this order."""
    assert call.project is not None
    assert call.identity is not None
    tenant = call.project.tenant
    return (
        Scope("tenant", tenant, tenant),
        Scope("project", tenant, call.project.id),
        Scope("token", tenant, call.identity.charged_as or call.identity.token_id),
    )


def _carried(call: Call) -> dict[str, str]:
    """What the hold itself remembers, for the line that a sweep writes if this gateway dies. The model is what a client
    chose itself, and may carry its token."""
    return {
        "call_id": call.id,
        "project": call.project.id if call.project else "",
        "identity": call.identity.token_id if call.identity else "",
        "provider": call.provider.name if call.provider else "",
        "model": without_tokens(call.model),
        "ts": moment(call.timestamp),
    }


def _flat(record: Mapping[str, object]) -> dict[str, str]:
    """The line as a Redis stream keeps it: a string as it is, anything else as JSON."""
    return {k: v if isinstance(v, str) else json.dumps(v, separators=(",", ":")) for k, v in record.items()}


def _unpriced(call: Call) -> Denial:
    assert call.provider is not None
    return Denial("model_unpriced", f"The model is {call.model[:80]!a} of {call.provider.name}.")


def _refusal(short: Short, call: Call) -> Denial:
    assert call.project is not None
    code = {"usd": "budget_exceeded", "concurrent": "concurrency_limited"}.get(short.unit, "rate_limited")
    needs = {
        "usd": f"this call may cost up to {format_usd(call.estimate.nano_usd)} USD",
        "tokens": f"this call may use up to {call.estimate.tokens} tokens",
        "requests": "this call is one request",
        "concurrent": "this call would be one more",
    }[short.unit]
    # A tenant's limit is shared with projects that are not the caller's: its size is not told.
    which = "A limit" if short.scope.kind == "tenant" else f"The limit {short.limit_text}"
    why = f"{which} of {short.scope.kind} {short.scope.id} has not enough left; {needs}."
    headers: list[tuple[str, str]] = []
    if short.never_fits:
        headers.append(("x-should-retry", "false"))
    elif short.resets_at is not None:
        headers.append(("x-tollhouse-resets-at", f"{short.resets_at:.0f}"))
    if code == "rate_limited" and not short.never_fits:
        if short.retry_after_s is not None and short.retry_after_s <= _LONGEST_RETRY_AFTER_S:
            headers.append(("retry-after", f"{max(1, math.ceil(short.retry_after_s))}"))
        else:
            headers.append(("x-should-retry", "false"))
    return Denial(code, why, tuple(headers))
