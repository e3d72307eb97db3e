"""The gate that holds a call's cost, and the settling of it. `charges` says how much that is.

Past 400 lines: one class, since what it holds and what it settles are one map.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import ClassVar, Final

from tollhouse.budget.afterwards import Afterwards
from tollhouse.budget.charges import Charges, fixed_hold, starts_job
from tollhouse.budget.fail_open import FailOpen
from tollhouse.budget.growth import LEAST_TOKENS, Growth, Interruptible
from tollhouse.budget.hold import CallHold, enlarged
from tollhouse.budget.place import Place
from tollhouse.budget.refusals import refusal, unpriced
from tollhouse.budget.renewal import Holds, Scoped, renew
from tollhouse.call import (
    NOTHING,
    Amount,
    ChargedBy,
    Covered,
    LateUsage,
    Outcome,
    Pending,
    Requested,
)
from tollhouse.denial import Denial, Refused
from tollhouse.families.base import Asked, Exposed
from tollhouse.families.formats.document import is_quick
from tollhouse.families.units import Charge
from tollhouse.ledger.ledger import Held, Ledger, LedgerUnavailable, Short, Unpriced
from tollhouse.ledger.limits import MAX_AMOUNT
from tollhouse.ledger.records import texts
from tollhouse.ledger.spool import Spool, SpoolRecord
from tollhouse.prices.table import PriceTable

log = logging.getLogger(__name__)

_CLAMP_TRIES: Final = 4
_RETRY_WITHIN_S: Final = 10.0
"""Once Redis could not be told of one tenant's call no more tenants are begun after so long."""
_MAX_UNSETTLED: Final = 10_000


