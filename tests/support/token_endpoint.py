"""Google's token endpoint over real TLS: it verifies the assertion with the account's public key, and mints a token."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.support.served import QuietServer, served
from tollhouse.demo.standin_tls import Certificate, make_server_tls

HOST = "oauth2.googleapis.com"
EMAIL = "caller@project.iam.gserviceaccount.com"
KEY_ID = "the-id-of-the-key"

Act = Callable[[BaseHTTPRequestHandler], None]


@cache
def private_key() -> rsa.RSAPrivateKey:
    """One a process: making it takes a tenth of a second and more."""
    return rsa.generate_private_key(65537, 2048)


def account(**changed: Any) -> dict[str, Any]:
    """The JSON that Google gives for a service account."""
    pem = private_key().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "type": "service_account",
        "project_id": "project",
        "private_key_id": KEY_ID,
        "private_key": pem.decode(),
        "client_email": EMAIL,
        "client_id": "1",
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": f"https://{HOST}/token",
        "universe_domain": "googleapis.com",
        **changed,
    }


class Leads(AbstractResolver):
    """Every name is ``port`` of this machine."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return [
            ResolveResult(
                hostname=host,
                host="127.0.0.1",
                port=self._port,
                family=socket.AF_INET,
                proto=0,
                flags=flags,
            )
        ]

    async def close(self) -> None: ...


@dataclass
class TokenServer:
    """``act`` answers in place of the ordinary way while it is set; ``tokens`` are those that were given."""

    port: int
    ca_pem: bytes
    act: Act | None = None
    expires_in: Any = 3599
    tokens: list[str] = field(default_factory=list)
    received: list[bytes] = field(default_factory=list)
    """Method, target, headers and body of every request."""
    problems: list[str] = field(default_factory=list)
    """Why assertions were refused."""
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def resolver(self) -> AbstractResolver:
        return Leads(self.port)

    def write_ca(self, path: Path) -> Path:
        path.write_bytes(self.ca_pem)
        return path


def says(status: int, body: bytes, *headers: tuple[str, str]) -> Act:
    def act(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in (("Content-Length", str(len(body))), *headers):
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return act


def says_json(status: int, document: Any, *headers: tuple[str, str]) -> Act:
    return says(
        status, json.dumps(document).encode(), ("Content-Type", "application/json"), *headers
    )


def refusal(handler: BaseHTTPRequestHandler, body: bytes) -> str:
    """What is wrong with a request for a token; empty if nothing is. RFC 7523 2.1 and 3."""
    form = parse_qs(body.decode())
    if handler.path != "/token" or handler.headers["Host"] != HOST:
        return f"{handler.headers['Host']}{handler.path} is no token endpoint"
    if form.get("grant_type") != ["urn:ietf:params:oauth:grant-type:jwt-bearer"]:
        return "unsupported_grant_type"
    [assertion] = form["assertion"]
    signed, _, signature = assertion.rpartition(".")
    head, claims = (json.loads(_unpadded(part)) for part in signed.split("."))
    try:
        private_key().public_key().verify(
            _unpadded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256()
        )
    except InvalidSignature:
        return "invalid signature"
    if (head["alg"], head["kid"]) != ("RS256", KEY_ID):
        return f"header {head}"
    scope = "https://www.googleapis.com/auth/cloud-platform"
    if (claims["iss"], claims["aud"], claims["scope"]) != (EMAIL, f"https://{HOST}/token", scope):
        return f"claims {claims}"
    if (
        "sub" in claims
        or claims["exp"] - claims["iat"] > 3600
        or abs(claims["iat"] - time.time()) > 300
    ):
        return f"times {claims}"
    return ""


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@contextlib.contextmanager
def token_server(certificate: Certificate = "good") -> Iterator[TokenServer]:
    tls = make_server_tls([HOST], certificate)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            # The handshake is here, in the connection's own thread.
            self.request = tls.context.wrap_socket(self.request, server_side=True)
            super().setup()

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            server.received.append(f"{self.command} {self.path}\n{self.headers}".encode() + body)
            server.arrived.release()
            if server.act is not None:
                server.act(self)
                return
            why = refusal(self, body)
            if why:
                server.problems.append(why)
                says_json(400, {"error": "invalid_grant", "error_description": why})(self)
                return
            token = f"ya29.c.{secrets.token_urlsafe(120)}"
            server.tokens.append(token)
            says_json(
                200,
                {"access_token": token, "expires_in": server.expires_in, "token_type": "Bearer"},
            )(self)

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, *_: Any) -> None: ...

    listener = QuietServer(Handler)
    server = TokenServer(listener.server_port, tls.ca_pem)
    with served(listener):
        yield server
