"""The error that is an object with a ``message`` and nothing else that its SDKs need: Cohere's."""

from __future__ import annotations

from tollhouse.denial import Denial
from tollhouse.families.formats.errors import as_json, as_sse, text_of


def error_body(denial: Denial, call_id: str) -> bytes:
    return as_json({"message": text_of(denial, call_id), "id": call_id})


def error_event(denial: Denial, call_id: str) -> bytes:
    return as_sse(error_body(denial, call_id))
