"""Starts the workers and the desk, watches them, replaces those that die or hang, and ends them in order.

It has no loop, no thread and no connection: each child begins as a copy of it. What it waits for are signals, messages of its
children, and moments.

    SIGTERM, SIGINT   every worker drains; a second one ends the calls at once
    SIGHUP            reload: a new generation of workers replaces the old one when all of it is ready
    SIGUSR2           the same with the program that is installed now (`upgrade`)

Past 400 lines because all that can happen to a process stands in one place, beside what is done about it.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import selectors
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

from tollhouse.concluding import left, memory
from tollhouse.config.load import Config, ConfigError
from tollhouse.credential.vault.auth import Unwrapped
from tollhouse.share import Share
from tollhouse.site.totals import Families, as_counters, gauge, merged
from tollhouse.workers.channel import Channel, Message
from tollhouse.workers.children import OURS, Child, Phase, Worker, fork
from tollhouse.workers.generation import Generation
from tollhouse.workers.restarts import FIRST_S, Restarts
from tollhouse.workers.systemd import Notifier
from tollhouse.workers.upgrade import Judged, Judgement, packed_worker, take_over

log = logging.getLogger(__name__)

HUNG_S: Final = 30.0
"""A worker whose loop is silent for so long is ended. Its calls wait for it, and so do the connections in its queue."""
_ABORT_S: Final = 5.0
"""How long a worker that hangs may take to say where."""
_REPORT_S: Final = 1.0
"""How long the metrics of a worker are waited for; those that it told before count then."""
_PUSH_S: Final = 1.0
"""How often the desk is told how the workers are."""
_TAKE_OVER_S: Final = 90.0
"""How long a new generation may take until it is ready."""
_CUT_S: Final = 45.0
"""Beyond ``limits.drain_s``: calls are ended, settled, and the stores closed."""
_DESK_S: Final = 5.0

EVERYWHERE: Final = frozenset({"prices_reload"})
"""Operations that each worker has to do for itself."""


class Maker(Protocol):
    """What the supervisor is given: the ways to make things, so that it imports no gateway."""

    def load(self) -> Config:
        """The configuration as the file has it now. Raises `ConfigError`."""

    def generation(self, number: int, config: Config, before: Generation | None) -> Generation:
        """All that workers of ``config`` share. Raises one of `gateway.CANNOT_START`."""

    def work(self, config: Config, share: Share, end: socket.socket) -> int:
        """A worker's life, and its exit code."""

    def attend(self, config: Config, end: socket.socket, admin: socket.socket | None) -> int:
        """The desk's life, and its exit code."""


@dataclass
class _Gathering:
    """A request of the desk that waits for workers."""

    request: int
    waiting: set[int]
    until: float
    what: str
    error: Message | None = None
    result: Any = None


