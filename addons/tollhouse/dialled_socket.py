"""A socket for uvloop to connect: whatever ends the connection, no descriptor is closed that is another's by then."""

from __future__ import annotations

import os
import socket

import aiohappyeyeballs


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


def dialled_socket(info: aiohappyeyeballs.AddrInfoType) -> socket.socket:
    """The ``socket_factory`` of a connector."""
    family, kind, proto, _, _ = info
    return DialledSocket(family, kind, proto)
