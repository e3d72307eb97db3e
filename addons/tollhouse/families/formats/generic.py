"""An endpoint that no family knows: its body is read if it is JSON, and its answer is searched for
the usage objects of the large APIs, by the names of their fields.

What is found is the last word of the answer on each field: counts in a stream are cumulative, and
Anthropic's later events say only what has changed. null is no count.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tollhouse.families.asked import Asked, Dialect, Limits, Mode, Request
from tollhouse.families.formats.document import Document, parsed, refuse, shown
from tollhouse.families.formats.sniffed import Sniffed
from tollhouse.families.formats.sse import EventData, EventSplitter, SseBoundary
from tollhouse.families.formats.topmost import Topmost
from tollhouse.families.meters import AnswerHead, Meter
from tollhouse.families.units import Charge, Estimate, Units

KIND: Final = "unknown"
"""`Operation.kind` and `Asked.kind` of such an endpoint."""
MAX_OBJECTS: Final = 1_000
_MAX_NAME: Final = 256
_OBJECT: Final = re.compile(rb"(?:\xef\xbb\xbf)?[\x00-\x20]*+\{")
_KNOWN: Final = frozenset({"model", "stream"})
_OBJECTS: Final = frozenset(
    {
        *("previous_response_id", "response_id", "conversation", "conversation_id"),
        *("file_id", "file_ids", "input_file_id", "input_files", "training_file"),
        *("training_files", "validation_file", "validation_files"),
        *("batch_id", "thread_id", "assistant_id", "vector_store_id", "vector_store_ids"),
        *("container", "container_id", "upload_id", "video_id", "agent_id", "library_id"),
        *("cachedContent", "cached_content", "fileUri", "file_uri", "dataset_id"),
        *("input_dataset_id", "dataset_ids", "agent", "environment_id", "vault_id"),
        *("vault_ids", "memory_store_id", "session_id"),
    }
)
"""Fields in which requests of these APIs name objects that the provider keeps."""


def read(request: Request, dialect: Dialect) -> Asked:
    """The model, whether a stream is asked for, and the objects of a JSON object. Whatever type it
    came under, a body that begins like one has to be one: a server may read it so. Raises
    `Refused`. Any other body is not looked at, and its models are not known."""
    makes = request.operation.objects == "makes"
    nothing = Asked(writes=False, reasons=False, kind=KIND, detail=makes)
    if not _OBJECT.match(request.body):
        return nothing._replace(models_unknown=bool(request.body))
    document = parsed(request.body)
    tree = document.tree
    for key in tree:
        if key not in _KNOWN and (folded := key.casefold()) in _KNOWN:
            refuse(f'The body has the key {shown(key)}; it is "{folded}", in lower case.')
    model = document.name(tree.get("model"))
    if model is not None and not (
        isinstance(model, str) and len(model) <= _MAX_NAME and model.isprintable()
    ):
        refuse(f'"model" must be a string of at most {_MAX_NAME} printable characters.')
    stream = tree.get("stream")
    if stream is not None and not isinstance(stream, bool):
        refuse('"stream" must be true or false.')
    return nothing._replace(model=model or "", stream=bool(stream), objects=objects_of(document))


def objects_of(document: Document) -> tuple[str, ...]:
    """The objects that a body names in the fields of these APIs, at any depth. Raises `Refused`."""
    return tuple(dict.fromkeys(_ids(document)))


def _ids(document: Document) -> Iterator[str]:
    waiting: list[Any] = [document.tree]
    found = 0
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += [one for one in node if isinstance(one, dict | list)]
            continue
        for key, value in node.items():
            if key in _OBJECTS:
                values = value if isinstance(value, list) else [value]
                for one in values:
                    name = document.name(one.get("id") if isinstance(one, dict) else one)
                    if isinstance(name, str) and name:
                        found += 1
                        if found > MAX_OBJECTS:
                            refuse(f"The body names more than {MAX_OBJECTS} objects.")
                        yield name
            if isinstance(value, dict | list):
                waiting.append(value)


def estimate(asked: Asked, mode: Mode, limits: Limits, dialect: Dialect) -> Estimate:
    """Nobody knows. What is held is an amount of the configuration."""
    return Estimate(Units(requests=1))


def meter(asked: Asked, head: AnswerHead) -> Meter:
    return Sniffed(
        asked.stream,
        head.get("content-type"),
        of_json=lambda: _Whole(asked.detail is True),
        of_events=_Events,
        may_edit=False,
    )


_USAGE: Final = (
    *("usage", "usageMetadata", "usage_metadata", "usage_info"),
    *("meta", "billed_units", "amazon-bedrock-invocationMetrics"),
)
_AROUND: Final = ("response", "message", "delta", "interaction", "x_groq")
"""What stands around the usage in some events and answers. ``metadata`` is none of them: many answers
repeat there what the client has sent."""
_NAMES: Final = ("model", "modelVersion")
_MADE: Final = ("id", "job_id", "name")
_MADE_IN: Final = ("batch", "finetuned_model", "dataset")
"""Where the id stands of what an answer has made; the latter are Cohere's."""
_SIGNS: Final = (b"sage", b"billed_units", b"invocationMetrics", b'"model')
"""One of them is in each event that has something to read."""


