"""People log in at a real OpenID provider (OpenBao's), with Debian's Chromium by real clicks, and as an HTTP client walks."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import pytest
import requests
from tests.support.inproc import PROJECT, Inside, open_inside
from tests.support.openid import PASSWORD, OpenId, openid
from tests.support.programs import free_port
from tests.support.redis_server import RedisServer
from tests.support.requires import program

from tollhouse.demo.gateway_config import write_config
from tollhouse.demo.gateway_process import GatewayProcess
from tollhouse.site.login_attempts import BURST

OTHER, FOREIGN = "proj_other", "proj_foreign"


@dataclass
class People:
    inside: Inside
    provider: OpenId
    address: str

    def browser(self) -> httpx2.Client:
        return httpx2.Client(base_url=self.address, trust_env=False)

    def led(self, client: httpx2.Client) -> str:
        """Where the login leads the browser."""
        answer = client.get("/oidc/login")
        assert answer.status_code == 303, answer.text
        return str(answer.headers["location"])

    def login(self, client: httpx2.Client, user: str) -> httpx2.Response:
        back = self.provider.authorize(user, self.led(client))
        return client.get("/oidc/callback", params=back)

    def perform(self, name: str, **arguments: Any) -> Any:
        return self.inside.do(self.inside.gateway.operations.perform(name, arguments))


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    directory = tmp_path_factory.mktemp("people")
    address = f"http://127.0.0.1:{free_port()}"
    redirect_url = f"{address}/oidc/callback"
    with openid(directory, redirect_url) as provider:
        provider.add("alice", "platform")
        provider.add("bob", "acme-devs", "others")
        provider.add("carol", "guests")
        provider.add("mallory")
        secret = directory / "client-secret"
        secret.write_text(provider.client_secret + "\n")
        settings: dict[str, dict[str, Any]] = {
            "listen": {"admin": urlsplit(address).netloc},
            "admin": {"api": True, "unsafe_open_metrics": False},
            "admin.oidc": {
                "issuer": provider.issuer,
                "client_id": provider.client_id,
                "client_secret_file": str(secret),
                "redirect_url": redirect_url,
                "scopes": ["openid", "groups"],
                "ca_file": str(provider.bao.ca_file),
                "admins": {"groups": ["platform"]},
                # OpenBao gives out no other JWT: in production the audience is that of access tokens.
                "audience": [provider.client_id],
                "views": [
                    {"claims": {"groups": ["acme-devs"]}, "tenant": "acme"},
                    {"claims": {"groups": ["guests"]}, "projects": [OTHER]},
                ],
            },
            f"projects.{OTHER}": {"tenant": "acme", "limits": ["1 usd/day"]},
            f"projects.{FOREIGN}": {"tenant": "globex", "limits": ["1 usd/day"]},
        }
        home = directory / "gateway"
        home.mkdir()
        with open_inside(home, settings) as inside:
            yield People(inside, provider, address)


@pytest.mark.parametrize(
    ("user", "seen"),
    [("alice", {PROJECT, OTHER, FOREIGN}), ("bob", {PROJECT, OTHER}), ("carol", {OTHER})],
)
def test_who_sees_what(people: People, user: str, seen: set[str]) -> None:
    """By groups; the cookie is for this host and no script, the one of the login is gone, and the session ends by a click."""
    with people.browser() as client:
        back = people.login(client, user)
        assert (back.status_code, back.headers["location"]) == (303, "/")
        cookies = back.headers.get_list("set-cookie")
        session = next(text for text in cookies if text.startswith("tollhouse_session="))
        for part in ("HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=3600"):
            assert part in session
        assert "Domain" not in session
        text = client.get("/").text
        assert f'">{user}</span>' in text
        assert {name for name in (PROJECT, OTHER, FOREIGN) if f"project:{name}" in text} == seen
        assert set(client.cookies) == {"tollhouse_session"}
        assert client.get("/metrics").status_code == (200 if user == "alice" else 403)
        assert client.post("/logout").headers["location"] == "/login"
        assert client.get("/").headers["location"] == "/login"


def test_what_is_asked(people: People) -> None:
    """A code, bound to this browser: S256 and 256 bits of state and nonce, new each time."""
    with people.browser() as client:
        asked = [parse_qs(urlsplit(people.led(client)).query) for _ in range(2)]
    for each in asked:
        assert each["response_type"] == ["code"]
        assert each["code_challenge_method"] == ["S256"]
        assert each["redirect_uri"] == [f"{people.address}/oidc/callback"]
        assert min(len(each[name][0]) for name in ("state", "nonce", "code_challenge")) == 43
    for name in ("state", "nonce", "code_challenge"):
        assert asked[0][name] != asked[1][name]


def test_logins_that_are_not_good(people: People) -> None:
    """Nobody gets a session by another one's code, a used code, another browser, or as nobody; nor is he led elsewhere."""
    with people.browser() as client, people.browser() as other:
        back = people.provider.authorize("alice", people.led(client))
        stolen = other.get("/oidc/callback", params=back)
        assert "has begun no such login" in refused(other, stolen)
        people.led(other)
        assert "has begun no such login" in refused(other, other.get("/oidc/callback", params=back))
        state = parse_qs(urlsplit(people.led(other)).query)["state"][0]
        # The code of alice in a login of his own: PKCE.
        injected = other.get("/oidc/callback", params={"code": back["code"], "state": state})
        assert "invalid_grant" in refused(other, injected)
        state = parse_qs(urlsplit(people.led(other)).query)["state"][0]
        query = {"state": state, "error": "<script>", "next": "https://evil.example"}
        assert "&lt;script&gt;" in refused(other, other.get("/oidc/callback", params=query))
        state = parse_qs(urlsplit(people.led(other)).query)["state"][0]
        mixed = {"state": state, "code": "x", "iss": "https://other.example"}
        assert "another provider" in refused(other, other.get("/oidc/callback", params=mixed))
        # The provider gives a code once, and so takes the first login from nobody.
        state = parse_qs(urlsplit(people.led(client)).query)["state"][0]
        used = client.get("/oidc/callback", params={"code": back["code"], "state": state})
        refused(client, used)
        assert "no entry of [admin.oidc] fits you" in refused(
            client, people.login(client, "mallory")
        )


