"""What the members of Mistral's answers mean: ``usage``, ``usage_info``, the model, errors, ids.

mistralai-python `usageinfo.py`, `conversationusageinfo.py` and `ocrusageinfo.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from tollhouse.families.formats.counts import count, is_uneven
from tollhouse.families.mistral.connectors import used
from tollhouse.families.units import Charge, Units

_LONGEST_S: Final = 10_000_000
DONE: Final = "conversation.response.done"
ERROR: Final = "conversation.response.error"


def units_of(usage: Mapping[str, Any]) -> Units | None:
    """``connector_tokens`` are outside ``prompt_tokens``, and ``cached_tokens`` inside. Zeros alone are no count."""
    details = usage.get("prompt_tokens_details")
    cached = count(details.get("cached_tokens")) if isinstance(details, Mapping) else 0
    whole = count(usage.get("prompt_tokens")) + count(usage.get("connector_tokens"))
    output = count(usage.get("completion_tokens"))
    milliseconds = _milliseconds(usage.get("prompt_audio_seconds"))
    if not (whole or output or milliseconds):
        return None
    return Units(
        input=whole, output=output, cached=min(cached, whole), milliseconds=milliseconds, requests=1
    )


def _milliseconds(seconds: object) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return 0
    return math.ceil(1_000 * seconds) if 0 < seconds < _LONGEST_S else 0


def code_of(error: Mapping[str, Any]) -> str:
    """The code or type of an error, never its message, which may repeat the request."""
    value = error.get("code") or error.get("type") or "error"
    text = str(value) if type(value) in (str, int) else "error"
    return text[:64] if text.isprintable() else "error"


class ToldByMistral:
    """`formats.watched.Heard` of completions, conversations, embeddings and classifications. The last usage counts."""

    def __init__(self, tools: tuple[str, ...] = (), *, makes: bool = False) -> None:
        self.model = ""
        self.error = ""
        self.done = False
        self.created: tuple[str, ...] = ()
        self._tools = tools
        self._makes = makes
        self._units: Units | None = None
        self._uneven = False
        self._tier = ""
        self._used: tuple[Charge, ...] = ()
        self._several = False

    @property
    def output(self) -> int:
        return 0 if self._units is None else self._units.output

    def event(self, document: Mapping[str, Any]) -> bool:
        kind = document.get("type")
        if kind == ERROR or document.get("object") == "error":
            self.error = code_of(document)
        elif isinstance(document.get("error"), Mapping):
            self.error = code_of(document["error"])
        self._name(document.get("model"))
        outputs = document.get("outputs")
        for entry in outputs if isinstance(outputs, list) else ():
            if isinstance(entry, Mapping):
                self._name(entry.get("model"))
        made = document.get("conversation_id")
        if self._makes and isinstance(made, str) and made:
            self.created = (made[:256],)
        usage = document.get("usage")
        if isinstance(usage, Mapping):
            self._read_counts(usage)
            tier = usage.get("service_tier")
            self._tier = tier[:32] if isinstance(tier, str) else self._tier
            self._used = used(usage.get("connectors"), self._tools) or self._used
        self.done = self.done or kind == DONE
        return False

    def _read_counts(self, usage: Mapping[str, Any]) -> None:
        units = units_of(usage)
        if units is not None:
            # Nobody says whether the total has the tokens of connectors. Of sound it has tokens that no other field has.
            beside = units.tokens - count(usage.get("connector_tokens"))
            odd = is_uneven(usage.get("total_tokens"), units.tokens, beside)
            self._uneven = odd and not units.milliseconds
            self._units = units

    def charges(self) -> tuple[Charge, ...]:
        """An answer of several models (agents that hand over) has one usage, and no model then."""
        if self._units is None:
            return ()
        return (
            Charge(
                "" if self._several else self.model, self._units, self._tier, uneven=self._uneven
            ),
            *self._used,
        )

    def _name(self, value: object) -> None:
        if isinstance(value, str) and value and value.isascii() and value.isprintable():
            self._several = self._several or self.model not in ("", value[:256])
            self.model = value[:256]


class ToldPages:
    """Of OCR: pages."""

    error = ""
    done = False
    output = 0
    created: tuple[str, ...] = ()

    def __init__(self, tier: str) -> None:
        self.model = ""
        self._tier = tier
        self._pages = 0

    def event(self, document: Mapping[str, Any]) -> bool:
        model, usage = document.get("model"), document.get("usage_info")
        if isinstance(model, str) and model.isascii() and model.isprintable():
            self.model = model[:256]
        if isinstance(usage, Mapping):
            self._pages = count(usage.get("pages_processed")) or self._pages
        if document.get("object") == "error":
            self.error = code_of(document)
        return False

    def charges(self) -> tuple[Charge, ...]:
        if not self._pages:
            return ()
        return (Charge(self.model, Units(pages=self._pages, requests=1), self._tier),)


class ToldFile:
    """Of an upload: the file's id."""

    model = error = ""
    done = False
    output = 0

    def __init__(self) -> None:
        self.created: tuple[str, ...] = ()

    def event(self, document: Mapping[str, Any]) -> bool:
        made = document.get("id")
        if isinstance(made, str) and made:
            self.created = (made[:256],)
        return False

    def charges(self) -> tuple[Charge, ...]:
        return ()