class _Found:
    """What an answer has said so far. ``counts`` has the fields of its usage objects."""

    def __init__(self) -> None:
        self.counts: dict[str, Any] = {}
        self.model = ""
        self.tier = ""

    def read(self, document: Mapping[str, Any], depth: int = 0) -> None:
        """What stands outermost counts before what stands within."""
        if depth < 2:
            for key in _AROUND:
                value = document.get(key)
                if isinstance(value, Mapping):
                    self.read(value, depth + 1)
        for key in _NAMES:
            name = document.get(key)
            if isinstance(name, str) and name.isascii() and name.isprintable():
                self.model = name[:_MAX_NAME] or self.model
        if isinstance(tier := document.get("service_tier"), str):
            self.tier = tier[:32]
        for key in _USAGE:
            value = document.get(key)
            if isinstance(value, Mapping):
                self._take(value)

    def _take(self, usage: Mapping[str, Any]) -> None:
        inner = usage.get("billed_units")
        if isinstance(inner, Mapping):
            # Cohere's bill. What stands beside it counts the template of the prompt as well.
            self.counts = {key: inner[key] for key in _COHERE if inner.get(key) is not None}
            return
        for key in _FIELDS:
            if usage.get(key) is not None:
                self.counts[key] = usage[key]

    def charges(self) -> tuple[Charge, ...]:
        units = units_of(self.counts)
        return () if units is None else (Charge(self.model, units, self.tier),)


_COHERE: Final = ("input_tokens", "output_tokens", "search_units", "images", "pages")
_WHOLE_INPUT: Final = (
    ("prompt_tokens",),
    ("promptTokenCount", "toolUsePromptTokenCount"),
    ("prompt_token_count", "tool_use_prompt_token_count"),
    ("total_input_tokens", "total_tool_use_tokens"),
    ("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens"),
    ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
    ("inputTokenCount", "cacheReadInputTokenCount", "cacheWriteInputTokenCount"),
)
"""The first field says whose usage it is; the others are beside it and not in it."""
_WHOLE_OUTPUT: Final = (
    ("completion_tokens",),
    ("candidatesTokenCount", "thoughtsTokenCount"),
    ("responseTokenCount", "thoughtsTokenCount"),
    ("candidates_token_count", "thoughts_token_count"),
    ("total_output_tokens", "total_thought_tokens"),
    ("outputTokens",),
    ("output_tokens",),
    ("outputTokenCount",),
)
_CACHED: Final = (
    *("cachedContentTokenCount", "cached_content_token_count", "total_cached_tokens"),
    *("cacheReadInputTokens", "cache_read_input_tokens", "cacheReadInputTokenCount"),
)
_WRITTEN: Final = (
    *("cacheWriteInputTokens", "cache_creation_input_tokens", "cacheWriteInputTokenCount"),
)
_THOUGHT: Final = ("thoughtsTokenCount", "thoughts_token_count", "total_thought_tokens")
_BESIDE: Final = (
    ("search_units", "searches"),
    ("images", "images"),
    ("pages", "pages"),
    ("pages_processed", "pages"),
)
_OF_INPUT: Final = ("prompt_tokens_details", "input_tokens_details")
_OF_OUTPUT: Final = ("completion_tokens_details", "output_tokens_details")
_FIELDS: Final = frozenset(
    {
        *(name for names in (*_WHOLE_INPUT, *_WHOLE_OUTPUT) for name in names),
        *(name for name, _ in _BESIDE),
        *(*_CACHED, *_WRITTEN, *_THOUGHT, *_OF_INPUT, *_OF_OUTPUT, "total_tokens", "seconds"),
    }
)


