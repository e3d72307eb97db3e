"""What only Vertex has."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tollhouse.denial import Denial, Refused
from tollhouse.families.asked import Asked, Dialect, Limits, Request
from tollhouse.families.meters import AnswerHead
from tollhouse.families.units import Charge, Units
from tollhouse.families.vertex import VERTEX
from tollhouse.providers import VERTEX as PROVIDER

PLACE = "/v1beta1/projects/p-1/locations/global"
GOOGLES = f"{PLACE}/publishers/google/models"
MISTRAL = f"{PLACE}/publishers/mistralai/models/mistral-small-2503"
CLAUDE = f"{PLACE}/publishers/anthropic/models/claude-sonnet-4-5@20250929"
MESSAGES = [{"role": "user", "content": "Say hello."}]


def read(path: str, body: Any) -> Asked:
    operation = VERTEX.operation("POST", path)
    assert operation is not None
    request = Request(operation, path, (), json.dumps(body).encode())
    return VERTEX.read(request, PROVIDER.dialect)


@pytest.mark.parametrize(
    "path",
    [
        f"{GOOGLES}/lyria-002:predict",
        f"{PLACE}/publishers/meta/models/llama:rawPredict",
        f"{PLACE}/publishers/google/models/gemini-2.5-pro:rawPredict",
        f"{PLACE}/endpoints/1:predict",
        f"{PLACE}/endpoints/1:rawPredict",
        "/v1/projects/p/publishers/google/models/gemini-2.5-pro:generateContent",
        f"{PLACE}/customJobs",
        f"{PLACE}/publishers/google/models/a/../b:generateContent",
    ],
)
def test_what_is_closed(path: str) -> None:
    """Bodies whose cost nobody here can read, and paths that only look right."""
    assert VERTEX.operation("POST", path) is None


@pytest.mark.parametrize("model", [MISTRAL, CLAUDE])
@pytest.mark.parametrize(("method", "stream"), [("rawPredict", True), ("streamRawPredict", False)])
def test_the_path_and_the_body_of_a_chat_agree(model: str, method: str, stream: bool) -> None:
    """Either could decide whether the answer streams."""
    body = {"model": "mistral-small-2503", "messages": MESSAGES, "stream": stream}
    with pytest.raises(Refused) as refused:
        read(f"{model}:{method}", body)
    assert "stream" in refused.value.denial.why


def test_the_model_of_the_path_counts() -> None:
    """Not that of the body."""
    asked = read(f"{MISTRAL}:rawPredict", {"model": "other", "messages": MESSAGES})
    assert (asked.model, asked.asks_for_usage) == ("mistral-small-2503", False)


@pytest.mark.parametrize(
    ("model", "held"), [("gemini-embedding-001", "input"), ("text-embedding-005", "characters")]
)
def test_vectors_are_held_by_what_they_cost(model: str, held: str) -> None:
    """Gemini's by tokens, older ones by characters."""
    asked = read(f"{GOOGLES}/{model}:predict", {"instances": [{"content": "Say hello."}]})
    units = VERTEX.estimate(asked, "worst", Limits(1_000_000, 1), Dialect()).units
    assert getattr(units, held) >= len("Say hello.")
    assert units.input == 0 or units.characters == 0


@pytest.mark.parametrize(
    "instance", [{"image": {"gcsUri": "gs://a/b"}}, {"content": "a", "video": {}}]
)
def test_vectors_of_anything_but_text_are_refused(instance: Any) -> None:
    """Nothing in their answer says what they cost."""
    with pytest.raises(Refused):
        read(f"{GOOGLES}/text-embedding-005:predict", {"instances": [instance]})


def test_vectors_without_counts() -> None:
    """Then nothing was counted, and the hold is charged."""
    asked = read(f"{GOOGLES}/gemini-embedding-001:predict", {"instances": [{"content": "a"}]})
    meter = VERTEX.meter(asked, AnswerHead(200, ()))
    meter.feed(b'{"predictions":[{"embeddings":{"values":[0.1]}}]}')
    meter.flush()
    assert meter.finish() == ()


def test_openai_format() -> None:
    """The model's publisher stands before its name, and a stream is made to tell its usage."""
    path = f"{PLACE}/endpoints/openapi/chat/completions"
    body = {"model": "google/gemini-2.5-flash", "messages": MESSAGES, "stream": True}
    asked = read(path, body)
    assert (asked.model, asked.asks_for_usage) == ("gemini-2.5-flash", True)
    meter = VERTEX.meter(asked, AnswerHead(200, (("content-type", "text/event-stream"),)))
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 4,
        "total_tokens": 18,
        "completion_tokens_details": {"reasoning_tokens": 5},
    }
    chunk = {"choices": [], "model": "google/gemini-2.5-flash", "usage": usage}
    # The running total is in more than one chunk.
    for _ in range(2):
        meter.feed(f"data: {json.dumps(chunk)}\n\n".encode())
    units = Units(input=9, output=9, reasoning=5, requests=1)
    assert meter.finish() == (Charge("google/gemini-2.5-flash", units),)


def test_a_cache_of_openai_format_is_named() -> None:
    """In the field for what OpenAI's format lacks."""
    path = f"{PLACE}/endpoints/openapi/chat/completions"
    extra = {"google": {"cached_content": "projects/7/locations/global/cachedContents/c1"}}
    body = {"model": "google/gemini-2.5-flash", "messages": MESSAGES, "extra_body": extra}
    assert read(path, body).objects == ("cachedContents/c1",)


def test_our_event_among_those_of_claude() -> None:
    """Its client reads Anthropic's."""
    body = {"max_tokens": 5, "messages": MESSAGES, "stream": True}
    asked = read(f"{CLAUDE}:streamRawPredict", body)
    assert asked.model == "claude-sonnet-4-5@20250929"
    event = VERTEX.last_event(Denial("budget_exceeded"), "call_7", asked)
    assert event.startswith(b"event: error\ndata: ")
