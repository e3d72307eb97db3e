"""Errors in Anthropic's format: ours as its SDKs raise them, and what a provider's says of the key."""

from __future__ import annotations

from typing import Final

from tollhouse.denial import Denial
from tollhouse.families.base import Rule
from tollhouse.families.formats.errors import (
    EMPTY_ACCOUNT,
    EVERYWHERE,
    as_json,
    as_sse,
    message,
    text_of,
)

# The `type` of each status: anthropic-python `_exceptions.py`. ``overloaded_error`` is not among
# them: it is the provider's word for its own load, and clients wait for a long time when they read it.
_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
}


def error_body(denial: Denial, call_id: str) -> bytes:
    status = denial.status
    kind = _TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    error = {"type": kind, "message": text_of(denial, call_id)}
    return as_json({"type": "error", "error": error, "request_id": call_id})


def error_event(denial: Denial, call_id: str) -> bytes:
    """anthropic-python raises its error for an event that is called ``error``: `_streaming.py`."""
    return as_sse(error_body(denial, call_id), "error")


VERDICTS: Final = (
    Rule("no_money", 429, "https://docs.anthropic.com/en/api/errors", EMPTY_ACCOUNT),
    Rule(
        "no_money",
        400,
        "https://github.com/anthropics/claude-code/issues/66314",
        message(r"Your credit balance is too low"),
    ),
    *EVERYWHERE,
)
"""The first that fits decides."""
