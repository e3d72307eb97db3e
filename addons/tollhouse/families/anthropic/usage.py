"""What an answer of Anthropic's API says of its usage, wherever it is served: the API itself,
Foundry, Vertex and Bedrock.

https://platform.claude.com/docs/en/build-with-claude/streaming: the counts of a ``message_delta`` are
cumulative, and those that it has replace the earlier ones. null says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tollhouse.families.formats.counts import count
from tollhouse.families.units import Charge, Units

# fmt: off
_COUNTS: Final = (
    "input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "cache_creation",
    "output_tokens", "output_tokens_details",
)
"""Those of one attempt. Another attempt replaces all of them."""
_FIELDS: Final = (
    *_COUNTS, "server_tool_use", "service_tier", "speed", "inference_geo", "iterations",
)
# fmt: on
_PLAIN: Final = frozenset({"standard", "default", "auto", "global", "not_available"})
"""Served values that do not change the price."""
_APART: Final = frozenset({"compaction", "advisor_message"})
"""Iterations that the outer counts leave out: anthropic-python `types/beta/beta_usage.py`."""
_MAX_ITERATIONS: Final = 1_000
_MAX_FILES: Final = 1_000


def units_of(usage: Mapping[str, Any]) -> Units | None:
    """A usage object in the one normal form; None if it counts no input: every request has some,
    and servers that do not count send zeros.

    ``input_tokens`` is without the tokens that were read from the cache and written to it. The
    details are parts of their totals.
    """
    plain = count(usage.get("input_tokens"))
    written = usage.get("cache_creation")
    parts = written if isinstance(written, Mapping) else {}
    five, hour = (count(parts.get(f"ephemeral_{ttl}_input_tokens")) for ttl in ("5m", "1h"))
    write = max(count(usage.get("cache_creation_input_tokens")), five + hour)
    read = count(usage.get("cache_read_input_tokens"))
    output = count(usage.get("output_tokens"))
    details = usage.get("output_tokens_details")
    thinking = count(details.get("thinking_tokens")) if isinstance(details, Mapping) else 0
    if not plain + write + read:
        return None
    return Units(
        input=plain + write + read,
        output=output,
        cached=read,
        cache_write=write,
        # What a later event has added to the total is of the dearer kind, if there is one.
        cache_write_1h=write - five if hour else 0,
        reasoning=min(thinking, output),
        requests=1,
    )


def name_of(value: object) -> str:
    """A model's name as it may stand in a line, "" for anything else."""
    told = isinstance(value, str) and value.isascii() and value.isprintable()
    return str(value)[:256] if told else ""


