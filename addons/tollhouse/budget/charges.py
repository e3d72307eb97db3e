"""What a call may cost, which is held, and what it did cost, by what rule. Money is in nano-dollars."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from tollhouse.budget.cross_check import CrossCheck, Totals
from tollhouse.budget.growth import TOKENS_PER_SECOND
from tollhouse.budget.hold import CallHold, enlarged
from tollhouse.budget.quoting import (
    PriceTerms,
    amount_of,
    by_model,
    quoted,
    quoted_beside,
    tables_of,
)
from tollhouse.call import Amount, ChargedBy, Pending, Requested
from tollhouse.families.dialogue import Exposed
from tollhouse.families.units import Charge, Estimate, Units
from tollhouse.ledger.limits import MAX_AMOUNT
from tollhouse.outcome import Attempt, End, LateUsage, Outcome
from tollhouse.prices.table import PriceTable

log = logging.getLogger(__name__)

Charged = tuple[Amount, ChargedBy]

_ONE_REQUEST: Charged = Amount(requests=1), "none"
_DISOBEYED = 4
"""So many times a cap is more than text can be misjudged: the server does not know the cap (some know only one of its two
names). Audio is seen by its base64, which is no measure."""
_LOST = frozenset({"upstream_unreachable", "upstream_bad_answer", "upstream_tls"})
"""Codes of attempts whose connection was lost: the provider may not have worked on them to the end."""


class Charges:
    """By the prices of ``prices``."""

    def __init__(self, prices: PriceTable) -> None:
        self._prices = prices
        self.without_usage: Counter[str] = Counter()
        """Whole answers of metered operations that told no usage, by provider: since the start."""
        self.totals = Totals()
        self._served = CrossCheck()

    def amount(self, requested: Requested, estimate: Estimate) -> tuple[Amount, bool]:
        """What is held for a call that was read, for all of the output in ``estimate``; and whether its price is known. The
        ledger refuses a call without a price if a limit of the project, its tenant or the token is in money."""
        fixed = fixed_hold(requested)
        if fixed is not None:
            return Amount(0 if requested.admitted.login else fixed, 0, 1), True
        operation = requested.admitted.operation
        if not operation.metered or (operation.socket and not requested.asked.model):
            # Of a session a message may name the model, and is held for then.
            return Amount(requests=1), True
        nano_usd = self.ceiling(requested, estimate, estimate.units.output)
        tokens = estimate.units.tokens + estimate.predicted
        tokens += sum(item.units.tokens for item in estimate.beside)
        # A cap of two thousand million tokens, 128 times, is more than the ledger can count: more than any limit, too.
        return Amount(
            min(nano_usd or 0, MAX_AMOUNT), min(tokens, MAX_AMOUNT), 1
        ), nano_usd is not None

    def ceiling(self, requested: Requested, estimate: Estimate, output: int) -> int | None:
        """The most that the call may cost with so many tokens of output beside those predicted, in nano-dollars: by the
        dearest of the models that it can reach. None if one has no price."""
        admitted, asked = requested.admitted, requested.asked
        if admitted.login:
            return 0
        if (fixed := fixed_hold(requested)) is not None:
            return fixed
        price_id = admitted.provider.price_id
        estimate = estimate.of_output(output)
        most: int | None = 0
        for model in (asked.model, *asked.other_models):
            nano_usd = self._prices.ceiling(
                price_id,
                model,
                estimate,
                tier=asked.tier,
                at=admitted.arrival.timestamp,
                worst=admitted.worst,
                host=admitted.host,
            )
            most = None if nano_usd is None or most is None else max(most, nano_usd)
        beside = [
            quoted_beside(self._prices, PriceTerms.of(requested), it._replace(paid=None))
            for it in estimate.beside
        ]
        if most is None or asked.models_unknown:
            most = (
                self._prices.dearest(price_id, estimate.units, tier=asked.tier, host=admitted.host)
                if admitted.project.unpriced == "dearest"
                else None
            )
        if most is None or None in beside:
            return None
        return most + sum(quote.nano_usd for quote in beside if quote is not None)

    def charge(self, hold: CallHold, outcome: Outcome) -> Charged | None:
        """What the call costs and by what rule; None if it never left, so that all is given back.

        ====================================================  ============================  ==========
        nothing of it reached the provider                    all is given back             none
        an endpoint that costs nothing, or an error           one request, no money         none
        an answer to a request that starts a job              the hold                      hold
        left, no answer, and our time-out passed              the hold                      hold
        left, no answer, and the connection was lost          the input's estimate          estimate
        left, and the client or a stop ended it               the hold                      disconnect
        an answer that our meter failed on                    the hold                      hold
        a whole answer with usage                             the usage                     usage
        a whole answer without usage                          the hold                      hold
        a whole stream without, longer than what was held     input and output seen         estimate
        a stream that ended in the provider's error           input and output seen         estimate
        a stream that the provider or a fault of ours cut     the same                      estimate
        a stream that a stop of the gateway left              the same                      disconnect
        a stream that the client left                         the same, and silences        disconnect
        a stream that the budget ended                        the same, and silences        estimate
        any other answer that was cut or left                 the hold                      the same
        a handshake of a WebSocket without an answer          one request, no money         none
        a WebSocket session, its answers counted              their usage                   usage
        one with answers that were begun                      usage, input and output seen  disconnect
        ====================================================  ============================  ==========

        What the provider has counted of an answer that is not whole is a lower bound: of it and of the row's amount the
        larger is charged, by ``usage`` where it is the count. An answer that is no stream was made whole before its first
        byte came, and the provider charges all of it. Silences count as they do for the hold (`growth`), and up to it: who
        leaves after the first words has had the reasoning before them. With ``worst`` the hold is that of one attempt, and
        each attempt of unknown fate that came before adds another. Of an endpoint that no family knows nothing is estimated:
        where there is no usage the hold is charged, and of an answer that is not whole the hold at least.
        """
        ended = self._ended(hold, outcome)
        requested = hold.requested
        if ended is None:
            return None
        if not requested.admitted.operation.metered and fixed_hold(requested) is None:
            return ended
        amount, rule = self._with_unknown(hold, outcome, ended)
        if requested.admitted.login:
            return replace(amount, nano_usd=0, notional=amount.nano_usd), rule
        if amount.nano_usd and not amount.price:
            amount = replace(amount, price=self._held_by(hold))
        return amount, rule

    def _held(self, hold: CallHold) -> Amount:
        """What is held for one attempt. Only ``worst`` holds for several, and there the hold of one does not grow. Where a
        fallback was tried, ``hold.amount`` is that of the dearer of the two."""
        if hold.requested.admitted.worst:
            return hold.first
        if hold.before is None or hold.requested.admitted.operation.socket:
            # A session's messages have made it as large as it is.
            return hold.amount
        own, _ = self.amount(hold.requested, hold.estimate)
        return own

    def _held_by(self, hold: CallHold) -> str:
        """The tables by which the hold was worked out."""
        requested, units = hold.requested, hold.estimate.units
        models = (requested.asked.model, *requested.asked.other_models)
        items = [Charge(model, units, requested.asked.tier) for model in models]
        quotes = [quoted(self._prices, PriceTerms.of(requested), item) for item in items]
        return tables_of(
            [
                *quotes,
                *(
                    quoted_beside(self._prices, PriceTerms.of(requested), it)
                    for it in hold.estimate.beside
                ),
            ]
        )

    def _ended(self, hold: CallHold, outcome: Outcome) -> Charged | None:
        held = self._held(hold)
        fixed = fixed_hold(hold.requested) is not None
        match outcome.end:
            case End.NEVER_LEFT:
                return None
            case _ if outcome.in_flight and hold.requested.admitted.operation.socket:
                return _ONE_REQUEST
            case _ if outcome.in_flight:
                return held, "disconnect"
            case End.UNKNOWN | End.ERROR:
                return _ONE_REQUEST
            case _ if outcome.session:
                return self._of_session(hold, outcome)
            case _ if starts_job(hold.requested):
                return held, "hold"
            case _ if not outcome.metered:
                return _ONE_REQUEST
            case _ if outcome.meter_failed:
                return self._at_least_held(hold, outcome, "hold")
            case End.WHOLE | End.STREAMED if outcome.charges:
                self.totals(
                    hold.requested.admitted.provider.name,
                    hold.requested.asked.model,
                    outcome.charges,
                )
                return self._counted(hold, outcome.charges, "usage")
            case End.STREAMED if not fixed:
                self.without_usage[hold.requested.admitted.provider.name] += 1
                seen = self._seen(hold, outcome, "estimate")
                return seen if seen[0].tokens > held.tokens else (held, "hold")
            case End.WHOLE | End.STREAMED:
                self.without_usage[hold.requested.admitted.provider.name] += 1
                return held, "hold"
            case End.OVER_BUDGET if not outcome.output_seen and not outcome.charges:
                # It said nothing for as long as was held: hidden reasoning, which the provider charges.
                return held, "hold"
            case End.LEFT | End.STOPPED:
                rule: ChargedBy = "disconnect"
            case _:
                rule = "estimate"
        return (
            self._seen(hold, outcome, rule)
            if outcome.streamed and not fixed
            else self._at_least_held(hold, outcome, rule)
        )

    def _seen(self, hold: CallHold, outcome: Outcome, rule: ChargedBy) -> Charged:
        """The larger of the provider's last count and what was seen. Its input is believed where it has counted one."""
        asked, estimate = hold.requested.asked, hold.estimate.units
        output = outcome.output_seen
        if outcome.end in (End.LEFT, End.OVER_BUDGET) and asked.reasons:
            hidden = int(outcome.silent_s * TOKENS_PER_SECOND) * asked.choices
            output = max(output, min(output + hidden, estimate.output))
        bound = hold.capped or hold.requested.admitted.worst
        if bound and (asked.asks or outcome.output_seen <= _DISOBEYED * estimate.output):
            output = min(output, estimate.output)
        last = outcome.charges[0] if outcome.charges else Charge("", Units(requests=1), asked.tier)
        units = last.units.at_least(Units(input=last.units.input or estimate.input, output=output))
        if outcome.charges and units == last.units:
            rule = "usage"
        return self._counted(hold, (last._replace(units=units), *outcome.charges[1:]), rule)

    def session(
        self, hold: CallHold, charges: tuple[Charge, ...], exposed: Sequence[Exposed]
    ) -> tuple[Amount, bool]:
        """What has to be held for a session: what was counted so far, and the most that each of the ``exposed`` answers may
        come to. And whether all of it has a price."""
        spent = amount_of(
            self._prices, PriceTerms.of(hold.requested), self._named(hold, charges), 0
        )
        nano_usd, tokens, priced = spent.nano_usd, spent.tokens, True
        for asked, estimate in exposed:
            amount, known = self.amount(hold.requested._replace(asked=asked), estimate)
            nano_usd += amount.nano_usd
            tokens += amount.tokens
            priced = priced and known
        return Amount(min(nano_usd, MAX_AMOUNT), min(tokens, MAX_AMOUNT), 1), priced

    def _of_session(self, hold: CallHold, outcome: Outcome) -> Charged:
        """Of each answer that had begun the input that was estimated, and the output that was seen. Silences count as
        hidden reasoning where the client left or the budget ended it, up to the hold."""
        if outcome.meter_failed:
            return self._at_least_held(hold, outcome, "hold")
        begun = []
        for (asked, estimate), output, seconds in outcome.unfinished:
            if outcome.end in (End.LEFT, End.OVER_BUDGET) and asked.reasons:
                hidden = min(int(seconds * TOKENS_PER_SECOND), estimate.units.output)
                output = max(output, hidden)
            units = estimate.units._replace(output=output, requests=1)
            begun.append(Charge(asked.model, units, asked.tier))
        charges = (*outcome.charges, *begun)
        if not charges:
            return replace(_ONE_REQUEST[0], requests=max(outcome.requests, 1)), "none"
        rule: ChargedBy = "usage"
        if begun:
            rule = "disconnect" if outcome.end in (End.LEFT, End.STOPPED) else "estimate"
        amount, rule = self._counted(hold, charges, rule)
        return replace(amount, requests=max(outcome.requests, 1)), rule

    def _named(self, hold: CallHold, charges: tuple[Charge, ...]) -> tuple[Charge, ...]:
        """``charges`` by the model that the provider's entry tells, where a deployment was called."""
        asked = hold.requested.asked
        if not charges or not asked.deployment:
            return charges
        return by_model(charges, asked.deployment, asked.model)

    def _at_least_held(self, hold: CallHold, outcome: Outcome, rule: ChargedBy) -> Charged:
        """The hold, or the provider's count if that is more."""
        held = self._held(hold)
        if not outcome.charges:
            return held, rule
        counted, by = self._counted(hold, outcome.charges, "usage")
        most = Amount(
            max(held.nano_usd, counted.nano_usd), max(held.tokens, counted.tokens), held.requests
        )
        return (held, rule) if most == held else (most, by)

    def _with_unknown(self, hold: CallHold, outcome: Outcome, ended: Charged) -> Charged:
        """Attempts of unknown fate: their requests were written, and no answer came. A time-out of ours waited for an answer
        that the provider worked on; a connection that was lost may have taken only the input. Either is charged once a call,
        when the call is given up; an attempt that succeeds later is charged alone. Each is charged at the price of the
        provider that it was made to: of a provider and its fallback the dearer of both."""
        unknown = [a for a in outcome.attempts if a.unknown and a.outcome != "cancelled"]
        if not unknown or hold.requested.admitted.operation.socket:
            return ended
        if hold.requested.admitted.worst:
            amount, rule = ended
            for attempt in unknown:
                amount = enlarged(amount, _of(hold, attempt).first)
            return amount, "hold" if rule == "none" else rule
        if outcome.in_flight or outcome.end not in (End.UNKNOWN, End.ERROR):
            return ended
        theirs = [attempt for attempt in unknown if attempt.provider]
        ours = [attempt for attempt in unknown if not attempt.provider]
        found = [self._given_up(_of(hold, some[0]), some) for some in (ours, theirs) if some]
        return max(found, key=lambda one: (one[0].nano_usd, one[0].tokens))

    def _given_up(self, hold: CallHold, unknown: list[Attempt]) -> Charged:
        """Of the attempts at one provider."""
        if fixed_hold(hold.requested) is not None or any(
            attempt.outcome not in _LOST for attempt in unknown
        ):
            return self._held(hold), "hold"
        units = Units(input=hold.estimate.units.input, requests=1)
        return self._counted(hold, (Charge("", units, hold.requested.asked.tier),), "estimate")

    def _counted(self, hold: CallHold, charges: tuple[Charge, ...], rule: ChargedBy) -> Charged:
        cost = self._priced(hold, charges)
        if cost.nano_usd <= MAX_AMOUNT and cost.tokens <= MAX_AMOUNT:
            return cost, rule
        log.error(
            "call %s: a usage that can't be true (%d tokens); its hold is charged",
            hold.id,
            cost.tokens,
        )
        return self._held(hold), "hold"

    def _priced(self, hold: CallHold, charges: tuple[Charge, ...]) -> Amount:
        """The sum of their prices. Where one has no price (or none any more) it is at least what was held, which is 0 without
        a money limit."""
        requested = hold.requested
        if charges and requested.asked.deployment:
            self._served(requested, charges[0].model)
            charges = by_model(charges, requested.asked.deployment, requested.asked.model)
        return amount_of(self._prices, PriceTerms.of(requested), charges, self._held(hold).nano_usd)

    def beside(self, hold: CallHold, outcome: Outcome) -> Amount:
        """What a call is charged for attempts of unknown fate, whatever its answer costs."""
        amount, _ = self._with_unknown(hold, outcome, _ONE_REQUEST)
        return amount

    def late(self, pending: Pending, seen: LateUsage) -> Charged:
        """What a call costs whose usage came later: the usage. Without one it is the hold, or for an
        answer that has failed one request. What is charged beside stands in ``pending``."""
        if not seen.charges:
            if not seen.error:
                return pending.held, "hold"
            return pending.extra, "hold" if pending.extra.nano_usd else "none"
        terms = PriceTerms(
            pending.price_id, pending.host, pending.model, pending.at, pending.dearest
        )
        charges = seen.charges
        self.totals(pending.provider, pending.model, charges)
        if pending.deployment:
            charges = by_model(charges, pending.deployment, pending.model)
        cost = amount_of(self._prices, terms, charges, pending.held.nano_usd)
        if cost.nano_usd > MAX_AMOUNT or cost.tokens > MAX_AMOUNT:
            log.error("call %s: a usage that can't be true; its hold is charged", pending.call_id)
            return pending.held, "hold"
        return replace(enlarged(cost, pending.extra), price=cost.price), "usage"


def starts_job(requested: Requested) -> bool:
    """The cost of what it starts comes later, and its hold stands for it."""
    return requested.admitted.operation.cost == "job" and fixed_hold(requested) is not None


def fixed_hold(requested: Requested) -> int | None:
    """What is held for it by the configuration, in nano-dollars. None: its estimate is held."""
    admitted = requested.admitted
    return admitted.provider.fixed_hold(admitted.operation, admitted.arrival.head.method)


def _of(hold: CallHold, attempt: Attempt) -> CallHold:
    """What was held for the provider that ``attempt`` was made to."""
    return hold if attempt.provider or hold.before is None else hold.before