def units_of(counts: Mapping[str, Any]) -> Units | None:
    """A usage object in the one normal form. None if it counts nothing."""
    into = _sum(counts, _WHOLE_INPUT)
    output = _sum(counts, _WHOLE_OUTPUT)
    cached = _first(counts, _CACHED) or _part(counts, _OF_INPUT, "cached_tokens")
    written = _first(counts, _WRITTEN) or _part(counts, _OF_INPUT, "cache_write_tokens")
    reasoning = _first(counts, _THOUGHT) or _part(counts, _OF_OUTPUT, "reasoning_tokens")
    total = count(counts.get("total_tokens"))
    if "completion_tokens" in counts and reasoning and total == into + output + reasoning:
        # xAI's reasoning stands beside the output.
        output += reasoning
    units = Units(
        input=into,
        output=output,
        cached=min(cached, into),
        cache_write=min(written, max(into - min(cached, into), 0)),
        reasoning=min(reasoning, output),
        milliseconds=count(counts.get("seconds"), 1000),
        requests=1,
    )
    for name, unit in _BESIDE:
        units = units._replace(**{unit: max(getattr(units, unit), count(counts.get(name)))})
    return None if units == Units(requests=1) else units


def count(value: object, times: int = 1) -> int:
    """A count of an answer, rounded up; 0 for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    if not 0 <= value < 1e15:  # Not NaN either.
        return 0
    return -int(-value * times // 1)


def _sum(counts: Mapping[str, Any], forms: tuple[tuple[str, ...], ...]) -> int:
    for first, *beside in forms:
        if first in counts:
            return count(counts[first]) + sum(count(counts.get(name)) for name in beside)
    return 0


def _first(counts: Mapping[str, Any], names: tuple[str, ...]) -> int:
    return next((found for name in names if (found := count(counts.get(name)))), 0)


def _part(counts: Mapping[str, Any], names: tuple[str, ...], part: str) -> int:
    for name in names:
        details = counts.get(name)
        if isinstance(details, Mapping) and (found := count(details.get(part))):
            return found
    return 0


class _Reading:
    """What both meters share. They edit nothing and see no text."""

    output_seen = 0
    done = False
    error = ""
    edits = False

    def __init__(self) -> None:
        self._found = _Found()

    def finish(self) -> tuple[Charge, ...]:
        return self._found.charges()


class _Whole(_Reading):
    """Of one JSON object: of any length, and no more is kept than its members that are wanted."""

    boundary = None

    def __init__(self, makes: bool) -> None:
        super().__init__()
        self._makes = makes
        self._topmost = Topmost((*_USAGE, *_AROUND, *_NAMES, "service_tier", *_MADE, *_MADE_IN))

    @property
    def created(self) -> tuple[str, ...]:
        if not self._makes:
            return ()
        found = self._topmost.found
        within = (found.get(key) for key in _MADE_IN)
        ids = [found.get(key) for key in _MADE if key != "name"]
        ids += [one.get("id") for one in within if isinstance(one, Mapping)]
        # Google's ids are names. Beside an id a name is the client's word.
        named = ids if any(ids) else [found.get("name")]
        return tuple(name for name in named if isinstance(name, str) and 0 < len(name) <= 1_024)

    def feed(self, data: bytes) -> bytes:
        self._topmost.feed(data)
        return data

    def flush(self) -> bytes:
        return b""

    def finish(self) -> tuple[Charge, ...]:
        found = _Found()
        found.read(self._topmost.found)
        return found.charges()


class _Events(_Reading):
    """Of server-sent events."""

    created: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self._splitter = EventSplitter()
        self.boundary = SseBoundary()

    def feed(self, data: bytes) -> bytes:
        for raw, whole in self._splitter.feed(data):
            if whole and any(raw.find(sign) >= 0 for sign in _SIGNS):
                self._read(raw)
        return data

    def flush(self) -> bytes:
        # An event that lost the empty line behind it.
        rest = self._splitter.rest()
        if rest:
            self._read(rest)
        return b""

    def _read(self, raw: bytes) -> None:
        text = EventData(raw).text
        if text is None:
            return
        try:
            document = json.loads(text.encode("latin-1"))
        except (ValueError, RecursionError):
            return
        if isinstance(document, dict):
            self._found.read(document)
