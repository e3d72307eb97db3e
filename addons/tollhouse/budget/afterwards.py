"""Calls whose usage comes later: an answer that is made in the background, asked for again and again.

Its hold stays, and Redis remembers the call under its tenant. Whoever sees the usage first settles
it: an answer that goes through a gateway, or `Poller`. A settle happens once however often it is
told. A call waits for one object. Where that object says that another has the usage, as a batch does
that names its output, the call waits for the other in its place. After `KEPT_S` the ledger sweeps the
hold: it becomes the charge.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import ClassVar, Final

from tollhouse.book import Book, late_record
from tollhouse.budget.charges import Charges
from tollhouse.budget.forgotten import tell_forgotten
from tollhouse.budget.hold import CallHold
from tollhouse.call import Amount, Pending, Requested
from tollhouse.clipped import clipped
from tollhouse.families.meters import Later
from tollhouse.ledger import names
from tollhouse.ledger.ledger import Ledger, LedgerUnavailable, Scope
from tollhouse.ledger.records import texts
from tollhouse.outcome import LateUsage

log = logging.getLogger(__name__)

KEPT_S: Final = 48 * 3600.0
_RECORD_S: Final = KEPT_S + 3600.0
MOST: Final = 1_000
"""The most calls of one tenant that wait. Those beyond are charged their hold at once."""


class Afterwards:
    """What Redis remembers of such calls. ``now`` is seconds since the epoch. Every method raises
    `LedgerUnavailable`."""

    def __init__(
        self,
        ledger: Ledger,
        charges: Charges,
        book: Book,
        *,
        now: Callable[[], float] = time.time,
        most: int = MOST,
    ) -> None:
        self._ledger = ledger
        self._charges = charges
        self._book = book
        self._now = now
        self._most = str(most)

    async def keep(self, hold: CallHold, later: Later, extra: Amount) -> bool:
        """Keeps the hold for `KEPT_S`. False where that can't be: the hold is gone, too many calls
        wait, or another call waits for the same answer."""
        requested = hold.requested
        admitted = requested.admitted
        tenant = admitted.project.tenant
        pending = Pending(
            hold.id,
            tenant,
            admitted.project.id,
            " ".join(scope.name for scope in hold.scopes),
            admitted.provider.name,
            admitted.provider.price_id,
            admitted.host,
            later.id,
            later.path,
            later.facts,
            hold.carried.get("model", ""),
            clipped(requested.asked.deployment),
            admitted.project.unpriced == "dearest",
            admitted.arrival.timestamp,
            self._now(),
            hold.amount,
            extra,
            hold.carried,
        )
        arguments = [
            hold.id,
            str(int(KEPT_S * 1000)),
            str(int(_RECORD_S * 1000)),
            self._most,
            field_of(pending.provider, pending.object),
            _packed(pending),
        ]
        keys = [*names.script_keys(tenant, ()), names.later_key(tenant)]
        return bool(await self._ledger.run_script("later_keep", keys, arguments))

    async def find(self, tenant: str, provider: str, object_id: str) -> Pending | None:
        """The tenant's call that waits for this object; None if there is none."""
        return await self.at(tenant, field_of(provider, object_id))

    async def at(self, tenant: str, field: str) -> Pending | None:
        """The same, by one of `waiting`. What another version has written is left to it, until the
        ledger has swept its hold."""
        text = await self._ledger.run_script("later_get", [names.later_key(tenant)], [field])
        if text is None:
            return None
        pending = _unpacked(text)
        if pending is None and self._now() - _since(text) >= KEPT_S:
            await self._end(tenant, field, text.decode("utf-8", "replace"))
        return pending

    async def waiting(self, tenant: str) -> list[str]:
        """A name for each call of the tenant that waits."""
        found = await self._ledger.run_script("later_get", [names.later_key(tenant)], [])
        return [field.decode("utf-8", "replace") for field in found]

    async def settle(self, pending: Pending, seen: LateUsage) -> None:
        """Charges the call, and writes its line. Nothing happens if it has been charged before: also where Redis had kept
        it without our hearing of that, so that its hold was charged. A call whose usage stands elsewhere waits on, for that."""
        if seen.later is not None and await self._wait_for(seen.later, pending):
            return
        charged, charged_by = self._charges.late(pending, seen)
        record = late_record(pending, seen.charges, charged, charged_by)
        answer = await self._ledger.settle(
            pending.call_id,
            scopes_of_pending(pending),
            charged,
            record=texts(record),
            tried_at=pending.since,
        )
        if answer == "forgotten":
            tell_forgotten(pending.call_id, charged, str(record["cost_usd"]))
        if answer not in ("duplicate", "forgotten"):
            self._book.write(record)
        await self.forget(pending)

    async def renew(self, pending: Pending) -> None:
        """The hold stays for what is left of `KEPT_S`."""
        left_s = pending.since + KEPT_S - self._now()
        if left_s > 0:
            await self._ledger.renew(pending.call_id, scopes_of_pending(pending), left_s)

    async def forget(self, pending: Pending) -> None:
        """It is not asked for any more."""
        field = field_of(pending.provider, pending.object)
        await self._end(pending.tenant, field, _packed(pending))

    async def _wait_for(self, later: Later, pending: Pending) -> bool:
        """The call waits for ``later`` in place of what it waits for. False if another call does."""
        moved = pending._replace(object=later.id, path=later.path, facts=later.facts)
        arguments = [
            field_of(pending.provider, pending.object),
            _packed(pending),
            field_of(moved.provider, moved.object),
            _packed(moved),
        ]
        keys = [names.later_key(pending.tenant)]
        return bool(await self._ledger.run_script("later_move", keys, arguments))

    async def _end(self, tenant: str, field: str, record: str) -> None:
        await self._ledger.run_script("later_end", [names.later_key(tenant)], [field, record])


