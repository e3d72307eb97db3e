"""What workers that have ended leave: their counters, and the lines of calls that they were settling."""

from __future__ import annotations

import os

from tollhouse.concluding import left
from tollhouse.site.totals import Families, as_counters, merged
from tollhouse.workers.child import Worker


class Estate:
    """Of all generations. Only the supervisor changes it."""

    def __init__(self) -> None:
        self.counters: Families = []
        self.deaths = 0
        """Workers that ended by themselves."""
        self._unwritten: list[str] = []
        """Lines of calls that a worker which was killed was settling."""

    def take(self, worker: Worker) -> None:
        """``worker`` has ended."""
        self.counters = merged([self.counters, as_counters(worker.report)])
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
