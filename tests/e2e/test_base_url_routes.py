"""The base URL with one address for all: OpenAI's SDK reaches each provider by the model's name, and Anthropic's and Google's SDKs
reach theirs by their own paths."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from anthropic import Anthropic
from google import genai
from openai import OpenAI, PermissionDeniedError
from tests.support.gateway import REAL_KEY, Road, open_road
from tests.support.spoken import Spoken, says, spoken_by, streams

from tollhouse.demo.standin import StandIn

HOSTS = {
    "openai": ("api.openai.com", "/v1"),
    "anthropic": ("api.anthropic.com", "/v1"),
    "gemini": ("generativelanguage.googleapis.com", "/v1beta/openai"),
    "mistral": ("api.mistral.ai", "/v1"),
    "cohere": ("api.cohere.com", "/compatibility/v1"),
    "groq": ("api.groq.com", "/openai/v1"),
}
MODELS = {
    "openai": "gpt-4o",
    "anthropic": "claude-haiku-4-5",
    "gemini": "gemini-2.5-flash",
    "mistral": "mistral-small-2603",
    "cohere": "command-a-03-2025",
    "groq": "llama-3.3-70b-versatile",
}
PRICE = {"input": "1", "output": "2"}
COST = Decimal("0.000014")
"""10 tokens of input at 1 USD a million, 2 of output at 2."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    names = ("localhost", *(host for host, _ in HOSTS.values()))
    with StandIn(key=REAL_KEY, hosts=names) as standin:
        entry = {
            "connect_to": standin.address,
            "allow_private": True,
            "ca_file": "provider-ca.pem",
        }
        settings: dict[str, Any] = {
            **{
                f"providers.{name}": {**entry, "hosts": [host]} for name, (host, _) in HOSTS.items()
            },
            **{f'prices."{name}/{model}"': PRICE for name, model in _priced()},
            "routes": {'"llama-*"': "groq", '"gemini-own-*"': "mistral"},
        }
        with open_road(tmp_path_factory.mktemp("routes"), settings, standin=standin) as road:
            for name in HOSTS:
                road.gateway.tollhouse("key", "set", name, stdin=REAL_KEY)
            yield road


def _priced() -> Iterator[tuple[str, str]]:
    yield from MODELS.items()
    yield "mistral", "gemini-own-1"


@pytest.fixture
def spoken(shared: Road) -> Iterator[Spoken]:
    with spoken_by(shared) as mine:
        yield mine


def sdk(spoken: Spoken) -> OpenAI:
    return OpenAI(base_url=spoken.road.base_url, api_key=spoken.road.token, max_retries=0)


def completion(model: str) -> dict[str, Any]:
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "Hello."},
            }
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
    }


def asked(spoken: Spoken, model: str, **more: Any) -> Any:
    messages: Any = [{"role": "user", "content": "Say hello."}]
    return sdk(spoken).chat.completions.create(
        model=model, messages=messages, max_tokens=20, **more
    )


@pytest.mark.parametrize("name", HOSTS)
def test_a_chat_goes_by_its_model(spoken: Spoken, name: str) -> None:
    """To the provider's own OpenAI-compatible path, with its own key, at its own price."""
    host, prefix = HOSTS[name]
    spoken.script(says(completion(MODELS[name])))
    assert asked(spoken, MODELS[name]).choices[0].message.content == "Hello."
    [received] = spoken.standin.wait_count(1)
    assert (received.get("host"), received.target) == (host, f"{prefix}/chat/completions")
    keys = [value for key, value in received.headers if REAL_KEY.encode() in value]
    assert len(keys) == 1
    [line] = spoken.charged()
    assert (line["provider"], line["model"], line["listener"]) == (name, MODELS[name], "base_url")
    assert Decimal(line["cost_usd"]) == COST


@pytest.mark.parametrize("name", ["anthropic", "gemini"])
def test_a_stream_goes_by_its_model(spoken: Spoken, name: str) -> None:
    """And its usage is asked for where it is not told unasked."""
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": MODELS[name]}
    delta = {"index": 0, "delta": {"role": "assistant", "content": "Hello."}, "finish_reason": None}
    usage = completion("")["usage"]
    frames = [
        f"data: {json.dumps({**chunk, 'choices': [delta], 'usage': None})}\n\n".encode(),
        f"data: {json.dumps({**chunk, 'choices': [], 'usage': usage})}\n\n".encode(),
        b"data: [DONE]\n\n",
    ]
    spoken.script(streams(frames))
    got = [part.choices[0].delta.content for part in asked(spoken, MODELS[name], stream=True)]
    assert got == ["Hello."]
    [received] = spoken.standin.wait_count(1)
    assert received.document()["stream_options"] == {"include_usage": True}
    [line] = spoken.charged()
    assert Decimal(line["cost_usd"]) == COST


def test_a_route_of_the_file_stands_before_the_providers_own(spoken: Spoken) -> None:
    """A model of one's own that is named like another company's."""
    spoken.script(says(completion("gemini-own-1")))
    asked(spoken, "gemini-own-1")
    [line] = spoken.charged()
    assert line["provider"] == "mistral"


def test_what_the_provider_does_not_have_in_this_format(spoken: Spoken) -> None:
    """It is refused with what to do, and nothing leaves."""
    with pytest.raises(PermissionDeniedError, match="call it as /anthropic/"):
        sdk(spoken).embeddings.create(model=MODELS["anthropic"], input="hello")
    assert spoken.standin.snapshot() == []


def test_anthropics_sdk_needs_no_more_than_the_address(spoken: Spoken) -> None:
    """``ANTHROPIC_BASE_URL=http://localhost:8000``."""
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": MODELS["anthropic"],
        "content": [{"type": "text", "text": "Hello."}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 2},
    }
    spoken.script(says(message))
    client = Anthropic(base_url=spoken.road.base_url.removesuffix("/v1"), api_key=spoken.road.token)
    messages: Any = [{"role": "user", "content": "Say hello."}]
    got = client.messages.create(model=MODELS["anthropic"], max_tokens=20, messages=messages)
    assert got.usage.output_tokens == 2
    [received] = spoken.standin.wait_count(1)
    assert received.get_all("x-api-key") == [REAL_KEY]
    [line] = spoken.charged()
    assert (line["provider"], Decimal(line["cost_usd"])) == ("anthropic", COST)


def test_googles_sdk_needs_no_more_than_the_address(spoken: Spoken) -> None:
    """``GOOGLE_GEMINI_BASE_URL=http://localhost:8000``."""
    answer = {
        "candidates": [{"content": {"parts": [{"text": "Hello."}], "role": "model"}}],
        "usageMetadata": {
            "promptTokenCount": 10,
            "candidatesTokenCount": 2,
            "totalTokenCount": 12,
        },
        "modelVersion": MODELS["gemini"],
    }
    spoken.script(says(answer))
    url = spoken.road.base_url.removesuffix("/v1")
    client = genai.Client(api_key=spoken.road.token, vertexai=False, http_options={"base_url": url})
    got = client.models.generate_content(model=MODELS["gemini"], contents="Say hello.")
    assert got.text == "Hello."
    [received] = spoken.standin.wait_count(1)
    assert received.get_all("x-goog-api-key") == [REAL_KEY]
    [line] = spoken.charged()
    assert (line["provider"], Decimal(line["cost_usd"])) == ("gemini", COST)
