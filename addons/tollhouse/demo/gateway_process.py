"""A real gateway as a child process, and the real command line beside it: for the demo and for the tests."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from tollhouse.config.load import ConfigError, load_config
from tollhouse.control.client import StoreError, perform
from tollhouse.demo.child_output import Output

_TOLLHOUSE = (sys.executable, "-m", "tollhouse")


class GatewayProcessError(Exception):
    """The gateway or a command did not do what it was started for; the text carries what it said."""


class GatewayProcess:
    """``tollhouse run --config FILE`` with nothing of our environment but PATH.

    What it writes is also kept in ``gateway.out`` and ``gateway.err`` beside the configuration, which must say
    ``[log] calls = "-"`` for `lines` to see the calls. ``prefix`` is a command that becomes it and every command beside
    it (``setpriv ...``): another user, another network namespace.
    """

    def __init__(
        self,
        config: Path,
        *,
        environ: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        workers: int = 1,
    ) -> None:
        self.config = config
        self.workers = workers
        self._command = (*prefix, *_TOLLHOUSE)
        self._elsewhere = bool(prefix or environ)
        self.environ = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(config.parent),
            **(environ or {}),
        }
        self.addresses: dict[str, str] = {}
        """Listener to ``host:port``, from the line that says ready; a listener that is off is missing."""
        self._process: subprocess.Popen[str] | None = None
        self._out = Output(config.with_name("gateway.out"))
        self._err = Output(config.with_name("gateway.err"))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.running:
            try:
                self.stop()
            finally:
                self.kill()

    def start(self, timeout: float = 60.0) -> Self:
        """Returns once it says that it is ready; `GatewayProcessError` with its own words if it ends or stays silent."""
        if self.running:
            raise GatewayProcessError("the gateway runs already")
        self.addresses.clear()
        seen = len(self._err.lines)
        self._process = subprocess.Popen(  # noqa: S603
            [*self._command, "run", "--workers", str(self.workers), "--config", str(self.config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environ,
            cwd=self.config.parent,
            # Ctrl-C in a terminal is for the demo, which then stops the gateway in good order.
            start_new_session=True,
        )
        self._out.follow(self._process.stdout)
        self._err.follow(self._process.stderr)
        self._err.wait_for(lambda lines: any(map(_is_ready, lines[seen:])), timeout)
        ready = next(filter(_is_ready, self._err.lines[seen:]), None)
        if ready is None:
            self.kill()
            raise GatewayProcessError(
                f"the gateway did not become ready within {timeout:g} s; it said:\n{self.stderr}"
            )
        fields = dict(word.split("=", 1) for word in ready.split() if "=" in word)
        self.addresses = {name: address for name, address in fields.items() if address != "off"}
        return self

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Of the supervisor."""
        assert self._process is not None
        return self._process.pid

    def worker_pids(self) -> list[int]:
        """Of the workers that take connections, in the order of their numbers."""
        shown = json.loads(self.tollhouse("workers", "--json"))
        return [worker["pid"] for worker in shown if worker["state"] == "ready"]

    def stop(self, timeout: float = 45.0) -> int:
        """SIGTERM and its exit code; raises `GatewayProcessError` if it does not end in time."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, timeout: float = 45.0) -> int:
        """Its exit code, once it has ended and all it wrote is here."""
        assert self._process is not None
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise GatewayProcessError(
                f"the gateway did not stop within {timeout:g} s; it said:\n{self.stderr}"
            ) from None
        self._out.join()
        self._err.join()
        return code

    def kill(self) -> None:
        """SIGKILL for the supervisor and all of its processes."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._out.join()
            self._err.join()

    @property
    def proxy(self) -> str:
        return self.addresses["proxy"]

    @property
    def base_url(self) -> str:
        """``host:port`` of the base URL listener."""
        return self.addresses["base_url"]

    @property
    def admin(self) -> str:
        return self.addresses["admin"]

    @property
    def stderr(self) -> str:
        return "".join(self._err.so_far())

    @property
    def stdout(self) -> str:
        return "".join(self._out.so_far())

    def lines(self) -> list[dict[str, Any]]:
        """The lines of the calls so far, parsed."""
        return [json.loads(line) for line in self._out.so_far() if line.endswith("\n")]

    def wait_lines(self, count: int, timeout: float = 60.0) -> list[dict[str, Any]]:
        """The lines once there are ``count``; raises ``TimeoutError``."""
        return self.wait_until(lambda lines: len(lines) >= count, timeout)

    def wait_until(
        self, condition: Callable[[list[dict[str, Any]]], bool], timeout: float = 60.0
    ) -> list[dict[str, Any]]:
        """The lines once ``condition`` of them holds; raises ``TimeoutError``."""
        if not self._out.wait_for(lambda _: condition(self.lines()), timeout):
            raise TimeoutError(f"not within {timeout:g} s; there are {len(self.lines())} lines")
        return self.lines()

    def on_line(self, tell: Callable[[str], None]) -> None:
        """Have ``tell`` called with each line of a call from now on, on the thread that reads them."""
        self._out.tell = tell

    def tollhouse(self, *arguments: str, stdin: str = "") -> str:
        """What ``tollhouse ARGUMENTS --config FILE`` prints on stdout; raises `GatewayProcessError` unless it exits 0.

        Works whether or not the gateway runs.
        """
        done = subprocess.run(  # noqa: S603
            [*self._command, *arguments, "--config", str(self.config)],
            input=stdin,
            capture_output=True,
            text=True,
            env=self.environ,
            timeout=60,
            check=False,
        )
        if done.returncode != 0:
            said = done.stderr.strip() or done.stdout.strip()
            raise GatewayProcessError(
                f"`tollhouse {' '.join(arguments)}` ended with {done.returncode}: {said}"
            )
        return done.stdout

    def operate(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """An operation as the commands do it, from this process: a command takes most of a second to start.

        On a thread, as an event loop may run here. Not for a gateway with a ``prefix`` or an environment of its own. Raises
        `GatewayProcessError`.
        """
        try:
            with ThreadPoolExecutor(1) as thread:
                return thread.submit(perform, load_config(self.config), name, arguments).result()
        except (ConfigError, StoreError) as error:
            raise GatewayProcessError(f"{name} was refused: {error}") from error

    def make_project(self, project: str, *limits: str, tenant: str = "acme") -> None:
        if self._elsewhere:
            options = [word for limit in limits for word in ("--limit", limit)]
            self.tollhouse("project", "set", project, "--tenant", tenant, *options)
        else:
            given = {"project": project, "tenant": tenant, "limits": list(limits)}
            self.operate("project_set", given)

    def make_token(self, *projects: str) -> str:
        if self._elsewhere:
            return self.tollhouse("token", "create", *projects).strip()
        return str(self.operate("token_create", {"projects": list(projects)})["token"])

    def budget(self, project: str) -> dict[str, dict[str, Any]]:
        """Limit text to its state (``used``, ``held``, ``left``: decimal strings) of every scope of the project."""
        if self._elsewhere:
            shown = json.loads(self.tollhouse("budget", "show", project, "--json"))
        else:
            shown = self.operate("budget_show", {"project": project})
        return {limit["limit"]: limit for scope in shown["scopes"] for limit in scope["limits"]}

    def proxy_url(self, project: str, token: str) -> str:
        """What a workload's HTTPS_PROXY says."""
        return f"http://{project}:{token}@{self.proxy}"


def _is_ready(line: str) -> bool:
    return line.startswith("tollhouse: ready ")
