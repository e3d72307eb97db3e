"""What Google counts, in the one normal form: ``usageMetadata``, the usage of an interaction, and
the searches that an answer is grounded in.

https://ai.google.dev/api/generate-content#UsageMetadata: ``promptTokenCount`` has the cached tokens
in it, ``candidatesTokenCount`` has no thoughts in it, ``toolUsePromptTokenCount`` stands beside the
prompt, and the total is the sum of the four. A count of 0 is missing, as in all JSON of proto3.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, NamedTuple

from tollhouse.families.formats.counts import is_uneven
from tollhouse.families.google.models import version
from tollhouse.families.units import Charge, Units

SEARCH: Final = "google_search"
MAPS: Final = "google_maps"
RETRIEVAL: Final = "retrieval"
UNCOUNTED: Final = {
    "retrieval": RETRIEVAL,
    "parallelAiSearch": "parallel_ai_search",
    "exaAiSearch": "exa_ai_search",
}
"""Tools of Vertex's whose uses no answer of ``generateContent`` counts. A request with one is charged
a use of it, and there is no price for it but a configured one: it goes by the store, or is Parallel's
or Exa's own."""
_PICTURES: Final = ("IMAGE", "DOCUMENT", "VIDEO")
"""A page of a document and a frame of a video are images to the model:
https://ai.google.dev/gemini-api/docs/tokens#multimodal-tokens."""
TIERS: Final = {
    "ON_DEMAND": "",
    "ON_DEMAND_FLEX": "flex",
    "ON_DEMAND_PRIORITY": "priority",
    "ON_DEMAND_OFFPEAK": "offpeak",
}
"""``trafficType`` of Vertex: https://cloud.google.com/vertex-ai/generative-ai/docs/priority-paygo."""
PROVISIONED: Final = "PROVISIONED_THROUGHPUT"
"""Served from throughput that was bought beforehand: its tokens cost nothing."""


class _Names(NamedTuple):
    """What the counts are called, and the key of a modality's number."""

    prompt: str
    tool_use: str
    output: str
    thoughts: str
    cached: str
    total: str
    of_prompt: str
    of_tool_use: str
    of_output: str
    of_cached: str
    tokens: str


_METADATA: Final = _Names(
    "promptTokenCount",
    "toolUsePromptTokenCount",
    "candidatesTokenCount",
    "thoughtsTokenCount",
    "cachedContentTokenCount",
    "totalTokenCount",
    "promptTokensDetails",
    "toolUsePromptTokensDetails",
    "candidatesTokensDetails",
    "cacheTokensDetails",
    "tokenCount",
)
_LIVE: Final = _METADATA._replace(output="responseTokenCount", of_output="responseTokensDetails")
_INTERACTION: Final = _Names(
    "total_input_tokens",
    "total_tool_use_tokens",
    "total_output_tokens",
    "total_thought_tokens",
    "total_cached_tokens",
    "total_tokens",
    "input_tokens_by_modality",
    "tool_use_tokens_by_modality",
    "output_tokens_by_modality",
    "cached_tokens_by_modality",
    "tokens",
)


def metadata_units(value: object, *, speaks: bool = False) -> Units | None:
    """``usageMetadata``. None for one without a count of the prompt, or of zeros alone: the first of
    a stream may hold a ``trafficType`` alone. ``speaks``: the output is all sound, at one price."""
    return _units(value, _METADATA, speaks)


def live_units(value: object) -> Units | None:
    """``usageMetadata`` of a session (https://ai.google.dev/api/live#UsageMetadata). At Vertex its names are those of other
    answers (google-genai `_live_converters.py`)."""
    names = _LIVE
    if isinstance(value, Mapping) and _LIVE.output not in value and _METADATA.output in value:
        names = _METADATA
    return _units(value, names, False)


def interaction_units(value: object) -> Units | None:
    """``usage`` of an interaction (https://ai.google.dev/api/interactions-api)."""
    return _units(value, _INTERACTION, False)


def metadata_output(value: Mapping[str, Any]) -> int:
    """The output in ``usageMetadata``, without its parts: it is asked for at each piece of a
    stream."""
    return _output(value, _METADATA)


def metadata_is_uneven(value: object) -> bool:
    """Whether the counts of ``usageMetadata`` do not come to its total."""
    if not isinstance(value, Mapping):
        return False
    names = _METADATA
    parts = (names.prompt, names.tool_use, names.output, names.thoughts)
    return is_uneven(count(value.get(names.total)), sum(count(value.get(n)) or 0 for n in parts))


def interaction_output(value: Mapping[str, Any]) -> int:
    """The output in the usage of an interaction, without its parts."""
    return _output(value, _INTERACTION)


def _output(value: Mapping[str, Any], names: _Names) -> int:
    """A part of the total that no field tells counts as output, the dearer side."""

    def of(name: str) -> int:
        return count(value.get(name)) or 0

    told = of(names.output) + of(names.thoughts)
    return max(told, of(names.total) - of(names.prompt) - of(names.tool_use))


