"""Every refusal's code, status and body, as SDKs read them."""

from __future__ import annotations

import json

import httpx2
import openai
import pytest

from tollhouse.denial import REASONS, Denial, Fault, Refused, error_headers
from tollhouse.families import DEFAULT
from tollhouse.families.anthropic import ANTHROPIC
from tollhouse.families.base import Family
from tollhouse.families.google import GOOGLE
from tollhouse.families.openai import OPENAI
from tollhouse.providers import BUILT_IN

# DESIGN.md, "Names that others rely on".
STATUSES = {
    400: "bad_request",
    401: "identity_missing identity_unknown identity_expired identity_revoked",
    402: "budget_exceeded",
    403: "host_not_allowed port_not_allowed path_not_allowed plain_http project_not_allowed model_not_allowed "
    "object_not_yours model_unpriced tls_refused endpoint_forbidden addon_refused",
    408: "timeout",
    413: "body_too_large",
    421: "authority_mismatch",
    429: "rate_limited concurrency_limited",
    415: "unsupported_encoding",
    426: "upgrade_required",
    431: "headers_too_large",
    502: "upstream_unreachable upstream_tls upstream_address_refused upstream_bad_answer credential_refused",
    503: "credential_unavailable ledger_unavailable breaker_open draining internal too_many_connections upload_spool_full "
    "addon_failed identity_unavailable",
    504: "upstream_timeout",
}
CODES = sorted(REASONS)


def test_each_code_has_its_status() -> None:
    """The table is the contract's: no code more, none less, none with another status."""
    wanted = {code: status for status, codes in STATUSES.items() for code in codes.split()}
    assert {code: reason.status for code, reason in REASONS.items()} == wanted


@pytest.mark.parametrize("code", CODES)
def test_each_says_what_and_what_to_do(code: str) -> None:
    """Whole sentences, and the reason for this very call between them."""
    denial = Denial(code, "Because of this.")
    what, todo = denial.reason.what, denial.reason.todo
    assert all(text[0].isupper() and text.endswith(".") for text in (what, todo))
    assert denial.message == f"{what} Because of this. {todo}"
    assert Denial(code).message == f"{what} {todo}"
    assert isinstance(denial.reason.fault, Fault)


def test_a_code_that_is_none() -> None:
    """A misspelt code is found where it is written, not by a client."""
    with pytest.raises(ValueError, match="no_such_code"):
        Denial("no_such_code")


@pytest.mark.parametrize("code", CODES)
def test_headers(code: str) -> None:
    """Reason and call id always; SDKs are told not to repeat what will be refused again."""
    headers = error_headers(Denial(code, headers=(("retry-after", "1"),)), "call_1")
    named = dict(headers)
    assert len(named) == len(headers)
    assert (named["x-tollhouse-reason"], named["x-tollhouse-call-id"]) == (code, "call_1")
    assert (named["content-type"], named["retry-after"]) == ("application/json", "1")
    assert ("x-should-retry" in named) is not REASONS[code].retry
    assert named.get("x-should-retry", "false") == "false"


def test_a_denial_may_say_itself_whether_to_retry() -> None:
    """Its own header is not doubled."""
    headers = error_headers(
        Denial("budget_exceeded", headers=(("X-Should-Retry", "true"),)), "call_1"
    )
    assert [value for name, value in headers if name.lower() == "x-should-retry"] == ["true"]


def test_a_provider_that_was_tried_enough() -> None:
    """The text does not ask for what the header forbids."""
    denial = Denial("upstream_unreachable", headers=(("x-should-retry", "false"),))
    assert "Send it again." in Denial("upstream_unreachable").message
    assert denial.message.endswith("Send it again later, not at once.")


def test_which_are_repeated() -> None:
    """Nothing that the workload or a policy has to change is."""
    for code, reason in REASONS.items():
        if reason.fault is Fault.POLICY or reason.status in (400, 401, 402, 403, 413, 421, 431):
            assert not reason.retry, code


@pytest.mark.parametrize("code", CODES)
def test_openai_reads_it(code: str) -> None:
    """openai-python's `_make_status_error`: the class by status, `code`, `type` and message from ``error``."""
    denial = Denial(code, 'Why "so": é\n.')
    response = httpx2.Response(
        denial.status,
        headers=error_headers(denial, "call_1"),
        content=OPENAI.error_body(denial, "call_1"),
        request=httpx2.Request("POST", "https://api.openai.com/v1/chat/completions"),
    )
    error = openai.OpenAI(
        api_key="none", http_client=httpx2.Client()
    )._make_status_error_from_response(response)
    assert isinstance(error, openai.APIStatusError)
    assert (error.status_code, error.code, error.param) == (denial.status, code, None)
    assert denial.message in error.message
    assert "call_1" in error.message
    assert error.type


@pytest.mark.parametrize("code", CODES)
def test_anthropic_reads_it(code: str) -> None:
    """https://docs.anthropic.com/en/api/errors: type "error", with a type of the documented list."""
    denial = Denial(code)
    body = json.loads(ANTHROPIC.error_body(denial, "call_1"))
    assert (body["type"], body["request_id"]) == ("error", "call_1")
    assert denial.message in body["error"]["message"]
    by_status = {
        401: "authentication_error",
        402: "billing_error",
        403: "permission_error",
        413: "request_too_large",
    }
    by_status |= {429: "rate_limit_error", 502: "api_error", 503: "api_error", 504: "timeout_error"}
    assert body["error"]["type"] == by_status.get(denial.status, "invalid_request_error")


@pytest.mark.parametrize("code", CODES)
def test_google_reads_it(code: str) -> None:
    """google.rpc.Status as REST spells it: code, message, status."""
    denial = Denial(code)
    error = json.loads(GOOGLE.error_body(denial, "call_1"))["error"]
    assert error["code"] == denial.status
    assert denial.message in error["message"]
    assert error["status"].isupper()


@pytest.mark.parametrize(
    "family", dict.fromkeys([DEFAULT, *(provider.family for provider in BUILT_IN)]), ids=repr
)
def test_every_family_carries_code_and_call(family: Family) -> None:
    """Whatever the format, a person finds the code and the call id in the message."""
    body = json.loads(family.error_body(Denial("budget_exceeded", "Because."), "call_1"))
    text = json.dumps(body)
    assert "budget_exceeded" in text
    assert "call_1" in text
    assert "Because." in text


def test_a_status_of_its_own() -> None:
    """407 is 401's before a tunnel is up."""
    denial = Denial("identity_missing", status_override=407)
    assert denial.status == 407


def test_refused_carries_its_denial() -> None:
    """The exception says its code and nothing of the why, which may be the client's words."""
    refused = Refused("bad_request", "client's words", (("a", "b"),))
    assert str(refused) == "bad_request"
    assert refused.denial == Denial("bad_request", "client's words", (("a", "b"),))
    assert refused.gate == ""


def test_a_denial_travels_whole() -> None:
    """With its own status and words, and the gate that refused."""
    denial = Denial("identity_missing", "why", (("a", "b"),), 407, "todo")
    refused = Refused.of(denial, "admit")
    assert (refused.denial, refused.gate, str(refused)) == (denial, "admit", "identity_missing")


def test_a_refusal_has_a_code() -> None:
    """A code that is none is found where it is written here, too."""
    with pytest.raises(ValueError, match="no_such_code"):
        Refused("no_such_code")
