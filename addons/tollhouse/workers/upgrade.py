"""The supervisor replaces its own program by the one that is installed now.

The new program is first run beside it, with ``--judge``, on the same configuration: behind the exec there would be nobody left
who could say what is wrong with it.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Final

from tollhouse.config.load import ConfigError
from tollhouse.workers.children import Children
from tollhouse.workers.desk_process import DeskProcess
from tollhouse.workers.estate import Estate
from tollhouse.workers.inheritance import command, packed_worker, take_over
from tollhouse.workers.signals import SignalSocket
from tollhouse.workers.succession import Succession
from tollhouse.workers.systemd import Notifier

log = logging.getLogger(__name__)

JUDGE: Final = "--judge"
_MOST_SAID: Final = 2_000


@dataclass(frozen=True, slots=True)
class _Judged:
    good: bool
    said: str


@dataclass(frozen=True, slots=True)
class _Judgement:
    """The installed program, as it judges the configuration."""

    pid: int
    said: IO[bytes]
    asked_by: tuple[int, ...]

    @classmethod
    def begin(cls, asked_by: tuple[int, ...]) -> _Judgement:
        """Raises `OSError`."""
        said = tempfile.TemporaryFile()  # noqa: SIM115 - `result` closes it.
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, said.fileno(), 1),
            (os.POSIX_SPAWN_DUP2, said.fileno(), 2),
        ]
        pid = os.posix_spawn(sys.executable, [*command(), JUDGE], os.environ, file_actions=actions)
        return cls(pid, said, asked_by)

    def result(self, code: int) -> _Judged:
        with self.said as file:
            file.seek(0)
            text = file.read(_MOST_SAID).decode("utf-8", "replace")
        said = " ".join(text.split()) or f"it ended with {code}"
        return _Judged(code == 0, said)


class Upgrade:
    """First the judgement, then the end of the desk, then the exec. ``heed_signals`` is the supervisor's own."""

    def __init__(
        self,
        succession: Succession,
        children: Children,
        desk: DeskProcess,
        signals: SignalSocket,
        heed_signals: Callable[[], None],
        estate: Estate,
        *,
        notifier: Notifier,
        lock: int,
    ) -> None:
        self._succession = succession
        self._children = children
        self._desk = desk
        self._signals = signals
        self._heed_signals = heed_signals
        self._estate = estate
        self._notifier = notifier
        self._lock = lock
        self._judgement: _Judgement | None = None
        self.replacing = False
        """The program is replaced as soon as the desk has ended."""

    def begin(self, asked_by: tuple[int, ...]) -> None:
        """Has the installed program judge the configuration, then becomes it. ``asked_by`` are requests of the desk."""
        if why := self._unfit():
            log.error("not upgraded, and the program in use stays: %s", why)
            self._desk.refuse(asked_by, f"not upgraded: {why}")
            return
        try:
            self._judgement = _Judgement.begin(asked_by)
        except OSError as error:
            self._judged(_Judged(False, str(error)), asked_by)
        else:
            self._succession.upgrading = True

    def _unfit(self) -> str:
        """Behind the exec the new program can't go back: what it needs from the system is tried before, and given back."""
        succession = self._succession
        if busy := succession.unfit(None):
            return busy
        try:
            config = succession.made.load()
        except ConfigError:
            return ""  # The installed program judges it, and may know more keys.
        if why := succession.unfit(config):
            return why
        current = succession.current
        try:
            tried = succession.made.generation(current.number + 1, config, current)
        except Exception as error:
            return succession.why(error)
        tried.sockets.close(kept=current.sockets)
        return ""

    def ended(self, pid: int, code: int) -> None:
        """A process has ended. It may be the one that judges."""
        judgement = self._judgement
        if judgement is not None and judgement.pid == pid:
            self._judgement = None
            self._judged(judgement.result(code), judgement.asked_by)

    def _judged(self, judged: _Judged, asked_by: tuple[int, ...]) -> None:
        self._succession.upgrading = self.replacing = judged.good
        if not judged.good:
            log.error("not upgraded, and the program in use stays: %s", judged.said)
            error = f"the program that is installed refuses to run, and the one in use stays: {judged.said}"
            self._desk.refuse(asked_by, error)
            return
        for request in asked_by:
            self._desk.answer(request, {"status": 200, "result": self._children.shown()})
        self._desk.dismiss()

    def look(self) -> None:
        """The exec, once it is time for it."""
        if not self.replacing or self._children.desk is not None or self._succession.stopping:
            return
        self._signals.block()
        # What has come before is not known to the next program; what comes now, it finds pending.
        self._heed_signals()
        self._succession.upgrading = self.replacing = False
        if self._succession.stopping:
            self._signals.unblock()
            return
        self._notifier.restore(os.environ)
        try:
            take_over(
                self._succession.current.sockets,
                [packed_worker(worker) for worker in self._children.workers.values()],
                self._succession.current.number,
                self._lock,
                self._succession.unwrapped,
                self._estate.packed(),
            )
        except OSError as error:
            log.error("not upgraded (%s); the program in use stays", error)
            self._signals.unblock()
