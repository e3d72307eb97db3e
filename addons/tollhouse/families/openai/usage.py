"""What the outermost members of an answer in OpenAI's format mean: its usage, its model, its tier, its error."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from tollhouse.families.formats.counts import is_uneven
from tollhouse.families.openai.paid import paid_alone, paid_of
from tollhouse.families.units import Charge, Units

ReadUsage = Callable[[object], Units | None]
"""`usage_of`, or what reads the usage object of somebody who counts otherwise."""


def usage_of(value: object) -> Units | None:
    """OpenAI's ``usage`` object in the one normal form; None unless it is an object with a ``prompt_tokens`` count. Zeros alone
    are no count: every request has input, and servers that do not count send them.

    Details are parts of their totals (``prompt_tokens`` includes the cached tokens) and may be
    null. Reasoning is added to ``completion_tokens`` only if the total shows that it is not in
    there (xAI, Vertex's OpenAI endpoint). ``prompt_cache_hit_tokens`` is DeepSeek's word for the
    cached tokens: https://api-docs.deepseek.com/guides/kv_cache.
    """
    if not isinstance(value, dict):
        return None
    prompt = count_of(value.get("prompt_tokens"))
    if prompt is None:
        return None
    output = count_of(value.get("completion_tokens")) or 0
    of_prompt = _details(value.get("prompt_tokens_details"))
    of_output = _details(value.get("completion_tokens_details"))
    reasoning = of_output("reasoning_tokens")
    if reasoning and count_of(value.get("total_tokens")) == prompt + output + reasoning:
        output += reasoning
    if not prompt and not output:
        return None
    return Units(
        input=prompt,
        cached=min(
            of_prompt("cached_tokens") or count_of(value.get("prompt_cache_hit_tokens")) or 0,
            prompt,
        ),
        cache_write=min(of_prompt("cache_write_tokens"), prompt),
        output=output,
        reasoning=min(reasoning, output),
        input_audio=min(of_prompt("audio_tokens"), prompt),
        output_audio=min(of_output("audio_tokens"), output),
        requests=1,
    )


def count_of(value: object) -> int | None:
    """A count; None for what is none."""
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _details(value: object) -> Callable[[str], int]:
    parts = value if isinstance(value, dict) else {}
    return lambda key: count_of(parts.get(key)) or 0


def error_of(value: object) -> str:
    """The code or type of an error, never its message (which may repeat the request); "" for null."""
    if value is None or value is False or value == "" or value == {}:
        return ""
    if not isinstance(value, dict):
        return "error"
    name = value.get("code") or value.get("type") or "error"
    return str(name)[:64] if isinstance(name, str | int) and str(name).isprintable() else "error"


WANTED: Final = (
    *("usage", "model", "service_tier", "error"),
    *("x_groq", "usage_breakdown", "choices"),
)
"""The outermost members of an answer that say something of its usage."""
_MOST_MODELS: Final = 32
_MOST_TOOLS: Final = 1_000
_CODE: Final = re.compile(r"[a-z0-9_]{1,64}")
UNKNOWN_TOOL: Final = "executed_tools"
"""It has no price, so that the hold is charged at least."""
_TOOLS: Final = {
    "search": "web_search",
    "browser_search": "web_search",
    "python": "code_interpreter",
}
"""Groq's words for tools that OpenAI calls otherwise: https://console.groq.com/docs/compound."""


def _by_model(value: object) -> tuple[tuple[str, Units], ...]:
    """Groq's ``usage_breakdown``: the models that a compound system used, each with its usage. They
    come to the usage of the whole: https://console.groq.com/docs/compound. Empty if one of them
    can't be read."""
    models: Any = value.get("models") if isinstance(value, dict) else None
    if not isinstance(models, list) or len(models) > _MOST_MODELS:
        return ()
    found = []
    for one in models:
        name = one.get("model") if isinstance(one, dict) else None
        units = usage_of(one.get("usage")) if isinstance(one, dict) else None
        if not isinstance(name, str) or not name.isprintable() or units is None:
            return ()
        found.append((name[:256], units))
    return tuple(found)


class Told:
    """The members of an answer that were read so far. The last value of each counts: a stream's
    counts and its tier may change on the way. ``search`` is the tool that searches the web before
    each answer, "" for none."""

    def __init__(self, search: str = "", read_usage: ReadUsage = usage_of) -> None:
        self._search = search
        self._usage_of = read_usage
        self.usage: Units | None = None
        self.model = ""
        self.tier = ""
        self.error = ""
        self._paid: int | None = None
        self._uneven = False
        self._each: tuple[tuple[str, Units], ...] = ()
        """The counts of each model of a system of several."""
        self._sources = 0
        """Pages that xAI's search has used: https://docs.x.ai/docs/guides/live-search."""
        self._tools: dict[tuple[int, int], str] = {}
        """The tools that Groq has run, by the choice and their number in it: a stream tells of one
        several times."""

    def read(self, key: str, value: object) -> None:
        """Takes one outermost member of the answer or of one of its events."""
        if key == "usage":
            self._read_usage(value)
        elif key == "model":
            if isinstance(value, str) and value and value.isascii() and value.isprintable():
                self.model = value[:256]
        elif key == "service_tier":
            if isinstance(value, str):
                self.tier = value[:32]
        elif key == "error":
            self.error = error_of(value) or self.error
        elif key == "usage_breakdown":
            self._each = _by_model(value) or self._each
        elif key == "choices":
            self._read_tools(value)
        elif key == "x_groq" and isinstance(value, dict):
            # Groq's own frame repeats the usage that include_usage asks for. An error in it ends
            # the stream: groq-python, types/chat/chat_completion_chunk.py.
            for name in ("usage", "usage_breakdown"):
                self.read(name, value.get(name))
            error = value.get("error")
            said = isinstance(error, str) and _CODE.fullmatch(error)
            self.error = (str(error) if said else error_of(error)) or self.error

    def _read_usage(self, value: object) -> None:
        usage = self._usage_of(value) or paid_alone(value)
        if usage is not None:
            self.usage, self._paid = usage, paid_of(value)
            if isinstance(value, dict):
                self._uneven = is_uneven(value.get("total_tokens"), usage.tokens)
                self._sources = count_of(value.get("num_sources_used")) or 0

    def _read_tools(self, choices: object) -> None:
        for at, choice in enumerate(choices if isinstance(choices, list) else ()):
            if not isinstance(choice, dict):
                continue
            said = choice.get("message") or choice.get("delta")
            tools = said.get("executed_tools") if isinstance(said, dict) else None
            for number, tool in enumerate(tools if isinstance(tools, list) else ()):
                if isinstance(tool, dict) and len(self._tools) < _MOST_TOOLS:
                    index, kind = count_of(tool.get("index")), tool.get("type")
                    name = kind if isinstance(kind, str) and kind.isprintable() else UNKNOWN_TOOL
                    place = count_of(choice.get("index")) or at, number if index is None else index
                    self._tools[place] = _TOOLS.get(name, name)[:64]

    def note_tools(self) -> None:
        """Tools were run, and nobody can tell which."""
        self._tools[-1, -1] = UNKNOWN_TOOL

    def charges(self) -> tuple[Charge, ...]:
        """The charges so far. A counted answer that names no tier was served as standard. What the
        answer itself says is paid covers the tools."""
        if self.usage is None:
            return ()
        if self._paid is not None:
            return (Charge(self.model, self.usage, self.tier, self._paid, uneven=self._uneven),)
        each = self._each or ((self.model, self.usage),)
        own = tuple(Charge(model, units, self.tier, uneven=self._uneven) for model, units in each)
        uses = Counter(self._tools.values())
        if self._sources:
            uses["live_search"] = self._sources
        if self._search:
            uses[self._search] = 1
        return (*own, *(Charge(name, Units(requests=uses[name])) for name in uses))
