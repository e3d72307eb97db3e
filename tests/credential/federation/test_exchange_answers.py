"""What each answer of an endpoint means, as a table; nothing of an answer but a known code is repeated."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tollhouse.credential.cloud.token_host import HostAnswer
from tollhouse.credential.federation.exchange_answers import Busy, Exchanged, outcome
from tollhouse.credential.lease import CredentialUnavailable, StoreAway
from tollhouse.providers import BUILT_IN

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z
DATE = {"date": "Fri, 15 Jan 2027 08:00:00 GMT"}
ENDS = "2027-01-15T09:00:00Z"
ECHO = "eyJhbGciOiJSUzI1NiJ9.echo.echo"
TERMS = {one.name: one.exchange for one in BUILT_IN if one.exchange is not None}
KEYS = (
    "<R><AccessKeyId>ASIAX</AccessKeyId><SecretAccessKey>s/+=</SecretAccessKey>"
    "<SessionToken>t==</SessionToken><Expiration>{}</Expiration></R>"
)


def judge(
    name: str, status: int, body: Any, headers: Any = (), step: int = 0, now: float = NOW
) -> Any:
    terms = TERMS[name]
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    answer = HostAnswer(status, {**DATE, **dict(headers)}, data)
    return outcome(answer, terms.steps[step], terms, "the.host", now)


@pytest.mark.parametrize(
    ("name", "step", "body", "life_s"),
    [
        ("openai", 0, {"access_token": "t", "expires_in": 60}, 60.0),
        (
            "anthropic",
            0,
            {"access_token": "t", "token_type": "bearer", "expires_in": 1e6},
            86_400.0,
        ),
        ("vertex", 1, {"accessToken": "t", "expireTime": ENDS}, 3600.0),
        ("bedrock", 0, KEYS.format(ENDS), 3600.0),
    ],
)
def test_a_credential_and_its_life(name: str, step: int, body: Any, life_s: float) -> None:
    found = judge(name, 200, body, step=step)
    assert isinstance(found, Exchanged)
    assert found.life_s == life_s


def test_a_wrong_clock_of_ours_does_not_change_a_life() -> None:
    """The endpoint's own Date counts: 50 minutes off, and the credential lives an hour all the same."""
    assert judge("bedrock", 200, KEYS.format(ENDS), now=NOW + 3000).life_s == 3600.0


@pytest.mark.parametrize(
    ("name", "step", "body"),
    [
        *(
            ("openai", 0, {"access_token": "t", "expires_in": life})
            for life in (0, -5, "60", None, True, 0.5, float("nan"), float("inf"), 10**400)
        ),
        *(
            ("openai", 0, {"access_token": token, "expires_in": 60})
            for token in ("", "a b", "a\r\n", 7, None)
        ),
        ("openai", 0, {"access_token": "t", "expires_in": 60, "token_type": "mac"}),
        ("openai", 0, "<html>" + ECHO),
        ("openai", 0, "[" * 60_000),
        ("openai", 0, []),
        ("vertex", 1, {"accessToken": "t", "expireTime": "2027-01-15T07:59:59Z"}),
        ("vertex", 1, {"accessToken": "t", "expireTime": "2027-01-15T09:00:00"}),
        ("vertex", 1, {"accessToken": "t", "expireTime": "soon"}),
        ("bedrock", 0, KEYS.format("2020-01-01T00:00:00Z")),
        ("bedrock", 0, KEYS.format(ENDS) * 2),
        ("bedrock", 0, KEYS.format(ENDS).replace("t==", "&xxe;")),
        ("bedrock", 0, KEYS.format(ENDS).replace("ASIAX", "A/us-east-1,")),
    ],
)
def test_junk_is_no_credential(name: str, step: int, body: Any) -> None:
    """The endpoint is at fault, so a credential that is there serves on."""
    found = judge(name, 200, body, step=step)
    assert isinstance(found, StoreAway)
    assert found.why.startswith("network: ")
    assert ECHO not in found.why


