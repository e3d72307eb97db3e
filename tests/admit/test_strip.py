"""Which headers go on to a provider."""

from __future__ import annotations

import pytest

from tollhouse.accounts.token import mint
from tollhouse.admit.strip import strip
from tollhouse.denial import Refused
from tollhouse.providers import BUILT_IN, CREDENTIAL_HEADERS
from tollhouse.providers.anthropic import ANTHROPIC
from tollhouse.providers.openai import OPENAI

OURS = frozenset({"x-coreason-project-id", "x-coreason-trace-id", "x-team"})


def left(*headers: tuple[str, str]) -> list[tuple[str, str]]:
    return strip(headers, OPENAI, OURS)


@pytest.mark.parametrize(
    "name",
    [
        "content-type",
        "accept",
        "user-agent",
        "x-stainless-lang",
        "openai-beta",
        "x-request-id",
        "traceparent",
    ],
)
def test_kept(name: str) -> None:
    """What is for the provider goes on, in order, duplicates and all (but for content-type)."""
    headers = [(name, "a"), ("x-other", "b"), ("x-other", "c")]
    assert left(*headers) == headers


@pytest.mark.parametrize(
    "name",
    [
        *CREDENTIAL_HEADERS,
        "proxy-authorization",
        "proxy-connection",
        "cookie",
        "cookie2",
        "forwarded",
        "via",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-real-ip",
        "x-coreason-anything",
        "x-tollhouse-call-id",
        "x-team",
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
        "host",
        "content-length",
        "expect",
        "accept-encoding",
        "x-http-method-override",
        "x-original-url",
        "x-goog-fieldmask",
        "x-goog-quota-user",
        "x-amz-security-token",
        "openai-organization",
        "openai_organization",
        "x_api_key",
        "x_forwarded_for",
        "proxy_anything",
    ],
)
def test_dropped(name: str) -> None:
    """What is for us, for this hop, or a credential."""
    assert left(("accept", "a"), (name, "value")) == [("accept", "a")]


def test_credentials_of_any_provider() -> None:
    """Every slot, and each other place for a key, once, in the order in which they are read."""
    order = ["authorization", "x-api-key", "api-key", "x-goog-api-key", "ocp-apim-subscription-key"]
    assert list(CREDENTIAL_HEADERS) == order
    assert {provider.slot.header for provider in BUILT_IN} <= set(CREDENTIAL_HEADERS)


def test_who_pays_of_any_provider() -> None:
    """A header by which somebody else could be made to pay is dropped for every provider."""
    payers = {name for provider in BUILT_IN for name in provider.who_pays}
    assert payers >= {
        "openai-organization",
        "openai-project",
        "anthropic-workspace-id",
        "x-goog-user-project",
        "x-ms-spillover-deployment",
    }
    for provider in (OPENAI, ANTHROPIC):
        assert strip([(name, "x") for name in payers], provider, OURS) == []


def test_named_by_connection() -> None:
    """RFC 9110 7.6.1: what Connection names ends here, in whatever spelling."""
    assert left(("connection", "X-A , close,, x-b"), ("x-a", "1"), ("x-b", "2"), ("x-c", "3")) == [
        ("x-c", "3")
    ]


def test_a_gate_token_anywhere() -> None:
    """A header that carries one is dropped whole."""
    token = mint(bytes(32))
    assert left(("x-a", f"Bearer {token}"), ("x-b", token[:40]), ("x-c", "gate_keeper")) == [
        ("x-c", "gate_keeper")
    ]


@pytest.mark.parametrize("name", [*CREDENTIAL_HEADERS, "proxy-authorization", "content-type"])
def test_given_twice(name: str) -> None:
    """400, even if both say the same."""
    with pytest.raises(Refused) as caught:
        left((name, "a"), (name, "a"))
    assert caught.value.denial.code == "bad_request"
