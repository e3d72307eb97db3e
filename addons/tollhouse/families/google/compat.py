"""Google's API in OpenAI's format (https://ai.google.dev/gemini-api/docs/openai), by OpenAI's readers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from tollhouse.families.asked import Asked, Dialect, Request
from tollhouse.families.formats.document import Document
from tollhouse.families.formats.kinds import Kind
from tollhouse.families.formats.sniffed import Sniffed
from tollhouse.families.google.kept_names import asked_for
from tollhouse.families.google.models import can_reason, plain
from tollhouse.families.meters import AnswerHead
from tollhouse.families.openai import estimate, meter, rewrite
from tollhouse.families.openai import request as openai
from tollhouse.families.openai.usage import count_of, usage_of
from tollhouse.families.units import Units

_CACHES: Final = ("cached_content", "cachedContent")
_DEPTH: Final = 3
"""``extra_body.google.cached_content`` is the deepest that is documented."""


def read(request: Request, dialect: Dialect) -> Asked:
    """A stream is made to ask for its usage."""
    asked = openai.read(request, replace(dialect, usage_in_stream="on_request"))
    model = plain(asked.model)
    document: Document = asked.document
    objects: list[str] = []
    for key in ("extra_body", "google", *_CACHES):
        if key in document.tree:
            _caches({key: document.tree[key]}, document, objects, _DEPTH)
    return asked._replace(
        model=model,
        other_models=tuple(map(plain, asked.other_models)),
        reasons=asked.reasons and can_reason(model),
        objects=tuple(dict.fromkeys((*asked.objects, *objects))),
    )


def _caches(value: Any, document: Document, objects: list[str], depth: int) -> None:
    if not isinstance(value, dict) or depth < 0:
        return
    for key, inner in value.items():
        if key in _CACHES and inner is not None:
            name = document.name(inner)
            objects.append(asked_for(name if isinstance(name, str) else "", key))
        else:
            _caches(inner, document, objects, depth - 1)


def _usage_of(value: object) -> Units | None:
    """OpenAI's usage object. Thoughts that only the total counts are output."""
    units = usage_of(value)
    if units is None or not isinstance(value, Mapping):
        return units
    total = count_of(value.get("total_tokens")) or 0
    return units._replace(output=max(units.output, total - units.input))


def _meter(asked: Asked, head: AnswerHead) -> Sniffed:
    return meter.meter(asked, head, _usage_of)


KIND: Final = Kind(read, estimate.estimate, _meter, rewrite.rewrite)
