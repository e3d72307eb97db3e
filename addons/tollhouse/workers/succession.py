"""How one generation of workers follows another: the start of its workers, a reload, the take-over, and the end."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from typing import Final

from tollhouse.config.load import Config, ConfigError
from tollhouse.credential.vault.auth import Unwrapped
from tollhouse.workers.child import Phase, Worker, how
from tollhouse.workers.children import Children
from tollhouse.workers.desk_process import DeskProcess
from tollhouse.workers.estate import Estate
from tollhouse.workers.generation import Generation, Maker
from tollhouse.workers.listening import Sockets
from tollhouse.workers.restarts import Restarts
from tollhouse.workers.starter import Starter
from tollhouse.workers.systemd import Notifier

log = logging.getLogger(__name__)

_TAKE_OVER_S: Final = 90.0
"""How long a new generation may take until it is ready."""
_CUT_S: Final = 45.0
"""Beyond ``limits.drain_s``: calls are ended, settled, and the stores closed."""


class Succession:
    """``cannot_start`` are the exceptions of a start that a person can mend."""

    def __init__(
        self,
        made: Maker,
        generation: Generation,
        children: Children,
        starter: Starter,
        desk: DeskProcess,
        estate: Estate,
        say: Callable[[str], None],
        *,
        cannot_start: tuple[type[BaseException], ...],
        notifier: Notifier,
        clock: Callable[[], float],
    ) -> None:
        self.made = made
        self.current = generation
        self.coming: Generation | None = None
        self.stopping = False
        self.failed = False
        self.upgrading = False
        """The program is about to be replaced."""
        self.codes: list[int] = []
        """Exit codes that count for the supervisor's own."""
        self.unwrapped: Unwrapped | None = None
        """A wrapping token is unwrapped once, by the first worker; the others start after it."""
        self._children = children
        self._starter = starter
        self._desk = desk
        self._estate = estate
        self._say = say
        self._cannot_start = cannot_start
        self._notifier = notifier
        self._clock = clock

    def adopt(self, workers: list[Worker], unwrapped: Unwrapped | None) -> None:
        """Workers of the program before this one: they serve until a new generation is ready, or retire already."""
        self.unwrapped = unwrapped
        for worker in workers:
            self._children.add_worker(worker)
            if worker.phase is not Phase.RETIRING:
                self.current.workers[worker.number] = worker
        self.current.led = self.current.applied = self.current.was_whole = True

    @property
    def ending(self) -> bool:
        return self.stopping or self.failed

    @property
    def settled(self) -> bool:
        """Nothing is to come but what comes from outside."""
        generations = (self.current, *((self.coming,) if self.coming else ()))
        return (
            not self.stopping
            and not any(
                worker.phase is Phase.RETIRING for worker in self._children.workers.values()
            )
            and all(generation.whole for generation in generations)
        )

    @property
    def exclusive(self) -> bool:
        """The embedded ledger is in the memory of one worker: the next one begins when that one has ended."""
        return self.current.config.redis.embedded

    def able(self) -> list[Worker]:
        """The workers that take connections, and can be asked for something."""
        return [worker for worker in self.current.workers.values() if worker.phase is Phase.READY]

    # The start of processes.

    def start_missing(self) -> None:
        now = self._clock()
        for generation in (self.current, self.coming):
            if generation is None:
                continue
            replaced = generation is self.current and self.coming is not None
            if self.exclusive and (self._children.workers or replaced):
                continue
            for number in range(1, generation.size + 1):
                if generation.may_start(number) and now >= generation.due.get(number, 0.0):
                    self._starter.start(generation, number, self._sockets(), self.unwrapped)

    def start_desk(self) -> bool:
        return self._starter.start_desk(self.current, self._sockets())

    def _sockets(self) -> list[Sockets]:
        """All that this process has."""
        return [self.current.sockets, *([self.coming.sockets] if self.coming is not None else [])]

    # How far they are.

    def follow_up(self) -> None:
        """What is due because workers have come further, or have not in time."""
        self.current.go_on()
        if not self.current.was_whole and self.current.whole:
            self.current.was_whole = True
            self._tell_ready()
        coming = self.coming
        if coming is None:
            return
        coming.go_on()
        late = self._clock() >= coming.give_up_at
        if coming.whole or (late and coming.applied):
            # What is applied can't be taken back: a worker that is missing then is started again, as later.
            self._take_over(coming)
        elif late:
            self._end_coming(f"not ready in {_TAKE_OVER_S:g} s: {'; '.join(coming.reasons())}")

    def applied(self, worker: Worker) -> None:
        """``worker`` has written the projects of its file into the ledger."""
        generation = self._generation_of(worker)
        if generation is not None:
            generation.applied = True

    def _generation_of(self, worker: Worker) -> Generation | None:
        return next(
            (
                each
                for each in (self.current, self.coming)
                if each is not None and each.workers.get(worker.number) is worker
            ),
            None,
        )

    def _tell_ready(self) -> None:
        addresses = self.current.sockets.addresses()
        where = " ".join(
            f"{kind}={addresses.get(kind, 'off')}"
            for kind in ("proxy", "base_url", "transparent", "admin")
        )
        self._say(f"ready {where}")
        self._notifier.ready(f"{self.current.size} workers are ready")

    # A reload.

    def reload(self, asked_by: tuple[int, ...], *, unless_same: bool = False) -> None:
        """The configuration as the file has it now, if it can be used. ``asked_by`` are requests of the desk. With
        ``unless_same`` nothing is done for a configuration that has not changed."""
        try:
            config = self.made.load()
        except ConfigError as error:
            self._refuse([str(problem) for problem in error.problems], asked_by)
            return
        if not (unless_same and config == self.current.config):
            self.begin(config, asked_by)

    def begin(self, config: Config, asked_by: tuple[int, ...]) -> None:
        """A new generation of workers, for ``config``."""
        if why := self.unfit(config):
            self._refuse([why], asked_by)
            return
        self._notifier.reloading()
        number = self.current.number + 1
        try:
            coming = self.made.generation(number, config, self.current)
        except Exception as error:
            self._notifier.ready("the configuration in use stays")
            self._refuse([self.why(error)], asked_by)
            return
        coming.asked_by = list(asked_by)
        coming.give_up_at = self._clock() + _TAKE_OVER_S
        self.coming = coming
        if self.exclusive:
            coming.give_up_at += self.current.config.limits.drain_s + _CUT_S
            for worker in self.current.workers.values():
                self._retire(worker)

    def _busy(self) -> str:
        """Why there can be neither a reload nor an upgrade now; empty if there can."""
        if self.stopping:
            return "the gateway is stopping"
        if not self.current.was_whole:
            return "the gateway is starting; try again when it is ready"
        if self.coming is not None:
            return "another reload is under way; try again when it has ended"
        if self.upgrading:
            return (
                "an upgrade is under way, which reads the file again; try again when it has ended"
            )
        return ""

    def unfit(self, config: Config | None) -> str:
        """Why ``config`` can't follow the one in use; empty if it can. Without one: why nothing can follow now."""
        if (busy := self._busy()) or config is None:
            return busy
        old = self.current.config
        if config.state.directory != old.state.directory:
            return "[state] directory has changed: stop the gateway and start it again"
        if config.redis.embedded != old.redis.embedded:
            return "[redis] url has changed from or to the embedded store: stop the gateway and start it again"
        return ""

    def why(self, error: Exception) -> str:
        """Why a generation could not be made. Of a fault of ours the type only; the log has the rest."""
        if isinstance(error, self._cannot_start):
            return str(error)
        log.error("a new generation of workers could not be made", exc_info=error)
        return f"the gateway failed at it ({type(error).__name__}): the log says more"

    def _refuse(self, problems: list[str], asked_by: tuple[int, ...]) -> None:
        for problem in problems:
            log.error("not reloaded, and the configuration in use stays: %s", problem)
        self._desk.refuse(asked_by, "\n".join(problems))

    def _take_over(self, coming: Generation) -> None:
        old, self.current, self.coming = self.current, coming, None
        coming.was_whole = True
        for worker in old.workers.values():
            self._retire(worker)
        old.sockets.close(kept=coming.sockets)
        self._tell_ready()
        for request in coming.asked_by:
            self._desk.answer(request, {"status": 200, "result": self._children.shown()})
        if _of_the_desk(coming.config) != _of_the_desk(old.config):
            self._desk.dismiss()

    # The end.

    def _retire(self, worker: Worker) -> None:
        worker.phase = Phase.RETIRING
        worker.channel.send({"kind": "retire"})
        worker.ended_by = self._clock() + self.current.config.limits.drain_s + _CUT_S

    def _end_coming(self, why: str, *, sure: bool = False) -> None:
        """``sure``: ``why`` says all of what has become of the file's projects."""
        coming, self.coming = self.coming, None
        if coming is None:
            return
        if coming.applying and not sure:
            why += "; the projects of its file may be written already: look at them (`tollhouse project list`)"
        self._refuse([why], tuple(coming.asked_by))
        coming.sockets.close(kept=self.current.sockets)
        now = self._clock()
        for worker in coming.workers.values():
            worker.phase = Phase.RETIRING
            worker.send_signal(signal.SIGTERM)
            worker.ended_by = now + _CUT_S
        if not self.stopping:
            self._notifier.ready("the configuration in use stays")

    def stop(self) -> None:
        """Every worker drains; told again, it ends at once."""
        again, self.stopping = self.stopping, True
        self._end_coming("the gateway is stopping")
        if not again:
            self._notifier.stopping()
            workers = self._children.workers.values()
            if calls := sum(worker.status.get("calls", 0) for worker in workers):
                self._say(
                    f"stopping: {calls} call(s) under way may go on for {self.current.config.limits.drain_s:g} s; "
                    "a second signal ends them at once"
                )
            # What waits in a queue is still taken by its worker, which has a copy of the socket.
            self.current.sockets.close_doors()
        now = self._clock()
        for worker in self._children.workers.values():
            worker.send_signal(signal.SIGTERM)
            if worker.ended_by is None:
                worker.ended_by = now + self.current.config.limits.drain_s + _CUT_S

    def ended(self, worker: Worker, code: int) -> None:
        """``worker`` has ended, and has been heard to its end."""
        generation = self._generation_of(worker)
        if generation is not None:
            # Also of one that was told to retire: if the reload is refused, its place is taken again.
            del generation.workers[worker.number]
        if worker.phase is Phase.RETIRING:
            if code:
                log.error("a retiring worker (%d) ended with %s", worker.pid, how(code))
        elif generation is None:
            return
        elif self.stopping:
            self.codes.append(code)
        elif generation is self.coming and generation.depends_on(worker):
            failed = worker.status.get("failed")
            why = failed or f"worker {worker.number} ended with {how(code)}"
            self._end_coming(why, sure=bool(failed))
        elif generation is self.current and not generation.was_whole and worker.beginning:
            # It has said why. Started again it would say the same.
            self.failed = True
            self.codes.append(code or 1)
            self.stop()
        else:
            self._died(generation, worker, code)

    def _died(self, generation: Generation, worker: Worker, code: int) -> None:
        now = self._clock()
        self._estate.deaths += 1
        restarts = generation.restarts.setdefault(worker.number, Restarts())
        due = generation.due[worker.number] = restarts.died(now, now - worker.started)
        log.error(
            "worker %d (%d) ended with %s; it is started again%s",
            worker.number,
            worker.pid,
            how(code),
            f" in {due - now:g} s" if due > now else "",
        )


def _of_the_desk(config: Config) -> tuple[object, ...]:
    """What the desk reads of a configuration, once."""
    listen = config.listen
    return (
        listen.admin,
        listen.base_url_hosts,
        config.admin,
        config.projects,
        config.tenants,
        config.providers,
    )
