"""``[redis] unsafe_fail_open``: calls that leave while Redis is away, without a hold, and are charged all the same.

The life of such a call:

    let through   Redis is away (`outage`) and the caller is proven. A record of the call is on
                  disk before anything of the call leaves.
    enlarged      A stream needs more than its record says. The record is written anew before
                  the stream goes on.
    adopted       Redis is back and the call is still under way. If its limits have room, it is
                  held from then on like any other call.
    settled       The purse settles it like any other call, with a hold or without one.
    lost          Its gateway died. The next gateway on this state directory charges what the
                  record says.

Each call is charged once. All of these steps go by the call's id, and the ledger settles an id
once. A hold whose answer was lost has the same id.

While Redis is away nothing is limited but the number of such calls and the bytes of the spool. One
token may take as much of either as is left free, so that it can't shut the others out
(https://doi.org/10.1109/90.664262: the threshold is the free part).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

from tollhouse.budget.hold import CallHold
from tollhouse.call import Admitted, Amount
from tollhouse.denial import Denial
from tollhouse.ledger.hold_reply import Held, Short, Unpriced
from tollhouse.ledger.ledger import Ledger, LedgerUnavailable, Scope
from tollhouse.ledger.spool import Spool, SpoolRecord
from tollhouse.ledger.store.outage import Outage

log = logging.getLogger(__name__)

MAX_CALLS: Final = 10_000
"""The most calls of one gateway that were let through or have ended, and that Redis has not been
told of. All processes of the gateway count together."""
MAX_BYTES: Final = 64 << 20
"""The largest size of the spool at which a call may begin or a stream may go on. A record of a call
that ends is always written."""
_AT_ONCE: Final = 256
_LONGEST_MODEL: Final = 256
"""Characters that a record keeps of each text that a client chose."""
FLAG: Final = "unsafe_fail_open"


class FailOpen:
    """``vouches`` says whether a call's identity and project are proven at this moment. ``refresh``
    brings these proofs up to date while Redis answers; it may raise `LedgerUnavailable`."""

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
        self.vouches = vouches
        self._refresh = refresh
        self._deadline_s = deadline_s
        self.opened: dict[str, CallHold] = {}
        """Calls under way that Redis has no hold of."""
        self._taken: Counter[Scope] = Counter()
        """Calls of each token that this outage let through."""

    async def takes(self, hold: CallHold, error: LedgerUnavailable) -> Held | Unpriced | None:
        """Called in place of the hold that ended in ``error``. `Held`: the call may go on, and its
        record is on disk. `Unpriced`: nobody knows its price. None, or an exception: the call may
        not go on."""
        token = hold.scopes[-1]
        if self.full or self._has_its_share(token) or not await self._outage.explains(error):
            return None
        if not hold.priced:
            # The limits of its tenant are in Redis alone, and one of them may be in money.
            return Unpriced(token)
        if not self.vouches(hold.requested.admitted) or self.full or self._has_its_share(token):
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
        """Makes ``amount`` the charge of a call of which nothing more is heard. It is written to
        Redis if Redis is back, else to disk. Gives the reason if it can't be written, else None."""
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
        """Called when Redis answers again: holds the calls that are still under way. Raises
        `LedgerUnavailable`."""
        opened = list(self.opened.values())
        for start in range(0, len(opened), _AT_ONCE):
            some = opened[start : start + _AT_ONCE]
            results = await asyncio.gather(
                *(self._adopt(one, one.amount) for one in some), return_exceptions=True
            )
            for one, result in zip(some, results, strict=True):
                if isinstance(result, LedgerUnavailable):
                    raise result
                if isinstance(result, BaseException):
                    log.error(
                        "call %s could not be held (%s): it is charged when it ends", one.id, result
                    )

    async def _adopt(self, opened: CallHold, amount: Amount) -> Short | None:
        """The limit that has no room for the call. None: the call is held now, or it has ended."""
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
            # Redis had taken the call's first hold after all, and has swept it. The settle corrects
            # that.
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
        """The call ends, and its settle is told next. Says whether the call had no hold in
        Redis."""
        return self.opened.pop(call_id, None) is not None

    @property
    def full(self) -> bool:
        return self._spool.size >= self._max_bytes or self._spool.calls >= self._max_calls

    def _has_its_share(self, token: Scope) -> bool:
        """Whether the token has taken as much of the calls or of the spool as is free."""
        return (
            self._taken[token] >= self._max_calls - self._spool.calls
            or self._spool.share(token) >= self._max_bytes - self._spool.size
        )

    async def turn(self, problems: Sequence[str]) -> list[str]:
        """Called once a second. ``problems`` say why no call can be held. Gives the same with a
        warning while calls leave all the same, else nothing. Raises nothing."""
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