def _units(value: object, names: _Names, speaks: bool) -> Units | None:
    if not isinstance(value, Mapping) or (prompt := count(value.get(names.prompt))) is None:
        return None

    def of(name: str) -> int:
        return count(value.get(name)) or 0

    prompt += of(names.tool_use)
    reasoning = of(names.thoughts)
    output = _output(value, names)
    if not prompt and not output:
        return None
    cached = min(of(names.cached), prompt)
    kinds_in = _by_modality(names.tokens, value.get(names.of_prompt), value.get(names.of_tool_use))
    kinds_out = _by_modality(names.tokens, value.get(names.of_output))
    kinds_cached = _by_modality(names.tokens, value.get(names.of_cached))
    cached_audio = min(kinds_cached.get("AUDIO", 0), cached)
    return Units(
        input=prompt,
        output=output,
        cached=cached,
        reasoning=min(reasoning, output),
        input_audio=min(max(kinds_in.get("AUDIO", 0), cached_audio), prompt),
        cached_audio=cached_audio,
        output_audio=0 if speaks else min(kinds_out.get("AUDIO", 0), output),
        input_image=min(sum(kinds_in.get(kind, 0) for kind in _PICTURES), prompt),
        output_image=min(kinds_out.get("IMAGE", 0), output),
        requests=1,
    )


def count(value: object) -> int | None:
    """A count; int64 comes as a string in proto3's JSON."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _by_modality(tokens: str, *details: object) -> dict[str, int]:
    """The sum of each modality. One may stand there more than once."""
    sums: dict[str, int] = {}
    for one in details:
        for item in one if isinstance(one, list) else ():
            if isinstance(item, Mapping) and isinstance(kind := item.get("modality"), str):
                kind = kind.upper()
                sums[kind] = sums.get(kind, 0) + (count(item.get(tokens)) or 0)
    return sums


class Grounded:
    """The searches of one answer, over all of its pieces. ``tools`` are those that were asked for.

    From Gemini 3 on each query is charged that is not empty, once for each wording; before that a
    prompt whose answer is grounded (https://ai.google.dev/gemini-api/docs/pricing,
    https://ai.google.dev/gemini-api/docs/google-search#pricing). An empty query is none:
    https://discuss.ai.google.dev/t/168136.
    """

    def __init__(self, tools: Iterable[str] = ()) -> None:
        self.tools = frozenset(tools)
        self._queries: set[str] = set()
        self._searched = self._mapped = False

    def read(self, metadata: object) -> None:
        """Takes a candidate's ``groundingMetadata``."""
        if not isinstance(metadata, Mapping):
            return
        for name in ("webSearchQueries", "imageSearchQueries"):
            self.queries(metadata.get(name), name[0])
        chunks = metadata.get("groundingChunks")
        for chunk in chunks if isinstance(chunks, list) else ():
            for kind in chunk if isinstance(chunk, Mapping) else ():
                self.chunk(kind)

    def chunk(self, kind: str) -> None:
        """One of ``groundingChunks`` is of this kind."""
        self._mapped = self._mapped or kind == "maps"
        self._searched = self._searched or kind == "web"

    def queries(self, found: object, kind: str = "w") -> None:
        for query in found if isinstance(found, list) else ():
            if isinstance(query, str) and query.strip() and len(self._queries) < _MOST_QUERIES:
                self._queries.add(kind + query.strip()[:_LONGEST_QUERY])

    def charges(self, model: str) -> tuple[Charge, ...]:
        queries = len(self._queries)
        of_maps = self._mapped and (SEARCH not in self.tools and MAPS in self.tools)
        searches = 0 if of_maps else queries
        maps = max(queries if of_maps else 0, 1 if self._mapped else 0)
        if self._searched and SEARCH in self.tools:
            searches = max(searches, 1)
        if 0 < version(model) < 3:
            searches, maps = min(searches, 1), min(maps, 1)
        return tool_charges({SEARCH: searches, MAPS: maps, **uncounted(self.tools)})


_MOST_QUERIES: Final = 1_000
"""Different queries of one answer that are counted."""
_LONGEST_QUERY: Final = 512


def uncounted(tools: Collection[str], times: int = 1) -> dict[str, int]:
    """The uses of those of ``tools`` that are in `UNCOUNTED`."""
    return {tool: times for tool in UNCOUNTED.values() if tool in tools}


def tool_charges(uses: Mapping[str, int]) -> tuple[Charge, ...]:
    return tuple(Charge(tool, Units(requests=times)) for tool, times in uses.items() if times)


def tool_counts(usage: Any, tools: Collection[str] = ()) -> tuple[Charge, ...]:
    """``grounding_tool_count`` of an interaction's usage. ``tools`` are those that were asked for."""
    uses: dict[str, int] = {}
    counts = usage.get("grounding_tool_count") if isinstance(usage, Mapping) else None
    for item in counts if isinstance(counts, list) else ():
        if isinstance(item, Mapping) and (tool := item.get("type")) in (SEARCH, MAPS, RETRIEVAL):
            uses[tool] = uses.get(tool, 0) + (count(item.get("count")) or 0)
    # It does not say in which of those that were asked for: each may have been.
    retrieved = max(uses.pop(RETRIEVAL, 0), 1)
    return tool_charges(uses | uncounted(tools, retrieved))
