"""The place of a private key: a directory of its own, and no file that others could have read."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def open_to_others(file: Path) -> str | None:
    """Why ``file`` is no place for a key, or None. `OSError` if it is not there.

    PostgreSQL's rule for ssl_key_file: at most 0600 if it is ours, 0640 if it is root's and we are not (a mounted
    Kubernetes Secret with fsGroup). https://www.postgresql.org/docs/current/ssl-tcp.html
    """
    state = file.stat()
    allowed = 0o640 if state.st_uid == 0 and os.geteuid() != 0 else 0o600
    mode = stat.S_IMODE(state.st_mode)
    if mode & 0o077 & ~allowed:
        return (
            f"{file} has mode {mode:04o}, so others on this machine can read or change it. "
            f"If they could have, replace it; if not, `chmod {allowed:04o} {file}`."
        )
    return None


def make_private(directory: Path) -> None:
    """Make it 0700; one that is there keeps its mode, which may be a mount's."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Held by one process at a time, so that two that start together do not make two CAs."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
