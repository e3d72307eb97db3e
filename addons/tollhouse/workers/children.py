"""All processes of the supervisor: what they say, which of them have ended, hang, or are late."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any, Final

from tollhouse.workers.channel import Channel, Message
from tollhouse.workers.child import Child, Worker, fork
from tollhouse.workers.signals import SignalSocket

log = logging.getLogger(__name__)

HUNG_S: Final = 30.0
"""A worker whose loop is silent for so long is ended. Its calls wait for it, and so do the connections in its queue."""
_ABORT_S: Final = 5.0
"""How long a process that hangs may take to say where."""
_ASLEEP_S: Final = 5.0
"""A supervisor that has not looked for so long was stopped, or the machine was asleep. So were the others."""


class Children:
    """Only the supervisor's one thread uses it. ``heed_worker`` and ``heed_desk`` are given their messages."""

    def __init__(
        self,
        signals: SignalSocket,
        heed_signals: Callable[[], None],
        heed_worker: Callable[[Worker, Message], None],
        heed_desk: Callable[[Child, Message], None],
        *,
        clock: Callable[[], float],
        hung_s: float = HUNG_S,
    ) -> None:
        self.workers: dict[int, Worker] = {}
        """By pid, of all generations."""
        self.desk: Child | None = None
        self._signals = signals
        self._heed_worker = heed_worker
        self._heed_desk = heed_desk
        self._clock = clock
        self._hung_s = hung_s
        self._looked_at = clock()
        self._selector = selectors.DefaultSelector()
        self._selector.register(signals.socket, selectors.EVENT_READ, heed_signals)

    def __iter__(self) -> Iterator[Child]:
        yield from self.workers.values()
        if self.desk is not None:
            yield self.desk

    def fork(
        self, run: Callable[[socket.socket], int], shed: Callable[[], None]
    ) -> tuple[int, Channel]:
        """`child.fork`; the child has nothing of the supervisor's own. Raises `OSError`."""

        def shed_all() -> None:
            self._selector.close()
            self._signals.close()
            shed()

        return fork(run, [child.channel for child in self], shed_all)

    def add_worker(self, worker: Worker) -> None:
        self.workers[worker.pid] = worker
        self._listen_to(worker.channel, lambda: self.hear_worker(worker))

    def add_desk(self, desk: Child) -> None:
        self.desk = desk
        self._listen_to(desk.channel, lambda: self._hear_desk(desk))

    def _listen_to(self, channel: Channel, heed: Callable[[], None]) -> None:
        self._selector.register(channel.socket, selectors.EVENT_READ, heed)

    def forget(self, child: Child) -> None:
        """It has ended, and has been heard to its end."""
        self.workers.pop(child.pid, None)
        if child is self.desk:
            self.desk = None
        with contextlib.suppress(KeyError):
            self._selector.unregister(child.channel.socket)
        child.channel.close()

    def shown(self) -> list[dict[str, Any]]:
        """A row for each worker."""
        now = self._clock()
        return [
            {
                "worker": worker.number,
                "pid": worker.pid,
                "generation": worker.generation,
                "state": worker.phase.value,
                "reasons": worker.reasons,
                "calls": worker.status.get("calls", 0),
                "connections": worker.status.get("connections", 0),
                "for_s": round(now - worker.started, 1),
            }
            for worker in sorted(
                self.workers.values(), key=lambda worker: (worker.generation, worker.number)
            )
        ]

    # What they say.

    def wait(self, seconds: float) -> None:
        """Until a signal or a message comes, and heeds it, or until the time is over."""
        self._write_on()
        for key, _ in self._selector.select(seconds):
            contained(key.data)

    def _write_on(self) -> None:
        """Wakes the supervisor when a child takes what it could not take before."""
        registered = self._selector.get_map()
        for child in self:
            channel = child.channel
            key = registered.get(channel.socket)
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if channel.wants_to_write else 0)
            if key is not None and key.events != events:
                self._selector.modify(channel.socket, events, key.data)

    def hear_worker(self, worker: Worker) -> None:
        for message in self._heard(worker):
            contained(self._heed_worker, worker, message)

    def _hear_desk(self, desk: Child) -> None:
        for message in self._heard(desk):
            contained(self._heed_desk, desk, message)

    def _heard(self, child: Child) -> list[Message]:
        child.channel.flush()
        messages, more = child.channel.receive()
        if not more:
            with contextlib.suppress(KeyError):
                self._selector.unregister(child.channel.socket)
        if messages:
            child.beat_at = self._clock()
        return messages

    # How they end.

    @staticmethod
    def ended() -> Iterator[tuple[int, int]]:
        """Pids and exit codes of the processes that have ended, also of some that are not ours: as process 1 of a container we are
        given orphans."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            yield pid, os.waitstatus_to_exitcode(status)

    def watch(self) -> None:
        """Ends those that are late or hang."""
        now = self._clock()
        asleep, self._looked_at = now - self._looked_at > _ASLEEP_S, now
        for child in self:
            if asleep:
                child.beat_at = now
            if child.ended_by is not None and now >= child.ended_by:
                log.error("process %d did not end in time and is killed", child.pid)
                child.send_signal(signal.SIGKILL)
                child.ended_by = now + _ABORT_S
            if not child.aborted and now - child.beat_at >= self._hung_s:
                self._abort(child, now)

    @staticmethod
    def _abort(child: Child, now: float) -> None:
        child.aborted = True
        log.error(
            "%s (%d) has not moved for %.0f s: it is ended%s",
            child.name,
            child.pid,
            now - child.beat_at,
            ", and started again" if child.replaced else "",
        )
        child.send_signal(signal.SIGABRT)
        child.ended_by = now + _ABORT_S


def contained(work: Callable[..., None], *given: Any) -> None:
    """Does it. A fault of ours in it ends nothing else: with the supervisor all would end."""
    try:
        work(*given)
    except Exception:
        log.exception("the supervisor has failed at something, and goes on")