class Purse:
    """Holds before anything leaves, settles after. A call it has held is in `held` until it is settled or released, then
    in the spool for as long as Redis could not be told. ``fail_open`` may stand in for a hold while Redis is away."""

    name: ClassVar = "budget"
    gives: ClassVar = Covered

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
        afterwards: Afterwards | None = None,
    ) -> None:
        """``clock`` never goes back; ``now`` is the time that is written down."""
        self._clock = clock
        self._now = now
        self._ledger = ledger
        self._charges = Charges(prices)
        self._spool = spool
        self._deadline_s = deadline_s
        self._fail_open = fail_open
        self._afterwards = afterwards
        self.places: Holds[Scoped] = Holds()
        """Of calls whose body is still coming."""
        self.held: Holds[CallHold] = Holds(self.places)
        self.place = Place(
            ledger, self.places, deadline_s=deadline_s, fail_open=fail_open is not None
        )
        """The gate before the body is read."""
        self.unsettled: dict[str, SpoolRecord] = {}
        """What could be told neither to Redis nor to the spool."""

    @property
    def without_usage(self) -> Mapping[str, int]:
        """Of `Charges`."""
        return self._charges.without_usage

    @property
    def uneven(self) -> Mapping[str, int]:
        """Of `Totals`."""
        return self._charges.totals.uneven

    async def __call__(self, requested: Requested, exchange: Interruptible) -> Covered:
        """Refuses 402, 403 (unpriced), 429 and 503 (the ledger is away). May lower the request's output cap."""
        amount, priced = self._charges.amount(requested, requested.estimate)
        hold = CallHold(requested, requested.estimate, amount)
        hold.priced = priced
        # Entered before the answer is known: a hold whose answer is lost must be settled or swept, not forgotten.
        self.held[hold.id] = hold
        try:
            result = await self._first_hold(hold)
            clamps = requested.admitted.project.on_shortfall == "clamp"
            # A handshake has no cap that could be lowered.
            if isinstance(result, Short) and clamps and not requested.admitted.operation.socket:
                result = await self._clamped(hold, result)
        except LedgerUnavailable as error:
            del self.held[hold.id]
            log.error("call %s: the ledger is away (%s)", hold.id, error)
            raise Refused("ledger_unavailable", headers=(("retry-after", "1"),)) from None
        if not isinstance(result, Held):
            del self.held[hold.id]
            denial = (
                self._refusal(result, hold) if isinstance(result, Short) else unpriced(requested)
            )
            raise Refused.of(denial)
        if hold.estimate.grows and not hold.capped:

            async def extend(more: int) -> tuple[int, Denial | None]:
                return await self._extend(hold, more)

            output = hold.estimate.units.output
            hold.growth = Growth(requested.asked, output, exchange, extend, self._clock)
        if starts_job(requested):
            hold.repeats = _never
        elif requested.admitted.worst:
            hold.repeats = self._holds_again
        hold.requested = await _as_sent(hold)
        return Covered(hold.requested, hold)

    async def _first_hold(self, hold: CallHold) -> Held | Short | Unpriced:
        """While Redis has not said a word of this call, `FailOpen` may stand in for it."""
        if self._fail_open is None:
            return await self._hold_instead_of_place(hold)
        try:
            return await self._hold_instead_of_place(hold, give_back=False)
        except LedgerUnavailable as error:
            taken: Held | Unpriced | None = None
            try:
                taken = await self._fail_open.takes(hold, error)
            except Exception:
                log.exception("call %s may not leave: unsafe_fail_open failed", hold.id)
            finally:
                if not isinstance(taken, Held):
                    self._spool.done(hold.id)
                    self._ledger.give_back(hold.id, hold.scopes)
            if taken is None:
                raise
            return taken

    async def _hold_instead_of_place(
        self, hold: CallHold, *, give_back: bool = True
    ) -> Held | Short | Unpriced:
        """Both are told in one write, the end of the place first, so that the call is not in its own way. Redis may all the
        same answer the hold first (it has to be given a script, or the write was divided): then it is asked again."""
        if not self.place.taken(hold.id):
            return await self._hold(hold, give_back=give_back)
        _, result = await asyncio.gather(
            self.place.leave(hold.id), self._hold(hold, give_back=give_back)
        )
        if isinstance(result, Short) and (result.others or result.unit == "concurrent"):
            return await self._hold(hold, give_back=give_back)
        return result

    async def _hold(self, hold: CallHold, *, give_back: bool = True) -> Held | Short | Unpriced:
        return await self._ledger.hold(
            hold.id,
            hold.scopes,
            hold.amount,
            deadline_s=self._deadline_s,
            carried=hold.carried,
            priced=hold.priced,
            give_back=give_back,
        )

    async def _clamped(self, hold: CallHold, short: Short) -> Held | Short | Unpriced:
        """Holds what there is, and has the output cap in the request lowered to it; the first refusal if there is nothing."""
        whole, amount, result = hold.estimate, hold.amount, short
        choices, least = hold.requested.asked.choices, hold.requested.asked.least_cap
        for _ in range(_CLAMP_TRIES):
            most = hold.estimate.units.output
            each = 0 if result.others else self._output_within(hold, 0, most, result) // choices
            if each < max(least, 1):
                break
            self._set_output(hold, each * choices)
            hold.amount = self._charges.amount(hold.requested, hold.estimate)[0]
            held = await self._hold(hold)
            if not isinstance(held, Short):
                if isinstance(held, Held):
                    hold.clamped, hold.first = each, hold.amount
                return held
            # Others were faster, or another limit is the tighter one now.
            result = held
        hold.estimate, hold.amount = whole, amount
        return short

    @staticmethod
    def _set_output(hold: CallHold, tokens: int) -> None:
        hold.estimate = hold.estimate._replace(units=hold.estimate.units._replace(output=tokens))

    def _output_within(self, hold: CallHold, base: int, most: int, short: Short) -> int:
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

    def _refusal(self, short: Short, hold: CallHold) -> Denial:
        least = None
        requested, estimate = hold.requested, hold.estimate
        if requested.admitted.operation.metered:
            lowest = requested.asked.choices * max(requested.asked.least_cap, 1)
            output = min(lowest, estimate.units.output)
            tokens = estimate.units.input + estimate.predicted + output
            cost = self._charges.ceiling(requested, estimate, output) or 0
            least = cost if short.unit == "usd" else tokens
        return refusal(
            short,
            requested.admitted.project,
            hold.amount,
            estimate.units.output,
            least=least,
            session=requested.admitted.arrival.session,
            fixed=fixed_hold(requested) is not None,
        )

    async def _extend(self, hold: CallHold, more: int) -> tuple[int, Denial | None]:
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
                    self._set_output(hold, output + wanted)
                    hold.amount = enlarged(hold.amount, step)
                    break
                if refused is not None:
                    wanted = 0
                    break
                refused, asked = result, enlarged(hold.amount, step)
                wanted = self._output_within(hold, output, more, result)
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
    ) -> Denial | None:
        """Makes the hold of a session large enough for what was counted and for the ``exposed`` answers, or says why it
        can't be. ``asked`` is what the session asks for by now. Of two at a time one waits for the other."""
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
            output = sum(estimate.units.output for _, estimate in exposed)
            session = admitted.arrival.session
            return refusal(refused, admitted.project, amount, output, session=session)

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
        self._set_output(hold, output + more)
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
        hold.requested = await _as_sent(hold)
        return Covered(hold.requested, hold)

    async def _holds_again(self, hold: CallHold) -> bool:
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

    async def grow(self) -> None:
        """Extend the holds of the streams that say nothing; called once a second."""
        growing = [hold.growth for hold in self.held.values() if hold.growth is not None]
        if growing:
            await asyncio.gather(*(growth.tick() for growth in growing))

    def charge(self, call_id: str, outcome: Outcome) -> tuple[Amount, ChargedBy] | None:
        """What the call costs and by what rule (`Charges.charge`); None if nothing is held for it, or if it never left, so that
        all is given back. A price that can't be worked out does not leave a hold behind."""
        hold = self.held.get(call_id)
        if hold is None:
            return None
        try:
            return self._charges.charge(hold, outcome)
        except Exception:
            log.exception("call %s: its cost is not known, so its hold is charged", call_id)
            return hold.amount, "hold"

    async def keep(self, call_id: str, outcome: Outcome) -> bool:
        """Leaves the hold of a call whose usage comes later to `Afterwards`. False: it is to be
        settled now."""
        hold = self.held.get(call_id)
        if self._afterwards is None or outcome.later is None or hold is None or hold.unheld:
            return False
        admitted = hold.requested.admitted
        if admitted.provider.family.late_meter is None or admitted.login:
            # With a login there is no key by which we could ask for it.
            return False
        # Out of the map first: the thread would move its deadline back.
        del self.held[call_id]
        kept = False
        try:
            extra = self._charges.beside(hold, outcome)
            kept = await self._afterwards.keep(hold, outcome.later, extra)
        except LedgerUnavailable as error:
            log.error("call %s can't wait for its usage (%s): its hold is charged", call_id, error)
        except Exception:
            log.exception("call %s can't wait for its usage: its hold is charged", call_id)
        if kept:
            self._spool.done(call_id)
        else:
            self.held[call_id] = hold
        return kept

    async def seen(self, pending: Pending, seen: LateUsage) -> None:
        """The usage of an earlier call has come. Raises nothing: it can be seen again."""
        if self._afterwards is None:
            return
        try:
            await self._afterwards.settle(pending, seen)
        except LedgerUnavailable as error:
            log.warning("call %s is charged later (%s)", pending.call_id, error)
        except Exception:
            log.exception("call %s can't be charged by its usage now", pending.call_id)

    async def settle(self, call_id: str, charged: Amount, record: Mapping[str, object]) -> None:
        """End the hold with what `charge` decided; safe to call again. Raises nothing: what Redis can't be told now is on
        disk when this returns, and told by `retry`; if the hold is swept before, it is charged in full and corrected
        then."""
        hold = self.held.pop(call_id, None)
        if hold is None:
            await self.place.leave(call_id)
            return
        unheld = self._fail_open is not None and self._fail_open.ended(call_id)
        ending = SpoolRecord(call_id, hold.scopes, charged, texts(record))
        try:
            fault = await self._tell(ending)
            if fault is None:
                self._spool.done(call_id)
            else:
                _not_settled(call_id, fault)
        except BaseException as e:
            ending = replace(ending, tried_at=None if unheld else self._now())
            written = self._spool.put(ending)
            log.error(
                "call %s could not be settled (%s): it is spooled and tried again", call_id, e
            )
            if not isinstance(e, LedgerUnavailable):
                raise  # The task was cancelled.
            try:
                await asyncio.shield(written)
            except OSError as error:
                log.error("call %s could not be spooled (%s): it is kept in memory", call_id, error)
                if len(self.unsettled) < _MAX_UNSETTLED:
                    self.unsettled[call_id] = ending

    async def retry(self) -> None:
        """Settle what could not be settled, and hold what has no hold; called when Redis answers.
        A call is settled once however often it is told. On a Cluster a server may be away, and with
        it some tenants: the others' calls are settled all the same. Raises `OSError` when the
        spool can't be read."""
        if self._fail_open is not None:
            try:
                await self._fail_open.adopt()
            except LedgerUnavailable as e:
                log.warning("spooled settles wait on (%s)", e)
                return
        began, asked, lost = self._clock(), set[str](), dict[str, LedgerUnavailable]()

        async def tell(ending: SpoolRecord) -> Exception | None:
            tenant = ending.scopes[0].tenant
            if lost and tenant not in asked:
                late = self._clock() - began > _RETRY_WITHIN_S
                if late or not self._ledger.divided:
                    raise next(iter(lost.values()))
            if tenant in lost:
                raise lost[tenant]
            asked.add(tenant)
            try:
                return await self._tell(ending)
            except LedgerUnavailable as e:
                lost[tenant] = e
                raise

        await self._retry_unsettled(tell)
        replayed = await self._spool.replay(tell)
        if replayed.told:
            log.warning("spooled settles told to Redis: %d", replayed.told)
        if lost:
            log.warning(
                "spooled settles of %d tenants wait on (%s)", len(lost), next(iter(lost.values()))
            )

    async def _retry_unsettled(
        self, tell: Callable[[SpoolRecord], Awaitable[Exception | None]]
    ) -> None:
        for call_id, ending in list(self.unsettled.items()):
            try:
                fault = await tell(ending)
            except LedgerUnavailable:
                continue
            if fault is None:
                self._spool.done(call_id)
            else:
                _not_settled(call_id, fault)
            self.unsettled.pop(call_id, None)

    async def _tell(self, ending: SpoolRecord) -> Exception | None:
        """Why it can't be told, now or later; None: it was. Raises `LedgerUnavailable`."""
        try:
            if ending.kind == "begun":
                await self._ledger.charge_lost(
                    ending.call_id, ending.scopes, ending.charged, ending.record
                )
            elif ending.charged.requests == 0:
                await self._ledger.release(ending.call_id, ending.scopes, ending.record)
            else:
                answer = await self._ledger.settle(
                    ending.call_id,
                    ending.scopes,
                    ending.charged,
                    record=ending.record,
                    tried_at=ending.tried_at,
                )
                if answer == "forgotten" and (ending.charged.nano_usd or ending.charged.tokens):
                    log.error(
                        "call %s is not charged now: it ended about a day ago or earlier, and Redis, which forgets ended calls "
                        "after 24 hours, can't say whether it was charged then. Its cost was %s USD; if the stream of its "
                        "tenant's calls has no record of it, count it by hand",
                        ending.call_id,
                        ending.record.get("cost_usd", "?"),
                    )
        except LedgerUnavailable:
            raise
        except Exception as fault:
            return fault
        return None

    async def renew(self) -> None:
        """Move the deadline of every hold under way; called well within ``deadline_s``."""
        await renew(self._ledger, self.held, self._deadline_s, self._clock)


async def _never(hold: CallHold) -> bool:
    """An attempt of unknown fate may have started a job, and another one would start a second."""
    return False


def _not_settled(call_id: str, fault: Exception) -> None:
    log.error(
        "call %s cannot be settled: its hold will be charged when it expires",
        call_id,
        exc_info=fault,
    )


async def _as_sent(hold: CallHold) -> Requested:
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
