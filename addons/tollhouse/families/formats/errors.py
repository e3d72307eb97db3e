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
    Rule(
        "refused", 401, "RFC 9110 15.5.2; OpenAI, Azure, Anthropic, Mistral, Cohere, Google's OAuth"
    ),
    Rule(
        "no_money",
        402,
        "RFC 9110 15.5.3; Anthropic, Gemini, Mistral, Cohere, DeepSeek, OpenRouter, Together",
    ),
)
"""The rules that every family has behind its own."""


def reason(name: str) -> Told:
    """google.rpc.ErrorInfo: googleapis/google/rpc/error_details.proto."""

    def told(error: Mapping[str, Any]) -> bool:
        details = error.get("details")
        return isinstance(details, list) and any(
            isinstance(one, dict) and one.get("reason") == name for one in details
        )

    return told


def code(*codes: str) -> Told:
    return lambda error: error.get("code") in codes or error.get("type") in codes


def message(pattern: str) -> Told:
    """Whether the error's message begins with ``pattern``. Only the beginning counts, because a
    message may repeat a text of the request."""
    compiled = re.compile(pattern)
    return lambda error: (
        isinstance(text := error.get("message", error.get("Message")), str)
        and (compiled.match(text) is not None)
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
    """The error's object: the ``{...}`` in ``{"error": {...}}``, also inside a list (Vertex), or
    the whole body (AWS). xAI's ``{"code": "...", "error": "..."}`` becomes an object with a
    message. Empty if there is no object."""
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
    """The text of a refusal for a person. It has the code and the call's id, for which an operator
    searches."""
    return f"{denial.message} [tollhouse: {denial.code}, call {call_id}]"


def as_json(body: Mapping[str, object]) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()


def as_sse(body: bytes, event: str = "") -> bytes:
    """One server-sent event."""
    name = f"event: {event}\n".encode() if event else b""
    return name + b"data: " + body + b"\n\n"


_OURS_TO_WAIT_OUT: Final = re.compile(
    r"5\d\d|.*(?:server|overload|unavailable|internal|timeout|capacity).*"
)


def is_providers_fault(error: str) -> bool:
    """Whether an error of this code or type under a status of 2xx means what a status of 5xx means
    elsewhere. Any other error may be the fault of the workload."""
    return _OURS_TO_WAIT_OUT.fullmatch(error.lower()) is not None
