"""Whether the state directory is ours alone: whoever can write in it can give the gateway another
CA, tokens or settles."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PRIVATE_FILES: Final = (
    *("ca-key.pem", "vault.key", "vault.enc", "vault.lock", "ledger.json", "settles.spool"),
    *("spool.sqlite3", "spool.sqlite3-wal", "spool.sqlite3-shm", "settles.damaged"),
    *("control.sock", "state.lock", "prices.json"),
)
"""What is secret, or decides who may command: the CA's key, the embedded stores, the spool, the
socket, the locks and the prices."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """Something of the state directory that another user of this machine can read or change. Each
    is a sentence."""

    what: str
    why: str
    todo: str

    def __str__(self) -> str:
        return f"{self.what} {self.why} {self.todo}"


def exposures(directory: Path, user: int | None = None) -> Iterator[Exposure]:
    """What is wrong with ``directory`` and the private files in it, for a gateway that runs as
    ``user`` (else this process's). Nothing for what is not there yet. Raises `OSError` for what
    can't be looked at.

    All must belong to that user or to root, who may do anything here. Nobody else may write in the
    directory, nor read the files. To what is root's while we are not, its group has the rights that
    a mount gives it (Kubernetes, ``fsGroup``).
    """
    user = os.geteuid() if user is None else user
    if not directory.is_dir():
        return
    yield from _exposure(
        directory, user, ours="0700", denied=0o022, by_group=0o020, whose="the state directory"
    )
    for name in PRIVATE_FILES:
        file = directory / name
        if file.exists():
            yield from _exposure(
                file, user, ours="0600", denied=0o077, by_group=0o060, whose=f"{name} in it"
            )


def _exposure(
    path: Path, user: int, *, ours: str, denied: int, by_group: int, whose: str
) -> Iterator[Exposure]:
    state = path.stat()
    if state.st_uid not in (user, 0):
        yield Exposure(
            f"{path} belongs to user {state.st_uid}, and the gateway runs as user {user}.",
            f"That user can read or change {whose}: the CA's key, the keys of providers, who may call.",
            f"If nobody has done so, `chown -R {user} {path}`; or run the gateway as user {state.st_uid}.",
        )
    mode = stat.S_IMODE(state.st_mode)
    allowed = by_group if state.st_uid == 0 != user else 0
    if mode & denied & ~allowed:
        change = "write in" if denied == 0o022 else "read or change"
        yield Exposure(
            f"{path} has mode {mode:04o}.",
            f"Others on this machine can {change} {whose}.",
            f"If nobody has done so, `chmod {ours} {path}`; else make a new CA, keys and tokens in another [state] "
            "directory.",
        )