class Supervisor:
    """``cannot_start`` are the exceptions of a start that a person can mend. ``extra_descriptors`` go on to a new program."""

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
        self._made = made
        self._say = say
        self._cannot_start = cannot_start
        self._notifier = notifier
        self._lock = lock
        self._clock = clock
        self._hung_s = hung_s
        self._current = generation
        self._coming: Generation | None = None
        self._retiring: dict[int, Worker] = {}
        self._workers: dict[int, Worker] = {}
        """By pid, of all generations."""
        self._desk: Child | None = None
        self._desk_due = 0.0
        self._desk_restarts = Restarts()
        self._judgement: Judgement | None = None
        self._replacing = False
        """The program is replaced as soon as the desk has ended."""
        self._stopping = False
        self._failed = False
        self._codes: list[int] = []
        self._gatherings: dict[int, _Gathering] = {}
        self._number = 0
        self._unwrapped: Unwrapped | None = None
        """A wrapping token is unwrapped once, by the first worker; the others start after it."""
        self._dead: Families = []
        """What workers that ended have counted."""
        self._deaths = 0
        self._unwritten: list[str] = []
        """Lines of calls that a worker which was killed was settling."""
        self._pushed_at = float("-inf")
        self._looked_at = clock()
        self._alive_at = float("-inf")
        self._selector = selectors.DefaultSelector()
        self._signals, self._wakeup = socket.socketpair()

    def adopt(self, workers: list[Worker], unwrapped: Unwrapped | None) -> None:
        """Workers of the program before this one: they serve until a new generation is ready, or retire already."""
        self._unwrapped = unwrapped
        for worker in workers:
            self._take_in(worker)
            if worker.phase is Phase.RETIRING:
                self._retiring[worker.pid] = worker
            else:
                self._current.workers[worker.number] = worker
        self._current.applied = self._current.was_whole = True

    def run(self) -> int:
        """Until all has ended; the exit code."""
        self._heed_signals()
        try:
            if self._current.was_whole:
                self._begin_generation(self._current.config, ())
            while not self._over():
                self._write_on()
                for key, _ in self._selector.select(self._patience()):
                    _contained(key.data)
                _contained(self._reap)
                _contained(self._look)
            return 1 if self._failed or any(self._codes) else 0
        finally:
            signal.set_wakeup_fd(-1)
            self._current.sockets.close()

    def _heed_signals(self) -> None:
        for end in (self._signals, self._wakeup):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        self._selector.register(self._signals, selectors.EVENT_READ, self._on_signals)
        for number in OURS:
            signal.signal(number, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, OURS)

    def _over(self) -> bool:
        return (self._stopping or self._failed) and not self._workers and self._desk is None

    def _patience(self) -> float:
        """Until the next moment at which something may have to be done."""
        return 0.25 if self._waits_for_moments() else 1.0

    def _waits_for_moments(self) -> bool:
        generations = (self._current, *((self._coming,) if self._coming else ()))
        return bool(
            self._gatherings
            or self._stopping
            or self._retiring
            or not all(generation.whole for generation in generations)
        )

    # Signals.

    def _on_signals(self) -> None:
        try:
            numbers = self._signals.recv(4096)
        except BlockingIOError:
            return
        for number in numbers:
            if number in (signal.SIGTERM, signal.SIGINT):
                self._stop()
            elif number == signal.SIGHUP:
                self._hang_up()
            elif number == signal.SIGUSR2:
                self.upgrade(())

    def _hang_up(self) -> None:
        """The file of lines may have been moved away: workers that drain are to write into the new one, too."""
        for worker in self._workers.values():
            self._signal(worker, signal.SIGHUP)
        self.reload((), unless_same=self._exclusive)

    def _stop(self) -> None:
        again = self._stopping
        self._stopping = True
        self._end_coming("the gateway is stopping")
        if not again:
            self._notifier.stopping()
            self._push()
            # What waits in a queue is still taken by its worker, which has a copy of the socket.
            self._current.sockets.close_doors()
        now = self._clock()
        for worker in self._workers.values():
            self._signal(worker, signal.SIGTERM)
            if worker.ended_by is None:
                worker.ended_by = now + self._current.config.limits.drain_s + _CUT_S

    # Processes.

    def _start(self, generation: Generation, number: int) -> None:
        """If the system gives no process, it is tried again, as after a death."""
        try:
            self._start_worker(generation, number)
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

    def _start_worker(self, generation: Generation, number: int) -> None:
        now = self._clock()
        shared, descriptor = memory()
        share = Share(
            number=number,
            workers=generation.size,
            alone=False,
            applies=number == 1 and not generation.applied,
            sockets=generation.sockets.of_worker(number - 1),
            ca=generation.ca,
            leaves=generation.leaves,
            prices=generation.prices,
            unwrapped=self._unwrapped,
            concluding=shared,
        )
        config = generation.config
        own = [one for each in share.sockets.values() for one in each]
        try:
            pid, channel = self._fork(lambda end: self._made.work(config, share, end), own)
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
        self._take_in(worker)

    def _take_in(self, worker: Worker) -> None:
        self._workers[worker.pid] = worker
        self._listen_to(worker.channel, lambda: self._on_worker(worker))

    def _start_desk(self) -> None:
        generation, now = self._current, self._clock()
        config, admin = generation.config, generation.sockets.admin
        own = [admin] if admin is not None else []
        try:
            pid, channel = self._fork(
                lambda end: self._made.attend(config, end, admin), own, desk=True
            )
        except OSError as error:
            self._desk_due = max(self._desk_restarts.died(now, 0.0), now + FIRST_S)
            log.error("the process of probes and commands can't be started (%s)", error)
            return
        desk = self._desk = Child(pid, channel, now, now)
        self._listen_to(channel, lambda: self._on_desk(desk))
        self._push()

    def _fork(
        self,
        run: Callable[[socket.socket], int],
        listening: Collection[socket.socket],
        *,
        desk: bool = False,
    ) -> tuple[int, Channel]:
        """Of the listening sockets the child keeps ``listening``."""
        sockets = [self._current.sockets, *([self._coming.sockets] if self._coming else [])]

        def shed() -> None:
            self._selector.close()
            self._signals.close()
            self._wakeup.close()
            for each in sockets:
                each.close_all_but(listening)
            # The ledger of an embedded gateway is a worker's: nobody else may open it while that worker lives.
            if self._lock >= 0 and (desk or not self._current.config.redis.embedded):
                os.close(self._lock)

        return fork(run, self._channels(), shed)

    def _channels(self) -> Iterator[Channel]:
        yield from (child.channel for child in self._children())

    def _listen_to(self, channel: Channel, heed: Callable[[], None]) -> None:
        self._selector.register(channel.socket, selectors.EVENT_READ, heed)

    def _write_on(self) -> None:
        """Wakes the supervisor when a child takes what it could not take before."""
        registered = self._selector.get_map()
        for channel in self._channels():
            key = registered.get(channel.socket)
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if channel.wants_to_write else 0)
            if key is not None and key.events != events:
                self._selector.modify(channel.socket, events, key.data)

    def _heard(self, channel: Channel) -> list[Message]:
        channel.flush()
        messages, more = channel.receive()
        if not more:
            with contextlib.suppress(KeyError):
                self._selector.unregister(channel.socket)
        return messages

    def _forget(self, channel: Channel) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(channel.socket)
        channel.close()

    def _children(self) -> Iterator[Child]:
        yield from self._workers.values()
        if self._desk is not None:
            yield self._desk

    @staticmethod
    def _signal(child: Child, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, number)

    def _reap(self) -> None:
        """Also of processes that are not ours: as process 1 of a container we are given orphans."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            code = os.waitstatus_to_exitcode(status)
            if pid in self._workers:
                self._worker_ended(self._workers[pid], code)
            elif self._desk is not None and pid == self._desk.pid:
                self._desk_ended(code)
            elif self._judgement is not None and pid == self._judgement.pid:
                self._judged(code)

    def _worker_ended(self, worker: Worker, code: int) -> None:
        self._on_worker(worker)  # Its last words.
        del self._workers[worker.pid]
        self._forget(worker.channel)
        self._dead = merged([self._dead, as_counters(worker.report)])
        self._keep_lines(worker)
        for gathering in tuple(self._gatherings.values()):
            self._gathered(gathering, worker, None)
        now = self._clock()
        generation = next(
            (
                each
                for each in (self._current, self._coming)
                if each is not None and each.workers.get(worker.number) is worker
            ),
            None,
        )
        if generation is not None:
            # Also of one that was told to retire: if the reload is refused, its place is taken again.
            del generation.workers[worker.number]
        if self._retiring.pop(worker.pid, None) is not None:
            if code:
                log.error("a retiring worker (%d) ended with %s", worker.pid, _how(code))
        elif generation is None:
            return
        elif self._stopping:
            self._codes.append(code)
        elif generation is self._coming:
            why = worker.status.get("failed") or f"worker {worker.number} ended with {_how(code)}"
            self._end_coming(why)
        elif not generation.was_whole and worker.phase is Phase.STARTING:
            # It has said why. Started again it would say the same.
            self._failed = True
            self._codes.append(code or 1)
            self._stop()
        else:
            self._died(generation, worker, code, now)

    def _keep_lines(self, worker: Worker) -> None:
        """What a worker that was killed has settled and not written."""
        if worker.concluding is not None:
            self._unwritten += [line.decode() for line in left(worker.concluding)]
            worker.concluding.close()
        if worker.descriptor >= 0:
            os.close(worker.descriptor)

    def _hand_on_lines(self) -> None:
        if not self._unwritten:
            return
        for worker in self._current.workers.values():
            if worker.phase is Phase.READY:
                worker.channel.send({"kind": "conclude", "lines": self._unwritten})
                self._unwritten = []
                return

    def _died(self, generation: Generation, worker: Worker, code: int, now: float) -> None:
        self._deaths += 1
        restarts = generation.restarts.setdefault(worker.number, Restarts())
        due = generation.due[worker.number] = restarts.died(now, now - worker.started)
        log.error(
            "worker %d (%d) ended with %s; it is started again%s",
            worker.number,
            worker.pid,
            _how(code),
            f" in {due - now:g} s" if due > now else "",
        )

    def _desk_ended(self, code: int) -> None:
        desk, self._desk = self._desk, None
        if desk is None:
            return
        self._forget(desk.channel)
        now = self._clock()
        self._desk_due = now
        if desk.ended_by is None:
            self._desk_due = self._desk_restarts.died(now, now - desk.started)
            log.error("the process of probes and commands ended with %s", _how(code))

    # Moments.

    def _look(self) -> None:
        now = self._clock()
        late, self._looked_at = now - self._looked_at > 5.0, now
        if late:
            # This process was stopped, or the machine was asleep. So were the workers.
            for child in self._children():
                child.beat_at = now
        self._replace_program()
        if not (self._stopping or self._failed):
            self._start_missing(now)
            self._follow_up(now)
        self._hand_on_lines()
        self._end_overdue(now)
        self._watch_loops(now)
        for gathering in tuple(self._gatherings.values()):
            if now >= gathering.until:
                self._finish(gathering)
        if now - self._pushed_at >= _PUSH_S:
            self._push()
        if self._notifier.watchdog_s and now - self._alive_at >= self._notifier.watchdog_s:
            self._alive_at = now
            self._notifier.alive()
        if (self._stopping or self._failed) and not self._workers:
            self._dismiss_desk(now)

    def _start_missing(self, now: float) -> None:
        if self._desk is None and not self._replacing and now >= self._desk_due:
            self._start_desk()
        for generation in (self._current, self._coming):
            if generation is None:
                continue
            replaced = generation is self._current and self._coming is not None
            if self._exclusive and (self._workers or replaced):
                continue
            for number in range(1, generation.size + 1):
                if generation.may_start(number) and now >= generation.due.get(number, 0.0):
                    self._start(generation, number)

    @property
    def _exclusive(self) -> bool:
        """The embedded ledger is in the memory of one worker: the next one begins when that one has ended."""
        return self._current.config.redis.embedded

    def _follow_up(self, now: float) -> None:
        for generation in (self._current, self._coming):
            if generation is None:
                continue
            first = generation.workers.get(1)
            if first is not None and first.phase is Phase.READY:
                generation.applied = True
        if not self._current.was_whole and self._current.whole:
            self._current.was_whole = True
            self._tell_ready()
        coming = self._coming
        if coming is not None and coming.whole:
            self._take_over(coming)
        elif coming is not None and now >= coming.give_up_at:
            self._end_coming(f"not ready in {_TAKE_OVER_S:g} s: {'; '.join(coming.reasons())}")

    def _tell_ready(self) -> None:
        addresses = self._current.sockets.addresses()
        where = " ".join(
            f"{kind}={addresses.get(kind, 'off')}"
            for kind in ("proxy", "base_url", "transparent", "admin")
        )
        self._say(f"ready {where}")
        self._notifier.ready(f"{self._current.size} workers are ready")

    def _end_overdue(self, now: float) -> None:
        for child in self._children():
            if child.ended_by is not None and now >= child.ended_by:
                log.error("process %d did not end in time and is killed", child.pid)
                self._signal(child, signal.SIGKILL)
                child.ended_by = now + _ABORT_S

    def _watch_loops(self, now: float) -> None:
        for child in self._children():
            if child.aborted or now - child.beat_at < self._hung_s:
                continue
            child.aborted = True
            log.error(
                "%s (%d) has not moved for %.0f s: it is ended%s",
                _name(child),
                child.pid,
                now - child.beat_at,
                "" if child.pid in self._retiring else ", and started again",
            )
            self._signal(child, signal.SIGABRT)
            child.ended_by = now + _ABORT_S

    def _dismiss_desk(self, now: float) -> None:
        if self._desk is not None and self._desk.ended_by is None:
            self._signal(self._desk, signal.SIGTERM)
            self._desk.ended_by = now + _DESK_S

    # Generations.

    def reload(self, asked_by: tuple[int, ...], *, unless_same: bool = False) -> None:
        """The configuration as the file has it now, if it can be used. ``asked_by`` are requests of the desk. With
        ``unless_same`` nothing is done for a configuration that has not changed."""
        try:
            config = self._made.load()
        except ConfigError as error:
            self._refuse_reload([str(problem) for problem in error.problems], asked_by)
            return
        if not (unless_same and config == self._current.config):
            self._begin_generation(config, asked_by)

    def _begin_generation(self, config: Config, asked_by: tuple[int, ...]) -> None:
        if why := self._unfit(config):
            self._refuse_reload([why], asked_by)
            return
        self._notifier.reloading()
        number = self._current.number + 1
        try:
            coming = self._made.generation(number, config, self._current)
        except Exception as error:
            self._notifier.ready("the configuration in use stays")
            self._refuse_reload([self._why(error)], asked_by)
            return
        coming.asked_by = list(asked_by)
        coming.give_up_at = self._clock() + _TAKE_OVER_S
        self._coming = coming
        if self._exclusive:
            coming.give_up_at += self._current.config.limits.drain_s + _CUT_S
            for worker in self._current.workers.values():
                self._retire(worker)

    def _busy(self) -> str:
        """Why there can be neither a reload nor an upgrade now; empty if there can."""
        if self._stopping:
            return "the gateway is stopping"
        if not self._current.was_whole:
            return "the gateway is starting; try again when it is ready"
        if self._coming is not None:
            return "another reload is under way; try again when it has ended"
        if self._judgement is not None or self._replacing:
            return (
                "an upgrade is under way, which reads the file again; try again when it has ended"
            )
        return ""

    def _unfit(self, config: Config) -> str:
        """Why ``config`` can't follow the one in use; empty if it can."""
        old = self._current.config
        if busy := self._busy():
            return busy
        if config.state.directory != old.state.directory:
            return "[state] directory has changed: stop the gateway and start it again"
        if config.redis.embedded != old.redis.embedded:
            return "[redis] url has changed from or to the embedded store: stop the gateway and start it again"
        return ""

    def _unfit_to_upgrade(self) -> str:
        """Behind the exec the new program can't go back: what it needs from the system is tried before, and given back."""
        if busy := self._busy():
            return busy
        try:
            config = self._made.load()
        except ConfigError:
            return ""  # The installed program judges it, and may know more keys.
        if why := self._unfit(config):
            return why
        try:
            tried = self._made.generation(self._current.number + 1, config, self._current)
        except Exception as error:
            return self._why(error)
        tried.sockets.close(kept=self._current.sockets)
        return ""

    def _why(self, error: Exception) -> str:
        """Of a fault of ours the type only; the log has the rest."""
        if isinstance(error, self._cannot_start):
            return str(error)
        log.error("a new generation of workers could not be made", exc_info=error)
        return f"the gateway failed at it ({type(error).__name__}): the log says more"

    def _refuse_reload(self, problems: list[str], asked_by: tuple[int, ...]) -> None:
        for problem in problems:
            log.error("not reloaded, and the configuration in use stays: %s", problem)
        for request in asked_by:
            self._answer(request, {"status": 409, "error": "\n".join(problems)})

    def _end_coming(self, why: str) -> None:
        coming, self._coming = self._coming, None
        if coming is None:
            return
        self._refuse_reload([why], tuple(coming.asked_by))
        coming.sockets.close(kept=self._current.sockets)
        now = self._clock()
        for worker in coming.workers.values():
            worker.phase = Phase.RETIRING
            self._retiring[worker.pid] = worker
            self._signal(worker, signal.SIGTERM)
            worker.ended_by = now + _CUT_S
        if not self._stopping:
            self._notifier.ready("the configuration in use stays")

    def _take_over(self, coming: Generation) -> None:
        old, self._current, self._coming = self._current, coming, None
        coming.was_whole = True
        for worker in old.workers.values():
            self._retire(worker)
        old.sockets.close(kept=coming.sockets)
        self._tell_ready()
        for request in coming.asked_by:
            self._answer(request, {"status": 200, "result": self._shown()})
        asked, were = coming.config.listen, old.config.listen
        if (asked.admin, asked.base_url_hosts) != (were.admin, were.base_url_hosts):
            self._dismiss_desk(self._clock())

    def _retire(self, worker: Worker) -> None:
        worker.phase = Phase.RETIRING
        self._retiring[worker.pid] = worker
        worker.channel.send({"kind": "retire"})
        worker.ended_by = self._clock() + self._current.config.limits.drain_s + _CUT_S

    # A new program.

    def upgrade(self, asked_by: tuple[int, ...]) -> None:
        """Has the installed program judge the configuration, then becomes it."""
        if why := self._unfit_to_upgrade():
            log.error("not upgraded, and the program in use stays: %s", why)
            for request in asked_by:
                self._answer(request, {"status": 409, "error": f"not upgraded: {why}"})
            return
        try:
            self._judgement = Judgement.begin(asked_by)
        except OSError as error:
            self._judged_so(Judged(False, str(error)), asked_by)

    def _judged(self, code: int) -> None:
        judgement, self._judgement = self._judgement, None
        if judgement is not None:
            self._judged_so(judgement.result(code), judgement.asked_by)

    def _judged_so(self, judged: Judged, asked_by: tuple[int, ...]) -> None:
        if not judged.good:
            log.error("not upgraded, and the program in use stays: %s", judged.said)
        for request in asked_by:
            error = f"the program that is installed refuses to run, and the one in use stays: {judged.said}"
            self._answer(
                request,
                {"status": 200, "result": self._shown()}
                if judged.good
                else {"status": 409, "error": error},
            )
        if judged.good:
            self._replacing = True
            self._dismiss_desk(self._clock())

    def _replace_program(self) -> None:
        if not self._replacing or self._desk is not None or self._stopping:
            return
        signal.pthread_sigmask(signal.SIG_BLOCK, OURS)
        # What has come before is not known to the next program; what comes now, it finds pending.
        self._on_signals()
        self._replacing = False
        if self._stopping:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, OURS)
            return
        self._notifier.restore(os.environ)
        try:
            take_over(
                self._current.sockets,
                [packed_worker(worker) for worker in self._workers.values()],
                self._current.number,
                self._lock,
                self._unwrapped,
            )
        except OSError as error:
            log.error("not upgraded (%s); the program in use stays", error)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, OURS)

    # Messages.

    def _on_worker(self, worker: Worker) -> None:
        for message in self._heard(worker.channel):
            _contained(self._heed_worker, worker, message)

    def _heed_worker(self, worker: Worker, message: Message) -> None:
        worker.beat_at = self._clock()
        match message["kind"]:
            case "unwrapped":
                self._unwrapped = Unwrapped(message["wrapping"], message["secret_id"])
            case "ready" if worker.phase is Phase.STARTING:
                worker.phase = Phase.READY
            case "status":
                before, worker.status = worker.status, {**worker.status, **message["status"]}
                if before.get("reasons") != worker.status.get("reasons"):
                    self._push()
            case "report":
                worker.report = message["families"]
                if (gathering := self._gatherings.get(message.get("id") or 0)) is not None:
                    self._gathered(gathering, worker, None)
            case "result":
                if (gathering := self._gatherings.get(message["id"])) is not None:
                    self._gathered(gathering, worker, message)

    def _on_desk(self, desk: Child) -> None:
        for message in self._heard(desk.channel):
            desk.beat_at = self._clock()
            if message.get("kind") != "ask":
                continue
            try:
                self._heed_desk(message)
            except Exception as error:
                log.exception("the supervisor has failed at what it was asked, and goes on")
                why = f"The gateway failed at this ({type(error).__name__})."
                self._answer(message.get("id", 0), {"status": 500, "error": why})

    def _heed_desk(self, message: Message) -> None:
        request = message["id"]
        match message["what"]:
            case "report":
                self._gather(request, "report", list(self._workers.values()), {"kind": "tell"})
            case "reload":
                self.reload((request,))
            case "upgrade":
                self.upgrade((request,))
            case "workers":
                self._answer(request, {"status": 200, "result": self._shown()})
            case "addresses":
                addresses = self._current.sockets.addresses()
                self._answer(request, {"status": 200, "result": addresses})
            case "operation":
                self._operate(request, message["name"], message["arguments"])

    def _operate(self, request: int, name: str, arguments: Any) -> None:
        able = [worker for worker in self._current.workers.values() if worker.phase is Phase.READY]
        if not able:
            why = "no worker is ready: look into the log, and try again"
            self._answer(request, {"status": 503, "error": why})
            return
        asked = able if name in EVERYWHERE else able[:1]
        message = {"kind": "operation", "name": name, "arguments": arguments}
        self._gather(request, "operation", asked, message, until=float("inf"))

    def _gather(
        self,
        request: int,
        what: str,
        workers: list[Worker],
        message: Message,
        until: float | None = None,
    ) -> None:
        self._number += 1
        until = self._clock() + _REPORT_S if until is None else until
        gathering = _Gathering(request, {worker.pid for worker in workers}, until, what)
        self._gatherings[self._number] = gathering
        for worker in workers:
            worker.channel.send({**message, "id": self._number})
        if not workers:
            self._finish(gathering)

    def _gathered(self, gathering: _Gathering, worker: Worker, message: Message | None) -> None:
        if worker.pid not in gathering.waiting:
            return
        gathering.waiting.discard(worker.pid)
        if gathering.what == "operation":
            if message is None:
                why = "the worker that was asked has died: look whether the change was made before you try again"
                message = {"status": 503, "error": why}
            if message["status"] != 200:
                gathering.error = gathering.error or message
            else:
                gathering.result = message["result"]
        if not gathering.waiting:
            self._finish(gathering)

    def _finish(self, gathering: _Gathering) -> None:
        for number, each in tuple(self._gatherings.items()):
            if each is gathering:
                del self._gatherings[number]
        if gathering.what == "report":
            self._answer(gathering.request, {"status": 200, "result": self._families()})
        elif gathering.error is not None:
            error = gathering.error
            self._answer(
                gathering.request, {"status": error["status"], "error": error.get("error", "")}
            )
        else:
            self._answer(gathering.request, {"status": 200, "result": gathering.result})

    def _answer(self, request: int, answer: Message) -> None:
        if self._desk is not None:
            self._desk.channel.send({**answer, "kind": "answer", "id": request})

    def _push(self) -> None:
        self._pushed_at = now = self._clock()
        if self._desk is None:
            return
        reasons = ["stopping"] if self._stopping else self._current.reasons()
        warnings = [] if reasons else self._current.warnings(now)
        self._desk.channel.send({"kind": "status", "reasons": reasons, "warnings": warnings})

    def _shown(self) -> list[dict[str, Any]]:
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
                self._workers.values(), key=lambda worker: (worker.generation, worker.number)
            )
        ]

    def _families(self) -> Families:
        phases = Counter(worker.phase for worker in self._workers.values())
        found = merged([self._dead, *(worker.report for worker in self._workers.values())])
        return [
            *found,
            gauge(
                "tollhouse_workers",
                "Worker processes, by state.",
                [({"state": phase.value}, phases[phase]) for phase in Phase],
            ),
            gauge(
                "tollhouse_worker_calls_in_progress",
                "Calls under way, by worker.",
                [
                    ({"worker": str(number)}, worker.status.get("calls", 0))
                    for number, worker in sorted(self._current.workers.items())
                ],
            ),
            {
                "name": "tollhouse_worker_deaths",
                "type": "counter",
                "help": "Workers that ended by themselves and were started again.",
                "samples": [["tollhouse_worker_deaths_total", {}, self._deaths]],
            },
        ]


def _contained(work: Callable[..., None], *given: Any) -> None:
    """Does it. A fault of ours in it ends nothing else: with the supervisor all would end."""
    try:
        work(*given)
    except Exception:
        log.exception("the supervisor has failed at something, and goes on")


def _name(child: Child) -> str:
    return f"worker {child.number}" if isinstance(child, Worker) else "the process of probes"


def freeze() -> None:
    """What is there now is shared by all workers for as long as nobody writes to it, which the collector would do."""
    gc.disable()
    gc.collect()
    gc.freeze()


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
