"""What Vault's AWS engine answers, before a real OpenBao, which has none built in. The form is that of Vault's API documents
(secret/aws and system/leases). Who may ask is for OpenBao's policies to say, and every other request is passed on to it."""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import requests

from tests.support.openbao import OpenBao
from tests.support.served import QuietServer, served

ARN = "arn:aws:sts::123456789012:assumed-role/caller/tollhouse"


@dataclass
class AwsEngine:
    """``life_s`` is of new leases and ``longest_s`` of renewed ones. ``on_given`` gets each secret key and session token.
    ``away``: it answers as Vault does while AWS can't be reached."""

    address: str
    life_s: int = 3600
    longest_s: int = 3600
    away: bool = False
    on_given: Callable[[str], None] = lambda text: None
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Path and parameters of each request for keys."""
    made: list[str] = field(default_factory=list)
    """Ids of leases."""
    renewed: list[tuple[str, int]] = field(default_factory=list)
    revoked: list[str] = field(default_factory=list)
    may_revoke: threading.Event = field(default_factory=threading.Event)
    """Not set: a revocation has no answer."""
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    """One for each request for keys or for a renewal."""


@contextlib.contextmanager
def aws_engine(bao: OpenBao) -> Iterator[AwsEngine]:
    session = requests.Session()
    session.trust_env = False

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            raw = self.rfile.read(int(self.headers.get("content-length", 0)))
            path = self.path.removeprefix("/v1/").partition("?")[0]
            if path.startswith("aws/") or path in ("sys/leases/renew", "sys/leases/revoke"):
                wanted = "read" if self.command == "GET" else "update"
                if wanted not in self.allowed(path):
                    self.say(403, {"errors": ["1 error occurred:\n\t* permission denied\n\n"]})
                else:
                    self.engine(path, json.loads(raw or b"{}"))
                return
            headers = {
                name: value
                for name, value in self.headers.items()
                if name.lower() not in ("host", "content-length", "connection")
            }
            passed = session.request(
                self.command,
                bao.address + self.path,
                data=raw,
                headers=headers,
                timeout=10,
                allow_redirects=False,
            )
            self.give(passed.status_code, passed.content)

        do_GET = do_POST = do_PUT = do_LIST = answer  # noqa: N815

        def allowed(self, path: str) -> list[str]:
            token = str(self.headers["X-Vault-Token"])
            try:
                found = bao.api("POST", "sys/capabilities-self", {"paths": [path]}, token)
            except requests.HTTPError:  # the token has ended
                return []
            return list(found["capabilities"])

        def engine(self, path: str, asked: dict[str, Any]) -> None:
            if path == "sys/leases/revoke":
                made.may_revoke.wait(30)
                made.revoked.append(asked["lease_id"])
                self.give(204, b"")
                return
            try:
                if made.away:
                    self.say(500, {"errors": ["1 error occurred: the request to AWS timed out"]})
                elif path == "sys/leases/renew":
                    made.renewed.append((asked["lease_id"], asked["increment"]))
                    life = {"lease_duration": min(asked["increment"], made.longest_s)}
                    self.say(200, {"lease_id": asked["lease_id"], "renewable": True, **life})
                else:
                    self.keys(path, asked)
            finally:
                made.arrived.release()

        def keys(self, path: str, asked: dict[str, Any]) -> None:
            user = path.startswith("aws/creds/")
            made.asked.append((path, asked))
            lease_id = f"{path}/{secrets.token_hex(8)}"
            made.made.append(lease_id)
            secret, token = secrets.token_urlsafe(30), None if user else secrets.token_urlsafe(60)
            for text in (secret, token):
                if text is not None:
                    made.on_given(text)
            number = len(made.made)
            data = {
                "access_key": f"{'AKIA' if user else 'ASIA'}OFTHETESTS{number}",
                "secret_key": secret,
                "security_token": token,
                **({} if user else {"arn": ARN, "session_token": token}),
            }
            lease = {"lease_id": lease_id, "renewable": user, "lease_duration": made.life_s}
            self.say(200, {"request_id": "1", **lease, "data": data})

        def say(self, status: int, document: dict[str, Any]) -> None:
            self.give(status, json.dumps(document).encode())

        def give(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    listener = QuietServer(Handler)
    made = AwsEngine(f"http://127.0.0.1:{listener.server_port}")
    made.may_revoke.set()
    with served(listener):
        yield made