class Recall:
    """The gate that finds the call whose usage an answer may tell. It refuses nothing: the usage can
    be seen later."""

    name: ClassVar = "later"
    gives: ClassVar = Requested

    def __init__(self, afterwards: Afterwards) -> None:
        self._afterwards = afterwards

    async def __call__(self, requested: Requested, exchange: object) -> Requested:
        admitted = requested.admitted
        if not admitted.operation.shows_usage or not admitted.objects:
            return requested
        try:
            pending = await self._afterwards.find(
                admitted.project.tenant, admitted.provider.name, admitted.objects[0]
            )
        except LedgerUnavailable as error:
            log.warning("call %s: what waits for its answer is not known (%s)", admitted.id, error)
            return requested
        return requested if pending is None else requested._replace(pending=pending)


def field_of(provider: str, object_id: str) -> str:
    """The name of a call that waits, in its tenant's hash."""
    return f"{provider} {object_id}"


def scopes_of_pending(pending: Pending) -> tuple[Scope, ...]:
    """Whose limits it is held against: those of its hold."""
    return names.parse_scopes(pending.tenant, pending.scopes)


def _packed(pending: Pending) -> str:
    """The same text for the same value."""
    return json.dumps(
        pending._asdict() | {"held": asdict(pending.held), "extra": asdict(pending.extra)},
        separators=(",", ":"),
        sort_keys=True,
    )


def _unpacked(text: bytes) -> Pending | None:
    """None for what another version has written."""
    try:
        told = json.loads(text)
        held, extra = Amount(**told.pop("held")), Amount(**told.pop("extra"))
        return Pending(**told, held=held, extra=extra)
    except (ValueError, TypeError, AttributeError, KeyError):
        return None


def _since(text: bytes) -> float:
    """Since when the call of a record waits, which every version writes; 0 for what is no record."""
    try:
        since = json.loads(text)["since"]
    except (ValueError, TypeError, KeyError):
        return 0.0
    return since if isinstance(since, int | float) else 0.0
