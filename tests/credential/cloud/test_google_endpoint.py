"""One minting, against a token endpoint over real TLS that verifies what is sent, or does what one never should."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from tests.support import token_endpoint
from tests.support.token_endpoint import HOST, Leads, TokenServer, says, says_json, token_server

from tollhouse.credential.cloud.google_endpoint import TokenEndpoint
from tollhouse.credential.lease import CredentialUnavailable, StoreAway
from tollhouse.credential.secret import Secret


@pytest.fixture
def server() -> Iterator[TokenServer]:
    with token_server() as running:
        yield running


@pytest.fixture
async def endpoint(server: TokenServer, tmp_path: Path) -> AsyncIterator[TokenEndpoint]:
    made = TokenEndpoint(
        ca_file=server.write_ca(tmp_path / "ca.pem"), resolver_factory=server.resolver
    )
    yield made
    await made.close()


def an_account(**changed: Any) -> Secret:
    return Secret(json.dumps(token_endpoint.account(**changed)), ())


async def failure(endpoint: TokenEndpoint, account: Secret | None = None) -> CredentialUnavailable:
    """What `mint` raises; it and its traceback, locals included, are free of the key, the assertion and any token."""
    with pytest.raises(CredentialUnavailable) as caught:
        await endpoint.mint(account or an_account())
    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None
    error.__traceback__ = error.__traceback__.tb_next if error.__traceback__ else None
    whole = "".join(
        traceback.TracebackException.from_exception(error, capture_locals=True).format()
    )
    assert "PRIVATE KEY" not in whole
    assert "eyJ" not in whole
    assert "ya29" not in whole
    return error


async def failure_once(endpoint: TokenEndpoint) -> CredentialUnavailable:
    """The same, of an endpoint that is closed then."""
    try:
        return await failure(endpoint)
    finally:
        await endpoint.close()


async def test_a_token(
    server: TokenServer, endpoint: TokenEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    """The endpoint verified signature, claims and times; what it gave is a secret, and nothing is logged."""
    with caplog.at_level(logging.DEBUG):
        minted = await endpoint.mint(an_account())
    assert server.problems == []
    assert minted.token.reveal() == server.tokens[0]
    assert minted.token.exposed == (server.tokens[0],)
    assert minted.life_s == 3599
    assert server.tokens[0] not in repr(minted)
    assert caplog.records == []


async def test_what_is_not_needed_is_not_sent(server: TokenServer, endpoint: TokenEndpoint) -> None:
    """No cookie, no credential beside the assertion; a subject in the file delegates nothing."""
    await endpoint.mint(
        an_account(
            subject="boss@example.com",
            trust_boundary={"locations": ["x"]},
            quota_project_id="other",
        )
    )
    [received] = server.received
    head = received.partition(b"\n\n")[0].lower()
    assert server.problems == []
    assert b"authorization" not in head
    assert b"cookie" not in head
    assert b"other" not in received


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"token_uri": "https://evil.example/token"}, "token_uri"),
        ({"token_uri": "https://oauth2.googleapis.com.evil.example/token"}, "token_uri"),
        ({"token_uri": "http://oauth2.googleapis.com/token"}, "token_uri"),
        ({"universe_domain": "evil.example"}, "universe_domain"),
        ({"type": "external_account"}, "not the JSON file"),
        ({"client_email": "no mail"}, "client_email"),
        ({"private_key": "HUSH"}, "private_key"),
        ({"private_key_id": 7}, "private_key"),
        ({"private_key": "-----BEGIN PRIVATE KEY-----\n" + "QUJD" * 1000}, "4096 bits"),
        (
            {"private_key": "-----BEGIN PRIVATE KEY-----\nHUSH\n-----END PRIVATE KEY-----\n"},
            "private_key can't be used",
        ),
    ],
)
async def test_an_account_that_is_none(
    server: TokenServer, endpoint: TokenEndpoint, changed: dict[str, Any], why: str
) -> None:
    """Nothing is sent, to nobody: a forged account has no assertion signed for it."""
    error = await failure(endpoint, an_account(**changed))
    assert why in error.why
    assert "HUSH" not in error.why
    assert not isinstance(error, StoreAway)
    assert server.received == []


def trickles_head(handler: BaseHTTPRequestHandler) -> None:
    _trickle(handler, b"HTTP/1.1 200 OK\r\nx: ")


def trickles_body(handler: BaseHTTPRequestHandler) -> None:
    _trickle(handler, b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")


def _trickle(handler: BaseHTTPRequestHandler, begin: bytes) -> None:
    handler.wfile.write(begin)
    with contextlib.suppress(OSError):
        while True:
            handler.wfile.write(b"y")
            threading.Event().wait(0.05)


def hangs(handler: BaseHTTPRequestHandler) -> None:
    handler.rfile.read(1)


def breaks_off(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    handler.connection.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (says(200, b"<html>a login page</html>", ("Content-Type", "text/html")), "no access token"),
        (says(500, b"ya29.in-an-error"), "500"),
        (says_json(503, {"error": "unavailable"}), "503"),
        (says_json(429, {"error": "rate_limit"}), "429"),
        (says(403, b"<html>blocked by the proxy</html>"), "403"),
        (says(302, b"", ("Location", f"https://{HOST}/token")), "redirect"),
        (says(307, b"", ("Location", "https://evil.example/token")), "redirect"),
        (says(200, b"x" * 1_000_000), "too long"),
        (says(200, b"[" * 60_000), "no access token"),
        (says_json(200, []), "no access token"),
        (says_json(200, {}), "no access token"),
        (
            says_json(200, {"access_token": 7, "expires_in": 3600, "token_type": "Bearer"}),
            "no access token",
        ),
        (
            says_json(
                200, {"access_token": "ya29.a\r\nx: y", "expires_in": 3600, "token_type": "Bearer"}
            ),
            "no access",
        ),
        (
            says_json(200, {"access_token": "", "expires_in": 3600, "token_type": "Bearer"}),
            "no access token",
        ),
        (
            says_json(200, {"access_token": "ya29.a", "expires_in": 3600, "token_type": "mac"}),
            "no access token",
        ),
        (
            says_json(
                200, {"access_token": "ya29.a", "expires_in": "soon", "token_type": "Bearer"}
            ),
            "no access token",
        ),
        (
            says_json(200, {"access_token": "ya29.a", "expires_in": -1, "token_type": "Bearer"}),
            "no access token",
        ),
        (
            says_json(200, {"access_token": "ya29.a", "expires_in": 1e300, "token_type": "Bearer"}),
            "no access token",
        ),
        (
            says_json(200, {"access_token": "ya29.a", "expires_in": True, "token_type": "Bearer"}),
            "no access token",
        ),
        (
            says_json(200, {"id_token": "eyJh.eyJh.x", "expires_in": 3600, "token_type": "Bearer"}),
            "no access token",
        ),
        (lambda handler: handler.wfile.write(b"ya29 is no HTTP\r\n\r\n"), "no HTTP"),
        (breaks_off, "no access token"),
    ],
)
async def test_nobody_can_tell(
    server: TokenServer, endpoint: TokenEndpoint, act: Any, why: str
) -> None:
    """Each is the endpoint's trouble, tried once, not the account's; what came is not repeated."""
    server.act = act
    error = await failure(endpoint)
    assert why in error.why
    assert isinstance(error, StoreAway)
    assert len(server.received) == 1


@pytest.mark.parametrize("act", [trickles_head, trickles_body, hangs])
async def test_an_answer_without_end(server: TokenServer, tmp_path: Path, act: Any) -> None:
    """A byte now and then would last for an hour, nothing at all for ever: over when the bound is."""
    server.act = act
    ca_file = server.write_ca(tmp_path / "ca.pem")
    error = await failure_once(
        TokenEndpoint(ca_file=ca_file, resolver_factory=server.resolver, bound_s=0.3)
    )
    assert isinstance(error, StoreAway)


@pytest.mark.parametrize(
    ("status", "document", "why"),
    [
        (400, {"error": "invalid_grant", "error_description": "HUSH"}, "(400, invalid_grant)"),
        (401, {"error": "invalid_client"}, "(401, invalid_client)"),
        (403, {"error": "access_denied"}, "(403, access_denied)"),
        (400, {"error": "eyJhbGciOiJSUzI1NiJ9.x.y"}, "(400)"),
    ],
)
async def test_the_account_is_refused(
    server: TokenServer, endpoint: TokenEndpoint, status: int, document: dict[str, str], why: str
) -> None:
    """OAuth's own codes are told, no other text of the answer."""
    server.act = says_json(status, document)
    error = await failure(endpoint)
    assert why in error.why
    assert "HUSH" not in error.why
    assert not isinstance(error, StoreAway)


