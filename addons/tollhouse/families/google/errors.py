"""Errors in Google's form (https://google.aip.dev/193): ours as its SDKs raise them, and what a
provider's says of the key."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final

from tollhouse.denial import Denial
from tollhouse.families.asked import Asked
from tollhouse.families.base import Rule
from tollhouse.families.formats.errors import EVERYWHERE, as_json, as_sse, message, reason, text_of

# google.rpc.Code by HTTP status: googleapis/google/rpc/code.proto.
_STATUS: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "RESOURCE_EXHAUSTED",
    403: "PERMISSION_DENIED",
    408: "DEADLINE_EXCEEDED",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_RPC: Final = "type.googleapis.com/google.rpc."


def error_body(denial: Denial, call_id: str) -> bytes:
    return as_json({"error": _error(denial, call_id)})


def error_event(denial: Denial, call_id: str) -> bytes:
    """google-genai raises its error for a ``data`` that begins with an ``error``
    (`_api_client.py`). ``event_type`` is for its client of interactions."""
    return as_sse(as_json({"error": _error(denial, call_id), "event_type": "error"}))


def stream_error(denial: Denial, call_id: str, asked: Asked) -> bytes:
    """As the last element of a JSON array, for a stream that is one."""
    if getattr(asked.detail, "framing", "") != "array":
        return error_event(denial, call_id)
    return b",\r\n" + error_body(denial, call_id) + b"]"


def _error(denial: Denial, call_id: str) -> dict[str, Any]:
    status = denial.status
    error: dict[str, Any] = {
        "code": status,
        "message": text_of(denial, call_id),
        "status": _STATUS.get(status, "UNKNOWN"),
    }
    if status == 429:
        error["details"] = [_details(denial)]
    return error


def _details(denial: Denial) -> dict[str, Any]:
    """googleapis/google/rpc/error_details.proto: when to come again, or which limit it was."""
    wait = next((value for name, value in denial.headers if name.lower() == "retry-after"), "")
    try:
        seconds = float(wait)
    except ValueError:
        seconds = math.nan
    if math.isfinite(seconds) and seconds >= 0:
        return {"@type": _RPC + "RetryInfo", "retryDelay": f"{seconds:g}s"}
    violation = {"subject": denial.code, "description": denial.message}
    return {"@type": _RPC + "QuotaFailure", "violations": [violation]}


_DELAY: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")


def retry_hint(error: Mapping[str, Any]) -> float | None:
    """``google.rpc.RetryInfo.retryDelay``, a Duration in JSON's form (``"53s"``, ``"0.25s"``):
    googleapis/google/rpc/error_details.proto, protobuf's duration.proto."""
    details = error.get("details")
    for one in details if isinstance(details, list) else ():
        if isinstance(one, dict) and one.get("@type") == _RPC + "RetryInfo":
            delay = one.get("retryDelay")
            found = _DELAY.fullmatch(delay) if isinstance(delay, str) else None
            return float(found[1]) if found else None
    return None


VERDICTS: Final = (
    Rule(
        "refused",
        400,
        "https://ai.google.dev/gemini-api/docs/troubleshooting",
        reason("API_KEY_INVALID"),
    ),
    Rule(
        "no_money",
        429,
        "https://github.com/dyad-sh/dyad/issues/3626",
        message(r"Your prepayment credits are depleted"),
    ),
    *EVERYWHERE,
)


def code_of(value: object) -> str:
    """The code of an error in an answer: the HTTP status that it would have had, or its name; never
    its message. "" for null."""
    if value in (None, False, "", {}):
        return ""
    if not isinstance(value, dict):
        return "error"
    for name in ("code", "status"):
        found = value.get(name)
        if (isinstance(found, int) and found) or (isinstance(found, str) and found.isprintable()):
            return str(found)[:64] or "error"
    return "error"


def error_in(raw: bytes) -> str:
    """The code of an error that stands in a stream of events as bare JSON over several lines."""
    text = raw.strip()
    if not text.startswith((b"{", b"[")) or text.find(b'"error"') < 0:
        return ""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    found = found[0] if isinstance(found, list) and found else found
    return code_of(found.get("error")) if isinstance(found, dict) else ""
