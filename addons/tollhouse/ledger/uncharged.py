"""The records of calls that were charged nothing, on their way to Redis: refusals, and tunnels that were passed on.

No call waits for them, and a flood of refusals costs Redis no more than `AT_ONCE` records a second of each process. Tenants take
turns, and calls whose tenant nobody knows count as one of them, so the flood of one sender takes no other tenant's place.
Refusals take no tunnel's place. The lines are whole in the log; what Redis can't be told is there alone.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import Final

from tollhouse.ledger.ledger import Ledger, LedgerUnavailable
from tollhouse.ledger.records import texts

log = logging.getLogger(__name__)

KEPT: Final = 1000
"""The most refusals that wait, and the most of the others. Beyond them the oldest of the tenant that has the most goes."""
AT_ONCE: Final = 200
"""The most that one turn tells."""

Record = Mapping[str, object]


class _Tenants:
    """Records by tenant. Only tenants that have some are here."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, deque[Record]] = OrderedDict()
        """The tenant whose turn it is stands first."""
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, record: Record) -> None:
        tenant = str(record.get("tenant", ""))
        self._of.setdefault(tenant, deque()).append(record)
        self._count += 1

    def drop(self) -> None:
        """The oldest of the tenant that has the most."""
        self._pop(max(self._of, key=lambda tenant: len(self._of[tenant])))

    def take(self) -> tuple[str, Record]:
        """The oldest of the tenant whose turn it is."""
        tenant = next(iter(self._of))
        self._of.move_to_end(tenant)
        return tenant, self._pop(tenant)

    def put_back(self, tenant: str, record: Record) -> None:
        self._of.setdefault(tenant, deque()).appendleft(record)
        self._of.move_to_end(tenant, last=False)
        self._count += 1

    def _pop(self, tenant: str) -> Record:
        record = self._of[tenant].popleft()
        self._count -= 1
        if not self._of[tenant]:
            del self._of[tenant]
        return record


class Uncharged:
    """Belongs to one event loop."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._refused = _Tenants()
        self._others = _Tenants()
        self._lost = 0

    def add(self, record: Record, settled: bool) -> None:
        """The line of a call that was charged nothing was written. ``settled``: the stream of calls has it as well, as it was
        refused after something was held."""
        waiting = self._refused if record.get("decision") == "deny" else self._others
        waiting.add({**record, "in_calls": "true"} if settled else record)
        if len(waiting) > KEPT:
            waiting.drop()
            self._lost += 1

    async def flush(self) -> None:
        """Tells Redis; called once a second. Raises `LedgerUnavailable`, and the rest waits."""
        for turn in range(AT_ONCE):
            lanes = (self._others, self._refused) if turn % 2 else (self._refused, self._others)
            waiting = lanes[0] or lanes[1]
            if not waiting:
                break
            tenant, record = waiting.take()
            try:
                await self._ledger.streams.add_uncharged(tenant, texts(record))
            except LedgerUnavailable:
                waiting.put_back(tenant, record)
                raise
        if self._lost:
            log.warning(
                "records of refused calls are in the log alone, there were too many: %d", self._lost
            )
            self._lost = 0