def test_a_page_of_another_site_locks_nobody_out(people: People) -> None:
    """It can have a browser come back from logins that were never begun, as often as it likes."""
    with people.browser() as client:
        for _ in range(BURST + 1):
            refused(client, client.get("/oidc/callback", params={"state": "x", "code": "y"}))
        assert people.login(client, "alice").status_code == 303


def refused(client: httpx2.Client, answer: httpx2.Response) -> str:
    assert answer.status_code == 403
    assert "location" not in answer.headers
    assert client.get("/").status_code == 303
    return answer.text


def test_who_is_revoked_sees_nothing_more(people: People) -> None:
    """By the id that the page shows, also in a session that is open, until he is let in again."""
    with people.browser() as client, people.browser() as again:
        people.login(client, "bob")
        found = re.search(r'title="(jwt_[0-9a-f]{24})"', client.get("/").text)
        assert found is not None
        people.perform("token_revoke", token_id=found[1])
        assert client.get("/").headers["location"] == "/login"
        assert "no entry of [admin.oidc] fits you" in refused(again, people.login(again, "bob"))
        people.perform("token_restore", token_id=found[1])
        assert client.get("/").status_code == 200


def id_token(people: People, user: str, nonce: str = "n") -> str:
    """As a program of the user's gets it."""
    provider = people.provider
    verifier = "v" * 43
    hashed = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=")
    redirect_url = f"{people.address}/oidc/callback"
    asked = {
        "response_type": "code",
        "client_id": provider.client_id,
        "redirect_uri": redirect_url,
        "scope": "openid groups",
        "state": "s",
        "nonce": nonce,
        "code_challenge": hashed.decode(),
        "code_challenge_method": "S256",
    }
    code = provider.authorize(user, f"https://x/?{urlencode(asked)}")["code"]
    answer = requests.post(
        f"{provider.issuer}/token",
        data={
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_url,
            "code_verifier": verifier,
        },
        auth=(provider.client_id, provider.client_secret),
        verify=str(provider.bao.ca_file),
    )
    return str(answer.json()["id_token"])


