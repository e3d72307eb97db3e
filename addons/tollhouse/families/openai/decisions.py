"""Decisions: questions about a text, each answered with a probability.
https://platform.openai.com/docs/api-reference/decisions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tollhouse.families.asked import Asked, Dialect, Limits, Mode, Request
from tollhouse.families.formats.document import refuse
from tollhouse.families.formats.kinds import Kind
from tollhouse.families.formats.sniffed import Sniffed
from tollhouse.families.formats.text_tokens import BYTES_PER_TOKEN
from tollhouse.families.meters import AnswerHead
from tollhouse.families.openai.answers import EventsMeter, Members, WholeMeter
from tollhouse.families.openai.form_fields import form_fields, sent_headers
from tollhouse.families.openai.media import IMAGE_MOST
from tollhouse.families.openai.media_usage import media_units, told
from tollhouse.families.openai.objects import input_objects
from tollhouse.families.units import Charge, Estimate, Units

_KNOWN: Final = frozenset(
    {"model", "input", "questions", "prompt_cache_key", "prompt_cache_options", "stream"}
)
_AROUND: Final = 1_024
"""``worst``: text that the provider puts around the request's. It is a margin: no number is published."""
_PER_QUESTION: Final = 32
"""Tokens of an answer: a name, a choice and a number."""


@dataclass(frozen=True, slots=True)
class DecisionCall:
    """``text`` are the bytes of the body without its images."""

    text: int
    images: int
    questions: int


def read(request: Request, dialect: Dialect) -> Asked:
    fields = form_fields(request, _KNOWN)
    if fields.sent_as_form:
        refuse("The body must be JSON.")
    questions = fields.tree.get("questions")
    data = sum(long.bytes for long in fields.long.values() if long.head.startswith("data:"))
    call = DecisionCall(
        max(len(request.body) - data, 0),
        _images(fields.tree.get("input")),
        len(questions) if isinstance(questions, list) else 1,
    )
    return Asked(
        fields.model(),
        stream=fields.flag("stream"),
        writes=False,
        objects=input_objects(fields),
        detail=call,
        document=fields,
    )


def _images(value: Any) -> int:
    if isinstance(value, list):
        return sum(map(_images, value))
    if isinstance(value, dict):
        return ("image_url" in value or "file_id" in value) + sum(map(_images, value.values()))
    return 0


def estimate(asked: Asked, mode: Mode, limits: Limits, dialect: Dialect) -> Estimate:
    """``worst`` reads the input anew for each question."""
    call: DecisionCall = asked.detail
    if mode == "worst":
        each = limits.context if call.images else min(call.text + _AROUND, limits.context)
        return Estimate(
            Units(input=each * max(call.questions, 1), output=limits.answer, requests=1)
        )
    tokens = -(-call.text // BYTES_PER_TOKEN) + call.images * IMAGE_MOST
    output = min(max(call.questions, 1) * _PER_QUESTION, limits.answer)
    return Estimate(Units(input=min(tokens, limits.context), output=output, requests=1))


def meter(asked: Asked, head: AnswerHead) -> Sniffed:
    return Sniffed(
        asked.stream,
        head.get("content-type"),
        of_json=lambda: WholeMeter(_read_answer),
        of_events=lambda: EventsMeter(_read_answer, ("decision.completed",)),
        may_edit=False,
    )


def _read_answer(found: Members, before: tuple[Charge, ...]) -> tuple[Charge, ...]:
    return told(found, media_units(found.get("usage"))) or before


DECISIONS: Final = Kind(read, estimate, meter, sent_headers=sent_headers)
