"""The estimate in mode ``worst`` is never below the worst answer: generated requests of each family.

The worst answer writes every choice up to its cap, and its input is as many tokens as the request's
texts have bytes: a byte-level tokenizer gives at most one token for each byte.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.families.anthropic import ANTHROPIC
from tollhouse.families.asked import Dialect, Limits, Request
from tollhouse.families.azure import AZURE
from tollhouse.families.base import Family
from tollhouse.families.bedrock import BEDROCK
from tollhouse.families.cohere import COHERE
from tollhouse.families.google import GOOGLE
from tollhouse.families.mistral import MISTRAL
from tollhouse.families.openai import OPENAI

LIMITS = Limits(context=128_000, answer=4_096)
JSON = (("content-type", "application/json"),)
AWS = "bedrock-runtime.us-east-1.amazonaws.com"


class Asks(NamedTuple):
    """What a generated request says. ``cap`` None: it has none."""

    texts: list[str]
    cap: int | None
    choices: int


class Api(NamedTuple):
    family: Family
    path: str
    body: Callable[[Asks], dict[str, Any]]
    host: str = ""
    has_choices: bool = False
    least_cap: int = 1


def _messages(asks: Asks) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text} for text in asks.texts]


def _with(key: str, cap: int | None) -> dict[str, Any]:
    return {} if cap is None else {key: cap}


def _openai(asks: Asks) -> dict[str, Any]:
    body = {"model": "gpt-4o", "messages": _messages(asks), "n": asks.choices}
    return body | _with("max_tokens", asks.cap)


def _responses(asks: Asks) -> dict[str, Any]:
    return {"model": "gpt-5", "input": _messages(asks)} | _with("max_output_tokens", asks.cap)


def _anthropic(asks: Asks) -> dict[str, Any]:
    cap = LIMITS.answer if asks.cap is None else asks.cap
    return {"model": "claude-sonnet-4-5", "messages": _messages(asks), "max_tokens": cap}


def _google(asks: Asks) -> dict[str, Any]:
    contents = [{"role": "user", "parts": [{"text": text}]} for text in asks.texts]
    config = _with("maxOutputTokens", asks.cap) | {"candidateCount": asks.choices}
    return {"contents": contents, "generationConfig": config}


def _mistral(asks: Asks) -> dict[str, Any]:
    body = {"model": "mistral-small-latest", "messages": _messages(asks), "n": asks.choices}
    return body | _with("max_tokens", asks.cap)


def _cohere(asks: Asks) -> dict[str, Any]:
    body = {"model": "command-a-03-2025", "messages": _messages(asks)}
    return body | _with("max_tokens", asks.cap)


def _converse(asks: Asks) -> dict[str, Any]:
    messages = [{"role": "user", "content": [{"text": text}]} for text in asks.texts]
    return {"messages": messages, "inferenceConfig": _with("maxTokens", asks.cap)}


APIS = {
    "openai": Api(OPENAI, "/v1/chat/completions", _openai, has_choices=True),
    "responses": Api(OPENAI, "/v1/responses", _responses, least_cap=16),
    "azure": Api(AZURE, "/openai/deployments/gpt-4o/chat/completions", _openai, has_choices=True),
    "anthropic": Api(ANTHROPIC, "/v1/messages", _anthropic),
    "google": Api(
        GOOGLE, "/v1beta/models/gemini-2.5-flash:generateContent", _google, has_choices=True
    ),
    "mistral": Api(MISTRAL, "/v1/chat/completions", _mistral, has_choices=True),
    "cohere": Api(COHERE, "/v2/chat", _cohere),
    "bedrock": Api(BEDROCK, "/model/us.amazon.nova-lite-v1:0/converse", _converse, AWS),
}
_ASKS = st.builds(
    Asks,
    st.lists(st.text(max_size=200), min_size=1, max_size=6),
    st.none() | st.integers(1, 4_096),
    st.integers(1, 4),
)


@pytest.mark.parametrize("name", APIS)
@given(asks=_ASKS)
def test_the_worst_answer_costs_no_more_than_is_held(name: str, asks: Asks) -> None:
    """All choices are written up to the cap, and each byte of a text is a token."""
    api = APIS[name]
    if asks.cap is not None:
        asks = asks._replace(cap=max(asks.cap, api.least_cap))
    operation = api.family.operation("POST", api.path, "", api.host)
    assert operation is not None
    body = json.dumps(api.body(asks)).encode()
    dialect = Dialect(own_rules=True)
    asked = api.family.read(Request(operation, api.path, JSON, body, "", api.host), dialect)
    held = api.family.estimate(asked, "worst", LIMITS, dialect)
    choices = asks.choices if api.has_choices else 1
    assert held.units.output >= choices * (LIMITS.answer if asks.cap is None else asks.cap)
    size = sum(len(text.encode()) for text in asks.texts)
    assert held.units.input >= min(size, LIMITS.context)
    assert not held.grows
