"""Decisions: what is held for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tollhouse.denial import Refused
from tollhouse.families.asked import Asked, Dialect, Limits, Mode, Request
from tollhouse.families.openai import OPENAI
from tollhouse.families.units import Units

LIMITS = Limits(context=60_000, answer=4_000)
QUESTION = {"type": "predicate", "question": "Paid?"}


def asked(**fields: Any) -> tuple[Asked, int]:
    """The request, and the bytes of its body."""
    operation = OPENAI.operation("POST", "/v1/decisions")
    assert operation is not None
    body = json.dumps({"model": "gpt-6-luna", **fields}).encode()
    return OPENAI.read(Request(operation, "/v1/decisions", (), body), Dialect()), len(body)


def held(call: Asked, mode: Mode) -> Units:
    return OPENAI.estimate(call, mode, LIMITS, Dialect()).units


def test_text() -> None:
    """A quarter of the bytes; at worst all of them, and more, for each question."""
    call, size = asked(input="x" * 1_000, questions=[QUESTION] * 3)
    assert held(call, "typical") == Units(input=-(-size // 4), output=96, requests=1)
    assert held(call, "worst") == Units(input=3 * (size + 1_024), output=4_000, requests=1)


def test_images() -> None:
    """The bytes of an image are no text. At worst each question reads the whole context."""
    url = "data:image/png;base64," + "A" * 300_000
    content = [{"type": "input_image", "image_url": url}]
    call, size = asked(input=[{"role": "user", "content": content}], questions=[QUESTION])
    text = size - len(url)
    assert held(call, "typical").input == -(-text // 4) + 48_169
    assert held(call, "worst").input == 60_000


def test_a_kept_image() -> None:
    """It is an object that the provider keeps, and an image that nobody has seen."""
    content = [{"type": "input_image", "file_id": "file-1"}]
    call, size = asked(input=[{"role": "user", "content": content}], questions=[QUESTION])
    assert call.objects == ("file-1",)
    assert held(call, "typical").input == -(-size // 4) + 48_169


@pytest.mark.parametrize("fields", [{"model": None}, {"Input": "x"}, {"stream": "yes"}])
def test_what_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        asked(**fields)
