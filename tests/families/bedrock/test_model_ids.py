"""Which model a path names."""

from __future__ import annotations

import contextlib
import re
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.admit.path import split_target
from tollhouse.denial import Refused
from tollhouse.families.bedrock import BEDROCK
from tollhouse.families.bedrock.model_ids import can_reason_at_bedrock, requested_model

ACCOUNT = "arn:aws:bedrock:us-east-1:123456789012"


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("amazon.nova-lite-v1:0", "amazon.nova-lite-v1:0"),
        ("us.amazon.nova-lite-v1:0", "us.amazon.nova-lite-v1:0"),
        ("global.anthropic.claude-sonnet-4-5-20250929-v1:0",) * 2,
        ("amazon.titan-embed-text-v2:0", "amazon.titan-embed-text-v2:0"),
        (
            "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-pro-v1:0",
            "amazon.nova-pro-v1:0",
        ),
        (f"{ACCOUNT}:inference-profile/eu.amazon.nova-pro-v1:0", "eu.amazon.nova-pro-v1:0"),
        (
            "arn:aws-us-gov:bedrock:us-gov-west-1::foundation-model/amazon.nova-pro-v1:0",
            "amazon.nova-pro-v1:0",
        ),
        (f"{ACCOUNT}:application-inference-profile/a1b2c3d4e5f6",) * 2,
        (f"{ACCOUNT}:provisioned-model/a1b2c3d4e5f6",) * 2,
        (f"{ACCOUNT}:imported-model/a1b2c3d4e5f6",) * 2,
        (f"{ACCOUNT}:custom-model/amazon.nova-lite-v1.0/a1b2c3d4e5f6",) * 2,
        (f"{ACCOUNT}:prompt/PROMPT1234:1",) * 2,
        (f"{ACCOUNT}:default-prompt-router/anthropic.claude:1",) * 2,
        ("arn:aws:sagemaker:us-east-1:123456789012:endpoint/mine",) * 2,
    ],
)
def test_the_model_of_a_path(name: str, model: str) -> None:
    """As botocore encodes it, and with plain colons. The ARN of a base model or of a system's profile has the model's id."""
    for spelled in (
        quote(name, safe="-._~"),
        quote(name, safe="-._~:"),
        quote(name, safe="").lower(),
    ):
        path = f"/model/{spelled}/converse"
        assert split_target(path, BEDROCK.encoded) == (path, "")
        assert BEDROCK.operation("POST", path) is not None
        if spelled.lower() != spelled or name == name.lower():
            assert requested_model(path) == model


@pytest.mark.parametrize(
    "segment",
    ["", ".", "..", "a%2Fb", "a%252Fb", "a/b", "%2Fa", "a%2F", "arn:aws:x%2F", "arn:aws:x%2F.", "arn:aws:x%2F..%2Fy",
     "arn:aws:x%2F%2Fy", "arn:aws:x%2Fa%2Fb%2Fc%2Fd", "arn:aws:x%5Cy", "arn:aws:x%2Ey", "a%00", "a%20b", "a;b", "-a", "~a"],
)  # fmt: skip
def test_what_is_no_model(segment: str) -> None:
    """A segment that could stand for another path, and one that no model has."""
    path = f"/model/{segment}/converse"
    with contextlib.suppress(Refused):
        split_target(path, BEDROCK.encoded)
        assert BEDROCK.operation("POST", path) is None


@given(st.text(st.sampled_from("aA1.:-_~%/2fFeE"), max_size=24))
def test_a_decoded_path_has_the_same_segments(segment: str) -> None:
    """Whatever is let through stays inside its own segment, also for a server that decodes first: there is no dot segment, no
    empty one, and nothing left to decode."""
    path = f"/model/{segment}/invoke"
    try:
        split_target(path, BEDROCK.encoded)
    except Refused:
        return
    if BEDROCK.operation("POST", path) is None:
        return
    decoded = unquote(path)
    assert "%" not in decoded
    assert not re.search(r"//|/\.{1,2}(/|$)|\\", decoded)
    assert decoded == path or ("/" not in unquote(segment)) or segment.startswith("arn")


@pytest.mark.parametrize(
    ("model", "reasons"),
    [
        ("us.amazon.nova-lite-v1:0", False),
        ("amazon.nova-2-lite-v1:0", True),
        ("anthropic.claude-3-haiku-20240307-v1:0", False),
        ("us.anthropic.claude-3-7-sonnet-20250219-v1:0", True),
        ("anthropic.claude-sonnet-5", True),
        ("us.deepseek.r1-v1:0", True),
        ("meta.llama3-8b-instruct-v1:0", False),
        ("mistral.magistral-small-2509", True),
        (f"{ACCOUNT}:application-inference-profile/a1b2c3d4e5f6", True),
    ],
)
def test_which_models_reason(model: str, reasons: bool) -> None:
    assert can_reason_at_bedrock(model) is reasons