@pytest.mark.parametrize(
    ("name", "status", "body", "fault"),
    [
        ("openai", 401, {"error": "invalid_grant", "error_description": ECHO}, "rule"),
        ("openai", 400, {"error": ECHO}, "rule"),
        ("openai", 403, ECHO, "rule"),
        ("anthropic", 401, {"error": {"type": "authentication_error", "message": ECHO}}, "rule"),
        ("azure", 401, {"error": "invalid_client", "error_codes": [700213]}, "rule"),
        ("azure", 401, {"error": "invalid_client", "error_codes": [700212]}, "audience"),
        ("azure", 401, {"error": "invalid_client", "error_codes": [700024]}, "subject"),
        ("vertex", 400, {"error": "invalid_grant", "error_description": ECHO}, "subject"),
        ("vertex", 400, {"error": "invalid_target"}, "audience"),
        ("vertex", 403, {"error": {"status": "PERMISSION_DENIED"}}, "rule"),
        ("bedrock", 403, "<E><Code>IDPRejectedClaim</Code></E>", "audience"),
        ("bedrock", 403, "<E><Code>AccessDenied</Code></E>", "rule"),
        ("bedrock", 400, "<E><Code>ExpiredTokenException</Code></E>", "subject"),
    ],
)
def test_a_refusal_says_whose_fault_it_is(name: str, status: int, body: Any, fault: str) -> None:
    found = judge(name, status, body)
    assert isinstance(found, CredentialUnavailable)
    assert not isinstance(found, StoreAway)
    assert found.why.startswith(f"{fault}: ")
    assert ECHO not in found.why


@pytest.mark.parametrize(
    ("name", "status", "body", "headers", "wait_s"),
    [
        ("openai", 429, {}, {"retry-after": "7"}, 7.0),
        ("openai", 429, {}, {"retry-after": "999999"}, 300.0),
        ("openai", 503, {}, {"retry-after": "junk"}, 0.0),
        ("azure", 400, {"error_codes": [50196]}, {}, 0.0),
        ("bedrock", 400, "<E><Code>IDPCommunicationError</Code></E>", {}, 0.0),
        ("bedrock", 400, "<E><Code>Throttling</Code></E>", {}, 0.0),
    ],
)
def test_a_busy_endpoint_is_asked_again(
    name: str, status: int, body: Any, headers: Any, wait_s: float
) -> None:
    found = judge(name, status, body, headers)
    assert isinstance(found, Busy)
    assert found.wait_s == wait_s


@pytest.mark.parametrize(
    "date",
    ["", "soon", "Fri, 15 Jan 99999999999 08:00:00 GMT", f"Fri, {'9' * 30} Jan 2027 08:00:00 GMT"],
)
def test_a_date_that_is_none_counts_for_nothing(date: str) -> None:
    """Our own clock counts then, and nothing is said of it."""
    assert (
        judge("vertex", 200, {"accessToken": "t", "expireTime": ENDS}, {"date": date}, 1).life_s
        == 3600.0
    )
    refused = judge("openai", 401, {"error": "invalid_grant"}, {"date": date}, now=NOW + 900)
    assert "clock" not in refused.why
    assert judge("openai", 429, {}, {"retry-after": date}).wait_s == 0.0


def test_a_clock_that_is_off_is_named() -> None:
    found = judge("openai", 401, {"error": "invalid_grant"}, now=NOW + 900)
    assert found.why.endswith("The clock of this machine is 900 s ahead of the endpoint's: set it.")


@pytest.mark.parametrize(
    ("name", "host", "may"),
    [
        ("openai", "eu.api.openai.com", True),
        ("openai", "api.openai.com.evil.com", False),
        ("openai", "a.b.api.openai.com", False),
        ("anthropic", "api.anthropic.com", True),
        ("anthropic", "console.anthropic.com", False),
        ("azure", "ours.openai.azure.com", True),
        ("azure", "openai.azure.com", False),
        ("vertex", "europe-west4-aiplatform.googleapis.com", True),
        ("vertex", "storage.googleapis.com", False),
        ("bedrock", "bedrock-runtime.eu-west-1.amazonaws.com", True),
        ("bedrock", "bedrock.bucket.s3.amazonaws.com", False),
    ],
)
def test_a_credential_goes_to_its_providers_hosts_alone(name: str, host: str, may: bool) -> None:
    assert TERMS[name].may_go_to(host) is may
