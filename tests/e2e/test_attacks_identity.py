"""ATTACKS.md rows 15 to 18 and 30: who is calling, and what of it may never be seen by the provider or in a log."""

from __future__ import annotations

import base64
import time

import pytest
from tests.support.attack import GET, HOST, Attacked, get, post
from tests.support.inproc import PROJECT, TENANT
from tests.support.raw import Answer

from tollhouse.admit.token import mint, token_id

OWN_KEY = "sk-proj-the-workloads-own-key-0123456789abcdef"
STRANGER = mint(bytes(range(32)))
"""Well formed, and made by nobody."""


def basic(user: str, password: str) -> str:
    return "Proxy-Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def in_tunnel(attacked: Attacked, proxy: str | None, *slots: str) -> Answer:
    """GET with ``proxy`` on the CONNECT and ``slots`` inside."""
    with attacked.tunnel(headers=() if proxy is None else (proxy,)) as client:
        return client.ask(get(*slots))


@pytest.fixture
def second(attacked: Attacked) -> dict[str, str]:
    """Tokens of every kind, of a project of its own."""
    gateway = attacked.inside.gateway
    made: dict[str, str] = {}

    async def make() -> None:
        perform = gateway.operations.perform
        await perform("project_set", {"project": "proj_other", "tenant": TENANT, "limits": ["10 usd/day"]})
        for name in ("other", "revoked", "expired", "both"):
            projects = [PROJECT, "proj_other"] if name == "both" else ["proj_other"]
            made[name] = str((await perform("token_create", {"projects": projects}))["token"])
        await gateway.directory.revoke(token_id(made["revoked"]))
        await gateway.directory.expire(token_id(made["expired"]), time.time() - 1)

    attacked.inside.do(make())
    return made


@pytest.mark.parametrize("way", ["basic", "bearer", "slot", "x-api-key", "api-key", "query"])
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("stranger", "identity_unknown"),
        ("revoked", "identity_revoked"),
        ("expired", "identity_expired"),
        ("short", "identity_unknown"),
        ("wrong checksum", "identity_unknown"),
        ("empty", "identity_unknown"),
        ("own key", "identity_unknown"),
    ],
)
def test_a_bad_token(attacked: Attacked, second: dict[str, str], way: str, kind: str, reason: str) -> None:
    """Rows 15 and 16: unknown, revoked, expired, malformed, or a provider's own key, in each place."""
    good = attacked.inside.token
    made = {
        "stranger": STRANGER,
        "short": good[:-1],
        "wrong checksum": good[:-1] + "!",
        "empty": "",
        "own key": OWN_KEY,
    }
    secret = (second | made)[kind]
    ways = {
        "basic": (basic(PROJECT, secret), ()),
        "bearer": (f"Proxy-Authorization: Bearer {secret}", ()),
        "slot": (None, (f"Authorization: Bearer {secret}",)),
        "x-api-key": (None, (f"X-Api-Key: {secret}",)),
        "api-key": (None, (f"Api-Key: {secret}",)),
    }
    if way == "query":
        with attacked.tunnel(headers=()) as client:
            answer = client.ask(get(path=f"/v1/models?key={secret.replace('!', '%21')}"))
    else:
        proxy, slots = ways[way]
        answer = in_tunnel(attacked, proxy, *slots)
    attacked.refused(answer, 401, reason)


@pytest.mark.parametrize(
    "proxy",
    [
        "Proxy-Authorization: Basic !!!",
        "Proxy-Authorization: Basic",
        "Proxy-Authorization: Basic " + base64.b64encode(b"no colon").decode(),
        "Proxy-Authorization: Basic " + base64.b64encode(b"\xff:\xff").decode(),
        "Proxy-Authorization: Digest username=x",
        "Proxy-Authorization: Negotiate YII=",
        "Proxy-Authorization: x",
        "Proxy-Authorization:",
    ],
)
def test_credentials_that_cannot_be_read(attacked: Attacked, proxy: str) -> None:
    """Row 15: whatever stands there decides; a good token in the slot does not make up for it."""
    answer = in_tunnel(attacked, proxy, f"Authorization: Bearer {attacked.inside.token}")
    attacked.refused(answer, 401, "identity_unknown")


