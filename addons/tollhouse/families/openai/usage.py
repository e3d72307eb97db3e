"""What the outermost members of an answer in OpenAI's format mean: its usage, its model, its tier, its error."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tollhouse.families.units import Charge, Units


def usage_of(value: object) -> Units | None:
    """OpenAI's ``usage`` object in the one normal form; None unless it is an object with a ``prompt_tokens`` count. Zeros alone
    are no count: every request has input, and servers that do not count send them.

    Details are parts of their totals (``prompt_tokens`` includes the cached tokens) and may be
    null. Reasoning is added to ``completion_tokens`` only if the total shows that it is not in
    there (xAI, Vertex's OpenAI endpoint).
    """
    if not isinstance(value, Mapping):
        return None
    prompt = _count(value.get("prompt_tokens"))
    if prompt is None:
        return None
    output = _count(value.get("completion_tokens")) or 0
    of_prompt = _details(value.get("prompt_tokens_details"))
    of_output = _details(value.get("completion_tokens_details"))
    reasoning = of_output("reasoning_tokens")
    if reasoning and _count(value.get("total_tokens")) == prompt + output + reasoning:
        output += reasoning
    if not prompt and not output:
        return None
    return Units(
        input=prompt,
        cached=min(of_prompt("cached_tokens"), prompt),
        cache_write=min(of_prompt("cache_write_tokens"), prompt),
        output=output,
        reasoning=min(reasoning, output),
        input_audio=min(of_prompt("audio_tokens"), prompt),
        output_audio=min(of_output("audio_tokens"), output),
        requests=1,
    )


def _count(value: object) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _details(value: object) -> Callable[[str], int]:
    parts = value if isinstance(value, Mapping) else {}
    return lambda key: _count(parts.get(key)) or 0


def _error_of(value: object) -> str:
    """The code or type of an error, never its message (which may repeat the request); "" for null."""
    if value is None or value is False or value == "" or value == {}:
        return ""
    if not isinstance(value, Mapping):
        return "error"
    name = value.get("code") or value.get("type") or "error"
    return str(name)[:64] if isinstance(name, str | int) and str(name).isprintable() else "error"


class Told:
    """The members of an answer that were read so far. The last value of each counts: a stream's
    counts and its tier may change on the way. ``search`` is the tool that searches the web before
    each answer, "" for none."""

    def __init__(self, search: str = "") -> None:
        self._search = search
        self.usage: Units | None = None
        self.model = ""
        self.tier = ""
        self.error = ""

    def read(self, key: str, value: object) -> None:
        """Takes one outermost member of the answer or of one of its events."""
        if key == "usage":
            self.usage = usage_of(value) or self.usage
        elif key == "model":
            if isinstance(value, str) and value and value.isascii() and value.isprintable():
                self.model = value[:256]
        elif key == "service_tier":
            if isinstance(value, str):
                self.tier = value[:32]
        elif key == "error":
            self.error = _error_of(value) or self.error

    def charges(self) -> tuple[Charge, ...]:
        """The charges so far. A counted answer that names no tier was served as standard."""
        if self.usage is None:
            return ()
        own = Charge(self.model, self.usage, self.tier)
        return (own, Charge(self._search, Units(requests=1))) if self._search else (own,)
