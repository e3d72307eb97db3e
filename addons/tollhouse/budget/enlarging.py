"""What makes a hold larger: a stream that grows, a session that goes on, a repeat, a fallback."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Final

from tollhouse.budget.charges import Charges
from tollhouse.budget.fail_open import FailOpen
from tollhouse.budget.growth import LEAST_TOKENS
from tollhouse.budget.hold import CallHold, enlarged
from tollhouse.budget.refusals import refusal, unpriced
from tollhouse.call import (
    NOTHING,
    Amount,
    Covered,
    Requested,
)
from tollhouse.denial import Denial
from tollhouse.families.asked import Asked
from tollhouse.families.dialogue import Exposed
from tollhouse.families.formats.document import is_quick
from tollhouse.families.units import Charge
from tollhouse.ledger.hold_reply import Held, Short
from tollhouse.ledger.ledger import Ledger, LedgerUnavailable
from tollhouse.ledger.limits import MAX_AMOUNT

log = logging.getLogger(__name__)


CLAMP_TRIES: Final = 4


class Enlarging:
    """`Purse` gives it the same ``held``, ``charges`` and ``fail_open`` that it holds and settles by."""

    def __init__(
        self,
        ledger: Ledger,
        charges: Charges,
        held: Mapping[str, CallHold],
        fail_open: FailOpen | None,
        *,
        deadline_s: float,
    ) -> None:
        self._ledger = ledger
        self._charges = charges
        self.held = held
        self._fail_open = fail_open
        self._deadline_s = deadline_s

    @staticmethod
    def set_output(hold: CallHold, tokens: int) -> None:
        hold.estimate = hold.estimate._replace(units=hold.estimate.units._replace(output=tokens))

    def output_within(self, hold: CallHold, base: int, most: int, short: Short) -> int:
        """The largest number of output tokens beyond ``base``, at most ``most``, that what is left is enough for. With
        ``base`` 0 the input has to fit as well."""

        def amount(output: int) -> Amount:
            cost = self._charges.ceiling(hold.requested, hold.estimate, output) or 0
            return Amount(cost, hold.estimate.units.input + hold.estimate.predicted + output)

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

    async def extend(self, hold: CallHold, more: int) -> tuple[int, Denial | None]:
        """Holds ``more`` tokens of output for a stream under way, or as many as there is room for: how many, and why not
        all. While Redis is away a stream goes on: it is charged what it used when it is settled."""
        if hold.id not in self.held:
            return more, None
        if self._fail_open is not None and hold.id in self._fail_open.opened:
            return await self._extend_opened(self._fail_open, hold, more)
        refused: Short | None = None
        asked = hold.amount
        wanted = more
        output = hold.estimate.units.output
        try:
            while wanted:
                cost = self._charges.ceiling(hold.requested, hold.estimate, output + wanted)
                step = Amount(max((cost or 0) - hold.amount.nano_usd, 0), wanted, 0)
                result = await self._ledger.extend(hold.id, hold.scopes, step)
                if isinstance(result, Held):
                    self.set_output(hold, output + wanted)
                    hold.amount = enlarged(hold.amount, step)
                    break
                if refused is not None:
                    wanted = 0
                    break
                refused, asked = result, enlarged(hold.amount, step)
                wanted = self.output_within(hold, output, more, result)
                if wanted < LEAST_TOKENS or result.others:
                    wanted = 0
        except (LedgerUnavailable, ValueError) as e:
            log.warning("the hold of call %s could not be extended (%s)", hold.id, e)
            return more, None
        if refused is None:
            return wanted, None
        admitted = hold.requested.admitted
        session = admitted.arrival.session
        return wanted, refusal(refused, admitted.project, asked, output + more, session=session)

    async def cover(
        self,
        call_id: str,
        asked: Asked,
        charges: tuple[Charge, ...],
        exposed: Sequence[Exposed],
        requests: int,
        lowerable: Exposed | None = None,
    ) -> Denial | int | None:
        """Makes the hold of a session large enough for what was counted and for the ``exposed`` answers, or says why it
        can't be. ``asked`` is what the session asks for by now. Of two at a time one waits for the other. Where the project
        clamps and nothing else helps it is made large enough for less output of ``lowerable``, which is one of the exposed,
        and gives how much."""
        hold = self.held.get(call_id)
        if hold is None:
            return Denial("internal", "Nothing is held for the session.")
        async with hold.covering:
            if asked is not hold.requested.asked:
                hold.requested = hold.requested._replace(asked=asked)
            need, priced = self._charges.session(hold, charges, exposed)
            if not priced and not hold.priced_anyway:
                if (denial := await self._may_be_unpriced(hold)) is not None:
                    return denial
                hold.priced_anyway = True
            now = hold.amount
            amount = Amount(
                max(need.nano_usd, now.nano_usd),
                max(need.tokens, now.tokens),
                max(requests, now.requests),
            )
            if amount == now:
                return None
            refused = await self._enlarge(hold, amount)
            if refused is None or isinstance(refused, Denial):
                return refused
            admitted = hold.requested.admitted
            if lowerable is not None and admitted.project.on_shortfall == "clamp":
                lowered = await self._lowered(
                    hold, replace(need, requests=amount.requests), lowerable, refused
                )
                if lowered is not None:
                    return lowered
            output = sum(estimate.units.output for _, estimate in exposed)
            session = admitted.arrival.session
            return refusal(refused, admitted.project, amount, output, session=session)

    async def _lowered(
        self, hold: CallHold, need: Amount, lowerable: Exposed, short: Short
    ) -> int | None:
        """Holds ``need`` with less output of ``lowerable``, and gives how much; None if nothing of it fits."""
        asked, estimate = lowerable
        requested = hold.requested._replace(asked=asked)
        whole = self._charges.amount(requested, estimate)[0]

        def with_output(output: int) -> Amount:
            one = self._charges.amount(requested, estimate.of_output(output))[0]
            return Amount(
                max(need.nano_usd - whole.nano_usd + one.nano_usd, hold.amount.nano_usd),
                max(need.tokens - whole.tokens + one.tokens, hold.amount.tokens),
                need.requests,
            )

        for _ in range(CLAMP_TRIES):
            now = hold.amount
            low, high = 0, 0 if short.others else estimate.units.output - 1
            while low < high:
                middle = (low + high + 1) // 2
                end = with_output(middle)
                fits = (
                    short.left_usd is None or end.nano_usd - now.nano_usd <= short.left_usd
                ) and (short.left_tokens is None or end.tokens - now.tokens <= short.left_tokens)
                low, high = (middle, high) if fits else (low, middle - 1)
            if low < max(asked.least_cap, 1):
                return None
            refused = await self._enlarge(hold, with_output(low))
            if not isinstance(refused, Short):
                if refused is None:
                    hold.clamped = low
                return low if refused is None else None
            # Others were faster, or another limit is the tighter one now.
            short = refused
        return None

    async def _enlarge(self, hold: CallHold, amount: Amount) -> Denial | Short | None:
        """Holds ``amount``, which is at least what is held, or says why it can't. While Redis is away nothing more leaves,
        unless `FailOpen` let the call through."""
        now = hold.amount
        step = Amount(
            amount.nano_usd - now.nano_usd,
            amount.tokens - now.tokens,
            amount.requests - now.requests,
        )
        try:
            if self._fail_open is not None and hold.id in self._fail_open.opened:
                refused = await self._fail_open.enlarge(hold.id, amount)
                if refused is not None:
                    return refused
            else:
                result = await self._ledger.extend(hold.id, hold.scopes, step)
                if isinstance(result, Short):
                    return result
        except (LedgerUnavailable, ValueError) as e:
            log.error("the hold of call %s could not be extended (%s)", hold.id, e)
            return Denial("ledger_unavailable", headers=(("retry-after", "1"),))
        # A stream's own growth may have added to it meanwhile.
        hold.amount = replace(enlarged(hold.amount, step), requests=amount.requests)
        return None

    async def _may_be_unpriced(self, hold: CallHold) -> Denial | None:
        """Whether no limit in money is against a session whose model has no price. The ledger alone knows all limits, and
        says so of a hold: one of nothing is asked for, and given back."""
        probe = f"{hold.id}.price"
        try:
            result = await self._ledger.hold(
                probe, hold.scopes, NOTHING, deadline_s=self._deadline_s, priced=False
            )
            if isinstance(result, Held):
                await self._ledger.release(probe, hold.scopes)
                return None
        except LedgerUnavailable as e:
            log.error("session %s: the ledger is away (%s)", hold.id, e)
            return Denial("ledger_unavailable", headers=(("retry-after", "1"),))
        if isinstance(result, Short):
            return refusal(result, hold.requested.admitted.project, NOTHING, 0)
        return unpriced(hold.requested)

    async def _extend_opened(
        self, fail_open: FailOpen, hold: CallHold, more: int
    ) -> tuple[int, Denial | None]:
        """The same for a call that Redis has no hold of: all or nothing."""
        output = hold.estimate.units.output
        cost = self._charges.ceiling(hold.requested, hold.estimate, output + more)
        nano_usd = min(max(cost or 0, hold.amount.nano_usd), MAX_AMOUNT)
        amount = Amount(nano_usd, min(hold.amount.tokens + more, MAX_AMOUNT), hold.amount.requests)
        refused = await fail_open.enlarge(hold.id, amount)
        if refused is not None:
            if isinstance(refused, Denial):
                return 0, refused
            admitted = hold.requested.admitted
            session = admitted.arrival.session
            return 0, refusal(refused, admitted.project, amount, output + more, session=session)
        self.set_output(hold, output + more)
        hold.amount = amount
        return more, None

    async def fall_back(
        self, call_id: str, requested: Requested, *, unknown: bool
    ) -> Covered | None:
        """Holds what the call costs at the fallback of its provider: ``requested`` is the call as that one is asked. None if
        it may not cost so much, or nobody knows what it costs there.

        One of the two will be charged, so the dearer is held. At worst an attempt of unknown fate (``unknown``) is charged
        beside what comes, so both are."""
        hold = self.held.get(call_id)
        if hold is None or hold.before is not None:
            return None
        estimate = requested.estimate
        if hold.growth is not None or hold.clamped is not None:
            # As much output as is held by now, or as the cap that was lowered has.
            estimate = estimate.of_output(hold.estimate.units.output)
        first, priced = self._charges.amount(requested, estimate)
        if hold.priced and not priced:
            log.warning(
                "call %s is not tried at its provider's fallback: %s/%s has no price there ([prices])",
                call_id,
                requested.admitted.provider.name,
                requested.asked.model,
            )
            return None
        if unknown and requested.admitted.worst:
            wanted = enlarged(hold.amount, first)
        else:
            wanted = Amount(
                max(hold.amount.nano_usd, first.nano_usd), max(hold.amount.tokens, first.tokens)
            )
        before = copy(hold)
        if not await self._holds(hold, wanted, "tried at its provider's fallback"):
            return None
        hold.before, hold.requested, hold.estimate, hold.first = before, requested, estimate, first
        hold.requested = await as_sent(hold)
        return Covered(hold.requested, hold)

    async def holds_again(self, hold: CallHold) -> bool:
        """With ``estimate = "worst"`` an attempt of unknown fate is charged its hold, and is repeated only if another one of
        that size can be held."""
        return await self._holds(hold, enlarged(hold.amount, hold.first), "tried again")

    async def _holds(self, hold: CallHold, amount: Amount, why: str) -> bool:
        """Whether ``amount``, which is at least what is held, is held now."""
        wanted = replace(amount, requests=hold.amount.requests)
        if wanted == hold.amount:
            return True
        refused = await self._enlarge(hold, wanted)
        if refused is not None:
            log.warning("call %s is not %s: its hold could not be extended", hold.id, why)
        return refused is None


async def never(hold: CallHold) -> bool:
    """An attempt of unknown fate may have started a job, and another one would start a second."""
    return False


async def as_sent(hold: CallHold) -> Requested:
    """The request as it will be sent. The parsed body is let go of. To change a large body takes its time."""
    requested = hold.requested
    if not isinstance(requested.body, bytes):
        return requested
    asked, body, rewrite = (
        requested.asked,
        requested.body,
        requested.admitted.provider.family.rewrite,
    )
    if hold.clamped is not None:
        asked = asked._replace(lowered_to=hold.clamped)
    if asked.asks_for_usage or asked.lowered_to is not None:
        body = (
            rewrite(body, asked)
            if is_quick(body)
            else await asyncio.to_thread(rewrite, body, asked)
        )
    sent = requested._replace(body=body, asked=asked, coded=None)
    if requested.coded is None:
        return sent
    if body is requested.body or body == requested.body:
        return sent._replace(body=requested.coded)
    # What was changed is sent as it is.
    headers = [pair for pair in requested.headers if pair[0] != "content-encoding"]
    return sent._replace(headers=headers)
