"""The workers of one configuration, and what makes them."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import Protocol

from tollhouse.config.load import Config
from tollhouse.prices.kept import Snapshot
from tollhouse.share import Share
from tollhouse.trust.ca import CertificateAuthority
from tollhouse.trust.leaf import LeafStore
from tollhouse.workers.child import Phase, Worker
from tollhouse.workers.listening import Sockets
from tollhouse.workers.restarts import Restarts


@dataclass
class Generation:
    """``number`` counts from 1. Only the supervisor changes it."""

    number: int
    config: Config
    sockets: Sockets
    ca: CertificateAuthority
    leaves: LeafStore
    prices: Snapshot
    size: int
    """How many workers it has when it is whole."""
    workers: dict[int, Worker] = field(default_factory=dict)
    """By their numbers, from 1. A number that is missing waits for its start."""
    restarts: dict[int, Restarts] = field(default_factory=dict)
    due: dict[int, float] = field(default_factory=dict)
    """When the worker of a number that is missing is started."""
    led: bool = False
    """Its first worker has been prepared."""
    applying: bool = False
    """Its first worker was told to write the projects of the file into the ledger."""
    applied: bool = False
    """It has written them. A worker that comes later does not write them again, because a command may have changed them."""
    was_whole: bool = False
    asked_by: list[int] = field(default_factory=list)
    """Requests of the desk that wait for it."""
    give_up_at: float = float("inf")

    def may_start(self, number: int) -> bool:
        """The first worker is alone until it is prepared: it unwraps what the others log in to Vault with."""
        return number not in self.workers and (self.led or number == 1)

    @property
    def prepared(self) -> bool:
        """Nothing is left that may fail but the file's projects."""
        return self._all_are(Phase.PREPARED, Phase.READY)

    @property
    def whole(self) -> bool:
        return self._all_are(Phase.READY)

    def _all_are(self, *phases: Phase) -> bool:
        return len(self.workers) == self.size and all(
            worker.phase in phases for worker in self.workers.values()
        )

    def depends_on(self, worker: Worker) -> bool:
        """It can't take over without ``worker``. Once its file is being applied the others are started again, as later."""
        return not self.applied and (worker.number == 1 or not self.applying)

    def go_on(self) -> None:
        """The next step of those that can take it: first all are prepared, then one applies the file, then all open."""
        first = self.workers.get(1)
        if first is not None and first.phase is not Phase.STARTING:
            self.led = True
        if self.applied:
            for worker in self.workers.values():
                if worker.phase is Phase.PREPARED and not worker.opening:
                    worker.opening = True
                    worker.channel.send({"kind": "open"})
        elif first is not None and self.prepared and not self.applying:
            self.applying = True
            first.channel.send({"kind": "apply"})

    def reasons(self) -> list[str]:
        """Why no worker can take calls; empty when one can."""
        found: dict[str, None] = {}
        for worker in self.workers.values():
            reasons = worker.reasons
            if not reasons:
                return []
            found.update(dict.fromkeys(reasons))
        return list(found) or ["starting"]

    def warnings(self, now: float) -> list[str]:
        """What is wrong while one of them takes calls all the same."""
        found: dict[str, None] = {}
        for number in range(1, self.size + 1):
            worker = self.workers.get(number)
            reasons = worker.reasons if worker is not None else ["it died, and is started again"]
            found.update(dict.fromkeys(f"worker {number}: {reason}" for reason in reasons))
            if worker is not None:
                found.update(dict.fromkeys(worker.status.get("warnings") or ()))
            if (deaths := self.restarts.get(number)) is not None and deaths.looping(now):
                found[f"worker {number} dies again and again: the log says of what"] = None
        return list(found)


class Maker(Protocol):
    """What the supervisor is given: the ways to make things, so that it imports no gateway."""

    def load(self) -> Config:
        """The configuration as the file has it now. Raises `ConfigError`."""

    def generation(self, number: int, config: Config, before: Generation | None) -> Generation:
        """All that workers of ``config`` share. Raises one of `cannot_start.CANNOT_START`."""

    def work(self, config: Config, share: Share, end: socket.socket) -> int:
        """A worker's life, and its exit code."""

    def attend(self, config: Config, end: socket.socket, admin: socket.socket | None) -> int:
        """The desk's life, and its exit code."""