def test_no_credentials(attacked: Attacked) -> None:
    """Nothing at all."""
    attacked.refused(in_tunnel(attacked, None), 401, "identity_missing")


def test_a_project_of_somebody_else(attacked: Attacked, second: dict[str, str]) -> None:
    """Row 15: a good token names another project in the header, and in the user name."""
    answer = in_tunnel(attacked, attacked.credentials, "X-Coreason-Project-ID: proj_other")
    attacked.refused(answer, 403, "project_not_allowed")


@pytest.mark.parametrize("user", ["proj_other", "proj_nobody", "../proj_123", "proj_123 ", "PROJ_123"])
def test_a_project_of_somebody_else_as_user(attacked: Attacked, second: dict[str, str], user: str) -> None:
    """Row 15: the Basic user name is no way around it."""
    answer = in_tunnel(attacked, basic(user, attacked.inside.token))
    attacked.refused(answer, 403, "project_not_allowed")


def test_several_projects_and_none_chosen(attacked: Attacked, second: dict[str, str]) -> None:
    """A token of two projects has to say which one pays."""
    answer = in_tunnel(attacked, None, f"Authorization: Bearer {second['both']}")
    attacked.refused(answer, 400, "bad_request")


def test_a_wrong_token_does_not_fall_through(attacked: Attacked) -> None:
    """A bad token on the CONNECT and a good one in the slot: the first decides."""
    answer = in_tunnel(attacked, basic(PROJECT, STRANGER), f"Authorization: Bearer {attacked.inside.token}")
    attacked.refused(answer, 401, "identity_unknown")


def test_the_request_cannot_outbid_its_tunnel(attacked: Attacked) -> None:
    """A Proxy-Authorization inside the tunnel is not read when the CONNECT had one; it is stripped."""
    answer = in_tunnel(attacked, basic(PROJECT, STRANGER), attacked.credentials)
    attacked.refused(answer, 401, "identity_unknown")


def test_a_token_revoked_in_an_open_tunnel(attacked: Attacked) -> None:
    """Identity is judged for each request: a tunnel that is open does not outlive its token."""
    gateway = attacked.inside.gateway
    made = attacked.inside.do(gateway.operations.perform("token_create", {"projects": [PROJECT]}))
    with attacked.tunnel(headers=(basic(PROJECT, made["token"]),)) as client:
        assert client.ask(GET).status == 200
        attacked.inside.do(gateway.directory.revoke(token_id(made["token"])))
        answer = client.ask(GET)
    assert (answer.status, answer.reason) == (401, "identity_revoked")
    assert len(attacked.inside.standin.snapshot()) == 1
    attacked.lines(2)


@pytest.mark.parametrize(
    "slot",
    [
        f"Authorization: Bearer {OWN_KEY}",
        f"Authorization: {OWN_KEY}",
        f"Authorization: Basic {base64.b64encode(OWN_KEY.encode()).decode()}",
        f"authorization: bearer {OWN_KEY}",
        f"X-Api-Key: {OWN_KEY}",
        f"X-API-KEY: {OWN_KEY}",
        f"x_api_key: {OWN_KEY}",
        f"Api-Key: {OWN_KEY}",
        f"X-Goog-Api-Key: {OWN_KEY}",
        f"Ocp-Apim-Subscription-Key: {OWN_KEY}",
    ],
)
def test_a_key_of_its_own_is_stripped(attacked: Attacked, slot: str) -> None:
    """Row 16: beside a valid Proxy-Authorization the call goes out, with our key and without the workload's."""
    assert in_tunnel(attacked, attacked.credentials, slot).status == 200
    attacked.clean(OWN_KEY, base64.b64encode(OWN_KEY.encode()).decode(), "api-key", "api_key")
    attacked.lines(1)


