"""Which errors say that a key's account is empty, as the providers and those who use them wrote them down; and which of the
ordinary 429, 402 and 400 do not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.dispatch.families import FAMILIES

from tollhouse.dispatch.answer import Answer
from tollhouse.dispatch.verdict import verdict_on_key


def openai(code: Any = None, kind: Any = None, message: str = "m") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def anthropic(kind: str, message: str = "m") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


def google(code: int, status: str, message: str = "m", *details: dict[str, Any]) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


XAI = (
    "Your team 16f2151a-40f4-4a80-8ad0-cae00c27e8dd has either used all available credits or reached its monthly spending "
    "limit. To continue making API requests, please purchase more credits or raise your spending limit."
)
EXHAUSTED = "Some resource has been exhausted"
TOO_LOW = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade."
UNAFFORDABLE = "This request requires more credits, or fewer max_tokens."
RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "53s"}
QUOTA = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": []}

EMPTY: dict[str, tuple[str, int, Any]] = {
    # https://platform.openai.com/docs/guides/error-codes; the newer codes: https://github.com/openai/codex/pull/6340
    "OpenAI, quota": ("openai", 429, openai("insufficient_quota", "insufficient_quota")),
    "OpenAI, quota by type alone": ("openai", 429, openai(None, "insufficient_quota")),
    "OpenAI, credits": ("openai", 429, openai("credit_balance_exhausted")),
    "OpenAI, organization's spend": ("openai", 429, openai("organization_spend_limit_exceeded")),
    "OpenAI, project's spend": ("openai", 429, openai("project_spend_limit_exceeded")),
    "OpenAI, organization's usage": ("openai", 429, openai("organization_usage_limit_exceeded")),
    "OpenAI, images": (
        "openai",
        400,
        openai("billing_hard_limit_reached", "invalid_request_error"),
    ),
    # https://docs.anthropic.com/en/api/errors; https://github.com/anthropics/claude-code/issues/66314
    "Anthropic, 402": ("anthropic", 402, anthropic("billing_error")),
    "Anthropic, 400": ("anthropic", 400, anthropic("invalid_request_error", TOO_LOW)),
    "Gemini, 402": ("google", 402, google(402, "RESOURCE_EXHAUSTED")),
    # https://github.com/dyad-sh/dyad/issues/3626
    "Gemini, 429": (
        "google",
        429,
        google(429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted. Please go to"),
    ),
    "Mistral": ("mistral", 402, {"detail": "payment"}),
    "Cohere": ("cohere", 402, {"message": "payment", "id": "1"}),
    "DeepSeek": (
        "openai",
        402,
        openai("invalid_request_error", "unknown_error", "Insufficient Balance"),
    ),
    # The form, with 403: https://github.com/griptape-ai/griptape-nodes-engine/issues/1079
    "xAI": ("openai", 429, {"code": EXHAUSTED, "error": XAI}),
    "xAI, as OpenAI has it": ("openai", 429, openai(message=XAI)),
    # https://github.com/continuedev/continue/issues/11154: also when only the cap can't be paid; another key may pay it
    "OpenRouter": (
        "openai",
        402,
        {"error": {"code": 402, "message": UNAFFORDABLE, "metadata": {}}},
    ),
    "Together, 402": ("openai", 402, {"id": "1", **openai(None, "credit_limit")}),
    "Together, 429": ("openai", 429, {"id": "1", **openai(None, "credit_limit")}),
    "402 without a body": ("openai", 402, b""),
}

ORDINARY: dict[str, tuple[str, int, Any]] = {
    "OpenAI, requests": ("openai", 429, openai("rate_limit_exceeded", "requests")),
    "OpenAI, tokens": ("openai", 429, openai("rate_limit_exceeded", "tokens")),
    "Azure": (
        "openai",
        429,
        openai("429", message="Requests to the ChatCompletions_Create Operation have exceeded"),
    ),
    "Groq": (
        "openai",
        429,
        openai("rate_limit_exceeded", "tokens", "Rate limit reached for model"),
    ),
    "Together": ("openai", 429, {"id": "1", **openai(None, "model_rate_limit")}),
    "OpenRouter": (
        "openai",
        429,
        {"error": {"code": 429, "message": "Rate limit exceeded: free-models-per-day"}},
    ),
    "vLLM, a code that is a number": ("openai", 400, openai(400, "BadRequestError")),
    "xAI, requests": (
        "openai",
        429,
        {"code": EXHAUSTED, "error": "Too many requests for team 0a-1b and model"},
    ),
    "an error that is a word": ("openai", 429, {"error": "insufficient_quota"}),
    "Anthropic, requests": ("anthropic", 429, anthropic("rate_limit_error")),
    "Anthropic, a request": (
        "anthropic",
        400,
        anthropic("invalid_request_error", "max_tokens: Field required"),
    ),
    "Gemini, minute": (
        "google",
        429,
        google(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota", QUOTA, RETRY),
    ),
    "Gemini, busy": (
        "google",
        429,
        google(429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."),
    ),
    "Vertex, in a list": (
        "google",
        429,
        [google(429, "RESOURCE_EXHAUSTED", "Resource exhausted. Please try again")],
    ),
    "Gemini, a request": (
        "google",
        400,
        google(400, "FAILED_PRECONDITION", "User location is not supported"),
    ),
    "Mistral, requests": (
        "mistral",
        429,
        {"object": "error", "message": "m", "type": "rate_limited", "code": "1300"},
    ),
    "Mistral, capacity": (
        "mistral",
        429,
        {"message": "Service tier capacity exceeded", "type": "invalid_request_error"},
    ),
    "Cohere": ("cohere", 429, {"message": "too many requests", "id": "1"}),
    "Bedrock": ("bedrock", 429, {"message": "Too many requests, please wait before trying again."}),
    "Bedrock, quota of the service": ("bedrock", 400, {"message": "Service quota exceeded"}),
    "429 without a body": ("openai", 429, b""),
    "429 in HTML": ("openai", 429, b"<html>insufficient_quota</html>"),
    "400 that repeats a prompt": (
        "openai",
        400,
        openai("invalid_value", message=f"Invalid value: '{XAI}'"),
    ),
    "what the request said, as a message": (
        "anthropic",
        400,
        anthropic("invalid_request_error", f"messages: {TOO_LOW}"),
    ),
    "another status with the code": ("openai", 403, openai("insufficient_quota")),
    "a server's trouble with the code": ("openai", 500, openai("insufficient_quota")),
    # Any other 403 is the workload's to see.
    "xAI, a new team": (
        "openai",
        403,
        {"code": "permission", "error": "Your newly created team doesn't have any credits"},
    ),
}


async def said(family: str, status: int, body: Any) -> str | None:
    left = [body if isinstance(body, bytes) else json.dumps(body).encode(), b""]

    async def read() -> bytes:
        return left.pop(0) if left else b""

    return await verdict_on_key(FAMILIES[family], Answer(status, [], read, lambda: None))


@pytest.mark.parametrize("case", EMPTY)
async def test_empty(case: str) -> None:
    """The account is empty: another key is tried, and this one is left alone."""
    assert await said(*EMPTY[case]) == "no_money"


@pytest.mark.parametrize("case", ORDINARY)
async def test_ordinary(case: str) -> None:
    """It is about the request or the rate: no key is marked for that."""
    assert await said(*ORDINARY[case]) is None
