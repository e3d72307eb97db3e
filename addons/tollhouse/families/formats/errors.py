"""Errors of several families: the object that a provider's error is, what it says of a key, and ours as bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from tollhouse.denial import Denial
from tollhouse.families.base import Rule

Told = Callable[[Mapping[str, Any]], bool]

EVERYWHERE: Final = (
    Rule("refused", 401, "RFC 9110 15.5.2; OpenAI, Azure, Anthropic, Mistral, Cohere, Google's OAuth"),
    Rule("no_money", 402, "RFC 9110 15.5.3; Anthropic, Gemini, Mistral, Cohere, DeepSeek, OpenRouter, Together"),
)
"""What holds at each family behind its own rules."""


def reason(name: str) -> Told:
    """google.rpc.ErrorInfo: googleapis/google/rpc/error_details.proto."""

    def told(error: Mapping[str, Any]) -> bool:
        details = error.get("details")
        return isinstance(details, list) and any(isinstance(one, dict) and one.get("reason") == name for one in details)

    return told


def code(*codes: str) -> Told:
    return lambda error: error.get("code") in codes or error.get("type") in codes


def message(pattern: str) -> Told:
    """From its beginning, since a provider's message may repeat what the request said."""
    compiled = re.compile(pattern)
    return lambda error: (
        isinstance(text := error.get("message", error.get("Message")), str) and (compiled.match(text) is not None)
    )


EMPTY_ACCOUNT: Final = code(
    "insufficient_quota",
    "billing_error",
    "billing_hard_limit_reached",
    "credit_balance_exhausted",
    "credit_limit",
    "organization_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
    "project_spend_limit_exceeded",
)


def error_object(body: bytes) -> dict[str, Any]:
    """The object that tells: ``{"error": {...}}``, that in a list (Vertex), or the whole (AWS); xAI's ``{"code": "...",
    "error": "..."}`` as one with a message. Empty for what is none."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    if isinstance(found, list) and found:
        found = found[0]
    if not isinstance(found, dict):
        return {}
    inner = found.get("error", found)
    if isinstance(inner, str):
        return {"message": inner}
    return inner if isinstance(inner, dict) else {}


def text_of(denial: Denial, call_id: str) -> str:
    """What a person reads of a refusal, with the code and the call's id that an operator searches for."""
    return f"{denial.message} [tollhouse: {denial.code}, call {call_id}]"


def as_json(body: Mapping[str, object]) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()


def as_sse(body: bytes, event: str = "") -> bytes:
    """One server-sent event."""
    name = f"event: {event}\n".encode() if event else b""
    return name + b"data: " + body + b"\n\n"


_OURS_TO_WAIT_OUT: Final = re.compile(r"5\d\d|.*(?:server|overload|unavailable|internal|timeout|capacity).*")


def is_providers_fault(error: str) -> bool:
    """Whether an error of this code or type, written under a status of 2xx, is one that a status of 5xx says elsewhere. A
    workload can make its provider say any other."""
    return _OURS_TO_WAIT_OUT.fullmatch(error.lower()) is not None
