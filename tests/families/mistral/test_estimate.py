"""What a request to Mistral may use, and what it is read as."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tollhouse.denial import Refused
from tollhouse.families.asked import Asked, Dialect, Limits, Mode, Request
from tollhouse.families.mistral import MISTRAL
from tollhouse.families.mistral.connectors import PAID, ROUNDS
from tollhouse.families.units import Charge, Estimate, Units

LIMITS = Limits(context=32_000, answer=8_000)
CHAT, TALK = "/v1/chat/completions", "/v1/conversations"
HELLO: dict[str, Any] = {
    "model": "mistral-small-latest",
    "messages": [{"role": "user", "content": "Hi"}],
}


def read(path: str, body: dict[str, Any]) -> Asked:
    operation = MISTRAL.operation("POST", path)
    assert operation is not None
    return MISTRAL.read(Request(operation, path, (), json.dumps(body).encode()), Dialect())


def held(path: str, body: dict[str, Any], mode: Mode = "typical") -> Estimate:
    return MISTRAL.estimate(read(path, body), mode, LIMITS, Dialect())


def test_a_chat() -> None:
    """The cap is of each choice; a stream without one holds a slice."""
    assert held(CHAT, HELLO | {"max_tokens": 7, "n": 3}).units.output == 21
    assert held(CHAT, HELLO).units.output == 8_000
    stream = held(CHAT, HELLO | {"stream": True})
    assert (stream.units.output, stream.grows) == (2_048, True)
    assert held(CHAT, HELLO | {"stream": True}, "worst").units.output == 8_000


@pytest.mark.parametrize(
    ("more", "tier"),
    [({}, ""), ({"service_tier": "auto"}, "auto"), ({"service_tier": "standard_only"}, "standard")],
)
def test_the_tier(more: dict[str, Any], tier: str) -> None:
    """Only standard is asked for by a name of its own."""
    assert read(CHAT, HELLO | more).tier == tier


@pytest.mark.parametrize(
    ("more", "reasons"),
    [
        ({}, False),
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": "high"}, True),
        ({"prompt_mode": "reasoning"}, True),
        ({"model": "magistral-small-2509"}, True),
    ],
)
def test_who_reasons(more: dict[str, Any], reasons: bool) -> None:
    """Magistral, and who is asked to."""
    assert read(CHAT, HELLO | more).reasons is reasons


def test_what_an_agent_brings_counts_as_the_context() -> None:
    """Its instructions are not in the request, and at worst any tool may run."""
    body = {"agent_id": "ag_1", "messages": HELLO["messages"], "max_tokens": 7}
    asked = read("/v1/agents/completions", body)
    assert (asked.model, asked.models_unknown, asked.objects) == ("", True, ("ag_1",))
    estimate = held("/v1/agents/completions", body)
    assert (estimate.units.input, estimate.units.output, estimate.beside) == (32_000, 7, ())
    worst = held("/v1/agents/completions", body, "worst")
    assert worst.units.input == 32_000 * (1 + ROUNDS)
    assert [item.model for item in worst.beside] == list(PAID)


def test_a_conversation_with_tools() -> None:
    """Each turn to a tool may be followed by an answer as long as the cap; a tool of an unknown type goes by its name."""
    tools: list[dict[str, Any]] = [
        {"type": "web_search"},
        {"type": "document_library", "library_ids": ["lib_1"]},
        {"type": "function", "function": {"name": "f"}},
        {"type": "connector", "connector_id": "mine"},
        {"type": "brand_new"},
    ]
    body = {"model": "m", "inputs": "Hi", "tools": tools, "completion_args": {"max_tokens": 7}}
    asked = read(TALK, body)
    assert (asked.cap, asked.choices, asked.reasons) == (7, 1 + ROUNDS, True)
    assert asked.objects == ("lib_1",)
    estimate = held(TALK, body)
    assert estimate.units.output == 7 * (1 + ROUNDS)
    assert estimate.beside == (
        Charge("web_search", Units(requests=ROUNDS)),
        Charge("document_library", Units(requests=ROUNDS)),
        Charge("brand_new", Units(requests=ROUNDS)),
    )
    assert estimate.units.input == 32_000


def test_a_conversation_without_tools() -> None:
    """Its inputs are messages: an image is one, and not its URL."""
    plain = {"model": "m", "inputs": "Hi", "completion_args": {"max_tokens": 7}}
    assert read(TALK, plain).choices == 1
    assert held(TALK, plain).units.input < 20
    parts = [
        {"type": "image_url", "image_url": "https://a.b/c.png"},
        {"type": "file", "file_id": "f-1"},
    ]
    seen = {"model": "m", "inputs": [{"role": "user", "content": parts}]}
    assert read(TALK, seen).objects == ("f-1",)
    assert held(TALK, seen).units.input == 32_000


def test_a_conversation_that_goes_on_hides_all() -> None:
    """Its model and what was said before."""
    asked = read(f"{TALK}/conv_1", {"inputs": "Hi"})
    assert (asked.model, asked.models_unknown) == ("", True)
    assert held(f"{TALK}/conv_1", {"inputs": "Hi"}).units.input == 32_000


@pytest.mark.parametrize(
    ("pages", "count"),
    [([0, 1, 5], 3), ("0-3,7", 5), ("2", 1), ([], 1), (None, 100)],
)
def test_pages(pages: Any, count: int) -> None:
    """As far as the request says them."""
    document = {"type": "document_url", "document_url": "https://a.b/c.pdf"}
    body = {"model": "mistral-ocr-latest", "document": document, "pages": pages}
    assert held("/v1/ocr", body).units == Units(pages=count, requests=1)


def test_pages_of_an_image_and_of_a_document_at_worst() -> None:
    """One, and the most that a document may have."""
    image = {"model": "m", "document": {"type": "image_url", "image_url": "https://a.b/c.png"}}
    assert held("/v1/ocr", image, "worst").units.pages == 1
    file = {"model": "m", "document": {"type": "file", "file_id": "f"}}
    assert held("/v1/ocr", file, "worst").units.pages == 1_000


@pytest.mark.parametrize("pages", ["a", "1-", 7, [True], ["1"]])
def test_pages_that_can_not_be_read(pages: Any) -> None:
    """Are refused."""
    body = {"model": "m", "document": {"type": "file", "file_id": "f"}, "pages": pages}
    with pytest.raises(Refused, match="bad_request"):
        read("/v1/ocr", body)


def test_a_recording_in_a_chat() -> None:
    """8 kbit/s is the least of MP3: 4,000 characters of base64 are 3,000 bytes, and at most 4 seconds. Of one that is fetched
    nobody knows."""
    here = {"type": "input_audio", "input_audio": "x" * 4_000}
    there = {"type": "input_audio", "input_audio": "https://a.b/c.mp3"}

    def seconds(part: dict[str, Any], mode: Mode) -> int:
        messages = [{"role": "user", "content": [part]}]
        return held(CHAT, {"model": "m", "messages": messages}, mode).units.milliseconds // 1_000

    assert seconds(here, "worst") == 4
    assert (seconds(there, "typical"), seconds(there, "worst")) == (600, 10_800)


def test_speech_costs_its_characters() -> None:
    """Characters, not bytes."""
    body = {"model": "voxtral-tts", "input": "Même"}
    assert held("/v1/audio/speech", body).units == Units(characters=4, requests=1)


def test_embeddings_write_nothing() -> None:
    """They hold their input alone."""
    asked = read("/v1/embeddings", {"model": "mistral-embed", "input": ["Hi", "you"]})
    assert not asked.writes
    estimate = MISTRAL.estimate(asked, "typical", LIMITS, Dialect())
    assert estimate.units == Units(input=2, requests=1)


@pytest.mark.parametrize(
    ("method", "path", "cost"),
    [
        ("POST", "/v1/batch/jobs", "job"),
        ("POST", "/v1/fine_tuning/jobs", "job"),
        ("POST", "/v1/libraries/l/documents", "job"),
        ("POST", "/v1/client/sessions", "mints"),
        ("POST", "/v1/responses", None),
        ("POST", "/v1/agents", None),
        ("GET", "/v1/files/f/url", None),
        ("POST", "/v1/connectors", None),
        ("POST", "/v1/service-accounts", None),
        ("DELETE", "/v1/models/m", None),
    ],
)
def test_what_is_closed_or_a_job(method: str, path: str, cost: str | None) -> None:
    """A file's signed URL would go around the gateway."""
    operation = MISTRAL.operation(method, path)
    assert (operation.cost if operation else None) == cost
