"""SECURITY.md rows 18, 30, 34 and 35: what of a request may never be seen by the provider, or in a line."""

from __future__ import annotations

import pytest
from tests.support.attack import BODY, HOST, Attacked, get, post

OWN_KEY = "sk-proj-the-workloads-own-key-0123456789abcdef"

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
    assert attacked.ask_in_tunnel(attacked.credentials, header).status == 200
    received = attacked.clean("x-marker")
    assert received.get_all(header.partition(":")[0]) == []
    attacked.lines(1)


def test_headers_named_by_connection(attacked: Attacked) -> None:
    """Row 34: a header that Connection names is this hop's, and so is Connection."""
    named = (
        "Connection: X-Secret, keep-alive",
        "X-Secret: x-marker",
        "Connection: x-second",
        "X-Second: x-marker",
    )
    assert attacked.ask_in_tunnel(attacked.credentials, *named, "X-Kept: yes").status == 200
    received = attacked.clean("x-marker", "x-secret", "x-second")
    assert (received.get("x-kept"), received.get_all("connection")) == ("yes", [])
    attacked.lines(1)


@pytest.mark.parametrize("name", ["Host", "Authorization", "Content-Type", "Content-Length"])
def test_connection_names_what_we_need(attacked: Attacked, name: str) -> None:
    """Naming a header that matters in Connection takes nothing of ours away."""
    with attacked.tunnel() as client:
        answer = client.ask(post(BODY, f"Connection: {name}"))
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
    assert (
        attacked.ask_in_tunnel(attacked.credentials, header.format(attacked.inside.token)).status
        == 200
    )
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


@pytest.mark.parametrize(
    "query", ["x={}", "{}", "{}=x", "x=%67ate_{rest}", "a=1&x=Bearer%20{}&b=2"]
)
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
    assert (
        attacked.ask_in_tunnel(attacked.credentials, f"X-Coreason-Trace-ID: {token}").status == 200
    )
    assert (
        attacked.ask_in_tunnel(attacked.credentials, f"X-Coreason-Project-ID: {token}").status
        == 403
    )
    lines = attacked.lines(2)
    assert token[:40] not in str(lines)
    assert lines[0]["trace_id"] == "gate_[removed]"
