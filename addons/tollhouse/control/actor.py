"""Who has an operation done, for the audit log."""

from __future__ import annotations

import os
import pwd
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal, Self

Way = Literal["api", "command", "file", "gateway"]


@dataclass(frozen=True, slots=True)
class Actor:
    """``id`` is a token's, a subject's of an issuer, or ``uid:`` and the number of a user of this machine. ``name`` is what a
    person calls that: a label, the ``sub``, the user's name, the file."""

    via: Way
    id: str = ""
    name: str = ""

    def as_json(self) -> dict[str, str]:
        return asdict(self)

    @classmethod
    def of_json(cls, told: Mapping[str, Any] | None) -> Self | None:
        return None if told is None else cls(told["via"], told["id"], told["name"])


_GATEWAY = Actor("gateway")
_acting: ContextVar[Actor] = ContextVar("acting", default=_GATEWAY)


def acting() -> Actor:
    """Who has the operation done that runs in this task."""
    return _acting.get()


@contextmanager
def on_behalf_of(actor: Actor | None) -> Iterator[None]:
    """None: whoever it was before."""
    before = _acting.set(actor or _acting.get())
    try:
        yield
    finally:
        _acting.reset(before)


def this_user() -> Actor:
    """The user of this process."""
    return user_actor(os.getuid())


@lru_cache(maxsize=64)
def user_actor(uid: int) -> Actor:
    """It may ask a directory service for the name: not for the loop."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = ""
    return Actor("command", f"uid:{uid}", name)


def peer_uid(connection: socket.socket) -> int | None:
    """The user at the other end of a Unix socket, as the kernel says it (unix(7)). None where the system does not tell."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, option, 12))
    return int(uid)
