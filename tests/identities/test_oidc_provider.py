"""An OpenID provider that answers wrongly, over real TLS: nobody logs in, and the reason is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from tests.support import issuer
from tests.support.served import QuietServer, served

from tollhouse.credential.secret import Secret
from tollhouse.demo.standin_tls import make_server_tls
from tollhouse.identities.oidc_provider import OidcClient, OidcProvider
from tollhouse.identities.people import LoginRefused, ProviderAway

CLIENT, NONCE = "a client", "the-nonce"


@dataclass
class Provider:
    url: str = ""
    ca_file: Path = Path()
    discovery: dict[str, Any] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)
    token: tuple[int, Any] | None = None
    """In place of a good one: status and body."""
    signed_with: str = "provider"
    asked: list[tuple[dict[str, str], dict[str, list[str]]]] = field(default_factory=list)
    """Headers and form of each request for a token."""
    paths: list[str] = field(default_factory=list)
    """Of all requests."""

    def answer(self, path: str) -> tuple[int, Any]:
        self.paths.append(path)
        if path == "/.well-known/openid-configuration":
            return 200, {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/keys",
                **self.discovery,
            }
        if path == "/keys":
            return 200, json.loads(issuer.jwks(issuer.jwk(issuer.rsa_key("provider"), "k")))
        given = {"iss": self.url, "aud": CLIENT, "sub": "alice", "nonce": NONCE, **self.claims}
        token = issuer.signed(issuer.claims(**given), issuer.rsa_key(self.signed_with), kid="k")
        return self.token or (200, {"id_token": token, "access_token": "x"})


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    tls = make_server_tls(["localhost"])
    found = Provider(ca_file=tmp_path / "ca.pem")
    found.ca_file.write_bytes(tls.ca_pem)

    class Handler(BaseHTTPRequestHandler):
        def setup(self) -> None:
            self.request = tls.context.wrap_socket(self.request, server_side=True)
            super().setup()

        def do_GET(self) -> None:
            status, body = found.answer(self.path)
            text = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", f"{found.url}/keys")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def do_POST(self) -> None:
            form = self.rfile.read(int(self.headers["Content-Length"])).decode()
            found.asked.append((dict(self.headers.items()), parse_qs(form)))
            self.do_GET()

        def log_message(self, *_: Any) -> None: ...

    http = QuietServer(Handler)
    found.url = f"https://localhost:{http.server_port}"
    with served(http):
        yield found


@contextlib.asynccontextmanager
async def asking(
    provider: Provider, secret: str | None = "of: the client", audience: tuple[str, ...] = ()
) -> AsyncIterator[OidcProvider]:
    async def given() -> Secret | None:
        return None if secret is None else Secret(secret)

    client = OidcClient(provider.url, CLIENT, f"{provider.url}/back", ("RS256",), audience)
    asked = OidcProvider(client, given, ca_file=provider.ca_file)
    try:
        yield asked
    finally:
        await asked.close()


async def test_a_login(provider: Provider) -> None:
    """The claims of who logs in; the secret goes into Authorization, form-encoded, and never into the body then."""
    async with asking(provider) as asked:
        assert await asked.authorization_url() == f"{provider.url}/authorize"
        claims = await asked.login("the-code", "the-verifier", NONCE)
        assert await asked.keys() == 1
    assert claims["sub"] == "alice"
    [(headers, form)] = provider.asked
    assert (
        headers["Authorization"]
        == "Basic " + issuer.base64.b64encode(b"a+client:of%3A+the+client").decode()
    )
    assert form == {
        "grant_type": ["authorization_code"],
        "code": ["the-code"],
        "redirect_uri": [f"{provider.url}/back"],
        "code_verifier": ["the-verifier"],
    }


@pytest.mark.parametrize(
    ("secret", "methods", "in_body"),
    [
        ("s", ["client_secret_post"], {"client_id": [CLIENT], "client_secret": ["s"]}),
        (None, ["none"], {"client_id": [CLIENT]}),
    ],
)
async def test_other_ways_to_show_the_client(
    provider: Provider, secret: str | None, methods: list[str], in_body: dict[str, list[str]]
) -> None:
    provider.discovery = {"token_endpoint_auth_methods_supported": methods}
    async with asking(provider, secret) as asked:
        await asked.login("c", "v", NONCE)
    [(headers, form)] = provider.asked
    assert "Authorization" not in headers
    assert in_body.items() <= form.items()


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"nonce": "another"}, "nonce"),
        ({"nonce": None}, "nonce"),
        ({"aud": "another"}, "audience"),
        ({"aud": [CLIENT, "another"]}, "azp"),
        ({"azp": "another"}, "azp"),
        ({"iss": "https://other.example"}, "no issuer"),
        ({"exp": 1}, "expired"),
        ({"exp": None}, "no exp"),
    ],
)
async def test_an_id_token_that_is_not_good(
    provider: Provider, claims: dict[str, Any], why: str
) -> None:
    provider.claims = claims
    async with asking(provider) as asked:
        with pytest.raises(LoginRefused, match=why):
            await asked.login("c", "v", NONCE)


async def test_several_audiences(provider: Provider) -> None:
    """With ``azp`` it is this client's."""
    provider.claims = {"aud": [CLIENT, "another"], "azp": CLIENT}
    async with asking(provider) as asked:
        assert (await asked.login("c", "v", NONCE))["azp"] == CLIENT


