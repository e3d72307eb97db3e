"""What workers that have ended leave: their counters, and the lines of calls that they were settling."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from tollhouse.concluding import left
from tollhouse.site.totals import Families, as_counters, first_series, merged
from tollhouse.workers.child import Worker

MOST_SERIES: Final = 20_000
"""Labels may be new in each generation (fingerprints of keys). Series beyond so many are forgotten with their worker; those that
were there before go on."""


class Estate:
    """Of all generations, and of the programs before this one. Only the supervisor changes it."""

    def __init__(self) -> None:
        self.counters: Families = []
        self.deaths = 0
        """Workers that ended by themselves."""
        self._unwritten: list[str] = []
        """Lines of calls that a worker which was killed was settling."""

    def take(self, worker: Worker) -> None:
        """``worker`` has ended."""
        counted = merged([self.counters, as_counters(worker.report)])
        self.counters = first_series(counted, MOST_SERIES)
        if worker.concluding is not None:
            self._unwritten += [line.decode() for line in left(worker.concluding)]
            worker.concluding.close()
        if worker.descriptor >= 0:
            os.close(worker.descriptor)

    def hand_on(self, worker: Worker | None) -> None:
        """``worker`` writes the lines, if there is one that is ready."""
        if self._unwritten and worker is not None:
            worker.channel.send({"kind": "conclude", "lines": self._unwritten})
            self._unwritten = []

    # Across an exec.

    def packed(self) -> dict[str, Any]:
        """As JSON."""
        return {"counters": self.counters, "deaths": self.deaths, "unwritten": self._unwritten}

    def adopt(self, packed: Mapping[str, Any]) -> None:
        """What the program before this one had. It is empty of one that left nothing."""
        self.counters = list(packed.get("counters", ()))
        self.deaths = packed.get("deaths", 0)
        self._unwritten = list(packed.get("unwritten", ()))