class Reported:
    """What one answer has said so far, a `formats.watched.Heard`. `message` takes a whole message or
    that of a ``message_start``, `block` a part of its content, `delta` a later usage."""

    def __init__(self, *, executes: bool = False, keeps_thread: bool = False) -> None:
        """``executes``: a container is charged by its time. ``keeps_thread``: the answer's id is
        that of an object."""
        self.error = ""
        self.model = ""
        self.done = False
        self._executes = executes
        self._keeps_thread = keeps_thread
        self._usage: dict[str, Any] = {}
        self._fallen = False
        self._container = ""
        self._thread = ""
        self._files: dict[str, None] = {}
        self._searches = 0
        """Those that were seen, until the answer counts them itself."""

    def event(self, document: Mapping[str, Any]) -> bool:
        """Takes one event, in whichever framing it came, or a whole message. An unknown event passes
        by."""
        kind = document.get("type")
        if kind == "message_start":
            if isinstance(message := document.get("message"), Mapping):
                self.message(message)
        elif kind == "message_delta":
            if isinstance(delta := document.get("delta"), Mapping):
                self.container(delta.get("container"))
            self.delta(document.get("usage"))
        elif kind == "content_block_start":
            self.block(document.get("content_block"))
        elif kind == "message_stop":
            self.done = True
        elif kind == "error" or document.get("error") is not None:
            self.failed(document.get("error"))
        elif kind == "message" or (kind is None and isinstance(document.get("usage"), Mapping)):
            self.message(document)
        return False

    def message(self, message: Mapping[str, Any]) -> None:
        self._usage = {}
        self.model = name_of(message.get("model")) or self.model
        self.container(message.get("container"))
        if self._keeps_thread and isinstance(message.get("id"), str):
            self._thread = message["id"][:1_024]
        content = message.get("content")
        for block in content if isinstance(content, list) else ():
            self.block(block)
        self.delta(message.get("usage"))

    def block(self, block: object) -> None:
        """Takes one block of the content, as it begins. A result of a program may name files that it
        made; in any other block a name is only text of the model's."""
        if not isinstance(block, Mapping):
            return
        kind = block.get("type")
        if kind == "server_tool_use" and block.get("name") == "web_search":
            self._searches += 1
        elif kind == "fallback":
            to = block.get("to")
            self.fell_back(to.get("model") if isinstance(to, Mapping) else None)
        elif isinstance(kind, str) and kind.endswith("code_execution_tool_result"):
            result = block.get("content")
            made = result.get("content") if isinstance(result, Mapping) else None
            for one in made if isinstance(made, list) else ():
                name = one.get("file_id") if isinstance(one, Mapping) else None
                if isinstance(name, str) and len(self._files) < _MAX_FILES:
                    self._files[name[:1_024]] = None

    def delta(self, usage: object) -> None:
        if not isinstance(usage, Mapping):
            return
        if self._fallen and usage.get("input_tokens") is not None:
            # The counts of the attempt that declined are none of this one's.
            self._fallen = False
            for field in _COUNTS:
                self._usage.pop(field, None)
        for field in _FIELDS:
            if usage.get(field) is not None:
                self._usage[field] = usage[field]
        if usage.get("server_tool_use") is not None:
            self._searches = 0

    def fell_back(self, model: object) -> None:
        self._fallen = True
        self.model = name_of(model) or self.model

    def container(self, value: object) -> None:
        if isinstance(value, Mapping) and isinstance(value.get("id"), str):
            self._container = value["id"][:1_024]

    def failed(self, error: object) -> None:
        """The type of an error, never its message, which may repeat the request."""
        kind = error.get("type") if isinstance(error, Mapping) else None
        told = isinstance(kind, str) and kind.isprintable() and kind
        self.error = str(kind)[:64] if told else "error"

    @property
    def output(self) -> int:
        return count(self._usage.get("output_tokens"))

    @property
    def created(self) -> tuple[str, ...]:
        return (*(one for one in (self._thread, self._container) if one), *self._files)

    def charges(self) -> tuple[Charge, ...]:
        """The charges so far: of the message, of each pass and each model that its counts leave
        out, and of tools."""
        units = units_of(self._usage)
        if units is None:
            return ()
        tier = self._tier()
        served, beside = _iterations(self._usage.get("iterations"), self.model, tier)
        charges = [Charge(served, units, tier), *beside]
        tools = self._usage.get("server_tool_use")
        searches = count(tools.get("web_search_requests")) if isinstance(tools, Mapping) else 0
        searches = max(searches, self._searches)
        if searches:
            charges.append(Charge("web_search", Units(requests=searches)))
        if self._container and self._executes:
            charges.append(Charge("code_execution", Units(milliseconds=EXECUTION_LEAST)))
        return tuple(charges)

    def _tier(self) -> str:
        words = (self._usage.get(field) for field in ("service_tier", "speed", "inference_geo"))
        told = [word[:32] for word in words if isinstance(word, str) and word not in _PLAIN]
        return "+".join(word for word in told if word.isascii() and word.isprintable())


EXECUTION_LEAST: Final = 300_000
"""Milliseconds of a container that one request is charged for at least. No answer says how long it
ran: https://platform.claude.com/docs/en/agents-and-tools/tool-use/code-execution-tool#usage-and-pricing."""


def _iterations(value: object, model: str, tier: str) -> tuple[str, list[Charge]]:
    """The model that wrote the message, and the charges that the message's counts leave out: of a
    summary of the context, of an adviser, and of an attempt that declined after its first words.
    One that declined before is free."""
    entries = value[:_MAX_ITERATIONS] if isinstance(value, list) else []
    entries = [entry for entry in entries if isinstance(entry, Mapping)]
    served = [e for e in entries if e.get("type") == "fallback_message"]
    fell_back = bool(served)
    if fell_back:
        model = name_of(served[-1].get("model")) or model
    charges = []
    for entry in entries:
        kind, own = entry.get("type"), name_of(entry.get("model"))
        declined = fell_back and kind == "message" and own not in ("", model)
        if kind in _APART or (declined and count(entry.get("output_tokens"))):
            units = units_of(entry)
            if units is not None:
                charges.append(Charge(own or model, units, tier))
    return model, charges
