"""A connection whose client has ended its direction (``shutdown(SHUT_WR)``). That direction is not read any more, so the end of the
connection is noticed in another way."""

from __future__ import annotations

import select
import socket
from typing import Final

_KEEPALIVE: Final = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 3}
"""In seconds, and in probes that nobody answers: a client that is gone sends nothing more."""


def watch(connection: socket.socket) -> None:
    """The kernel asks from now on whether the client is there."""
    if connection.family == socket.AF_UNIX:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def left(connection: socket.socket) -> bool:
    """Whether the client has ended both directions, as far as the kernel knows. If a client has
    closed a TCP connection in good order, the kernel learns that from the answer to the next
    byte or probe."""
    poller = select.poll()
    # POLLHUP and POLLERR are reported without being asked for.
    poller.register(connection.fileno(), 0)
    return bool(poller.poll(0))
