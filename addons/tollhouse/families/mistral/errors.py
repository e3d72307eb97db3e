"""Errors in Mistral's format. mistralai-python raises its `SDKError` for a status, and its `ResponseValidationError` for an event
that is no chunk; each has the body's text."""

from __future__ import annotations

from typing import Final

from tollhouse.denial import Denial
from tollhouse.families.asked import Asked
from tollhouse.families.formats.errors import EVERYWHERE, as_json, as_sse, text_of
from tollhouse.families.mistral.usage import ERROR


def error_body(denial: Denial, call_id: str) -> bytes:
    text = text_of(denial, call_id)
    return as_json(
        {
            "object": "error",
            "message": text,
            "type": denial.code,
            "param": None,
            "code": denial.code,
        }
    )


def error_event(denial: Denial, call_id: str) -> bytes:
    return as_sse(error_body(denial, call_id))


def stream_error(denial: Denial, call_id: str, asked: Asked) -> bytes:
    """A conversation has an event of its own for errors: mistralai-python `responseerrorevent.py`."""
    if asked.kind not in ("conversation", "append"):
        return error_event(denial, call_id)
    body = {"type": ERROR, "message": text_of(denial, call_id), "code": denial.status}
    return as_sse(as_json(body), ERROR)


VERDICTS: Final = EVERYWHERE
