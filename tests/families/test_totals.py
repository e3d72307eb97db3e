"""A usage whose counts do not come to its own total says so, whichever family reads it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tollhouse.families.asked import Dialect, Request
from tollhouse.families.base import Family
from tollhouse.families.bedrock import BEDROCK
from tollhouse.families.google import GOOGLE
from tollhouse.families.meters import AnswerHead
from tollhouse.families.mistral import MISTRAL
from tollhouse.families.openai import OPENAI

JSON = (("content-type", "application/json"),)
CHAT = {"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 9}
CHAT_USAGE = {"prompt_tokens": 9, "completion_tokens": 4}
SAID = {"messages": [{"role": "user", "content": [{"text": "x"}]}]}
IMAGE = {"model": "gpt-image-1", "prompt": "x"}
CACHED = {"inputTokens": 5, "outputTokens": 4, "cacheReadInputTokens": 4}


@pytest.mark.parametrize(
    ("family", "path", "body", "usage", "name", "totals"),
    [
        (OPENAI, "/v1/chat/completions", CHAT, CHAT_USAGE, "total_tokens", (13,)),
        (
            OPENAI,
            "/v1/images/generations",
            IMAGE,
            {"input_tokens": 9, "output_tokens": 4},
            "total_tokens",
            (13,),
        ),
        (MISTRAL, "/v1/chat/completions", CHAT, CHAT_USAGE, "total_tokens", (13,)),
        (
            MISTRAL,
            "/v1/chat/completions",
            CHAT,
            {**CHAT_USAGE, "connector_tokens": 2},
            "total_tokens",
            (13, 15),
        ),
        (
            OPENAI,
            "/v1/responses",
            {"model": "m", "input": "x"},
            {"input_tokens": 9, "output_tokens": 4},
            "total_tokens",
            (13,),
        ),
        # Of a cache the total has the tokens at some models, and at others not.
        (BEDROCK, "/model/amazon.nova-lite-v1:0/converse", SAID, CACHED, "totalTokens", (9, 13)),
    ],
)
@pytest.mark.parametrize("total", [None, 0, 9, 13, 15, 20])
def test_a_total(
    family: Family,
    path: str,
    body: dict[str, Any],
    usage: dict[str, Any],
    name: str,
    totals: tuple[int, ...],
    total: int | None,
) -> None:
    """0 and null are no total."""
    operation = family.operation("POST", path)
    assert operation is not None
    request = Request(operation, path, JSON, json.dumps(body).encode())
    meter = family.meter(family.read(request, Dialect()), AnswerHead(200, JSON))
    answer = {"model": "m", "usage": {**usage, name: total}, "data": [], "choices": []}
    meter.feed(json.dumps(answer).encode())
    meter.flush()
    first = meter.finish()[0]
    assert first.units.output == 4
    assert first.uneven is (total not in (None, 0, *totals))


@pytest.mark.parametrize(("total", "uneven"), [(None, False), (13, False), (15, True), (9, True)])
def test_a_total_of_googles(total: int | None, uneven: bool) -> None:
    """What is missing of the total is output, and it is said."""
    path = "/v1beta/models/gemini-2.5-flash:generateContent"
    operation = GOOGLE.operation("POST", path)
    assert operation is not None
    request = Request(operation, path, JSON, b'{"contents":"x"}')
    meter = GOOGLE.meter(GOOGLE.read(request, Dialect()), AnswerHead(200, JSON))
    counts = {"promptTokenCount": 9, "candidatesTokenCount": 3, "thoughtsTokenCount": "1"}
    meter.feed(json.dumps({"usageMetadata": {**counts, "totalTokenCount": total}}).encode())
    meter.flush()
    first = meter.finish()[0]
    assert (first.units.output, first.uneven) == (6 if total == 15 else 4, uneven)
