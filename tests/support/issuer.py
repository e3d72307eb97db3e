"""An issuer of JWTs: keys that the test makes, and its JWKS over real TLS with a CA of its own, or in a file."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from tests.support.served import QuietServer, served
from tollhouse.demo.standin_tls import make_server_tls

AUDIENCE = "tollhouse"


@cache
def rsa_key(name: str) -> rsa.RSAPrivateKey:
    """One a process by ``name``: making it takes a tenth of a second."""
    return rsa.generate_private_key(65537, 2048)


@cache
def ec_key(name: str) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@cache
def ed_key(name: str) -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


def jwk(key: Any, kid: str | None, **more: Any) -> dict[str, Any]:
    kind: Any = (
        RSAAlgorithm
        if isinstance(key, rsa.RSAPrivateKey)
        else ECAlgorithm
        if isinstance(key, ec.EllipticCurvePrivateKey)
        else OKPAlgorithm
    )
    made: dict[str, Any] = kind.to_jwk(key.public_key(), as_dict=True)
    made.pop("key_ops", None)
    return {**made, **({} if kid is None else {"kid": kid}), "use": "sig", **more}


def jwks(*keys: Mapping[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def b64(data: bytes | str | Mapping[str, Any]) -> str:
    raw = (
        data
        if isinstance(data, bytes)
        else data.encode()
        if isinstance(data, str)
        else json.dumps(data).encode()
    )
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def claims(**changed: Any) -> dict[str, Any]:
    """Of a token that is good for ten minutes. A claim that is None is left out."""
    now = int(time.time())
    made = {
        "aud": AUDIENCE,
        "iat": now,
        "exp": now + 600,
        **changed,
    }
    return {name: value for name, value in made.items() if value is not None}


def signed(payload: Mapping[str, Any] | str, key: Any, alg: str = "RS256", **header: Any) -> str:
    """A JWS of these claims, or of this text. A header that is None is left out."""
    text = payload if isinstance(payload, str) else json.dumps(payload)
    head = {"alg": alg, "typ": "JWT", **header}
    head = {name: value for name, value in head.items() if value is not None}
    body = f"{b64(head)}.{b64(text)}"
    if key is None:
        return body + "."
    algorithm = jwt.get_algorithm_by_name(alg)
    return f"{body}.{b64(algorithm.sign(body.encode(), algorithm.prepare_key(key)))}"


@dataclass
class JwksServer:
    """``answer`` is what it gives: status and body. None closes the connection."""

    url: str
    ca_file: Path
    answer: tuple[int, bytes] | None
    headers: list[dict[str, str]] = field(default_factory=list)
    """Of each request, in lower case."""
    gate: threading.Event = field(default_factory=threading.Event)
    """Cleared: answers wait."""

    @property
    def asked(self) -> int:
        return len(self.headers)


@contextlib.contextmanager
def serve_jwks(directory: Path, body: bytes) -> Iterator[JwksServer]:
    tls = make_server_tls(["localhost"])

    class Handler(BaseHTTPRequestHandler):
        def setup(self) -> None:
            # The handshake is here, in the connection's own thread.
            self.request = tls.context.wrap_socket(self.request, server_side=True)
            super().setup()

        def do_GET(self) -> None:
            server.headers.append({name.lower(): value for name, value in self.headers.items()})
            server.gate.wait(20)
            if server.answer is None:
                self.close_connection = True
                return
            status, text = server.answer
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None: ...

    ca_file = directory / "issuer-ca.pem"
    ca_file.write_bytes(tls.ca_pem)

    http = QuietServer(Handler)
    server = JwksServer(f"https://localhost:{http.server_port}/keys", ca_file, (200, body))
    server.gate.set()
    with served(http):
        try:
            yield server
        finally:
            server.gate.set()
