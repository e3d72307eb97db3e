"""Errors in Cohere's format, ``{"message", "id"}``: cohere-python raises its ``ApiError`` for a status.

A stream ends with an error in its own last event, which the SDK hands on.
"""

from __future__ import annotations

from typing import Final

from tollhouse.denial import Denial
from tollhouse.families.asked import Asked
from tollhouse.families.base import Rule
from tollhouse.families.formats import plain_errors
from tollhouse.families.formats.errors import EVERYWHERE, as_json, as_sse, text_of
from tollhouse.families.openai import OPENAI

error_body = plain_errors.error_body


def error_event(denial: Denial, call_id: str) -> bytes:
    """Of v2: cohere-python `chat_message_end_event_delta.py`."""
    text = text_of(denial, call_id)
    delta = {"finish_reason": "ERROR", "error": text}
    return as_sse(as_json({"type": "message-end", "delta": delta}), "message-end")


def stream_error(denial: Denial, call_id: str, asked: Asked) -> bytes:
    if asked.kind.startswith("compatible"):
        return OPENAI.error_event(denial, call_id)
    if asked.kind not in ("chat v1", "generate"):
        return error_event(denial, call_id)
    body = as_json(
        {
            "is_finished": True,
            "event_type": "stream-end" if asked.kind == "chat v1" else "stream-error",
            "finish_reason": "ERROR",
            "err" if asked.kind == "generate" else "error": text_of(denial, call_id),
            "response": {"text": "", "finish_reason": "ERROR"},
        }
    )
    return body + b"\n" if asked.detail.lines else as_sse(body)


VERDICTS: Final = (Rule("refused", 498, "https://docs.cohere.com/reference/errors"), *EVERYWHERE)
