"""A gateway that was started as root, to bind its listeners, becomes the user of ``[process]`` before it reads anything else."""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tollhouse.config.load import ProcessConfig

_PR_SET_NO_NEW_PRIVS: Final = 38
"""linux/prctl.h: no program that is started from now on gives its process more than this one has."""


class CannotBecome(Exception):
    """The text says what happened, why, and what to do."""


@dataclass(frozen=True, slots=True)
class _Account:
    name: str
    """Empty for a number that the list of users does not have."""
    user: int
    group: int


def wanted(process: ProcessConfig) -> bool:
    """Whether this process has to become another user. Raises `CannotBecome` where it has to and can't."""
    if process.user is None:
        if process.group is not None:
            raise CannotBecome(
                "[process] group is of no use without a user: name the gateway's own user as well"
            )
        return False
    account = _account(process)
    if os.geteuid() == 0:
        return True
    if os.geteuid() != account.user:
        raise CannotBecome(
            f"[process] user is {process.user}, and this is user {os.geteuid()}, who can't become another: start the gateway as "
            "root or as that user, or remove the key"
        )
    return False


def become(process: ProcessConfig, state: Path) -> None:
    """Root no more, for good, without any capability and in none of root's groups. ``state`` is made for the user if it is
    missing, and given to the user with its files if it is root's. Raises `CannotBecome`, after which the process must end: it
    may have changed in part."""
    account = _account(process)
    try:
        if not state.exists():
            state.mkdir(mode=0o700, parents=True)
        if state.stat().st_uid == 0:
            # Nobody but root could have put a link there.
            for path in (*state.iterdir(), state):
                os.chown(path, account.user, account.group, follow_symlinks=False)
        groups = os.getgrouplist(account.name, account.group) if account.name else [account.group]
        os.setgroups(groups)
        os.setresgid(account.group, account.group, account.group)
        os.setresuid(account.user, account.user, account.user)
        _no_new_privileges()
    except OSError as error:
        raise CannotBecome(
            f"[process] user {process.user}: {error.strerror or error}; the gateway can't become that user here, so let it be "
            "started as that user and remove the key"
        ) from None
    if 0 in os.getresuid() or 0 in (*os.getresgid(), *os.getgroups()):
        raise CannotBecome(
            f"[process] user {process.user} would leave the gateway in root's group: name a group of its own in [process] group"
        )


def _account(process: ProcessConfig) -> _Account:
    assert process.user is not None
    try:
        if process.user.isdecimal():
            user, name, group = int(process.user), "", int(process.user)
            try:
                entry = pwd.getpwuid(user)
                name, group = entry.pw_name, entry.pw_gid
            except KeyError:
                pass  # A number needs no entry: its group has the same.
        else:
            entry = pwd.getpwnam(process.user)
            name, user, group = entry.pw_name, entry.pw_uid, entry.pw_gid
    except KeyError:
        raise CannotBecome(
            f"[process] user {process.user} does not exist: make it (`useradd --system {process.user}`), or give a number"
        ) from None
    if process.group is not None:
        try:
            named = process.group.isdecimal()
            group = int(process.group) if named else grp.getgrnam(process.group).gr_gid
        except KeyError:
            raise CannotBecome(
                f"[process] group {process.group} does not exist: make it, or give a number"
            ) from None
    return _Account(name, user, group)


def _no_new_privileges() -> None:
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