@pytest.mark.parametrize(
    ("token_in", "key_in", "status"),
    [
        ("Authorization: Bearer {}", "X-Api-Key: {}", 200),
        ("Authorization: Bearer {}", "Api-Key: {}", 200),
        ("Authorization: Bearer {}", "X-Goog-Api-Key: {}", 200),
        ("X-Api-Key: {}", "X-Goog-Api-Key: {}", 200),
        ("X-Api-Key: {}", "Authorization: Bearer {}", 401),
        ("X-Goog-Api-Key: {}", "Api-Key: {}", 401),
    ],
)
def test_two_slots(attacked: Attacked, token_in: str, key_in: str, status: int) -> None:
    """Row 17: the first slot decides, and neither is forwarded."""
    answer = in_tunnel(attacked, None, token_in.format(attacked.inside.token), key_in.format(OWN_KEY))
    if status == 200:
        assert answer.status == 200
        attacked.clean(OWN_KEY, "api-key")
        attacked.lines(1)
    else:
        attacked.refused(answer, 401, "identity_unknown")


NEVER = [
    "X-Coreason-Trace-ID: abc-123",
    "X-Coreason-Anything: x-marker",
    "X-Tollhouse-Call-Id: x-marker",
    "Proxy-Connection: keep-alive",
    "Proxy-Anything: x-marker",
    "Cookie: session=x-marker",
    "Cookie2: x-marker",
    "Forwarded: for=x-marker",
    "X-Forwarded-For: x-marker",
    "X-Forwarded-Host: x-marker",
    "X-Real-IP: x-marker",
    "Via: 1.1 x-marker",
    "X-HTTP-Method-Override: DELETE",
    "X-Method-Override: DELETE",
    "X-Original-URL: /x-marker",
    "X-Rewrite-URL: /x-marker",
    "Keep-Alive: timeout=1",
    "TE: trailers",
    "Trailer: x-marker",
    "OpenAI-Organization: org-x-marker",
    "OpenAI-Project: proj-x-marker",
    "openai_organization: org-x-marker",
    "X-Goog-User-Project: x-marker",
    "X-Goog-FieldMask: x-marker",
    "Anthropic-Workspace-Id: x-marker",
    "X-Amz-Security-Token: x-marker",
]


@pytest.mark.parametrize("header", NEVER)
def test_a_header_that_is_not_for_the_provider(attacked: Attacked, header: str) -> None:
    """Rows 18, 34 and 35: ours, the proxy's, cookies, who pays, overrides and hop-by-hop headers."""
    assert in_tunnel(attacked, attacked.credentials, header).status == 200
    received = attacked.clean("x-marker")
    assert received.get_all(header.partition(":")[0]) == []
    attacked.lines(1)


def test_headers_named_by_connection(attacked: Attacked) -> None:
    """Row 34: a header that Connection names is this hop's, and so is Connection."""
    named = ("Connection: X-Secret, keep-alive", "X-Secret: x-marker", "Connection: x-second", "X-Second: x-marker")
    assert in_tunnel(attacked, attacked.credentials, *named, "X-Kept: yes").status == 200
    received = attacked.clean("x-marker", "x-secret", "x-second")
    assert (received.get("x-kept"), received.get_all("connection")) == ("yes", [])
    attacked.lines(1)


@pytest.mark.parametrize("name", ["Host", "Authorization", "Content-Type", "Content-Length"])
def test_connection_names_what_we_need(attacked: Attacked, name: str) -> None:
    """Naming a header that matters in Connection takes nothing of ours away."""
    with attacked.tunnel() as client:
        answer = client.ask(post(post().partition(b"\r\n\r\n")[2], f"Connection: {name}"))
    assert answer.status == 200
    received = attacked.clean()
    assert (received.get("host"), len(received.get_all("content-length"))) == (HOST, 1)
    attacked.lines(1)