@pytest.mark.parametrize(
    ("token", "why"),
    [
        ((400, {"error": "invalid_grant"}), "400, 'invalid_grant'"),
        ((200, {"access_token": "x"}), "no ID token"),
        ((200, {"id_token": "x"}), "no ID token"),
        ((200, b"<html>"), "no ID token"),
        ((302, b""), "302"),
    ],
)
async def test_no_token(provider: Provider, token: tuple[int, Any], why: str) -> None:
    """A redirect is not followed: the code would go with it."""
    provider.token = token
    async with asking(provider) as asked:
        with pytest.raises(LoginRefused, match=why):
            await asked.login("c", "v", NONCE)


async def test_a_signature_of_somebody_else(provider: Provider) -> None:
    provider.signed_with = "another"
    async with asking(provider) as asked:
        with pytest.raises(LoginRefused, match="signature"):
            await asked.login("c", "v", NONCE)


@pytest.mark.parametrize(
    ("discovery", "why"),
    [
        ({"issuer": "https://other.example"}, "another issuer"),
        ({"token_endpoint": "http://localhost/token"}, "token_endpoint"),
        ({"jwks_uri": None}, "jwks_uri"),
        ({"authorization_endpoint": "https://u@localhost/"}, "authorization_endpoint"),
    ],
)
async def test_a_discovery_that_is_not_good(
    provider: Provider, discovery: dict[str, Any], why: str
) -> None:
    provider.discovery = discovery
    async with asking(provider) as asked:
        with pytest.raises(ProviderAway, match=why):
            await asked.login("c", "v", NONCE)
    assert provider.asked == []


async def test_a_discovery_that_changes(provider: Provider) -> None:
    """What does not count of it changes nothing, and its keys are not read again; another endpoint is used at once."""
    async with asking(provider) as asked:
        for moment in range(3):
            provider.discovery = {"now": moment}
            await asked.read_again()
            assert await asked.login("c", "v", NONCE)
        assert provider.paths.count("/keys") == 1
        provider.discovery = {"token_endpoint": f"{provider.url}/token?new"}
        await asked.read_again()
        assert await asked.login("c", "v", NONCE)
        assert provider.paths[-2:] == ["/token?new", "/keys"]


async def test_a_provider_that_is_away(provider: Provider, tmp_path: Path) -> None:
    """Also one whose certificate is not of the roots that are trusted."""
    other = tmp_path / "other.pem"
    other.write_bytes(make_server_tls(["localhost"]).ca_pem)
    provider.ca_file = other
    async with asking(provider) as asked:
        with pytest.raises(ProviderAway, match="certificate"):
            await asyncio.wait_for(asked.authorization_url(), 30)


async def test_bearers(provider: Provider) -> None:
    """A JWT for the audience that is configured, and never one of a login."""
    key = issuer.rsa_key("provider")

    def token(audience: str) -> str:
        given = {"iss": provider.url, "sub": "alice", "aud": audience}
        return issuer.signed(issuer.claims(**given), key, kid="k")

    async with asking(provider, audience=("tollhouse",)) as asked:
        assert (await asked.bearer(token("tollhouse")))["sub"] == "alice"
        for wrong in (token(CLIENT), "gate_x", ""):
            with pytest.raises(LoginRefused):
                await asked.bearer(wrong)
    async with asking(provider) as asked:
        with pytest.raises(LoginRefused, match="audience"):
            await asked.bearer(token("tollhouse"))
