"""A Vault over real HTTP that answers what a real one does not on demand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.support.served import QuietServer, served

TOKEN = "s.the-token-of-the-stand-in"
KEY = "sk-the-key-of-the-stand-in"


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)

    @classmethod
    def of(cls, status: int, document: Any, *headers: tuple[str, str]) -> Reply:
        return cls(
            status, json.dumps(document).encode(), (("content-type", "application/json"), *headers)
        )


def secret(value: Any = KEY, version: Any = 1, created: str = "2026-01-01T00:00:00Z") -> Reply:
    metadata = {"version": version, "created_time": created}
    return Reply.of(200, {"data": {"data": {"api_key": value}, "metadata": metadata}})


LOGIN = Reply.of(200, {"auth": {"client_token": TOKEN, "lease_duration": 3600, "renewable": True}})
DENIED = Reply.of(403, {"errors": ["permission denied"]})


@dataclass
class StandIn:
    """``read``, ``login`` and ``other`` answer; a function gets the handler and may write to the socket itself."""

    read: Reply | Callable[[BaseHTTPRequestHandler], None] = field(default_factory=secret)
    login: Reply | Callable[[BaseHTTPRequestHandler], None] = LOGIN
    other: Reply | Callable[[BaseHTTPRequestHandler], None] = DENIED
    address: str = ""
    book: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """Method, path and headers (lower case) of every request."""

    def paths(self) -> list[str]:
        return [path for _, path, _ in self.book]

    def count(self, part: str) -> int:
        return sum(part in path for path in self.paths())


@contextmanager
def stand_in(port: int = 0) -> Iterator[StandIn]:
    vault = StandIn()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            vault.book.append(
                (self.command, self.path, {k.lower(): v for k, v in self.headers.items()})
            )
            if "/data/" in self.path:
                reply = vault.read
            elif self.path.endswith("/login"):
                reply = vault.login
            else:
                reply = vault.other
            if not isinstance(reply, Reply):
                reply(self)
                return
            self.send_response(reply.status)
            for name, value in reply.headers:
                self.send_header(name, value)
            self.send_header("content-length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        do_GET = do_POST = do_PUT = answer  # noqa: N815

        def log_message(self, *_: Any) -> None: ...

    server = QuietServer(Handler, port)
    vault.address = f"http://127.0.0.1:{server.server_port}"
    with served(server):
        yield vault
