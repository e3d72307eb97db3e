"""A subject token is judged by what it says of itself before it is sent anywhere."""

from __future__ import annotations

import time
from typing import Any

import pytest
from tests.support.signed_token import ISSUER, signed

from tollhouse.credential.federation.subject_token import judged
from tollhouse.credential.lease import CredentialUnavailable

AUDIENCE = "https://tollhouse.test"


def test_a_token_for_this_audience_is_taken() -> None:
    found = judged(signed(jti="1"), AUDIENCE, "the file", time.time())
    assert (found.subject, found.issuer, found.jti) == (
        "system:serviceaccount:tollhouse:gateway",
        ISSUER,
        "1",
    )
    assert found.text not in repr(found)


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        (
            {"aud": "https://other.test"},
            "audience: the token of the file is for https://other.test",
        ),
        ({"aud": None}, "audience: the token of the file is for none"),
        ({"exp": 1}, "subject: the token of the file ended"),
        ({"exp": None}, "has no exp"),
        ({"exp": 1e999}, "has no exp"),
        ({"exp": 10**400}, "has no exp"),
        ({"iat": time.time() + 4000}, "set the clock"),
        ({"sub": None}, "has no iss, or no sub"),
        ({"pad": "x" * 20_000}, "more than 16384 characters"),
    ],
)
def test_what_is_wrong_is_said(claims: dict[str, Any], why: str) -> None:
    with pytest.raises(CredentialUnavailable, match=why):
        judged(signed(**claims), AUDIENCE, "the file", time.time())


@pytest.mark.parametrize(
    "text", ["", "a.b.c", "<html>", "a.b.c\r\nX: y", "e30.W10.AA", "\ufffd.a.a"]
)
def test_junk_is_no_token_and_is_not_repeated(text: str) -> None:
    with pytest.raises(CredentialUnavailable) as raised:
        judged(text, AUDIENCE, "the file", 0.0)
    assert raised.value.why == "subject: the file gives no JWT."
