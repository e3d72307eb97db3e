"""Who owns a state directory: one process at a time. It holds a lock, which the kernel drops when
the process dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType

from tollhouse import files

NAME = "state.lock"


class StateBusy(Exception):
    """Another process owns the state directory."""


class StateLock:
    """An exclusive ``flock`` on ``state.lock``. A gateway holds it for its life. While no gateway
    runs, a command that opens the files of the embedded stores holds it.

    The file stays when the lock is released. If it were removed, two processes could lock two
    different files.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @property
    def descriptor(self) -> int:
        """Whoever has a copy of it holds the lock as well."""
        return self._descriptor

    @classmethod
    def take(cls, directory: Path) -> StateLock:
        """Take the lock at once; makes ``directory`` (0700) if it is missing.

        Raises `StateBusy` when it is held, `OSError` when the directory can't be used.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(
            directory / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        try:
            files.give(descriptor, directory)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise StateBusy(str(directory)) from None
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor)

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> StateLock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
