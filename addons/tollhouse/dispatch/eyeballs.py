"""The first of a name's addresses that takes a connection (happy eyeballs, RFC 8305), with probes on its socket."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from typing import Final

import aiohappyeyeballs
from aiohttp.abc import ResolveResult

_DELAY_S: Final = 0.25
"""RFC 8305, section 8."""
_PROBES: Final = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""In seconds, and in probes that nobody answers."""


class DialledSocket(socket.socket):
    """A socket that closes its descriptor only while that is still its own.

    uvloop closes the descriptor of a socket that it was given (`create_connection`), and tells the
    socket so (`detach`), but not where the connection is reset, or the call cancelled, before its
    transport has begun. The number is free then, and the next connection gets it, of whichever tenant.
    A plain socket would close that one when it is closed or forgotten.
    """

    def __init__(self, family: int, kind: int, proto: int) -> None:
        super().__init__(family, kind, proto)
        self._inode = os.fstat(self.fileno()).st_ino

    def _real_close(self) -> None:
        """What `socket.socket.close` calls once nobody uses the descriptor any more."""
        if self._is_own():
            super()._real_close()  # type: ignore[misc]
        else:
            self.detach()

    def _is_own(self) -> bool:
        try:
            return os.fstat(self.fileno()).st_ino == self._inode
        except (OSError, ValueError):
            return False

    def __del__(self) -> None:
        # It replaces the finalizer of `socket.socket`, which would close the number.
        self._real_close()


def probed_socket(info: aiohappyeyeballs.AddrInfoType) -> socket.socket:
    """With probes: who is at the other end, or a firewall on the way, may go without a word."""
    family, kind, proto, _, _ = info
    made = DialledSocket(family, kind, proto)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _PROBES.items():
        if hasattr(socket, name):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made


async def connected(addresses: Sequence[ResolveResult]) -> socket.socket:
    """A socket that is connected with one of them. Raises OSError. The caller bounds the time."""
    return await aiohappyeyeballs.start_connection(
        [_info(one) for one in addresses],
        loop=asyncio.get_running_loop(),
        happy_eyeballs_delay=_DELAY_S,
        interleave=1,
        socket_factory=probed_socket,
    )


def _info(one: ResolveResult) -> aiohappyeyeballs.AddrInfoType:
    place = (one["host"], one["port"])
    at = (*place, 0, 0) if one["family"] == socket.AF_INET6 else place
    return one["family"], socket.SOCK_STREAM, socket.IPPROTO_TCP, "", at
