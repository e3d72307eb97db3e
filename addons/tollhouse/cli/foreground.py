"""A command that runs in our place: the terminal is its own, signals sent to us reach it, and its exit code is ours."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

_FORWARDED: Final = frozenset(
    {
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGTERM,
        signal.SIGHUP,
        signal.SIGUSR1,
        signal.SIGUSR2,
    }
)
_HEEDED: Final = _FORWARDED | {signal.SIGCHLD}
_BY_THE_KERNEL: Final = 0x80
"""``si_code`` of a signal that the terminal sent, to the command as well: SI_KERNEL, sigaction(2)."""
BY_SIGNAL: Final = 128
"""An exit code above it names the signal that ended the command."""
NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
"""What a shell says of such a command: POSIX, XCU 2.8.2."""


@contextmanager
def signals_kept() -> Iterator[None]:
    """Signals wait while we do what must be done before the command and after it. `run` must be called within."""
    # Whoever ignores it is never told how a child ended: wait(2). A parent may have left it so.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HEEDED)
    try:
        yield
    finally:
        # One that came after the command had ended was for the command.
        while signal.sigpending() & _FORWARDED:
            signal.sigwait(_FORWARDED)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run(command: tuple[str, ...], environ: Mapping[str, str]) -> int:
    """Its exit code: 128 and the number of the signal that ended it, as in a shell. Raises `OSError` if it can't be started."""
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, ()) - _HEEDED
    # Python ignores this one; the command shall begin with what a shell would give it.
    child = os.posix_spawnp(
        command[0],
        command,
        environ,
        setsigmask=unblocked,
        setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
    )
    while True:
        status = _changed(child)
        if status is None:
            _heed(child)
        elif os.WIFSTOPPED(status):
            _stop_with(child)
        else:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else BY_SIGNAL - code


def _changed(child: int) -> int | None:
    pid, status = os.waitpid(child, os.WNOHANG | os.WUNTRACED)
    return status if pid else None


def _heed(child: int) -> None:
    """Waits for a signal, and passes it on unless the terminal has sent it to both."""
    came = signal.sigwaitinfo(_HEEDED)
    if came.si_signo != signal.SIGCHLD and came.si_code != _BY_THE_KERNEL:
        os.kill(child, came.si_signo)


def _stop_with(child: int) -> None:
    """The command was stopped (Ctrl-Z), and so are we, for the shell to have the terminal. When it continues us, it does so
    with the command."""
    os.kill(os.getpid(), signal.SIGSTOP)
    os.kill(child, signal.SIGCONT)
