"""Starts the workers and the desk, watches them, replaces those that die or hang, and ends them in order.

It has no loop, no thread and no connection: each child begins as a copy of it. What it waits for are signals, messages of its
children, and moments.

    SIGTERM, SIGINT   every worker drains; a second one ends the calls at once
    SIGHUP            reload: a new generation of workers replaces the old one when all of it is ready
    SIGUSR2           the same with the program that is installed now (`upgrade`)
    SIGUSR1           every worker writes to the log where its tasks wait
"""

from __future__ import annotations

import gc
import logging
import signal
import time
from collections.abc import Callable
from typing import Final

from tollhouse.credential.vault.auth import Unwrapped
from tollhouse.workers.channel import Message
from tollhouse.workers.child import Child, Phase, Worker
from tollhouse.workers.children import HUNG_S, Children, contained
from tollhouse.workers.desk_process import DeskProcess
from tollhouse.workers.estate import Estate
from tollhouse.workers.generation import Generation, Maker
from tollhouse.workers.inheritance import Inheritance
from tollhouse.workers.requests import Requests
from tollhouse.workers.signals import SignalSocket
from tollhouse.workers.starter import Starter
from tollhouse.workers.succession import Succession
from tollhouse.workers.systemd import Notifier
from tollhouse.workers.upgrade import Upgrade

log = logging.getLogger(__name__)

_TELL_S: Final = 1.0
"""How often the desk is told how the workers are."""


class Supervisor:
    """``cannot_start`` are the exceptions of a start that a person can mend. ``lock`` is a descriptor."""

    def __init__(
        self,
        made: Maker,
        generation: Generation,
        say: Callable[[str], None],
        *,
        cannot_start: tuple[type[BaseException], ...],
        notifier: Notifier,
        lock: int = -1,
        clock: Callable[[], float] = time.monotonic,
        hung_s: float = HUNG_S,
    ) -> None:
        self._notifier = notifier
        self._clock = clock
        self._alive_at = float("-inf")
        self._signals = SignalSocket()
        self._children = children = Children(
            self._signals,
            self._heed_signals,
            self._heed_worker,
            self._heed_desk,
            clock=clock,
            hung_s=hung_s,
        )
        self._estate = estate = Estate()
        self._desk = desk = DeskProcess(children, clock)
        self._succession = succession = Succession(
            made,
            generation,
            children,
            Starter(made, children, desk, lock, clock),
            desk,
            estate,
            say,
            cannot_start=cannot_start,
            notifier=notifier,
            clock=clock,
        )
        self._upgrade = Upgrade(
            succession,
            children,
            desk,
            self._signals,
            self._heed_signals,
            estate,
            notifier=notifier,
            lock=lock,
        )
        self._requests = Requests(children, desk, succession, self._upgrade, estate, clock)

    def adopt(self, left: Inheritance) -> None:
        """What the program before this one has left. Its workers serve until a new generation is ready, or retire already."""
        self._estate.adopt(left.estate)
        self._succession.adopt(left.workers, left.unwrapped)

    def run(self) -> int:
        """Until all has ended; the exit code."""
        self._signals.heed()
        succession = self._succession
        try:
            if succession.current.was_whole:
                succession.begin(succession.current.config, ())
            while not self._over():
                self._children.wait(self._patience())
                contained(self._reap)
                contained(self._look)
            return 1 if succession.failed or any(succession.codes) else 0
        finally:
            signal.set_wakeup_fd(-1)
            succession.current.sockets.close()

    def _over(self) -> bool:
        return self._succession.ending and not any(self._children)

    def _patience(self) -> float:
        """Until the next moment at which something may have to be done."""
        return 1.0 if self._succession.settled and not self._requests.waiting else 0.25

    # Signals.

    def _heed_signals(self) -> None:
        for number in self._signals.numbers():
            if number in (signal.SIGTERM, signal.SIGINT):
                self._succession.stop()
                self._tell_desk()
            elif number == signal.SIGHUP:
                self._hang_up()
            elif number == signal.SIGUSR2:
                self._upgrade.begin(())
            elif number == signal.SIGUSR1:
                for worker in self._children.workers.values():
                    worker.send_signal(signal.SIGUSR1)

    def _hang_up(self) -> None:
        """The file of lines may have been moved away: workers that drain are to write into the new one, too."""
        for worker in self._children.workers.values():
            worker.send_signal(signal.SIGHUP)
        self._succession.reload((), unless_same=self._succession.exclusive)

    # Processes.

    def _reap(self) -> None:
        for pid, code in self._children.ended():
            worker, desk = self._children.workers.get(pid), self._children.desk
            if worker is not None:
                self._children.hear_worker(worker)  # Its last words.
                self._children.forget(worker)
                self._estate.take(worker)
                self._requests.ended(worker)
                self._succession.ended(worker, code)
            elif desk is not None and pid == desk.pid:
                self._desk.ended(desk, code)
            else:
                self._upgrade.ended(pid, code)

    # Moments.

    def _look(self) -> None:
        self._upgrade.look()
        if not self._succession.ending:
            if self._desk.due and not self._upgrade.replacing:
                self._start_desk()
            self._succession.start_missing()
            self._succession.follow_up()
        self._estate.hand_on(next(iter(self._succession.able()), None))
        self._children.watch()
        self._requests.look()
        if self._desk.told_for_s() >= _TELL_S:
            self._tell_desk()
        now = self._clock()
        if self._notifier.watchdog_s and now - self._alive_at >= self._notifier.watchdog_s:
            self._alive_at = now
            self._notifier.alive()
        if self._succession.ending and not self._children.workers:
            self._desk.dismiss()

    def _start_desk(self) -> None:
        if self._succession.start_desk():
            self._tell_desk()

    def _tell_desk(self) -> None:
        """How the workers are."""
        current = self._succession.current
        reasons = ["stopping"] if self._succession.stopping else current.reasons()
        self._desk.tell(reasons, [] if reasons else current.warnings(self._clock()))

    # Messages.

    def _heed_worker(self, worker: Worker, message: Message) -> None:
        match message["kind"]:
            case "unwrapped":
                self._succession.unwrapped = Unwrapped(message["wrapping"], message["secret_id"])
            case "prepared" if worker.phase is Phase.STARTING:
                worker.phase = Phase.PREPARED
            case "applied":
                self._succession.applied(worker)
            case "ready" if worker.beginning:
                worker.phase = Phase.READY
                # The desk knows before anybody is told that the gateway is ready.
                self._tell_desk()
            case "status":
                before, worker.status = worker.status, {**worker.status, **message["status"]}
                if before.get("reasons") != worker.status.get("reasons"):
                    self._tell_desk()
            case "report":
                worker.report = message["families"]
                self._requests.heed_worker(worker, message)
            case "result":
                self._requests.heed_worker(worker, message)

    def _heed_desk(self, desk: Child, message: Message) -> None:
        if message.get("kind") != "ask":
            return
        try:
            self._requests.heed(message)
        except Exception as error:
            log.exception("the supervisor has failed at what it was asked, and goes on")
            why = f"The gateway failed at this ({type(error).__name__})."
            self._desk.answer(message.get("id", 0), {"status": 500, "error": why})


def freeze() -> None:
    """What is there now is shared by all workers for as long as nobody writes to it, which the collector would do."""
    gc.disable()
    gc.collect()
    gc.freeze()
