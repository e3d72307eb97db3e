"""The gate that holds a call's cost, and the settling of it. How much that is says `charges`."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from tollhouse.accounts.token import without_tokens
from tollhouse.budget.charges import Charges, held_at_worst
from tollhouse.budget.fail_open import FailOpen
from tollhouse.budget.growth import LEAST_TOKENS, Growth, Interruptible
from tollhouse.budget.refusals import refusal, unpriced
from tollhouse.call import Amount, Call, ChargedBy
from tollhouse.denial import Decision, Denial
from tollhouse.families.openai.request import lower_cap
from tollhouse.ledger.ledger import Held, Ledger, LedgerUnavailable, Scope, Short, Unpriced
from tollhouse.ledger.limits import MAX_AMOUNT
from tollhouse.ledger.spool import Spool, SpoolRecord
from tollhouse.prices.table import PriceTable
from tollhouse.timestamps import rfc3339

log = logging.getLogger(__name__)

_CLAMP_TRIES: Final = 4
_AT_ONCE: Final = 256
"""Renewals sent together; the ledger's pipeline makes one write of them."""
_RENEW_WITHIN_S: Final = 10.0
"""Once a renewal has failed no more are begun after so long."""
_MAX_UNSETTLED: Final = 10_000


class Purse:
    """Holds before anything leaves, settles after. A call it has held is in `held` until it is settled or released, then
    in the spool for as long as Redis could not be told. ``fail_open`` may stand in for a hold while Redis is away."""

    name = "budget"

    def __init__(
        self,
        ledger: Ledger,
        prices: PriceTable,
        spool: Spool,
        *,
        deadline_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        fail_open: FailOpen | None = None,
    ) -> None:
        """``clock`` never goes back; ``now`` is the time that is written down."""
        self._clock = clock
        self._now = now
        self._ledger = ledger
        self._charges = Charges(prices)
        self._spool = spool
        self._deadline_s = deadline_s
        self._fail_open = fail_open
        self.held: dict[str, tuple[Scope, ...]] = {}
        self.growing: dict[str, Growth] = {}
        """Streams under way without an output cap."""
        self.unsettled: dict[str, SpoolRecord] = {}
        """What could be told neither to Redis nor to the spool."""

    async def __call__(self, call: Call, exchange: Interruptible) -> Decision:
        """Refuses 402, 403 (unpriced) and 429; `LedgerUnavailable` passes through. May lower the request's output cap."""
        call.estimate = self._charges.estimate(call)
        scopes = scopes_of(call)
        # Entered before the answer is known: a hold whose answer is lost must be settled or swept, not forgotten.
        self.held[call.id] = scopes
        try:
            result = await self._first_hold(call, scopes)
            if isinstance(result, Short) and call.project is not None and call.project.on_shortfall == "clamp":
                result = await self._clamped(call, scopes, result)
        except LedgerUnavailable:
            del self.held[call.id]
            call.estimate = Amount(requests=0)
            raise
        if not isinstance(result, Held):
            del self.held[call.id]
            denial = self._refusal(result, call) if isinstance(result, Short) else unpriced(call)
            call.estimate = Amount(requests=0)
            return Decision.refuse(self.name, denial)
        if call.stream and not call.capped and call.output_cap and not held_at_worst(call):
            growth = self.growing[call.id] = Growth(call, exchange, self._extend, self._clock)
            call.covers = growth.covers
        return Decision.allow(self.name)

    async def _first_hold(self, call: Call, scopes: tuple[Scope, ...]) -> Held | Short | Unpriced:
        """While Redis has not said a word of this call, `FailOpen` may stand in for it."""
        if self._fail_open is None:
            return await self._hold(call, scopes)
        try:
            return await self._hold(call, scopes, give_back=False)
        except LedgerUnavailable as error:
            taken: Held | Unpriced | None = None
            try:
                taken = await self._fail_open.takes(call, scopes, _carried(call), error)
            except Exception:
                log.exception("call %s may not leave: unsafe_fail_open failed", call.id)
            finally:
                if not isinstance(taken, Held):
                    self._spool.done(call.id)
                    self._ledger.give_back(call.id, scopes)
            if taken is None:
                raise
            return taken

    async def _hold(self, call: Call, scopes: tuple[Scope, ...], *, give_back: bool = True) -> Held | Short | Unpriced:
        return await self._ledger.hold(
            call.id,
            scopes,
            call.estimate,
            deadline_s=self._deadline_s,
            carried=_carried(call),
            priced=call.priced,
            give_back=give_back,
        )

    async def _clamped(self, call: Call, scopes: tuple[Scope, ...], short: Short) -> Held | Short | Unpriced:
        """Holds what there is, and lowers the output cap in the request to it; the first refusal if there is nothing."""
        whole, result = call.output_cap, short
        for _ in range(_CLAMP_TRIES):
            each = 0 if result.others else self._output_within(call, 0, call.output_cap, result) // call.answers
            if each < 1:
                break
            call.output_cap = each * call.answers
            call.estimate = self._charges.estimate(call)
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
        call.estimate = self._charges.estimate(call)
        return short

    def _output_within(self, call: Call, base: int, most: int, short: Short) -> int:
        """The largest number of output tokens beyond ``base``, at most ``most``, that what is left is enough for. With
        ``base`` 0 the input has to fit as well."""

        def amount(output: int) -> Amount:
            return Amount(self._charges.ceiling(call, output) or 0, call.input_estimate + call.predicted + output)

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

    def _refusal(self, short: Short, call: Call) -> Denial:
        least = None
        if call.endpoint is not None and call.endpoint.billable:
            output = min(call.answers, call.output_cap)
            tokens = call.input_estimate + call.predicted + output
            least = (self._charges.ceiling(call, output) or 0) if short.unit == "usd" else tokens
        return refusal(short, call, least=least)

    async def _extend(self, call: Call, more: int) -> tuple[int, Denial | None]:
        """Holds ``more`` tokens of output for a stream under way, or as many as there is room for: how many, and why not
        all. While Redis is away a stream goes on: it is charged what it used when it is settled."""
        scopes = self.held.get(call.id)
        if scopes is None:
            return more, None
        if self._fail_open is not None and call.id in self._fail_open.opened:
            return await self._extend_opened(self._fail_open, call, more)
        refused: Short | None = None
        wanted = more
        try:
            while wanted:
                cost = self._charges.ceiling(call, call.output_cap + wanted)
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
        return wanted, refusal(refused, call) if refused is not None else None

    async def _extend_opened(self, fail_open: FailOpen, call: Call, more: int) -> tuple[int, Denial | None]:
        """The same for a call that Redis has no hold of: all or nothing."""
        cost = self._charges.ceiling(call, call.output_cap + more)
        held = call.estimate
        nano_usd = min(max(cost or 0, held.nano_usd), MAX_AMOUNT)
        amount = Amount(nano_usd, min(held.tokens + more, MAX_AMOUNT), held.requests)
        refused = await fail_open.enlarge(call, amount)
        if refused is not None:
            return 0, refusal(refused, call) if isinstance(refused, Short) else refused
        call.output_cap += more
        call.estimate = amount
        return more, None

    async def grow(self) -> None:
        """Extend the holds of the streams that say nothing; called once a second."""
        if self.growing:
            await asyncio.gather(*(growth.tick() for growth in tuple(self.growing.values())))

    def charge(self, call: Call) -> tuple[Amount, ChargedBy] | None:
        """What the call costs and by what rule (`Charges.charge`); None if it never left, so that all is given back."""
        return self._charges.charge(call)

    async def settle(self, call: Call, record: Mapping[str, object]) -> None:
        """End the hold with what `charge` decided; safe to call again. Raises nothing: what Redis can't be told now is on
        disk when this returns, and told by `retry`; if the hold is swept before, it is charged in full and corrected
        then."""
        scopes = self.held.pop(call.id, None)
        self.growing.pop(call.id, None)
        if scopes is None:
            return
        unheld = self._fail_open is not None and self._fail_open.ended(call.id)
        ending = SpoolRecord(call.id, scopes, call.charged, _flat(record))
        try:
            if await self._tell(ending):
                self._spool.done(call.id)
        except BaseException as e:
            ending = replace(ending, tried_at=None if unheld else self._now())
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
        """Settle what could not be settled, and hold what has no hold; called when Redis answers. A call is settled once
        however often it is told. Raises `OSError` when the spool can't be read."""
        try:
            if self._fail_open is not None:
                await self._fail_open.adopt()
            for call_id, ending in list(self.unsettled.items()):
                if await self._tell(ending):
                    self._spool.done(call_id)
                self.unsettled.pop(call_id, None)
            if self._spool.waiting or self._spool.spent:
                told = await self._spool.replay(self._tell)
                if told:
                    log.warning("%d spooled settles were told to Redis", told)
        except LedgerUnavailable as e:
            log.warning("spooled settles wait on (%s)", e)

    async def _tell(self, ending: SpoolRecord) -> bool:
        """False: it can't be told, now or later."""
        try:
            if ending.kind == "begun":
                await self._ledger.charge_lost(ending.call_id, ending.scopes, ending.charged, ending.record)
            elif ending.charged.requests == 0:
                await self._ledger.release(ending.call_id, ending.scopes, ending.record)
            else:
                answer = await self._ledger.settle(
                    ending.call_id, ending.scopes, ending.charged, record=ending.record, tried_at=ending.tried_at
                )
                if answer == "forgotten":
                    log.error(
                        "call %s is not charged now: it ended about a day ago or earlier, and Redis, which forgets ended calls "
                        "after 24 hours, can't say whether it was charged then. Its cost was %s USD; if the stream of its "
                        "tenant's calls has no record of it, count it by hand",
                        ending.call_id,
                        ending.record.get("cost_usd", "?"),
                    )
        except LedgerUnavailable:
            raise
        except Exception:
            log.exception("call %s cannot be settled: its hold will be charged when it expires", ending.call_id)
            return False
        return True

    async def renew(self) -> None:
        """Move the deadline of every hold under way; called well within ``deadline_s``. On a Cluster a server may be away, and
        with it some tenants: the others' holds are renewed all the same."""
        holds = list(self.held.items())
        began, lost = self._clock(), set[str]()
        for start in range(0, len(holds), _AT_ONCE):
            batch = [hold for hold in holds[start : start + _AT_ONCE] if hold[1][0].tenant not in lost]
            results = await asyncio.gather(
                *(self._ledger.renew(*hold, self._deadline_s) for hold in batch), return_exceptions=True
            )
            failed = [
                (hold, error) for hold, error in zip(batch, results, strict=True) if isinstance(error, BaseException)
            ]
            if failed:
                log.warning("%d holds could not be renewed (%s)", len(failed), failed[0][1])
                lost.update(scopes[0].tenant for (_, scopes), _ in failed)
                if self._clock() - began > _RENEW_WITHIN_S:
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
        "ts": rfc3339(call.timestamp, "milliseconds"),
    }


def _flat(record: Mapping[str, object]) -> dict[str, str]:
    """The line as a Redis stream keeps it: a string as it is, anything else as JSON."""
    return {k: v if isinstance(v, str) else json.dumps(v, separators=(",", ":")) for k, v in record.items()}
