"""The token endpoints of five providers over real TLS. Each verifies the subject token against its issuer's published keys, as the
real ones do, and gives a credential of its own kind."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.support.served import QuietServer, served
from tests.support.signed_token import signed
from tests.support.token_endpoint import Act, says, says_json
from tollhouse.demo.standin_tls import make_server_tls

HOSTS = (
    "auth.openai.com",
    "mtls.auth.openai.com",
    "api.anthropic.com",
    "login.microsoftonline.com",
    "sts.googleapis.com",
    "iamcredentials.googleapis.com",
    "sts.eu-west-1.amazonaws.com",
    "pipelines.actions.githubusercontent.com",
)


@dataclass
class ExchangeServer:
    """``keys`` gives the issuer's JWKS, and ``issuer`` is its name. ``act`` answers in place of the ordinary way while it is set.
    ``on_given`` gets each credential: its text, or the JSON of AWS keys."""

    port: int
    ca_pem: bytes
    keys: Callable[[], dict[str, Any]] = dict
    issuer: str = ""
    audience: str = ""
    expires_in: Any = 3600
    act: Act | None = None
    ordinary: Act = field(default=lambda handler: None)
    on_given: Callable[[str], None] = lambda text: None
    given: list[str] = field(default_factory=list)
    received: list[tuple[str, str, dict[str, Any], dict[str, str]]] = field(default_factory=list)
    """Host, path, body and headers of every request."""
    problems: list[str] = field(default_factory=list)
    subjects: list[str] = field(default_factory=list)
    certificates: list[bytes | None] = field(default_factory=list)
    """What the client of each request has shown (DER)."""
    used: set[str] = field(default_factory=set)
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def clear(self) -> None:
        self.act, self.expires_in, self.audience = None, 3600, ""
        self.arrived = threading.Semaphore(0)
        for one in (
            self.given,
            self.received,
            self.problems,
            self.subjects,
            self.used,
            self.certificates,
        ):
            one.clear()

    def refusal(self, token: str) -> str:
        """What is wrong with a subject token; empty if nothing is."""
        signed, _, signature = token.rpartition(".")
        try:
            head, claims = (json.loads(_bytes(part)) for part in signed.split("."))
            [key] = [one for one in self.keys()["keys"] if one["kid"] == head["kid"]]
            numbers = rsa.RSAPublicNumbers(_number(key["e"]), _number(key["n"]))
            public = numbers.public_key()
            public.verify(_bytes(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        except (ValueError, KeyError, InvalidSignature) as error:
            return type(error).__name__
        if claims["iss"] != self.issuer or claims["exp"] <= time.time():
            return "issuer or time"
        if self.audience and self.audience != claims["aud"]:
            return "audience"
        if claims.get("jti") in self.used:
            return "jti_reused"
        if "jti" in claims:
            self.used.add(claims["jti"])
        self.subjects.append(claims["sub"])
        return ""


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _number(text: str) -> int:
    return int.from_bytes(_bytes(text), "big")


@contextlib.contextmanager
def exchange_server(clients: str = "") -> Iterator[ExchangeServer]:
    """``clients`` are the certificates (PEM) of which a client may show one."""
    tls = make_server_tls(HOSTS)
    if clients:
        tls.context.verify_mode = ssl.CERT_OPTIONAL
        tls.context.load_verify_locations(cadata=clients)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            self.request = tls.context.wrap_socket(self.request, server_side=True)
            super().setup()

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("content-length", 0)))
            if self.headers["content-type"] == "application/json":
                body = json.loads(raw)
            else:
                body = {name: value for name, [value] in parse_qs(raw.decode()).items()}
            host = str(self.headers["Host"])
            headers = {name.lower(): value for name, value in self.headers.items()}
            server.certificates.append(self.request.getpeercert(binary_form=True))
            server.received.append((host, self.path, body, headers))
            server.arrived.release()
            (server.act or ordinary)(self)

        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            server.received.append((str(self.headers["Host"]), self.path, {}, headers))
            audience = parse_qs(urlsplit(self.path).query)["audience"][0]
            says_json(200, {"value": signed(aud=audience, jti="github")})(self)

        def log_message(self, *_: Any) -> None: ...

    def ordinary(handler: BaseHTTPRequestHandler) -> None:
        host, _, body, headers = server.received[-1]
        if host == "iamcredentials.googleapis.com":
            if headers["authorization"].removeprefix("Bearer ") not in server.given:
                says_json(403, {"error": {"code": 403, "status": "PERMISSION_DENIED"}})(handler)
                return
            ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + server.expires_in))
            says_json(200, {"accessToken": give("ya29.impersonated."), "expireTime": ends})(handler)
            return
        if host.startswith("mtls."):
            if server.certificates[-1] is None:
                says_json(401, {"error": "invalid_grant"})(handler)
            else:
                document = {"access_token": give("given-"), "token_type": "Bearer"}
                says_json(200, {**document, "expires_in": server.expires_in})(handler)
            return
        names = ("subject_token", "assertion", "client_assertion", "WebIdentityToken")
        token = next(body[name] for name in names if name in body)
        if why := server.refusal(token):
            server.problems.append(why)
            if host.endswith("amazonaws.com"):
                text = "<ErrorResponse><Error><Code>InvalidIdentityToken</Code></Error></ErrorResponse>"
                says(400, text.encode())(handler)
            else:
                # As some do, it repeats what it was sent.
                says_json(401, {"error": "invalid_grant", "error_description": token})(handler)
            return
        if host.endswith("amazonaws.com"):
            ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + server.expires_in))
            key, secret, session = "ASIAOFTHETESTS", secrets.token_urlsafe(30), give("IQoJ")
            fields = {
                "AccessKeyId": key,
                "SecretAccessKey": secret,
                "SessionToken": session,
                "Expiration": ends,
            }
            inner = "".join(f"<{name}>{value}</{name}>" for name, value in fields.items())
            server.given.append(secret)
            says(200, f"<R><Result><Credentials>{inner}</Credentials></Result></R>".encode())(
                handler
            )
            return
        text = give({"api.anthropic.com": "sk-ant-oat01-"}.get(host, "given-"))
        document = {"access_token": text, "token_type": "Bearer", "expires_in": server.expires_in}
        says_json(200, document)(handler)

    def give(beginning: str) -> str:
        text = beginning + secrets.token_urlsafe(60)
        server.on_given(text)
        server.given.append(text)
        return text

    listener = QuietServer(Handler)
    server = ExchangeServer(listener.server_port, tls.ca_pem, ordinary=ordinary)
    with served(listener):
        yield server
