"""What each family's errors say of the key."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from tests.dispatch.families import FAMILIES

from tollhouse.dispatch.answer import Answer
from tollhouse.dispatch.verdict import verdict_on_key
from tollhouse.families.base import Family
from tollhouse.families.bedrock import BEDROCK
from tollhouse.families.openai import OPENAI


def answer(status: int, body: object, headers: Sequence[tuple[str, str]] = ()) -> Answer:
    left = [body if isinstance(body, bytes) else json.dumps(body).encode(), b""]

    async def read() -> bytes:
        return left.pop(0) if left else b""

    return Answer(status, list(headers), read, lambda: None)


def coded(**error: object) -> dict[str, object]:
    return {"error": error}


def of_aws(kind: str) -> list[tuple[str, str]]:
    return [("x-amzn-errortype", kind)]


GOOGLE = "type.googleapis.com/google.rpc.ErrorInfo"
BAD_KEY = coded(
    code=400, status="INVALID_ARGUMENT", details=[{"@type": GOOGLE, "reason": "API_KEY_INVALID"}]
)
CREDIT = "Your credit balance is too low to access the API."
XAI = "Your team 0a-1b has either used all available credits or reached its limit."

SCOPES = "You have insufficient permissions for this operation. Missing scopes: api.model.read"
TOO_LARGE = "Request too large for gpt-4o in organization org-1"


@pytest.mark.parametrize(
    ("family", "status", "body", "verdict"),
    [
        ("openai", 401, coded(code="invalid_api_key"), "refused"),
        (
            "openai",
            401,
            coded(code="401", message="Access denied due to invalid subscription key"),
            "refused",
        ),
        (
            "openai",
            401,
            coded(message=f"{SCOPES}. Check", type="invalid_request_error", code=None),
            "request",
        ),
        (
            "openai",
            401,
            coded(message=f"Incorrect API key provided: {SCOPES}", code="invalid_api_key"),
            "refused",
        ),
        ("anthropic", 401, coded(message=SCOPES), "refused"),
        ("openai", 401, b"", "refused"),
        (
            "openai",
            429,
            coded(message=f"{TOO_LARGE} on tokens per min", code="rate_limit_exceeded"),
            "request",
        ),
        (
            "openai",
            429,
            coded(message=f"Rate limit reached: {TOO_LARGE}", code="rate_limit_exceeded"),
            None,
        ),
        ("anthropic", 401, {"type": "error", "error": {"type": "authentication_error"}}, "refused"),
        ("mistral", 401, {"detail": "Unauthorized"}, "refused"),
        ("cohere", 401, {"message": "invalid api token"}, "refused"),
        ("cohere", 498, {"message": "invalid token"}, "refused"),
        ("openai", 498, coded(type="capacity_exceeded"), None),
        ("google", 401, coded(code=401, status="UNAUTHENTICATED"), "refused"),
        ("google", 400, BAD_KEY, "refused"),
        ("google", 400, [BAD_KEY], "refused"),
        (
            "google",
            400,
            coded(code=400, status="INVALID_ARGUMENT", message="API_KEY_INVALID"),
            None,
        ),
        ("google", 400, coded(details=[{"reason": "FIELD"}, "API_KEY_INVALID"]), None),
        ("openai", 400, BAD_KEY, None),
        ("google", 403, coded(code=403, status="PERMISSION_DENIED"), None),
        (
            "bedrock",
            403,
            {"Message": "Authentication failed: Please make sure your API Key is valid."},
            "refused",
        ),
        ("bedrock", 403, {"message": "You don't have access to the model."}, None),
        ("bedrock", 403, b"no JSON", None),
        ("openai", 403, coded(code="unsupported_country_region_territory"), None),
        ("openai", 429, coded(code="insufficient_quota"), "no_money"),
        ("openai", 429, coded(type="insufficient_quota", code=None), "no_money"),
        ("openai", 429, coded(code="project_spend_limit_exceeded"), "no_money"),
        ("openai", 429, coded(type="credit_limit"), "no_money"),
        ("openai", 429, coded(message=XAI), "no_money"),
        ("openai", 429, coded(code="rate_limit_exceeded"), None),
        ("openai", 429, coded(code=["insufficient_quota"]), None),
        ("openai", 429, coded(message=[XAI]), None),
        ("openai", 429, {"error": "insufficient_quota"}, None),
        ("openai", 429, ["error"], None),
        ("openai", 429, [], None),
        ("openai", 400, coded(code="billing_hard_limit_reached"), "no_money"),
        ("anthropic", 402, {"type": "error", "error": {"type": "billing_error"}}, "no_money"),
        ("anthropic", 400, coded(type="invalid_request_error", message=CREDIT), "no_money"),
        ("anthropic", 400, coded(message=f"Invalid value: {CREDIT!r}."), None),
        ("anthropic", 429, coded(type="rate_limit_error"), None),
        ("google", 402, coded(code=402, status="RESOURCE_EXHAUSTED"), "no_money"),
        (
            "google",
            429,
            coded(message="Your prepayment credits are depleted. Please go to AI Studio"),
            "no_money",
        ),
        ("google", 429, coded(code=429, status="RESOURCE_EXHAUSTED"), None),
        ("mistral", 402, b"no JSON", "no_money"),
        ("openai", 400, b"", None),
        ("openai", 400, b"\xff", None),
        ("openai", 400, b"[" * 100_000, None),
        ("openai", 400, b"null", None),
        ("openai", 200, coded(code="insufficient_quota"), None),
        ("openai", 500, coded(code="insufficient_quota"), None),
    ],
)
async def test_verdict(family: str, status: int, body: object, verdict: str | None) -> None:
    """By status, family and the error's own words; what a request may have put into a message does not count."""
    assert await verdict_on_key(FAMILIES[family], answer(status, body)) == verdict


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [
        ("UnrecognizedClientException", "refused"),
        (
            "InvalidSignatureException:http://internal.amazon.com/coral/com.amazon.bedrock/",
            "refused",
        ),
        ("ExpiredTokenException", "refused"),
        ("ExpiredToken", "refused"),
        ("AccessDeniedException", None),
        ("", None),
    ],
)
async def test_bedrock_says_it_in_a_header(kind: str, verdict: str | None) -> None:
    """403 is the key's fault only with some error types, and only of AWS."""
    assert await verdict_on_key(BEDROCK, answer(403, {"message": "m"}, of_aws(kind))) == verdict
    assert await verdict_on_key(OPENAI, answer(403, {"message": "m"}, of_aws(kind))) is None


async def test_the_body_is_still_there() -> None:
    """What was read ahead is read again by whoever passes the answer on."""
    got = answer(429, b'{"error":{}}')
    await verdict_on_key(OPENAI, got)
    assert b"".join([piece async for piece in got.chunks()]) == b'{"error":{}}'


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_each_rule_has_a_source(family: Family) -> None:
    """The table can be checked by whoever reads it."""
    assert family.verdicts
    for rule in family.verdicts:
        assert rule.source
        assert rule.status >= 400
