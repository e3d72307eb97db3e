"""Our errors in Google's form."""

from __future__ import annotations

import json

import pytest

from tollhouse.denial import Denial
from tollhouse.families.google import GOOGLE


@pytest.mark.parametrize(
    ("headers", "details"),
    [
        (
            (("retry-after", "53"),),
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "53s"},
        ),
        (
            (("retry-after", "1.5"),),
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.5s"},
        ),
    ],
)
def test_when_to_come_again(headers: tuple[tuple[str, str], ...], details: object) -> None:
    """As google.rpc.RetryInfo, whose seconds are a string."""
    error = json.loads(GOOGLE.error_body(Denial("rate_limited", "", headers), "call_7"))["error"]
    assert (error["code"], error["status"]) == (429, "RESOURCE_EXHAUSTED")
    assert error["details"] == [details]


@pytest.mark.parametrize("headers", [(), (("retry-after", "Mon"),), (("retry-after", "nan"),)])
def test_which_limit_it_was(headers: tuple[tuple[str, str], ...]) -> None:
    """Where nothing says when."""
    denial = Denial("concurrency_limited", "", headers)
    [details] = json.loads(GOOGLE.error_body(denial, "call_7"))["error"]["details"]
    assert details["@type"] == "type.googleapis.com/google.rpc.QuotaFailure"
    assert details["violations"][0]["subject"] == "concurrency_limited"


def test_other_errors_have_no_details() -> None:
    """A budget's end is 402, and does not clear by waiting."""
    error = json.loads(GOOGLE.error_body(Denial("budget_exceeded"), "call_7"))["error"]
    assert sorted(error) == ["code", "message", "status"]
