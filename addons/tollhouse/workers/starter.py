"""How the supervisor starts its processes, and what each of them is given."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection
from socket import socket
from typing import Final

from tollhouse.concluding import memory
from tollhouse.credential.vault.auth import Unwrapped
from tollhouse.share import Share
from tollhouse.workers.child import Worker
from tollhouse.workers.children import Children
from tollhouse.workers.desk_process import DeskProcess
from tollhouse.workers.generation import Generation, Maker
from tollhouse.workers.listening import Sockets
from tollhouse.workers.restarts import FIRST_S, Restarts

log = logging.getLogger(__name__)

_PATIENCE_S: Final = 5.0
"""How long the successor of a worker waits for Redis and Vault. Connections wait in its queue meanwhile; after this time what they
ask is refused with its reason, until the stores answer."""


class Starter:
    """``lock`` is the descriptor of the state directory's lock, -1 without one. The ``sockets`` of its methods are all that this
    process has: as long as any child had a copy of one that is not its own, the kernel would take connections for it."""

    def __init__(
        self,
        made: Maker,
        children: Children,
        desk: DeskProcess,
        lock: int,
        clock: Callable[[], float],
    ) -> None:
        self._made = made
        self._children = children
        self._desk = desk
        self._lock = lock
        self._clock = clock

    def start(
        self,
        generation: Generation,
        number: int,
        sockets: Collection[Sockets],
        unwrapped: Unwrapped | None,
    ) -> None:
        """The worker ``number``. If the system gives no process, it is tried again, as after a death."""
        try:
            self._start(generation, number, sockets, unwrapped)
        except OSError as error:
            now = self._clock()
            restarts = generation.restarts.setdefault(number, Restarts())
            due = generation.due[number] = max(restarts.died(now, 0.0), now + FIRST_S)
            log.error(
                "worker %d can't be started (%s): raise the limit of processes, of open files or of memory; "
                "it is tried again in %g s",
                number,
                error,
                due - now,
            )

    def _start(
        self,
        generation: Generation,
        number: int,
        sockets: Collection[Sockets],
        unwrapped: Unwrapped | None,
    ) -> None:
        now = self._clock()
        shared, descriptor = memory()
        share = Share(
            number=number,
            workers=generation.size,
            alone=False,
            patience_s=_PATIENCE_S if generation.was_whole else float("inf"),
            sockets=generation.sockets.of_worker(number - 1),
            ca=generation.ca,
            leaves=generation.leaves,
            prices=generation.prices,
            unwrapped=unwrapped,
            concluding=shared,
        )
        config = generation.config
        own = [one for each in share.sockets.values() for one in each]
        # The ledger of an embedded gateway is a worker's: nobody else may open it while that worker lives.
        shed = self._shed(sockets, own, keeps_lock=config.redis.embedded)
        try:
            pid, channel = self._children.fork(
                lambda end: self._made.work(config, share, end), shed
            )
        except OSError:
            if shared is not None:
                shared.close()
            if descriptor >= 0:
                os.close(descriptor)
            raise
        worker = Worker(pid, channel, now, now, number=number, generation=generation.number)
        worker.concluding, worker.descriptor = shared, descriptor
        generation.workers[number] = worker
        generation.due.pop(number, None)
        self._children.add_worker(worker)

    def start_desk(self, generation: Generation, sockets: Collection[Sockets]) -> bool:
        """False if the system gives no process; it is tried again then."""
        config, admin = generation.config, generation.sockets.admin
        own = [admin] if admin is not None else []
        return self._desk.start(
            lambda end: self._made.attend(config, end, admin),
            self._shed(sockets, own, keeps_lock=False),
        )

    def _shed(
        self, sockets: Collection[Sockets], kept: Collection[socket], *, keeps_lock: bool
    ) -> Callable[[], None]:
        """In a child: closes what is not its own."""

        def shed() -> None:
            for each in sockets:
                each.close_all_but(kept)
            if self._lock >= 0 and not keeps_lock:
                os.close(self._lock)

        return shed
