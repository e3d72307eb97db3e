"""The gate that holds a call's cost, and the settling of it. `charges` says how much that is,
and `enlarging` makes a hold larger.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import ClassVar, Final

from tollhouse.budget.afterwards import Afterwards
from tollhouse.budget.charges import Charges, fixed_hold, starts_job
from tollhouse.budget.enlarging import CLAMP_TRIES, Enlarging, as_sent, never
from tollhouse.budget.fail_open import FailOpen
from tollhouse.budget.forgotten import tell_forgotten
from tollhouse.budget.growth import Growth, Interruptible
from tollhouse.budget.hold import CallHold
from tollhouse.budget.place import Place
from tollhouse.budget.refusals import Notices, refusal, unpriced
from tollhouse.budget.renewal import Holds, Scoped, renew
from tollhouse.call import Amount, ChargedBy, Covered, Pending, Requested
from tollhouse.denial import Denial, Refused
from tollhouse.ledger.hold_reply import Held, Short, Unpriced
from tollhouse.ledger.ledger import Ledger, LedgerUnavailable
from tollhouse.ledger.records import texts
from tollhouse.ledger.spool import Spool, SpoolRecord
from tollhouse.outcome import LateUsage, Outcome
from tollhouse.prices.table import PriceTable

log = logging.getLogger(__name__)

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
        self.enlarging = Enlarging(
            ledger, self._charges, self.held, fail_open, deadline_s=deadline_s
        )
        """For calls that are under way."""
        self.place = Place(
            ledger, self.places, deadline_s=deadline_s, fail_open=fail_open is not None
        )
        """The gate before the body is read."""
        self.unsettled: dict[str, SpoolRecord] = {}
        """What could be told neither to Redis nor to the spool."""
        self.notices: Notices | None = None

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
        if self.notices is not None:
            if isinstance(result, Short):
                self.notices.short(result, requested.admitted.project)
            if not priced:
                self.notices.unpriced(requested)
        if not isinstance(result, Held):
            del self.held[hold.id]
            denial = (
                self._refusal(result, hold) if isinstance(result, Short) else unpriced(requested)
            )
            raise Refused.of(denial)
        hold.ample = result.ample
        if hold.estimate.grows and not hold.capped:

            async def extend(more: int) -> tuple[int, Denial | None]:
                return await self.enlarging.extend(hold, more)

            output = hold.estimate.units.output
            hold.growth = Growth(requested.asked, output, exchange, extend, self._clock)
        if starts_job(requested):
            hold.repeats = never
        elif requested.admitted.worst:
            hold.repeats = self.enlarging.holds_again
        hold.requested = await as_sent(hold)
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
        within = self.enlarging.output_within
        for _ in range(CLAMP_TRIES):
            most = hold.estimate.units.output
            each = 0 if result.others else within(hold, 0, most, result) // choices
            if each < max(least, 1):
                break
            self.enlarging.set_output(hold, each * choices)
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
        finally:
            if not kept:
                self.held[call_id] = hold
        if kept:
            self._spool.done(call_id)
        return kept

    async def seen(self, pending: Pending, seen: LateUsage) -> None:
        """The usage of an earlier call has come. Raises nothing: it can be seen again. It goes on where this is cancelled: Redis
        may have been told, and then only this can write the line."""
        if self._afterwards is not None:
            await asyncio.shield(self._settle_seen(self._afterwards, pending, seen))

    @staticmethod
    async def _settle_seen(afterwards: Afterwards, pending: Pending, seen: LateUsage) -> None:
        try:
            await afterwards.settle(pending, seen)
        except LedgerUnavailable as error:
            log.warning("call %s is charged later (%s)", pending.call_id, error)
        except Exception:
            log.exception("call %s can't be charged by its usage now", pending.call_id)

    async def settle(
        self,
        call_id: str,
        charged: Amount,
        record: Mapping[str, object],
        told: Callable[[], object] | None = None,
    ) -> None:
        """End the hold with what `charge` decided; safe to call again. ``told`` is called once Redis is told. Raises nothing: what
        Redis can't be told now is on disk when this returns, and told by `retry`; if the hold is swept before, it is charged in
        full and corrected then."""
        hold = self.held.pop(call_id, None)
        if hold is None:
            await self.place.leave(call_id)
            return
        # It leads back to the hold: such a cycle would keep all that belongs to the call until the collector runs.
        hold.growth = None
        unheld = self._fail_open is not None and self._fail_open.ended(call_id)
        ending = SpoolRecord(call_id, hold.scopes, charged, texts(record))
        try:
            fault = await self._tell(ending, told)
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

    async def _tell(
        self, ending: SpoolRecord, told: Callable[[], object] | None = None
    ) -> Exception | None:
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
                    told=told,
                )
                if answer == "forgotten":
                    cost_usd = ending.record.get("cost_usd", "?")
                    tell_forgotten(ending.call_id, ending.charged, cost_usd)
        except LedgerUnavailable:
            raise
        except Exception as fault:
            return fault
        return None

    async def renew(self) -> None:
        """Move the deadline of every hold under way; called well within ``deadline_s``."""
        await renew(self._ledger, self.held, self._deadline_s, self._clock)


def _not_settled(call_id: str, fault: Exception) -> None:
    log.error(
        "call %s cannot be settled: its hold will be charged when it expires",
        call_id,
        exc_info=fault,
    )
