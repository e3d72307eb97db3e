"""What an answer of InvokeModel says of its usage: in its model's own fields, in AWS's headers, or
at a stream's end in AWS's ``amazon-bedrock-invocationMetrics``. All of them count the same tokens,
so that only one is ever taken."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any, Final

from tollhouse.families.anthropic.usage import units_of
from tollhouse.families.asked import Asked
from tollhouse.families.bedrock.aws_answer import Answered, FramedAnswer
from tollhouse.families.bedrock.aws_usage import converse_usage, counted, tier
from tollhouse.families.bedrock.converse import GUARDED
from tollhouse.families.formats.counts import count, count_of
from tollhouse.families.formats.text_tokens import raw_tokens
from tollhouse.families.formats.watched import WatchedJson, texts_of
from tollhouse.families.meters import AnswerHead, Meter
from tollhouse.families.openai.usage import usage_of
from tollhouse.families.units import Charge, Units

METRICS: Final = "amazon-bedrock-invocationMetrics"
_MARK: Final = METRICS.encode()
_WANTED: Final = frozenset(
    {
        "usage", "inputTextTokenCount", "results", "prompt_token_count", "generation_token_count",
        "totalOutputTextTokenCount", METRICS,
    }
)  # fmt: skip
_TEXTS: Final = texts_of(
    *("text", "partial_json", "thinking", "outputText", "generation", "content"),
    *("reasoning_content", "reasoning", "arguments", "completion", "input"),
)
_COUNTS: Final = (b'"usage"', b'oken_count"', b'okenCount"')
"""One of these is in every event that may have a count."""
_BYTES: Final = re.compile(rb'"bytes"[ ]?:[ ]?"([A-Za-z0-9+/=]*)"')


def meter(asked: Asked, head: AnswerHead) -> Meter:
    """The meter of an answer of status 2xx."""
    beside = (GUARDED,) if asked.detail is not None and asked.detail.guarded else ()
    served = tier(
        head.get("x-amzn-bedrock-service-tier"),
        head.get("x-amzn-bedrock-performanceconfig-latency"),
    )
    if asked.stream:
        return FramedAnswer(InvokeChunks(served, beside))

    def charges(found: Mapping[str, Any]) -> tuple[Charge, ...]:
        units = usage_in(found, writes=asked.writes) or _of_headers(head)
        return () if units is None else (Charge("", units, served), *beside)

    return WatchedJson(Answered(charges), _WANTED)


def usage_in(found: Mapping[str, Any], *, writes: bool = True) -> Units | None:
    """The count in an answer, or in one event of a stream, in whichever format it is. None if it is
    not there, or only its input is where the model ``writes``: the ``results`` of Titan stand among
    the texts, and are not read of a long answer."""
    usage = found.get("usage")
    if isinstance(usage, Mapping):
        return units_of(usage) or converse_usage(usage) or usage_of(usage)
    if (told := count_of(found.get("inputTextTokenCount"))) is not None:
        results = found.get("results")
        total = count_of(found.get("totalOutputTextTokenCount"))
        if writes and total is None and not isinstance(results, list):
            return None
        written = sum(
            count(item.get("tokenCount"))
            for item in (results if isinstance(results, list) else ())
            if isinstance(item, Mapping)
        )
        return counted(told, written or total or 0)
    told = count_of(found.get("prompt_token_count"))
    written_now = count_of(found.get("generation_token_count"))
    if told is not None or written_now is not None:
        return counted(told or 0, written_now or 0)
    return None


def metrics_usage(found: object) -> Units | None:
    """``amazon-bedrock-invocationMetrics``: its input has no tokens of the cache either."""
    if not isinstance(found, Mapping):
        return None
    told, output = count_of(found.get("inputTokenCount")), count_of(found.get("outputTokenCount"))
    if told is None and output is None:
        return None
    read = count(found.get("cacheReadInputTokenCount"))
    written = count(found.get("cacheWriteInputTokenCount"))
    return counted((told or 0) + read + written, output or 0, read, written)


def _of_headers(head: AnswerHead) -> Units | None:
    """AWS's own count, for a body that has none."""
    names = ("input", "output", "cache-read-input", "cache-write-input")
    told = [head.get(f"x-amzn-bedrock-{name}-token-count") for name in names]
    numbers = [
        int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0 for text in told
    ]
    return counted(numbers[0] + numbers[2] + numbers[3], *numbers[1:])


class InvokeChunks:
    """`FrameReader` of InvokeModelWithResponseStream: each ``chunk`` is an event of the model's own
    stream, in base64."""

    def __init__(self, served: str = "", beside: tuple[Charge, ...] = ()) -> None:
        self.done = False
        self._tier = served
        self._beside = beside
        self._members: dict[str, Any] = {}
        """The members of the model's own count: each event may tell some of them."""
        self._whole = False
        """The model's own count has come to its end."""
        self._own: Units | None = None
        self._metrics: Units | None = None
        self._texts = 0
        self._tokens = 0.0

    @property
    def output_seen(self) -> int:
        """By the text, at least one token for each piece of it; or the count, if that is more."""
        units = self._counted()
        by_text = max(self._texts, -int(-self._tokens // 1))
        return by_text if units is None else max(by_text, units.output)

    def event(self, kind: str, payload: bytes) -> None:
        found = _BYTES.search(payload) if kind == "chunk" else None
        if found is None:
            return
        inner = base64.b64decode(found[1])
        for text in _TEXTS.findall(inner):
            self._texts += 1
            self._tokens += raw_tokens(text)
        if inner.find(_MARK) >= 0 or any(inner.find(mark) >= 0 for mark in _COUNTS):
            document = json.loads(inner)
            if isinstance(document, dict):
                self._read(document)

    def _read(self, document: Mapping[str, Any]) -> None:
        if METRICS in document:
            self.done = True
            self._metrics = metrics_usage(document[METRICS]) or self._metrics
        for key in ("message", "metadata"):
            # Claude's first event, and Nova's last.
            if isinstance(document.get(key), Mapping):
                self._take(document[key], first=key == "message")
        self._take(document)

    def _take(self, found: Mapping[str, Any], *, first: bool = False) -> None:
        """Counts are running totals: a later one replaces an earlier one, and null replaces
        nothing."""
        usage = found.get("usage")
        told = usage if isinstance(usage, Mapping) else found
        counts = {key: value for key, value in told.items() if key != METRICS and value is not None}
        members = self._members | counts
        # Claude's later events count the output alone, and their input stands in the first.
        own = usage_in({"usage": members} if told is usage else members)
        if own is None or not any("oken" in key for key in counts):
            return
        self._members, self._own = members, own
        self._whole = self._whole or not first

    def _counted(self) -> Units | None:
        """The model's own count, or AWS's where the model's has not come to its end. AWS's does not
        say what is kept for an hour."""
        if self._whole or self._metrics is None:
            return self._own
        hour = 0 if self._own is None else self._own.cache_write_1h
        return self._metrics._replace(cache_write_1h=min(hour, self._metrics.cache_write))

    def charges(self) -> tuple[Charge, ...]:
        units = self._counted()
        return () if units is None else (Charge("", units, self._tier), *self._beside)
