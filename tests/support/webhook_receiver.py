"""A receiver of webhooks over real TLS: it keeps what comes, and answers what a test says."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.support.served import QuietServer, served
from tollhouse.demo.standin_tls import make_server_tls

PATIENCE_S = 90.0


@dataclass(frozen=True)
class Received:
    path: str
    headers: dict[str, str]
    """By names in lower case."""
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def payload(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass
class WebhookReceiver:
    """``answers`` are the statuses of the requests to come, then 204. `hang` has it answer nothing until `let_go`."""

    port: int
    ca_pem: bytes
    answers: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    """Of each answer."""
    received: list[Received] = field(default_factory=list)
    taken: list[Received] = field(default_factory=list)
    """Those that were answered 2xx."""
    changed: threading.Condition = field(default_factory=threading.Condition)
    going: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/hook?of=tests"

    def write_ca(self, path: Path) -> Path:
        path.write_bytes(self.ca_pem)
        return path

    def hang(self) -> None:
        self.going.clear()

    def let_go(self) -> None:
        self.going.set()

    def wait_for(
        self, condition: Callable[[WebhookReceiver], object], seconds: float = PATIENCE_S
    ) -> None:
        end = time.monotonic() + seconds
        with self.changed:
            while not condition(self):
                left = end - time.monotonic()
                assert left > 0, f"not within {seconds:g} s; received: {self.received}"
                self.changed.wait(left)

    def take(self, request: Received) -> int:
        with self.changed:
            self.received.append(request)
            status = self.answers.pop(0) if self.answers else 204
            if 200 <= status < 300:
                self.taken.append(request)
            self.changed.notify_all()
        return status

    def thresholds(self) -> Counter[str]:
        """How often each threshold was taken, whatever its id."""
        return Counter(
            one.payload["data"]["threshold"]
            for one in self.taken
            if one.payload["type"] == "budget.threshold"
        )

    def ids(self) -> Counter[str]:
        """How often each id was taken."""
        return Counter(one.id for one in self.taken)


@contextlib.contextmanager
def webhook_receiver() -> Iterator[WebhookReceiver]:
    tls = make_server_tls(["localhost"])

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            # The handshake is here, in the connection's own thread.
            self.request = tls.context.wrap_socket(self.request, server_side=True)
            super().setup()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            named = {name.lower(): value for name, value in self.headers.items()}
            status = made.take(Received(self.path, named, body))
            made.going.wait(PATIENCE_S)
            self.send_response(status)
            for name, value in made.headers.items():
                self.send_header(name, value)
            endless = "Transfer-Encoding" in made.headers
            if not endless:
                self.send_header("Content-Length", "0")
            self.end_headers()
            while endless:
                self.wfile.write(b"1000\r\n" + 4096 * b"x" + b"\r\n")

        def log_message(self, *_: Any) -> None: ...

    listener = QuietServer(Handler)
    made = WebhookReceiver(listener.server_port, tls.ca_pem)
    made.let_go()
    with served(listener):
        try:
            yield made
        finally:
            made.let_go()
