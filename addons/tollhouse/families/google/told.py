"""What the members of an answer mean that were read so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tollhouse.families.asked import Asked
from tollhouse.families.formats.text_tokens import text_tokens
from tollhouse.families.google.errors import code_of
from tollhouse.families.google.kept_names import name_of
from tollhouse.families.google.models import only_speaks, plain
from tollhouse.families.google.usage import (
    PROVISIONED,
    TIERS,
    Grounded,
    count,
    metadata_is_uneven,
    metadata_output,
    metadata_units,
)
from tollhouse.families.meters import AnswerHead, Later
from tollhouse.families.units import Charge, Units

WANTED: Final = frozenset({"usageMetadata", "modelVersion", "error", "promptFeedback"})
_AUDIO_BYTES_PER_TOKEN: Final = 1_500
"""Bytes of sound in a token of output: 24 kHz of 16 bits at 32 tokens a second,
https://ai.google.dev/gemini-api/docs/speech-generation."""


def _is_cache(name: str) -> bool:
    return name.startswith("cachedContents/")


class Metadata:
    """An answer of ``generateContent``. Counts are cumulative: the last replaces the one before."""

    later: Later | None = None
    """Where the usage is shown that comes later."""
    ended = False
    """It shows that an answer before it is over."""

    def __init__(self, asked: Asked, head: AnswerHead) -> None:
        self.error = ""
        self.created: tuple[str, ...] = ()
        self.done = False
        self.texts = 0
        self.grounded = Grounded(getattr(asked.detail, "tools", ()))
        self.may_search = bool(self.grounded.tools) or any(map(_is_cache, asked.objects))
        """A tool was asked for that searches. A cache may have one that the request does not show."""
        self._tokens = 0.0
        self._counted = 0
        self._usage: Mapping[str, Any] | None = None
        self._model = asked.model
        self._named = ""
        # A request for a tier may be served at another: https://ai.google.dev/gemini-api/docs/priority-inference.
        self._tier = head.get("x-gemini-service-tier").lower() or asked.tier
        self._provisioned = False

    @property
    def output_seen(self) -> int:
        """By the text, at least one token for each piece of it, or by the count, if that is more."""
        return max(self.texts, -int(-self._tokens // 1), self._counted)

    @property
    def units(self) -> Units | None:
        return metadata_units(self._usage, speaks=only_speaks(self._named or self._model))

    def read(self, document: object) -> None:
        """Takes a whole answer, or one piece of a stream."""
        if not isinstance(document, Mapping):
            return
        usage = document.get("usageMetadata")
        if isinstance(usage, Mapping):
            self._read_usage(usage)
        version = document.get("modelVersion")
        if isinstance(version, str) and 0 < len(version) <= 256 and version.isprintable():
            self._named = plain(version)
        if error := code_of(document.get("error")):
            self.error = error
        candidates = document.get("candidates")
        for candidate in candidates if isinstance(candidates, list) else ():
            if isinstance(candidate, Mapping):
                self.grounded.read(candidate.get("groundingMetadata"))
                self._read_text(candidate.get("content"))

    def charges(self) -> tuple[Charge, ...]:
        units = self.units
        if units is None:
            return ()
        paid = 0 if self._provisioned else None
        tools = self.grounded.charges(self._named or self._model)
        uneven = metadata_is_uneven(self._usage)
        return (Charge(self._named, units, self._tier, paid, uneven=uneven), *tools)

    def saw(self, text: str) -> None:
        self.texts += 1
        self._tokens += text_tokens(text)

    def _read_usage(self, usage: Mapping[str, Any]) -> None:
        if count(usage.get("promptTokenCount")) is not None:
            self._usage = usage
            self._counted = metadata_output(usage)
        tier = usage.get("serviceTier")
        if isinstance(tier, str) and tier:
            self._tier = tier.lower().removeprefix("service_tier_")[:32]
        traffic = usage.get("trafficType")
        if isinstance(traffic, str) and traffic != "TRAFFIC_TYPE_UNSPECIFIED":
            self._provisioned = traffic == PROVISIONED
            self._tier = TIERS.get(traffic, "" if self._provisioned else traffic.lower()[:32])

    def _read_text(self, content: object) -> None:
        parts = content.get("parts") if isinstance(content, Mapping) else None
        for part in parts if isinstance(parts, list) else ():
            if not isinstance(part, Mapping):
                continue
            for name, value in part.items():
                if name in ("text", "functionCall", "executableCode", "codeExecutionResult"):
                    if text := value if isinstance(value, str) else str(value):
                        self.saw(text)
                elif name == "inlineData" and isinstance(value, Mapping):
                    data = value.get("data")
                    self.texts += 1
                    if isinstance(data, str):
                        self._tokens += len(data) * 3 / 4 / _AUDIO_BYTES_PER_TOKEN


class Embedded(Metadata):
    """Vectors. The prompt alone is counted."""

    def charges(self) -> tuple[Charge, ...]:
        return tuple(one._replace(units=one.units._replace(output=0)) for one in super().charges())


class NewObject(Metadata):
    """The answer is an object that is kept, or has one: ``{"name": ...}``, ``{"file": {"name": ...}}``."""

    def read(self, document: object) -> None:
        super().read(document)
        if not isinstance(document, Mapping):
            return
        file = document.get("file")
        for found in (document, file if isinstance(file, Mapping) else {}):
            if name := name_of(found.get("name")):
                self.created = (name,)

    def charges(self) -> tuple[Charge, ...]:
        return ()


class Cached(NewObject):
    """A cache was made. Its tokens are charged as input once, and for each hour that they are kept:
    https://ai.google.dev/gemini-api/docs/caching#how-cache-costs."""

    def __init__(self, asked: Asked, head: AnswerHead) -> None:
        super().__init__(asked, head)
        self._hours = asked.detail.hours
        self._kept: int | None = None

    def read(self, document: object) -> None:
        super().read(document)
        usage = document.get("usageMetadata") if isinstance(document, Mapping) else None
        if isinstance(usage, Mapping):
            self._kept = count(usage.get("totalTokenCount"))

    def charges(self) -> tuple[Charge, ...]:
        if self._kept is None:
            return ()
        tokens = self._kept
        storage = storage_charge(tokens, self._hours)
        return (Charge("", Units(input=tokens, cache_write=tokens, requests=1)), storage)


STORAGE: Final = "cache_storage"
"""The name of the storage of caches in the table of prices. One request is a thousand tokens, kept
for an hour."""


def storage_charge(tokens: int, hours: int) -> Charge:
    return Charge(STORAGE, Units(requests=-(-tokens * hours // 1000)))
