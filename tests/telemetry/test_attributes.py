"""What is said of a call: its errors, and its tokens by modality."""

from __future__ import annotations

from typing import Any

import pytest

from tollhouse.book import empty_record
from tollhouse.telemetry.attributes import (
    error_type,
    input_by_modality,
    of_attempt,
    of_span,
    output_by_modality,
    span_name,
)
from tollhouse.telemetry.conventions import NAMES
from tollhouse.telemetry.handed import Handed


def call(*, media: bool = False, **fields: Any) -> Handed:
    record = {**empty_record(), "stream": False, "decision": "allow", "status": 200, **fields}
    return Handed(record, True, kind="chat", metered=True, writes=True, media=media)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({}, ""),
        ({"reason": "client_gone"}, ""),
        ({"reason": "stopped"}, "stopped"),
        ({"status": 429}, "429"),
        ({"status": 402, "decision": "deny", "reason": "budget_exceeded"}, "budget_exceeded"),
        ({"status": 200, "decision": "fail", "reason": "upstream_error"}, "upstream_error"),
        ({"decision": "fail", "reason": ""}, "_OTHER"),
    ],
)
def test_errors(fields: dict[str, Any], error: str) -> None:
    """Our code, else the provider's status; a client that left is no error."""
    assert error_type(call(**fields).record) == error


@pytest.mark.parametrize(
    ("tokens", "media", "of_input", "of_output"),
    [
        ({"input": 9, "output": 2}, False, {"text": 9}, {"text": 2}),
        ({"input": 9, "output": 2}, True, {"unknown": 9}, {"unknown": 2}),
        (
            {"input": 9, "input_image": 5, "output": 2},
            True,
            {"image": 5, "text": 4},
            {"unknown": 2},
        ),
        ({"input": 9, "input_audio": 9, "output": 0}, False, {"audio": 9}, {"text": 0}),
        ({}, False, {"unknown": 0}, {"unknown": 0}),
    ],
)
def test_modalities(
    tokens: dict[str, int], media: bool, of_input: dict[str, int], of_output: dict[str, int]
) -> None:
    """A call whose tokens nobody counted has 0 of an unknown kind; what may be an image is not called text."""
    told = call(media=media, tokens=tokens)
    assert (input_by_modality(told), output_by_modality(told)) == (of_input, of_output)


def test_older_names() -> None:
    """What was written to a cache has another name there, and parts by modality have none."""
    told = call(tokens={"input": 9, "output": 1, "cache_write": 4, "input_audio": 2})
    new = of_span(told, NAMES["0.1"], "0.1")
    old = of_span(told, NAMES["1.41"], "1.41")
    assert set(new) - set(old) == {
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.audio.input_tokens",
    }
    assert set(old) - set(new) == {"gen_ai.usage.cache_creation.input_tokens"}


def test_attempts() -> None:
    """The first is no resend; one without an answer is an error by its code."""
    assert "http.request.resend_count" not in of_attempt(call(), "503", 0)
    found = of_attempt(call(), "upstream_timeout", 2)
    assert (found["http.request.resend_count"], found["error.type"]) == (2, "upstream_timeout")
    assert "http.response.status_code" not in found


def test_the_name_of_a_call_without_a_model() -> None:
    """The operation alone."""
    assert span_name(call()) == "chat"
    assert span_name(call(model="gpt-4o")) == "chat gpt-4o"
