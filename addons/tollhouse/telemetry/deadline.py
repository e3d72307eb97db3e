"""Requests that end in time, whatever the other side does.

A time-out of `requests` is that of one read, so a server that sends a byte a second keeps within it for hours. Here a timer shuts
down the connection of a request that is not over by then.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import requests.adapters
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.response import HTTPResponse

_running = threading.local()


class Deadline:
    """What this thread asks within the block is broken off after ``seconds``: it raises an error of `requests`, or of reading.
    ``passed`` says whether it was. Only the timer's thread and `uses` change it, under the lock."""

    def __init__(self, seconds: float) -> None:
        self.passed = False
        self._lock = threading.Lock()
        self._connection: HTTPConnection | None = None
        self._timer = threading.Timer(seconds, self._pass)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        _running.deadline = self
        self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _running.deadline = None
        self._timer.cancel()
        with self._lock:
            # The connection may be somebody else's from now on.
            self._connection = None

    def uses(self, connection: HTTPConnection) -> None:
        """Raises `TimeoutError` if the time has passed: while a connection is made there is none yet that could be shut down."""
        with self._lock:
            if self.passed:
                raise TimeoutError("the time has passed")
            self._connection = connection

    def _pass(self) -> None:
        with self._lock:
            self.passed = True
            opened = None if self._connection is None else self._connection.sock
            if isinstance(opened, socket.socket):
                with suppress(OSError):
                    # Not that of TLS, which would take its state from the thread that reads.
                    socket.socket.shutdown(opened, socket.SHUT_RDWR)


class _Watched(HTTPConnection):
    def request(self, *args: Any, **kwargs: Any) -> None:
        _tell(self)
        super().request(*args, **kwargs)

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3 has it
        _tell(self)
        return super().getresponse()


class _WatchedTls(_Watched, HTTPSConnection): ...


def _tell(connection: HTTPConnection) -> None:
    deadline: Deadline | None = getattr(_running, "deadline", None)
    if deadline is not None:
        deadline.uses(connection)


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Watched


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _WatchedTls


class DeadlineAdapter(requests.adapters.HTTPAdapter):
    """Its requests heed the `Deadline` of the thread that makes them."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
