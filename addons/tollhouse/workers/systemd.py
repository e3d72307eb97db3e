"""What systemd is told, and the sockets that it gives: sd_notify(3), sd_listen_fds(3)."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping
from typing import Final

_FIRST_DESCRIPTOR: Final = 3


class Notifier:
    """Tells systemd; without a ``NOTIFY_SOCKET`` it does nothing. Takes the variables out of ``environ``: no child is to tell."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._address = environ.pop("NOTIFY_SOCKET", "")
        watchdog_us = environ.pop("WATCHDOG_USEC", "")
        if environ.pop("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
            watchdog_us = ""
        self.watchdog_s = int(watchdog_us) / 2e6 if watchdog_us.isdigit() else 0.0
        """How often `alive` has to be called; 0: never."""

    def restore(self, environ: MutableMapping[str, str]) -> None:
        """For a program that takes this process over."""
        if self._address:
            environ["NOTIFY_SOCKET"] = self._address
        if self.watchdog_s:
            environ["WATCHDOG_USEC"] = str(int(self.watchdog_s * 2e6))

    def ready(self, status: str) -> None:
        self._tell(f"READY=1\nSTATUS={status}\nMAINPID={os.getpid()}")

    def reloading(self) -> None:
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._tell("STOPPING=1\nSTATUS=calls under way end")

    def alive(self) -> None:
        self._tell("WATCHDOG=1")

    def _tell(self, text: str) -> None:
        if not self._address:
            return
        # "@" stands for the NUL of an abstract address.
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.sendto(text.encode(), address)
        except OSError:
            pass  # Nobody is told then; the gateway goes on.


def given_sockets(environ: MutableMapping[str, str]) -> list[tuple[str, socket.socket]]:
    """The listening sockets of a socket unit, each with its name (``FileDescriptorName=``), in their order. Takes the
    variables out of ``environ``. Raises `ValueError` for a descriptor that is no stream socket."""
    pid, count, names = (
        environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
    )
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    named = names.split(":") if names else []
    found = []
    for index in range(int(count)):
        descriptor = _FIRST_DESCRIPTOR + index
        os.set_inheritable(descriptor, False)
        try:
            given = socket.socket(fileno=descriptor)
        except OSError:
            raise ValueError(
                f"systemd has passed descriptor {descriptor}, which is no socket; correct the socket unit"
            ) from None
        if given.type != socket.SOCK_STREAM:
            raise ValueError(
                f"systemd has passed descriptor {descriptor}, which is no stream socket; use ListenStream= in the socket unit"
            )
        found.append((named[index] if index < len(named) else "", given))
    return found
