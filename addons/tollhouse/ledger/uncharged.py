"""The records of calls that were charged nothing, on their way to Redis: refusals, and tunnels that were passed on.

No call waits for them, and a flood of refusals costs Redis no more than `AT_ONCE` records a second of each process. Their
lines are whole in the log; what Redis can't be told is there alone.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from typing import Final

from tollhouse.ledger.ledger import Ledger, LedgerUnavailable
from tollhouse.ledger.records import texts

log = logging.getLogger(__name__)

KEPT: Final = 1000
"""The most that wait. The oldest go first."""
AT_ONCE: Final = 200
"""The most that one turn tells."""


class Uncharged:
    """Belongs to one event loop."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._waiting: deque[Mapping[str, object]] = deque()
        self._lost = 0

    def add(self, record: Mapping[str, object], settled: bool) -> None:
        """The line of a call that was charged nothing was written. ``settled``: the stream of calls has it as well, as it was
        refused after something was held."""
        if len(self._waiting) >= KEPT:
            self._waiting.popleft()
            self._lost += 1
        self._waiting.append({**record, "in_calls": "true"} if settled else record)

    async def flush(self) -> None:
        """Tells Redis; called once a second. Raises `LedgerUnavailable`, and the rest waits."""
        for _ in range(min(AT_ONCE, len(self._waiting))):
            record = self._waiting.popleft()
            try:
                await self._ledger.streams.add_uncharged(
                    str(record.get("tenant", "")), texts(record)
                )
            except LedgerUnavailable:
                self._waiting.appendleft(record)
                raise
        if self._lost:
            log.warning(
                "records of refused calls are in the log alone, there were too many: %d", self._lost
            )
            self._lost = 0
