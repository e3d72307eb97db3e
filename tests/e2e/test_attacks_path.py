"""SECURITY.md rows 33 and 35, and the base URL listener: which path is meant, and for whom."""

from __future__ import annotations

import pytest
from tests.support.attack import BODY, HOST, Attacked, get, post

BAD = [
    "/v1//chat/completions",
    "//v1/chat/completions",
    "/v1/chat//completions",
    "/v1/./chat/completions",
    "/v1/../v1/chat/completions",
    "/v1/chat/completions/..",
    "/v1/chat/completions/.",
    "/v1/%2e%2e/v1/chat/completions",
    "/v1/%2E/chat/completions",
    "/v1/chat%2fcompletions",
    "/v1/chat%2Fcompletions",
    "/v1/chat%5ccompletions",
    "/v1/chat\\completions",
    "/v1/chat/completions%00",
    "/v1/..%2fadmin",
    "/model/arn%3Aaws%3Abedrock%3Ax%2Fy/converse",
    "/v1/chat/completions%zz",
    "/v1/chat/completions%",
    "/v1/chat/completions#x",
    "/v1/chat/completions<x>",
    "/v1/chat/completions|x",
    "/v1/chät/completions",
    "/v1/models?a=%zz",
    "/v1/models?a=ä",
    "/v1/models?a=#",
]
CLOSED = [
    "/v1/%63hat/completions",
    "/v1/chat%252fcompletions",
    "/v1/chat/completions/",
    "/v1/chat/completions;x=y",
    "/V1/chat/completions",
    "/v1/Chat/Completions",
    "/v1/chat/completions%20",
    "/v1/chat/completions.json",
    "/v1/chat",
    "/v1/chat/completions/chatcmpl-1",
    "/v2/chat/completions",
    "/",
    "/?/v1/chat/completions",
    "/v1/models/",
    "/v1/models/a/b",
    "/v1/engines",
    "/v1/responses/",
]


@pytest.mark.parametrize("path", BAD)
def test_a_path_that_can_be_read_in_two_ways(attacked: Attacked, path: str) -> None:
    """Row 33: 400 for what two parsers may read differently."""
    with attacked.tunnel() as client:
        answer = client.ask(post(BODY, path=path))
    attacked.refused(answer, 400, "bad_request")


@pytest.mark.parametrize("path", ["/v1/realtime/client_secrets", "/v1/organization/admin_api_keys"])
def test_a_path_that_is_never_opened(attacked: Attacked, path: str) -> None:
    """What makes a credential, or administrates the account."""
    with attacked.tunnel() as client:
        answer = client.ask(post(BODY, path=path))
    attacked.refused(answer, 403, "endpoint_forbidden")


@pytest.mark.parametrize("path", CLOSED)
def test_a_path_that_is_not_open(attacked: Attacked, path: str) -> None:
    """Rows 31 and 33: 403 for what is not, byte for byte, an open path."""
    with attacked.tunnel() as client:
        answer = client.ask(post(BODY, path=path))
    attacked.refused(answer, 403, "path_not_allowed")


@pytest.mark.parametrize(
    "query",
    [
        "fields=id",
        "$fields=id",
        "FIELDS=id",
        "%66ields=id",
        "callback=x",
        "jsonp=x",
        "alt=proto",
        "alt=media",
        "$alt=proto",
        "quotaUser=x",
        "userProject=x",
        "$userProject=x",
    ],
)
def test_a_parameter_that_hides_usage_or_moves_the_bill(attacked: Attacked, query: str) -> None:
    """Row 35: stripped, and what stands beside it goes on."""
    with attacked.tunnel() as client:
        assert client.ask(get(path=f"/v1/models?a=1&{query}&b=%20")).status == 200
    assert attacked.clean().target == "/v1/models?a=1&b=%20"
    attacked.lines(1)


def test_a_query_goes_on_byte_for_byte(attacked: Attacked) -> None:
    """What was judged is what is sent: nothing is decoded, sorted or quoted anew."""
    query = "b=2&a=%7E~&c=%2f&&d&alt=sse&e=a+b%20c&f=[x]"
    with attacked.tunnel() as client:
        assert client.ask(get(path=f"/v1/models?{query}")).status == 200
    assert attacked.clean().target == f"/v1/models?{query}"
    attacked.lines(1)


@pytest.mark.parametrize(
    "host",
    [
        "evil.test",
        "localhost.evil.test",
        HOST,
        "0.0.0.0",
        "[::1]",
        "localhost@evil.test",
        "2130706433",
        "",
    ],
)
def test_the_base_url_under_another_name(attacked: Attacked, host: str) -> None:
    """DNS rebinding: a page of a browser reaches this port, but its Host says whose page it is."""
    with attacked.client("base_url") as client:
        answer = client.ask(get(f"Authorization: Bearer {attacked.inside.token}", host=host))
    attacked.refused(answer, 421, "authority_mismatch")


@pytest.mark.parametrize(
    ("target", "status", "reason"),
    [
        (f"https://{HOST}/v1/models", 421, "authority_mismatch"),
        ("http://evil.test/v1/models", 421, "authority_mismatch"),
        ("/https://evil.test/", 403, "path_not_allowed"),
        ("/evil.test/v1/models", 403, "path_not_allowed"),
        ("/OPENAI/v1/models", 403, "path_not_allowed"),
        ("/openai", 403, "path_not_allowed"),
        ("/openai/", 403, "path_not_allowed"),
        ("/openai//v1/models", 400, "bad_request"),
        ("/openai/../v1/models", 400, "bad_request"),
        ("/openai/v1/engines", 403, "path_not_allowed"),
        ("/openai?x=/v1/models", 403, "path_not_allowed"),
        ("//v1/models", 403, "path_not_allowed"),
        ("/livez", 403, "path_not_allowed"),
    ],
)
def test_the_base_url_is_for_providers(
    attacked: Attacked, target: str, status: int, reason: str
) -> None:
    """Anything but /v1/ or a provider's name is nobody's."""
    with attacked.client("base_url") as client:
        answer = client.ask(
            get(f"Authorization: Bearer {attacked.inside.token}", path=target, host="localhost")
        )
    attacked.refused(answer, status, reason)


@pytest.mark.parametrize("path", ["/v1/models", "/openai/v1/models"])
def test_the_base_url_works(attacked: Attacked, path: str) -> None:
    """The same listener with an allowed name: the refusals above can fail."""
    with attacked.client("base_url") as client:
        token = attacked.inside.token
        assert (
            client.ask(
                get(f"Authorization: Bearer {token}", path=path, host="localhost:8000")
            ).status
            == 200
        )
    received = attacked.clean()
    assert (received.target, received.get("host")) == ("/v1/models", HOST)
    attacked.lines(1)
