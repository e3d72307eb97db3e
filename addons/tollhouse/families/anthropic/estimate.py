"""What a request for messages will take, before it is sent. An estimate is held; usage is what is
charged.

``typical`` counts text by its script. ``worst`` counts a token for each byte (see
`families.openai.estimate`), and the largest known number for all that the provider may add or do.
Input that is not in the request itself (documents at a URL or of a file's id, MCP servers, a thread)
counts as the model's context limit. What is charged beside the message stands in
`Estimate.beside`. Being written to the cache or read from it changes the price of a token and not
the number.
"""

from __future__ import annotations

from typing import Final

from tollhouse.families.anthropic.extras import Extras, Other, Runs
from tollhouse.families.anthropic.message_tokens import MessageTokens
from tollhouse.families.anthropic.usage import EXECUTION_LEAST
from tollhouse.families.asked import Asked, Dialect, Limits, Mode
from tollhouse.families.formats.document import Document
from tollhouse.families.units import Charge, Estimate, Units

FIRST_SLICE_TOKENS: Final = 2_048
"""Held at first for a stream without a cap. Anthropic refuses such a request."""

TURNS_MOST: Final = 10
"""So often the model is asked anew in one request, each time with all of the input, before the
provider pauses: https://platform.claude.com/docs/en/agents-and-tools/tool-use/server-tools."""
USES: Final = 3
"""``typical``: uses of a tool that the provider runs.
https://github.com/anthropics/anthropic-sdk-python/issues/1237 counts 1 to 3 searches."""
SEARCHES: Final = 10
"""``typical``: searches held for a request without ``max_uses``, one a turn."""
SEARCHES_MOST: Final = 100
"""``worst``: the same. The issue above counts 110 blocks until the pause, and a search takes two."""

_FOUND: Final = {"web_search": 10_000, "web_fetch": 25_000}
"""``typical``: tokens that a use brings in. A search of the documentation's example writes 7,345
tokens to the cache (https://platform.claude.com/docs/en/agents-and-tools/tool-use/web-search-tool);
a large page has 25,000 (.../web-fetch-tool#usage-and-pricing)."""
_FOUND_BY_OTHERS: Final = 4_096
"""``typical``: of a program's output or a search among tools. Nobody tells a number."""
_EXECUTION: Final = (EXECUTION_LEAST, 3_600_000)
"""Milliseconds of a container: the least that is charged, and an hour."""

ADVICE: Final = 2_048
"""``typical``: output of an adviser, with its thinking 1,400 to 1,800 tokens:
https://platform.claude.com/docs/en/agents-and-tools/tool-use/advisor-tool."""
SUMMARY: Final = 8_192
"""``typical``: output of a pass that sums up the context. The documentation's example has 3,500:
https://platform.claude.com/docs/en/build-with-claude/compaction."""


def estimate(asked: Asked, mode: Mode, limits: Limits, dialect: Dialect) -> Estimate:
    """Never raises, whatever the client sends."""
    worst = mode == "worst"
    extras = asked.detail if isinstance(asked.detail, Extras) else Extras()
    document = asked.document
    if not isinstance(document, Document):
        document = Document({}, {})
    seen = MessageTokens(document, limits.context, worst=worst, own_rules=dialect.own_rules).total()
    turns = _turns(extras, worst)
    tokens = _read_again(seen, extras, turns, limits.context, worst)
    if not asked.writes:
        return Estimate(Units(input=tokens, requests=1))
    slices = asked.stream and asked.cap is None and not worst
    each = (FIRST_SLICE_TOKENS if slices else limits.answer) if asked.cap is None else asked.cap
    return Estimate(
        Units(input=tokens, output=each, requests=1),
        may=asked.may,
        predicted=extras.thinks_beside,
        beside=(
            *_tools(extras, worst),
            *_advisers(extras, seen, each, limits, worst),
            *_summaries(asked.model, extras, seen, turns, limits, worst),
            *(_declined(extras, tokens, each) if worst else ()),
        ),
        grows=slices,
    )


def input_of_turns(seen: int, extras: Extras, context: int, *, worst: bool) -> int:
    """Input of all turns of a request whose first one has ``seen`` tokens."""
    return _read_again(seen, extras, _turns(extras, worst), context, worst)


def _turns(extras: Extras, worst: bool) -> int:
    """How often the model reads the input."""
    if not extras.runs:
        return 1
    # A newer search runs code to filter what it found: more turns than searches.
    bounded = not extras.free_execution and all(tool.uses is not None for tool in extras.runs)
    uses = sum(tool.uses or 0 for tool in extras.runs) if bounded else TURNS_MOST
    return min(uses, TURNS_MOST if worst else USES) + 1


def _read_again(seen: int, extras: Extras, turns: int, context: int, worst: bool) -> int:
    """Input of all turns. With each the input grows by what was found, up to the context limit."""
    if turns == 1:
        return seen
    if worst:
        return max(seen, context) * turns
    found = max(_found(tool) for tool in extras.runs)
    return sum(max(seen, min(seen + turn * found, context)) for turn in range(turns))


def _found(tool: Runs) -> int:
    for kind, tokens in _FOUND.items():
        if tool.kind.startswith(kind):
            return tokens if tool.tokens is None else min(tool.tokens, tokens)
    return _FOUND_BY_OTHERS


def _tools(extras: Extras, worst: bool) -> tuple[Charge, ...]:
    searches = [tool for tool in extras.runs if tool.kind.startswith("web_search")]
    most = SEARCHES_MOST if worst else SEARCHES
    uses = sum(most if tool.uses is None else tool.uses for tool in searches)
    found = []
    if uses:
        found.append(Charge("web_search", Units(requests=uses)))
    if extras.executes:
        found.append(Charge("code_execution", Units(milliseconds=_EXECUTION[worst])))
    return tuple(found)


def _advisers(
    extras: Extras, seen: int, output: int, limits: Limits, worst: bool
) -> tuple[Charge, ...]:
    def one(other: Other) -> Charge:
        uses = TURNS_MOST if other.uses is None else other.uses
        uses = uses if worst else min(uses, USES)
        cap = limits.answer if worst else ADVICE
        written = cap if other.cap is None else other.cap if worst else min(other.cap, cap)
        read = max(seen, limits.context) if worst else min(seen + output, limits.context)
        return Charge(other.model, Units(input=uses * read, output=uses * written, requests=1))

    return tuple(one(other) for other in extras.advisors)


def _summaries(
    model: str, extras: Extras, seen: int, turns: int, limits: Limits, worst: bool
) -> tuple[Charge, ...]:
    """The pass is not bound by the cap."""
    start = extras.compacts_from
    if start is None or (not worst and seen < start):
        return ()
    times = turns if worst else 1
    read = max(seen, limits.context) if worst else seen
    written = limits.answer if worst else min(SUMMARY, limits.answer)
    return (Charge(model, Units(input=times * read, output=times * written, requests=1)),)


def _declined(extras: Extras, tokens: int, output: int) -> tuple[Charge, ...]:
    """An attempt that declines after its first words is charged beside the one that serves."""
    return tuple(
        Charge(other.model, Units(input=tokens, output=output, requests=1))
        for other in extras.fallbacks
    )