@pytest.mark.parametrize(
    "header",
    [
        "X-Custom: {}",
        "User-Agent: tool/1 ({})",
        "X-Api-Token: Bearer {}",
        "Referer: https://x.test/?k={}",
        "Accept: {}",
    ],
)
def test_a_token_in_any_header(attacked: Attacked, header: str) -> None:
    """A tool that repeats the API key somewhere does not give it away."""
    assert in_tunnel(attacked, attacked.credentials, header.format(attacked.inside.token)).status == 200
    attacked.clean(attacked.inside.token)
    attacked.lines(1)


@pytest.mark.parametrize(
    "query",
    [
        "key={}",
        "KEY={}",
        "%6Bey={}",
        "api-key={}",
        "api_key={}",
        "access_token={}",
        "oauth_token={}",
        "Authorization=Bearer+{}",
        "subscription-key={}",
        "$key={}",
        "a=b&key={}&c=d",
        "key=first&key={}",
    ],
)
@pytest.mark.parametrize("secret", ["own", "gate"])
def test_a_key_in_the_url(attacked: Attacked, query: str, secret: str) -> None:
    """Row 30: stripped, whatever it is, and in no line; what stands beside it goes on byte for byte."""
    value = OWN_KEY if secret == "own" else attacked.inside.token
    with attacked.tunnel() as client:
        assert client.ask(get(path="/v1/models?" + query.format(value))).status == 200
    received = attacked.clean(value, "key=", "token=", "authorization=")
    assert received.target == ("/v1/models?a=b&c=d" if "a=b" in query else "/v1/models")
    [line] = attacked.lines(1)
    assert value not in str(line)
    assert line["path"] == "/v1/models"


@pytest.mark.parametrize("query", ["x={}", "{}", "{}=x", "x=%67ate_{rest}", "a=1&x=Bearer%20{}&b=2"])
def test_a_token_anywhere_in_the_query(attacked: Attacked, query: str) -> None:
    """Row 30: a parameter that carries a gate token is dropped, whatever its name."""
    token = attacked.inside.token
    text = query.replace("{rest}", token.removeprefix("gate_")).replace("{}", token)
    with attacked.tunnel() as client:
        assert client.ask(get(path="/v1/models?" + text)).status == 200
    received = attacked.clean(token[5:])
    assert received.target in ("/v1/models", "/v1/models?a=1&b=2")
    attacked.lines(1)


def test_a_key_behind_a_semicolon(attacked: Attacked) -> None:
    """Some servers take `;` for `&`: refused, because what would be left is a guess."""
    with attacked.tunnel() as client:
        answer = client.ask(get(path=f"/v1/models?a=b;key={OWN_KEY}"))
    attacked.refused(answer, 400, "bad_request")


@pytest.mark.parametrize("spelling", ["{}", "%67ate_{rest}", "gate%5F{rest}", "x-{}"])
def test_a_token_in_the_path(attacked: Attacked, spelling: str) -> None:
    """The path can't be stripped: refused, and not written down."""
    token = attacked.inside.token
    text = spelling.replace("{rest}", token.removeprefix("gate_")).replace("{}", token)
    with attacked.tunnel() as client:
        answer = client.ask(get(path=f"/v1/models/{text}"))
    line = attacked.refused(answer, 400, "bad_request")
    assert token[5:] not in str(line)


def test_a_token_as_trace_or_project(attacked: Attacked) -> None:
    """What a workload may write into the line does not carry its token there."""
    token = attacked.inside.token
    assert in_tunnel(attacked, attacked.credentials, f"X-Coreason-Trace-ID: {token}").status == 200
    assert in_tunnel(attacked, attacked.credentials, f"X-Coreason-Project-ID: {token}").status == 403
    lines = attacked.lines(2)
    assert token[:40] not in str(lines)
    assert lines[0]["trace_id"] == "gate_[removed]"
