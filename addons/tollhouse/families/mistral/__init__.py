"""Mistral's API: https://docs.mistral.ai/api. The list of models is open."""

from __future__ import annotations

from typing import Final

from tollhouse.denial import Denial
from tollhouse.families.base import Family, model_list
from tollhouse.families.formats.errors import EVERYWHERE, as_json, as_sse, text_of


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


MISTRAL: Final = Family(
    "mistral",
    routes=model_list("/v1/models"),
    error_body=error_body,
    error_event=error_event,
    verdicts=EVERYWHERE,
    spoken_by_others=True,
)
