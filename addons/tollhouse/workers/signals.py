"""The signals that the supervisor is sent. Each comes as a byte on a socket, so that none is heeded in the middle of something."""

from __future__ import annotations

import signal
import socket
from typing import Final

OURS: Final = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGCHLD,
)
"""What the supervisor heeds. A child begins with none of these handlers."""


class SignalSocket:
    """From `heed` on the signals of this process come here."""

    def __init__(self) -> None:
        self.socket, self._wakeup = socket.socketpair()
        for end in (self.socket, self._wakeup):
            end.setblocking(False)

    def heed(self) -> None:
        signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        for number in OURS:
            signal.signal(number, lambda *_: None)
        self.unblock()

    def numbers(self) -> bytes:
        """Those that have come since the last look, in their order."""
        try:
            return self.socket.recv(4096)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        self.socket.close()
        self._wakeup.close()

    @staticmethod
    def block() -> None:
        """What comes from now on stays pending, also over an exec."""
        signal.pthread_sigmask(signal.SIG_BLOCK, OURS)

    @staticmethod
    def unblock() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, OURS)
