"""What the supervisor's program leaves to the one that replaces it (``exec``): it stays the same process, and keeps the sockets,
the lock and the workers."""

from __future__ import annotations

import dataclasses
import json
import mmap
import os
import sys
import tempfile
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import IO, Any, Final, NoReturn

from tollhouse.credential.vault.auth import Unwrapped
from tollhouse.workers.channel import Channel
from tollhouse.workers.child import Phase, Worker
from tollhouse.workers.listening import Sockets

VARIABLE: Final = "TOLLHOUSE_TAKES_OVER"


def command() -> list[str]:
    """As this program was started, with what is installed now."""
    return [sys.executable, *sys.orig_argv[1:]]


def packed_worker(worker: Worker) -> dict[str, Any]:
    """As JSON. Its channel is open in the next program."""
    os.set_inheritable(worker.channel.socket.fileno(), True)
    if worker.descriptor >= 0:
        os.set_inheritable(worker.descriptor, True)
    return {
        "concluding": worker.descriptor,
        "pid": worker.pid,
        "number": worker.number,
        "generation": worker.generation,
        "descriptor": worker.channel.socket.fileno(),
        "read": worker.channel.unread.decode("latin-1"),
        "started": worker.started,
        "status": worker.status,
        "report": worker.report,
        "opening": worker.opening,
        "phase": worker.phase.value,
        "ended_by": worker.ended_by,
    }


def take_over(
    sockets: Sockets,
    workers: list[dict[str, Any]],
    number: int,
    lock: int,
    unwrapped: Unwrapped | None,
    estate: dict[str, Any],
) -> NoReturn:
    """Raises `OSError`; else this program is gone."""
    if lock >= 0:
        os.set_inheritable(lock, True)
    state = {
        "sockets": sockets.packed(),
        "workers": workers,
        "generation": number,
        "lock": lock,
        "unwrapped": dataclasses.asdict(unwrapped) if unwrapped is not None else None,
        "estate": estate,
    }
    # The environment of a process can be read in /proc for as long as it lives.
    with _in_memory() as kept:
        kept.write(json.dumps(state).encode())
        kept.flush()
        os.set_inheritable(kept.fileno(), True)
        os.environ[VARIABLE] = str(kept.fileno())
        _become()


def _in_memory() -> IO[bytes]:
    """A file that is on no disk, where the system has such files."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("takes-over"), "w+b")
    return tempfile.TemporaryFile()


def _become() -> NoReturn:
    try:
        os.execv(sys.executable, command())  # noqa: S606 - The program is our own.
    except OSError:
        del os.environ[VARIABLE]
        raise


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What the program before this one has left."""

    sockets: dict[str, Any]
    workers: list[Worker]
    generation: int
    lock: int
    unwrapped: Unwrapped | None
    estate: dict[str, Any]
    """`Estate.packed`; empty of a program that did not know it."""

    @classmethod
    def taken(cls, environ: MutableMapping[str, str], now: float) -> Inheritance | None:
        """None where there was none. No child is to see the variable."""
        text = environ.pop(VARIABLE, "")
        if not text:
            return None
        with os.fdopen(int(text), "rb") as kept:
            kept.seek(0)
            state = json.loads(kept.read())
        if state["lock"] >= 0:
            os.set_inheritable(state["lock"], False)
        workers = [_unpacked(saved, now) for saved in state["workers"]]
        unwrapped = Unwrapped(**state["unwrapped"]) if state["unwrapped"] else None
        return cls(
            state["sockets"],
            workers,
            state["generation"],
            state["lock"],
            unwrapped,
            state.get("estate", {}),
        )


def _unpacked(saved: dict[str, Any], now: float) -> Worker:
    descriptor = saved["concluding"]
    shared = None
    if descriptor >= 0:
        os.set_inheritable(descriptor, False)
        shared = mmap.mmap(descriptor, 0)
    return Worker(
        saved["pid"],
        Channel.adopted(saved["descriptor"], saved["read"].encode("latin-1")),
        saved["started"],
        now,
        number=saved["number"],
        generation=saved["generation"],
        phase=Phase(saved["phase"]),
        ended_by=saved.get("ended_by"),
        status=saved["status"],
        report=saved.get("report", []),
        opening=saved.get("opening", False),
        concluding=shared,
        descriptor=descriptor,
    )
