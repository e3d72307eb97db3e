"""What a request to Cohere may use, and what it is read as."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tollhouse.denial import Refused
from tollhouse.families.asked import Asked, Dialect, Limits, Mode, Request
from tollhouse.families.cohere import COHERE
from tollhouse.families.units import Estimate, Units

LIMITS = Limits(context=32_000, answer=8_000)
HELLO: dict[str, Any] = {
    "model": "command-a-03-2025",
    "messages": [{"role": "user", "content": "Hi"}],
}


def read(path: str, body: dict[str, Any], accept: str = "*/*") -> Asked:
    operation = COHERE.operation("POST", path)
    assert operation is not None
    request = Request(operation, path, (("accept", accept),), json.dumps(body).encode())
    return COHERE.read(request, Dialect())


def held(path: str, body: dict[str, Any], mode: Mode = "typical") -> Estimate:
    return COHERE.estimate(read(path, body), mode, LIMITS, Dialect())


def test_a_chat() -> None:
    """Thoughts may come beside the cap; a stream without a cap holds a slice."""
    thinking = {"type": "enabled", "token_budget": 100}
    assert held("/v2/chat", HELLO | {"max_tokens": 7}).units.output == 7
    assert held("/v2/chat", HELLO | {"max_tokens": 7, "thinking": thinking}).units.output == 107
    stream = held("/v2/chat", HELLO | {"stream": True})
    assert (stream.units.output, stream.grows) == (2_048, True)


def test_both_caps_are_lowered() -> None:
    """A budget of thoughts that is lower already stays."""
    body = b'{"model":"m","thinking":{"token_budget":%d},"max_tokens":900}'
    operation = COHERE.operation("POST", "/v2/chat")
    assert operation is not None
    for budget, kept in ((500, 50), (20, 20)):
        asked = COHERE.read(Request(operation, "/v2/chat", (), body % budget), Dialect())
        lowered = json.loads(COHERE.rewrite(body % budget, asked._replace(lowered_to=50)))
        assert lowered == {"model": "m", "thinking": {"token_budget": kept}, "max_tokens": 50}


def test_v1_without_a_model() -> None:
    """The provider takes one of its own choice, which nobody can price."""
    asked = read("/v1/chat", {"message": "Hi"})
    assert (asked.model, asked.models_unknown) == ("", True)
    with pytest.raises(Refused):
        read("/v2/chat", {"messages": []})
    with pytest.raises(Refused):
        read("/v2/embed", {"texts": []})


def test_a_conversation_of_v1_is_an_object() -> None:
    """The caller chooses its id, so that no answer makes one, and under a shared key none is anybody's."""
    body = {"message": "Hi", "conversation_id": "conv-1", "connectors": [{"id": "mine"}]}
    assert read("/v1/chat", body).objects == ("conv-1", "mine")
    assert read("/v1/chat", {"message": "Hi", "conversation_id": None}).objects == ()


def test_connectors_of_v1() -> None:
    """They search, and what they find is input."""
    connectors = [{"id": "web-search"}, {"id": "mine"}]
    body = {"model": "command-r", "message": "Hi", "connectors": connectors}
    asked = read("/v1/chat", body)
    assert (asked.reasons, asked.objects) == (True, ("mine",))
    units = held("/v1/chat", body).units
    assert (units.input, units.searches) == (32_000, 16)


def test_a_stream_of_v1_is_lines_unless_events_are_accepted() -> None:
    """By the header that the SDK sends for it."""
    body = {"model": "command-r", "message": "Hi", "stream": True}
    assert read("/v1/chat", body).detail.lines
    assert not read("/v1/chat", body, "text/event-stream").detail.lines


def test_generations_and_summaries() -> None:
    """A cap is of each generation. A summary has none that could be lowered, and holds its output all the same."""
    body = {"model": "command", "prompt": "Hi", "num_generations": 3, "max_tokens": 7}
    assert held("/v1/generate", body).units.output == 21
    summary = {"model": "command", "text": "Hi"}
    assert not read("/v1/summarize", summary).writes
    assert held("/v1/summarize", summary).units.output == 8_000


@pytest.mark.parametrize(
    ("documents", "query", "more", "units"),
    [
        (["a"], "q", {}, 1),
        (["a"] * 100, "q", {}, 1),
        (["a"] * 101, "q", {}, 2),
        # 2,000 characters are 500 tokens: with the query's one they are two parts each.
        (["x" * 2_000] * 100, "quer", {}, 2),
        ([{"text": "x" * 2_000}] * 100, "quer", {}, 2),
        # 40,000 characters are 10,000 tokens, of which 4,096 are read: nine parts of 499.
        (["x" * 40_000] * 100, "quer", {}, 9),
        # All are read: 21 parts.
        (["x" * 40_000] * 100, "quer", {"max_tokens_per_doc": 20_000}, 21),
        # A long query takes half of a part.
        (["x" * 2_000] * 100, "q" * 9_000, {}, 2),
        ([], "q", {}, 1),
    ],
)
def test_search_units(documents: list[Any], query: str, more: dict[str, Any], units: int) -> None:
    """A query with up to 100 documents; a longer document is several."""
    body = {"model": "rerank-v3.5", "query": query, "documents": documents, **more}
    assert held("/v2/rerank", body).units == Units(searches=units, requests=1)


@pytest.mark.parametrize(
    ("body", "units"),
    [
        (
            {"model": "embed-v4.0", "texts": ["abcd", "abcdefgh"]},
            Units(input=3, requests=1),
        ),
        (
            {"model": "embed-v4.0", "images": ["data:a", "data:b"]},
            Units(input=1 + 2 * 4_096, input_image=2 * 4_096, requests=1),
        ),
        (
            {"model": "embed-english-v3.0", "images": ["data:a", "data:b"]},
            Units(input=1, images=2, requests=1),
        ),
        ({"model": "embed-v4.0"}, Units(input=32_000, requests=1)),
    ],
)
def test_embeddings(body: dict[str, Any], units: Units) -> None:
    """An image has tokens or is one, by the model."""
    assert held("/v2/embed", body).units == units


def test_a_classification_is_a_request() -> None:
    """For each input."""
    body = {"model": "m", "inputs": ["a", "b", "c"]}
    assert held("/v1/classify", body).units == Units(requests=3)


@pytest.mark.parametrize(
    ("method", "path", "cost"),
    [
        ("POST", "/v1/embed-jobs", "job"),
        ("POST", "/v2/batches", "job"),
        ("POST", "/v1/finetuning/finetuned-models", "job"),
        ("POST", "/v1/check-api-key", None),
        ("POST", "/v2/audio/transcriptions", None),
        ("POST", "/v1/connectors/c/oauth/authorize", None),
        ("POST", "/compatibility/v1/completions", None),
        ("POST", "/v2/generate", None),
    ],
)
def test_what_is_closed_or_a_job(method: str, path: str, cost: str | None) -> None:
    """A check of the key would tell of the gateway's own."""
    operation = COHERE.operation(method, path)
    assert (operation.cost if operation else None) == cost
