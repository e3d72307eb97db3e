"""A line of the output of a batch: one request, and what was answered to it.

https://platform.openai.com/docs/api-reference/batch/request-output. Azure, Groq and Together write
the same lines: https://learn.microsoft.com/azure/ai-foundry/openai/how-to/batch,
https://console.groq.com/docs/batch, https://docs.together.ai/docs/inference/batch/overview. A request
that has failed costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tollhouse.families.openai.responses_usage import ResponseTold, count, details_of
from tollhouse.families.openai.usage import WANTED, Told
from tollhouse.families.units import Charge

_STANDARD: Final = frozenset({"default", "standard", "auto", "on_demand"})
"""Words of ``service_tier`` that say nothing beside the batch."""


def read_line(line: Mapping[str, Any]) -> tuple[Charge, ...] | None:
    """`formats.result_lines.LineReader`."""
    response = details_of(line.get("response"))
    charges = _charges(details_of(response.get("body")))
    if charges:
        return charges
    failed = line.get("error") or count(response.get("status_code")) >= 400
    return () if failed else None


def _charges(body: Mapping[str, Any]) -> tuple[Charge, ...]:
    if body.get("object") == "response":
        response = ResponseTold()
        response.read(body)
        found = response.charges()
    else:
        told = Told()
        for key in WANTED:
            told.read(key, body.get(key))
        found = told.charges()
    return tuple(
        charge._replace(tier="") if charge.tier in _STANDARD else charge for charge in found
    )
