"""A real redis-server of the tests' own: one a process, flushed before each test that asks for it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
import redis

from tests.support.requires import program


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RedisServer:
    """redis-server on a free loopback port and a Unix socket, nothing kept on disk unless ``append_only`` (which then
    survives `stop` whole: ``appendfsync always``). A context manager; `stop` and
    `start` may be called in between, the port stays the same. `pause` makes it hang without closing a connection. In the
    end its log and a dump of what is in it are left in ``directory``, for the search for leaks. ``server`` is "redis" or
    "valkey"."""

    def __init__(self, directory: Path, *, append_only: bool = False, server: str = "redis") -> None:
        self._append_only = append_only
        self._binary = program(server)
        self._directory = directory
        self.port = 0
        self.log: list[str] = []
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def unix_url(self) -> str:
        return f"unix://{self._directory}/redis.sock?db=0"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Returns when it takes connections. Another program may grab the free port first, hence the tries."""
        if self.running:
            return
        for _ in range(5):
            port = self.port or free_port()
            if self._serve(port):
                self.port = port
                return
        raise RuntimeError("redis-server did not start:\n" + "".join(self.log[-20:]))

    def _serve(self, port: int) -> bool:
        options = {
            "--port": str(port),
            "--bind": "127.0.0.1",
            "--unixsocket": f"{self._directory}/redis.sock",
            "--dir": str(self._directory),
            "--save": "",
            "--appendonly": "yes" if self._append_only else "no",
            "--appendfsync": "always",
            "--rdbcompression": "no",
        }
        command = [self._binary, *(word for option in options.items() for word in option)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={})
        assert process.stdout is not None
        for line in process.stdout:
            self.log.append(line)
            if "Ready to accept connections" in line:
                # The pipe must be drained for as long as it runs.
                threading.Thread(target=self.log.extend, args=(process.stdout,), daemon=True).start()
                self._process = process
                return True
        process.wait()
        return False

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        # The signal is on its way: the process may answer until it has really stopped.
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def flush(self) -> None:
        """Empty, as after a start: no data, no scripts, and running again if a test had stopped it."""
        if self.running:
            self.resume()
        self.start()
        with redis.Redis.from_url(self.url) as client:
            client.flushall()
            client.script_flush()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.running:
            self.resume()
            with redis.Redis.from_url(self.url) as client:
                client.save()
        self.stop()
        (self._directory / "redis.log").write_text("".join(self.log))


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The process's redis-server; a test that writes to it asks for ``redis_url`` as well."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """``redis://...`` of an empty database of a real redis-server."""
    redis_server.flush()
    return redis_server.url
