"""What the supervisor knows of one of its processes, and how one is made."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import logging
import mmap
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from tollhouse.workers.channel import Channel
from tollhouse.workers.signals import OURS

log = logging.getLogger(__name__)

GC_THRESHOLD: Final = (10_000, 20, 20)
"""Python's own 2,000, 10, 10 look through the objects of calls under way, none of which is garbage, five times as often."""


class Phase(StrEnum):
    """Of a worker, as probes and commands name it."""

    STARTING = "starting"
    PREPARED = "prepared"
    """It waits for the other workers of its generation, and for the file's projects."""
    READY = "ready"
    """It takes connections. Its status says whether calls pass."""
    RETIRING = "retiring"
    """It takes no more, and ends when its calls have ended."""


@dataclass
class Child:
    """A process. Only the supervisor changes it."""

    pid: int
    channel: Channel
    started: float
    beat_at: float
    """When its loop was last heard of."""
    ended_by: float | None = None
    """When it is killed, unless it has ended."""
    aborted: bool = False
    """It hung, and was told to say where."""

    @property
    def name(self) -> str:
        return "the process of probes"

    @property
    def replaced(self) -> bool:
        """Another one follows when it ends."""
        return True

    def send_signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


@dataclass
class Worker(Child):
    """``number`` is from 1; a successor has the same one."""

    number: int = 0
    generation: int = 0
    phase: Phase = Phase.STARTING
    status: dict[str, Any] = field(default_factory=dict)
    """``reasons`` against its being ready, ``warnings``, ``calls`` under way, ``connections``."""
    report: list[Any] = field(default_factory=list)
    """Its metrics, as it told them last."""
    concluding: mmap.mmap | None = None
    opening: bool = False
    """It was told to open its listeners."""
    descriptor: int = -1
    """Of ``concluding``: the lines of the calls that it is settling."""

    @property
    def name(self) -> str:
        return f"worker {self.number}"

    @property
    def replaced(self) -> bool:
        return self.phase is not Phase.RETIRING

    @property
    def beginning(self) -> bool:
        """It has not been ready."""
        return self.phase in (Phase.STARTING, Phase.PREPARED)

    @property
    def reasons(self) -> list[str]:
        if self.beginning:
            return list(self.status.get("reasons") or ["starting"])
        return list(self.status.get("reasons") or [])


def fork(
    run: Callable[[socket.socket], int],
    channels: Iterable[Channel],
    shed: Callable[[], None],
) -> tuple[int, Channel]:
    """A child that does ``run`` with its end of a channel, and exits with what that gives. The child closes the supervisor's
    ends of all ``channels``; else it would keep them open when the supervisor dies. ``shed`` closes what else it must not have.
    Raises `OSError` when there can't be another process."""
    ours, theirs = socket.socketpair()
    others = [*channels, Channel(ours)]
    sys.stdout.flush() if sys.stdout is not None else None
    sys.stderr.flush() if sys.stderr is not None else None
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, OURS)
    try:
        pid = os.fork()
        if not pid:
            _be_child(run, theirs, others, shed)
    except OSError:
        ours.close()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        theirs.close()
    return pid, others[-1]


def _be_child(
    run: Callable[[socket.socket], int],
    end: socket.socket,
    channels: Iterable[Channel],
    shed: Callable[[], None],
) -> None:
    """Does not return."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in OURS:
            signal.signal(number, signal.SIG_DFL)
        # In a terminal Ctrl-C reaches every process of the gateway. The supervisor tells its children.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # Until its loop heeds these. It has opened no file yet, and nothing is to be ended in order.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        for channel in channels:
            channel.close()
        shed()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, OURS)
        faulthandler.enable(all_threads=True)
        gc.set_threshold(*GC_THRESHOLD)
        gc.enable()
        code = run(end)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        log.exception("a process of the gateway failed")
    finally:
        try:
            logging.shutdown()
        finally:
            os._exit(code)


def how(code: int) -> str:
    """How a process ended, for the log."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
