"""The prices that a running gateway charges by, and how newer ones take their place."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from pathlib import Path

from tollhouse.prices import kept
from tollhouse.prices.own import Override
from tollhouse.prices.table import PriceTable

log = logging.getLogger(__name__)


class PricesInUse:
    """``snapshot`` is where the prices begin, and ``own`` are the configuration's."""

    def __init__(
        self, state_directory: Path, snapshot: kept.Snapshot, own: Mapping[str, Override]
    ) -> None:
        self._state_directory = state_directory
        self._snapshot = snapshot
        self.table = PriceTable(snapshot.providers, own, name=snapshot.name)
        """Always the same table: newer prices are put into it."""

    async def reload(self) -> str:
        """Takes newer prices from the state directory, if there are any. Gives the name of those in use then. Raises
        `OSError` and `kept.PriceFileError`: those in use stay."""
        found = await asyncio.to_thread(
            kept.renewed, self._state_directory, self._snapshot, time.time()
        )
        if found.name != self._snapshot.name:
            self._snapshot = found
            self.table.renew(found.providers, found.name)
            log.warning("prices are those of %s from now on", found.name)
        return found.name

    async def reload_quietly(self) -> None:
        """The same, and the log says why newer prices are not taken."""
        try:
            await self.reload()
        except (OSError, kept.PriceFileError) as e:
            log.error("%s is not taken, and the prices in use stay: %s", kept.FILE, e)