def test_a_bearer_token_at_the_api(people: People) -> None:
    """An admin's JWT changes things, and the audit log names its subject; others' and a forged one do not."""
    path, settings = "/api/v1/projects/by-alice", {"tenant": "acme", "limits": ["1 usd/day"]}
    good, bob = id_token(people, "alice"), id_token(people, "bob")
    head, claims, signature = good.split(".")
    forged = ".".join((head, claims, signature[::-1]))
    for token, status in ((good, 201), (bob, 403), (forged, 401)):
        with people.browser() as client:
            answer = client.put(path, json=settings, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == status, answer.text
    [change] = [r for r in people.perform("audit") if r["target"] == "project:by-alice"]
    assert (change["via"], change["by_name"]) == ("api", "alice")
    assert change["by"].startswith("jwt_")


def test_a_jwt_that_is_typed_in(people: People) -> None:
    """It begins a session of its person, which ends with it; one that is not good is told to be a JWT."""
    good = id_token(people, "carol")
    with people.browser() as client:
        wrong = client.post("/login", data={"token": f"{good[:-8]}AAAAAAAA"})
        assert (wrong.status_code, "This JWT is not taken here" in wrong.text) == (401, True)
        begun = client.post("/login", data={"token": good})
        assert begun.headers.get("location") == "/", begun.text
        found = re.search(r"Max-Age=(\d+)", begun.headers["set-cookie"])
        assert found is not None
        assert 0 < int(found[1]) <= 3600
        text = client.get("/").text
        assert f"project:{OTHER}" in text
        assert f"project:{FOREIGN}" not in text


def test_a_session_is_no_token_of_the_api(people: People) -> None:
    with people.browser() as client:
        people.login(client, "alice")
        answer = client.put("/api/v1/projects/x", json={"tenant": "acme"})
    assert (answer.status_code, answer.json()["type"]) == (401, "urn:tollhouse:problem:no-token")


def test_several_workers(tmp_path: Path) -> None:
    """The session is the desk's, whichever worker asks; the client's secret is in Vault, and the login goes on over a reload."""
    address = f"http://127.0.0.1:{free_port()}"
    with openid(tmp_path, f"{address}/oidc/callback") as provider:
        provider.add("alice", "platform")
        bao = provider.bao
        bao.put("infrastructure/oidc", {"client_secret": provider.client_secret})
        (tmp_path / "redis").mkdir()
        with RedisServer(tmp_path / "redis") as redis:
            login = {
                "role_id_file": str(bao.role_id_file),
                "secret_id_file": str(bao.secret_id_file),
            }
            settings: dict[str, dict[str, Any]] = {
                "redis": {"url": redis.url},
                "vault": {
                    "address": bao.address,
                    "ca_file": str(bao.ca_file),
                    "auth": {"method": "approle", **login},
                },
                "listen": {"admin": urlsplit(address).netloc},
                "admin.oidc": {
                    "issuer": provider.issuer,
                    "client_id": provider.client_id,
                    "client_secret": "infrastructure/oidc",
                    "redirect_url": f"{address}/oidc/callback",
                    "scopes": ["openid", "groups"],
                    "ca_file": str(bao.ca_file),
                    "admins": {"groups": ["platform"]},
                },
            }
            config = write_config(tmp_path, None, settings)
            with (
                GatewayProcess(config, workers=2) as gateway,
                httpx2.Client(base_url=address, trust_env=False) as client,
            ):
                place = str(client.get("/oidc/login").headers["location"])
                gateway.tollhouse("reload")
                back = client.get("/oidc/callback", params=provider.authorize("alice", place))
                assert back.headers.get("location") == "/", back.text
                assert [client.get("/").status_code for _ in range(6)] == [200] * 6
                assert provider.client_secret not in gateway.stderr


@pytest.mark.requires("chromium")
def test_a_browser_by_clicks(people: People) -> None:
    """From the login page to OpenBao's, in with a password there, back to the page, and out."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # As root Chromium starts no sandbox.
        browser = playwright.chromium.launch(
            executable_path=str(program("chromium")), args=["--no-sandbox"]
        )
        # OpenBao's certificate is of a CA of its own.
        context = browser.new_context(base_url=people.address, ignore_https_errors=True)
        tab = context.new_page()
        tab.goto("/")
        tab.get_by_role("link", name="Log in with your account").click()
        tab.get_by_label("Username").fill("carol")
        tab.get_by_label("Password", exact=True).fill(PASSWORD)
        tab.get_by_role("button", name="Sign in").click()
        tab.get_by_role("heading", name="Budgets").wait_for()
        assert tab.url == f"{people.address}/"
        assert tab.locator(".who").inner_text() == "carol"
        tab.get_by_text("Live.").wait_for()
        tab.get_by_role("button", name="Log out").click()
        tab.get_by_role("link", name="Log in with your account").wait_for()
        browser.close()
