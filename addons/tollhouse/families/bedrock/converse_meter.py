"""What an answer of Converse or ConverseStream says of its usage.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStreamOutput.html: a
stream tells its usage in its last event, ``metadata``, and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from tollhouse.families.asked import Asked
from tollhouse.families.bedrock.aws_answer import Answered, FramedAnswer
from tollhouse.families.bedrock.aws_usage import converse_usage, tier
from tollhouse.families.bedrock.converse import GUARDED
from tollhouse.families.bedrock.model_ids import plain_id
from tollhouse.families.formats.counts import count, is_uneven
from tollhouse.families.formats.text_tokens import raw_tokens
from tollhouse.families.formats.watched import WatchedJson, texts_of
from tollhouse.families.meters import AnswerHead, Meter
from tollhouse.families.units import Charge

_WANTED: Final = frozenset({"usage", "serviceTier", "performanceConfig", "trace"})
_TEXTS: Final = texts_of("text", "input", "redactedContent")
"""Texts, arguments of tools and reasoning. An image is counted by nobody before its end."""


def meter(asked: Asked, head: AnswerHead) -> Meter:
    """The meter of an answer of status 2xx."""
    guarded = bool(asked.detail.guarded)
    if asked.stream:
        return FramedAnswer(ConverseEvents(guarded))
    return WatchedJson(Answered(lambda found: converse_charges(found, guarded)), _WANTED)


def converse_charges(found: Mapping[str, Any], guarded: bool = False) -> tuple[Charge, ...]:
    """The charges of an answer, or of the event ``metadata``. A prompt router names the model that
    it chose."""
    told = found.get("usage")
    usage = converse_usage(told)
    if usage is None or not isinstance(told, Mapping):
        return ()
    # The total has the cached tokens at some models, and at others not.
    plain = count(told.get("inputTokens")) + count(told.get("outputTokens"))
    uneven = is_uneven(told.get("totalTokens"), usage.tokens, plain)
    trace = found.get("trace")
    router = trace.get("promptRouter") if isinstance(trace, Mapping) else None
    served = router.get("invokedModelId") if isinstance(router, Mapping) else None
    known = isinstance(served, str) and served.isascii() and served.isprintable()
    model = plain_id(str(served)[:2_048])[:256] if known else ""
    served_at = tier(found.get("serviceTier"), found.get("performanceConfig"))
    charge = Charge(model, usage, served_at, uneven=uneven)
    return (charge, GUARDED) if guarded else (charge,)


class ConverseEvents:
    """`FrameReader` of ConverseStream."""

    def __init__(self, guarded: bool = False) -> None:
        self.done = False
        self._guarded = guarded
        self._charges: tuple[Charge, ...] = ()
        self._texts = 0
        self._tokens = 0.0

    @property
    def output_seen(self) -> int:
        """By the text, at least one token for each piece of it; or the stream's own count, if that
        is more."""
        counted = self._charges[0].units.output if self._charges else 0
        return max(self._texts, -int(-self._tokens // 1), counted)

    def event(self, kind: str, payload: bytes) -> None:
        if kind == "contentBlockDelta":
            for text in _TEXTS.findall(payload):
                self._texts += 1
                self._tokens += raw_tokens(text)
        elif kind == "metadata":
            self.done = True
            found = json.loads(payload)
            if isinstance(found, dict):
                self._charges = converse_charges(found, self._guarded) or self._charges

    def charges(self) -> tuple[Charge, ...]:
        return self._charges
