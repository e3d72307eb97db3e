"""Errors in OpenAI's format: ours as its SDKs raise them, and what a provider's says of the key."""

from __future__ import annotations

from typing import Any, Final

from tollhouse.denial import Denial
from tollhouse.families.asked import Asked
from tollhouse.families.base import Rule
from tollhouse.families.formats.errors import (
    EMPTY_ACCOUNT,
    EVERYWHERE,
    as_json,
    as_sse,
    message,
    text_of,
)

# The `type` of each status: openai-python `_exceptions.py`.
_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    429: "rate_limit_error",
}


def error_object(denial: Denial, call_id: str) -> dict[str, Any]:
    status = denial.status
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"message": text_of(denial, call_id), "type": kind, "param": None, "code": denial.code}


def error_body(denial: Denial, call_id: str) -> bytes:
    return as_json({"error": error_object(denial, call_id)})


def error_event(denial: Denial, call_id: str) -> bytes:
    """openai-python raises its error for a ``data`` with an ``error``: `_streaming.py`."""
    return as_sse(error_body(denial, call_id))


_FAILURES: Final = {402: "insufficient_quota", 429: "rate_limit_exceeded"}
"""The code of a failed response. Codex calls again after any other than the first."""


def stream_error(denial: Denial, call_id: str, asked: Asked) -> bytes:
    """The last event of a stream. A response fails: its clients take any other event for a lost
    connection, and call again. openai-python gives the event a `ResponseFailedEvent`."""
    if asked.kind != "responses":
        return error_event(denial, call_id)
    code = _FAILURES.get(denial.status, "server_error")
    return as_sse(as_json(failed_response(denial, call_id, asked.model, code)), "response.failed")


def socket_failure(denial: Denial, call_id: str, asked: Asked) -> bytes:
    """The same as a message of a WebSocket. A request that is refused fails as one that is invalid: after any other code
    Codex sends it again."""
    known = "invalid_prompt" if denial.status < 500 else "server_error"
    code = _FAILURES.get(denial.status, known)
    return as_json(failed_response(denial, call_id, asked.model, code))


def failed_response(denial: Denial, call_id: str, model: str, code: str) -> dict[str, Any]:
    response = {
        "id": f"resp_{call_id}",
        "object": "response",
        "created_at": 0,
        "status": "failed",
        "error": {"code": code, "message": text_of(denial, call_id)},
        "incomplete_details": None,
        "model": model,
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": None,
    }
    return {"type": "response.failed", "sequence_number": 0, "response": response}


VERDICTS: Final = (
    Rule(
        "request",
        401,
        "of a restricted key: https://github.com/microsoft/PowerToys/issues/32989",
        message(r"You have insufficient permissions for this operation\."),
    ),
    Rule(
        "request",
        429,
        "larger than a whole minute's limit: https://github.com/Aider-AI/aider/issues/1880",
        message(r"Request too large for "),
    ),
    Rule("no_money", 429, "https://platform.openai.com/docs/guides/error-codes", EMPTY_ACCOUNT),
    Rule("no_money", 400, "billing_hard_limit_reached, of the same page", EMPTY_ACCOUNT),
    Rule(
        "no_money",
        429,
        "xAI: https://github.com/continuedev/continue/issues/10373",
        message(r"Your team .{0,200}used all available credits"),
    ),
    *EVERYWHERE,
)
"""The first that fits decides."""
