"""``[redis] unsafe_fail_open``: calls that leave while Redis is away, without a hold, and are charged all the same.

    let through   Redis is away (`outage`) and the caller is proven: its record is on disk before anything of the call leaves
    enlarged      a stream that goes beyond that, each time before it does
    adopted       Redis is back and the call still under way: it is held like any other from then on, if its limits have room
    settled       by the purse, as any call, with a hold or without one
    lost          its gateway died: charged what its record says, by the next one on this state directory

Each is charged once: all of this goes by the call's id, which the ledger settles once, and a hold whose answer was lost is of
the same id. Nothing is limited meanwhile but their number and the spool. Of both a token may take as much as it leaves to the
others, so that none can shut them out (https://doi.org/10.1109/90.664262: a threshold that is what is free).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final, Protocol

from tollhouse.budget.hold import CallHold
from tollhouse.call import Admitted, Amount
from tollhouse.denial import Denial
from tollhouse.ledger.ledger import Held, Ledger, LedgerUnavailable, Scope, Short, Unpriced
from tollhouse.ledger.spool import Spool, SpoolRecord

log = logging.getLogger(__name__)

MAX_CALLS: Final = 10_000
"""Calls of one gateway, all of its processes, that were let through or ended, and that Redis has
not been told of."""
MAX_BYTES: Final = 64 << 20
"""Of the spool, when a call begins or a stream goes on. What calls under way write when they end is never refused."""
_AT_ONCE: Final = 256
_LONGEST_MODEL: Final = 256
"""Characters of a client's own words that a record of a beginning keeps."""
FLAG: Final = "unsafe_fail_open"


class Outage(Protocol):
    """`outage.Outage`."""

    in_force: bool
    let_through: int

    async def explains(self, error: LedgerUnavailable) -> bool: ...
    async def confirmed(self) -> bool: ...
    def over(self) -> None: ...


class FailOpen:
    """``vouches`` says whether a call's identity and project are proven at this moment; ``refresh`` brings those proofs up to
    date while Redis answers, and may raise `LedgerUnavailable`."""

    def __init__(
        self,
        ledger: Ledger,
        spool: Spool,
        outage: Outage,
        vouches: Callable[[Admitted], bool],
        refresh: Callable[[], Awaitable[None]],
        *,
        deadline_s: float = 60.0,
        max_calls: int = MAX_CALLS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._max_calls = max_calls
        self._max_bytes = max_bytes
        self._ledger = ledger
        self._spool = spool
        self._outage = outage
        self._vouches = vouches
        self._refresh = refresh
        self._deadline_s = deadline_s
        self.opened: dict[str, CallHold] = {}
        """Calls under way that Redis has no hold of."""
        self._taken: Counter[Scope] = Counter()
        """Calls of each token that this outage let through."""

    async def takes(self, hold: CallHold, error: LedgerUnavailable) -> Held | Unpriced | None:
        """Instead of the hold that ended in ``error``: the call may go on, its record is on disk; or nobody knows its price;
        or None, it may not; so if it raises."""
        token = hold.scopes[-1]
        if self.full or self._has_its_share(token) or not await self._outage.explains(error):
            return None
        if not hold.priced:
            # Its project's own limits may be known, its tenant's are in Redis alone: one of them may be in money.
            return Unpriced(token)
        if not self._vouches(hold.requested.admitted) or self.full or self._has_its_share(token):
            return None
        self._taken[token] += 1
        try:
            await self._spool.put(_begun(hold, hold.amount))
        except OSError as failure:
            log.error("call %s may not leave: it could not be spooled (%s)", hold.id, failure)
            return None
        hold.unheld = True
        self.opened[hold.id] = hold
        self._outage.let_through += 1
        return Held()

    async def enlarge(self, call_id: str, amount: Amount) -> Short | Denial | None:
        """Makes what the call is charged if nothing else is heard of it ``amount``: in Redis, if it is back, else on disk. Why
        it can't be, or None."""
        opened = self.opened.get(call_id)
        if opened is None:
            return None
        try:
            return await self._adopt(opened, amount)
        except LedgerUnavailable:
            pass
        if self._spool.share(opened.scopes[-1]) >= self._max_bytes - self._spool.size:
            return Denial("ledger_unavailable", "As much as may be was spooled while it was away.")
        try:
            await self._spool.put(_begun(opened, amount))
        except OSError as failure:
            log.error("call %s may not go on: it could not be spooled (%s)", call_id, failure)
            return Denial("ledger_unavailable", "Nor can what this call costs be written to disk.")
        return None

    async def adopt(self) -> None:
        """Redis answers: hold what is still under way. Raises `LedgerUnavailable`."""
        opened = list(self.opened.values())
        for start in range(0, len(opened), _AT_ONCE):
            some = opened[start : start + _AT_ONCE]
            results = await asyncio.gather(*(self._adopt(one, one.amount) for one in some), return_exceptions=True)
            for one, result in zip(some, results, strict=True):
                if isinstance(result, LedgerUnavailable):
                    raise result
                if isinstance(result, BaseException):
                    log.error("call %s could not be held (%s): it is charged when it ends", one.id, result)

    async def _adopt(self, opened: CallHold, amount: Amount) -> Short | None:
        """Why it can't be held, or None: it is, or was and has ended."""
        try:
            result = await self._ledger.hold(
                opened.id,
                opened.scopes,
                amount,
                deadline_s=self._deadline_s,
                carried=_marked(opened),
                give_back=False,
            )
        except ValueError as failure:
            # Its first hold was taken after all, and swept; its settle corrects that.
            log.warning("call %s: %s", opened.id, failure)
        else:
            if isinstance(result, Short):
                return result
        if self.opened.pop(opened.id, None) is not None:
            try:
                await self._spool.put(replace(_begun(opened, amount), kind="held"))
            except OSError as failure:
                log.error("call %s: its hold could not be noted (%s)", opened.id, failure)
        return None

    def ended(self, call_id: str) -> bool:
        """Its settle is about to be told. Whether it had no hold up to now."""
        return self.opened.pop(call_id, None) is not None

    @property
    def full(self) -> bool:
        return self._spool.size >= self._max_bytes or self._spool.calls >= self._max_calls

    def _has_its_share(self, token: Scope) -> bool:
        """Whether it has taken as much as is free."""
        return (
            self._taken[token] >= self._max_calls - self._spool.calls
            or self._spool.share(token) >= self._max_bytes - self._spool.size
        )

    async def turn(self, problems: Sequence[str]) -> list[str]:
        """Called once a second with why no call can be held. Why calls leave all the same, or nothing. Raises nothing."""
        try:
            if not problems:
                self._outage.over()
                self._taken.clear()
                await self._refresh()
            elif not self.full and await self._outage.confirmed():
                how = "unsafe_fail_open is in force: identities proven in the last 5 minutes call without any limit"
                return [f"{problem}; {how}" for problem in problems]
        except LedgerUnavailable as error:
            log.warning("what is proven could not be brought up to date (%s)", error)
        except Exception:
            log.exception("unsafe_fail_open: it is not known what is proven")
        return []


def _marked(hold: CallHold) -> dict[str, str]:
    return {key: value[:_LONGEST_MODEL] for key, value in hold.carried.items()} | {FLAG: "true"}


def _begun(hold: CallHold, amount: Amount) -> SpoolRecord:
    return SpoolRecord(hold.id, hold.scopes, amount, _marked(hold), "begun")