@pytest.mark.parametrize(
    ("ahead_s", "told"), [(-3600, "behind"), (3600, "ahead of"), (0, "deleted or disabled")]
)
async def test_a_clock_that_is_off(
    server: TokenServer, endpoint: TokenEndpoint, ahead_s: int, told: str
) -> None:
    """Google's Date says whose time an assertion did not fit."""

    def act(handler: BaseHTTPRequestHandler) -> None:
        body = b'{"error":"invalid_grant"}'
        date = formatdate(time.time() - ahead_s, usegmt=True)
        handler.wfile.write(
            f"HTTP/1.1 400 X\r\nDate: {date}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        )

    server.act = act
    assert told in (await failure(endpoint)).why


@pytest.mark.parametrize("certificate", ["expired", "wrong_name", "self_signed", "untrusted"])
async def test_who_is_not_google_gets_nothing(certificate: Any, tmp_path: Path) -> None:
    """The assertion is not sent over TLS that does not verify for the endpoint's name."""
    with token_server(certificate) as server:
        error = await failure(
            TokenEndpoint(
                ca_file=server.write_ca(tmp_path / "ca.pem"), resolver_factory=server.resolver
            )
        )
        assert "can't be verified" in error.why
        assert isinstance(error, StoreAway)
        assert server.received == []


async def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        error = await failure_once(TokenEndpoint(resolver_factory=lambda: Leads(port)))
    assert "can't be reached" in error.why


async def test_the_environment_is_not_looked_at(
    server: TokenServer, endpoint: TokenEndpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Proxies (we may be one), other roots, a file for the TLS secrets, and Google's own variables."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in (
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "CURL_CA_BUNDLE",
    ):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "tls-secrets"))
    monkeypatch.setenv("GOOGLE_SDK_PYTHON_LOGGING_SCOPE", "google")
    monkeypatch.setenv("GOOGLE_API_USE_CLIENT_CERTIFICATE", "true")
    assert (await endpoint.mint(an_account())).token.reveal() == server.tokens[0]
    assert not (tmp_path / "tls-secrets").exists()


def test_without_google_auth() -> None:
    """The message says what to install."""
    code = (
        "import sys; sys.modules['google.auth'] = None\n"
        "from tollhouse.credential.cloud import google\n"
        "from tollhouse.credential.lease import CredentialUnavailable\n"
        "try: google.prepare()\n"
        "except CredentialUnavailable as error: print(error.why)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'tollhouse[vertex]'" in done.stdout
