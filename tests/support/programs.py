"""Programs that the tests start: one way to start one, to know that it is ready, to stop it and to keep what it says.

    with Program("redis-server") as server:
        server.start(["redis-server", "--port", str(free_port())], ready="Ready to accept connections")

A program is ready when it says so in a line of its output. A thread reads the output as it comes: the line is an event, and the
pipe never fills.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tollhouse.demo.child_output import Output

_START_S = 60.0
_STOP_S = 30.0
_TRIES = 5


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ProgramError(Exception):
    """A program did not do what it was started for. The text carries what it said."""


class Program:
    """One child process at a time; it may be started again after it was killed or stopped. A context manager, which kills it.

    ``name`` is what errors call it.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._output = Output()
        self._process: subprocess.Popen[str] | None = None

    @property
    def log(self) -> list[str]:
        """The lines of stdout and stderr, of all starts."""
        return self._output.lines

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(
        self,
        command: Sequence[str],
        *,
        ready: str,
        environ: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout_s: float = _START_S,
    ) -> str:
        """The first line with ``ready`` in it, once the program says it. `ProgramError` if it ends or stays silent.

        Its environment is ``environ``, and empty without one.
        """
        assert not self.running, f"{self._name} runs already"
        seen = len(self.log)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=dict(environ or {}),
            cwd=cwd,
        )
        self._output.follow(self._process.stdout)
        self._output.wait_for(lambda lines: any(ready in line for line in lines[seen:]), timeout_s)
        found = next((line for line in self.log[seen:] if ready in line), None)
        if found is None:
            self.kill()
            said = "".join(self.log[seen:][-20:])
            raise ProgramError(
                f"{self._name} did not become ready within {timeout_s:g} s; it said:\n{said}"
            )
        return found

    def start_on_a_port(
        self,
        command: Callable[[], Sequence[str]],
        *,
        ready: str,
        environ: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> str:
        """As `start`. ``command`` takes a free port for each try, because another program may grab the port first."""
        for _ in range(_TRIES - 1):
            try:
                return self.start(command(), ready=ready, environ=environ, cwd=cwd)
            except ProgramError as error:
                if "address already in use" not in str(error).lower():
                    raise
        return self.start(command(), ready=ready, environ=environ, cwd=cwd)

    def pause(self) -> None:
        """It hangs, and closes no connection."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        # The signal is on its way: the process may answer until it has really stopped.
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> int:
        """SIGTERM and its exit code, once it has ended and all its output is here."""
        assert self._process is not None
        self._process.terminate()
        try:
            code = self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            raise ProgramError(
                f"{self._name} did not stop within {_STOP_S:g} s after SIGTERM"
            ) from None
        self._output.join()
        return code

    def kill(self) -> None:
        """SIGKILL, paused or not. All its output is here afterwards. Nothing happens if it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._output.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
