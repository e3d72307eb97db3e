"""What a call may cost, which is held, and what it did cost, by what rule. Money is in nano-dollars."""

from __future__ import annotations

import logging

from tollhouse.budget.growth import TOKENS_PER_SECOND
from tollhouse.call import Amount, Call, ChargedBy, Usage
from tollhouse.ledger.limits import MAX_AMOUNT
from tollhouse.prices.table import PriceTable

log = logging.getLogger(__name__)


class Charges:
    """By the prices of ``prices``."""

    def __init__(self, prices: PriceTable) -> None:
        self._prices = prices

    def estimate(self, call: Call) -> Amount:
        """What is held for a call that was read: for all of its cap, if it has one. Says whether it is ``priced``."""
        if call.endpoint is None or not call.endpoint.billable:
            return Amount(requests=1)
        assert call.provider is not None
        assert call.project is not None
        nano_usd = self.ceiling(call, call.output_cap)
        # The ledger refuses it then if a limit of the project, its tenant or the token is in money.
        call.priced = nano_usd is not None
        nano_usd = nano_usd or 0
        # A cap of two thousand million tokens, 128 times, is more than the ledger can count: more than any limit, too.
        tokens = call.input_estimate + call.predicted + call.output_cap
        return Amount(min(nano_usd, MAX_AMOUNT), min(tokens, MAX_AMOUNT), 1)

    def ceiling(self, call: Call, output: int) -> int | None:
        """The most that the call may cost with so many tokens of output beside those predicted, in nano-dollars: by the
        dearest of the models that it can reach. None if one has no price."""
        assert call.provider is not None
        assert call.project is not None
        provider_id = call.provider.price_id
        output += call.predicted
        most: int | None = 0
        for model in (call.model, *call.other_models):
            nano_usd = self._prices.ceiling(
                provider_id,
                model,
                call.input_estimate,
                output,
                tier=call.service_tier,
                audio=call.audio,
                at=call.timestamp,
                worst=held_at_worst(call),
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
        a whole stream without, longer than what was held       input and output seen     estimate
        a stream that the provider or a fault of ours cut       input and output seen     estimate
        a stream that a stop of the gateway left                input and output seen     disconnect
        a stream that the client left                           the same, and silences    disconnect
        a stream that the budget ended                          the same, and silences    estimate
        any other answer that was cut or left                   the hold                  the same
        ======================================================  ========================  ==========

        What is not a stream was made whole before its first byte came, and the provider charges all of it. Silences count as
        they do for the hold (`growth`), and up to it: who leaves after the first words has had the reasoning before them.
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
            seen = self._seen(call)
            return (seen, "estimate") if call.stream and seen.tokens > call.estimate.tokens else (call.estimate, "hold")
        if call.ended == "budget" and not call.output_seen:
            # It said nothing for as long as was held: hidden reasoning, which the provider charges.
            return call.estimate, "hold"
        rule: ChargedBy = "disconnect" if call.ended in ("client_gone", "stopped") else "estimate"
        if not call.stream:
            return call.estimate, rule
        return self._seen(call), rule

    def _seen(self, call: Call) -> Amount:
        output = call.output_seen
        if call.ended in ("client_gone", "budget"):
            hidden = int(call.silent_s * TOKENS_PER_SECOND) * call.answers
            output = max(output, min(output + hidden, call.output_cap))
        if call.capped or held_at_worst(call):
            output = min(output, call.output_cap)
        return self._priced(call, Usage(input=call.input_estimate, output=output))

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


def held_at_worst(call: Call) -> bool:
    """Whether the call's project says ``estimate = "worst"``."""
    return call.project is not None and call.project.estimate == "worst"
