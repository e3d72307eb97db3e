"""The most that a request may take, by what was counted of it as it was read."""

from __future__ import annotations

from typing import Final

from tollhouse.families.asked import Asked, Dialect, Limits, Mode
from tollhouse.families.google.contents import InputSums
from tollhouse.families.google.models import version
from tollhouse.families.google.usage import MAPS, SEARCH, tool_charges, uncounted
from tollhouse.families.openai.estimate import FIRST_SLICE_TOKENS
from tollhouse.families.units import Charge, Estimate, Units

QUERIES: Final = {"typical": 10, "worst": 100}
"""Queries of one answer from Gemini 3 on. Google publishes no limit; answers have up to some ten:
https://ai.google.dev/gemini-api/docs/google-search."""


def estimate(asked: Asked, mode: Mode, limits: Limits, dialect: Dialect) -> Estimate:
    """``generateContent``, ``streamGenerateContent``, ``embedContent``, ``interactions``."""
    found: InputSums = asked.document
    worst = mode == "worst"
    tokens = input_tokens(found, limits, worst=worst)
    beside = tool_bounds(asked.model, found.tools, mode)
    if not asked.writes:
        return Estimate(Units(input=tokens, requests=1), asked.asks, asked.may)
    slices = asked.stream and asked.cap is None and not worst
    each = (FIRST_SLICE_TOKENS if slices else limits.answer) if asked.cap is None else asked.cap
    return Estimate(
        Units(input=tokens, output=each * asked.choices, requests=1),
        asked.asks,
        asked.may,
        beside=beside,
        grows=slices,
    )


def input_tokens(found: InputSums, limits: Limits, *, worst: bool) -> int:
    seen = found.worst if worst else found.typical
    unseen = found.unseen or (worst and found.hidden)
    # A tool's prompt stands beside the request's own (``toolUsePromptTokenCount``).
    beside = limits.context if found.tools and worst else 0
    return max(seen, limits.context) + beside if unseen else seen


def tool_bounds(model: str, tools: frozenset[str], mode: Mode) -> tuple[Charge, ...]:
    most = 1 if 0 < version(model) < 3 else QUERIES[mode]
    return tool_charges({tool: most for tool in (SEARCH, MAPS) if tool in tools} | uncounted(tools))
