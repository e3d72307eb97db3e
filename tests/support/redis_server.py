"""A real redis-server of the tests' own: one a process, flushed before each test that asks for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
import redis

from tests.support.programs import Program, free_port
from tests.support.requires import program

READY = "Ready to accept connections"
"""What redis-server and valkey-server say when they take connections."""


class RedisServer:
    """redis-server on a free loopback port and a Unix socket, nothing kept on disk unless ``append_only`` (which then
    survives `stop` whole: ``appendfsync always``). A context manager; `stop` and
    `start` may be called in between, the port stays the same. `pause` makes it hang without closing a connection. In the
    end its log and a dump of what is in it are left in ``directory``, for the search for leaks. ``server`` is "redis" or
    "valkey"."""

    def __init__(
        self, directory: Path, *, append_only: bool = False, server: str = "redis"
    ) -> None:
        self._append_only = append_only
        self._binary = program(server)
        self._directory = directory
        self._program = Program(server)
        self.port = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def unix_url(self) -> str:
        return f"unix://{self._directory}/redis.sock?db=0"

    @property
    def log(self) -> list[str]:
        return self._program.log

    @property
    def running(self) -> bool:
        return self._program.running

    def start(self) -> None:
        """Returns when it takes connections."""
        if self.running:
            return
        kept = self.port

        def command() -> list[str]:
            self.port = kept or free_port()
            return self._command(self.port)

        self._program.start_on_a_port(command, ready=READY)

    def _command(self, port: int) -> list[str]:
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
        return [self._binary, *(word for option in options.items() for word in option)]

    def stop(self) -> None:
        self._program.kill()

    def pause(self) -> None:
        self._program.pause()

    def resume(self) -> None:
        self._program.resume()

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
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.running:
            self.resume()
            with redis.Redis.from_url(self.url) as client:
                client.save()
        self.stop()
        (self._directory / "redis.log").write_text("".join(self.log))


@contextlib.contextmanager
def serving(*words: str, ready: str = READY) -> Iterator[None]:
    """redis-server with these arguments, once it has said ``ready``."""
    with Program("redis-server") as server:
        server.start([program("redis"), *words], ready=ready)
        yield


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
