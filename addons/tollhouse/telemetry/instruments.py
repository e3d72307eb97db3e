"""Calls as the metrics of the GenAI conventions. For one thread.

The gateway is a client: ``gen_ai.server.*`` is for the model's own server. Models are named as in /metrics (`call_counts`), and
no label is anything else that a workload chooses.
"""

from __future__ import annotations

from typing import Final

from opentelemetry.metrics import Counter, Histogram
from opentelemetry.sdk.metrics import MeterProvider

from tollhouse import __version__
from tollhouse.call_counts import SECONDS, NamedModels, nano_usd
from tollhouse.telemetry.attributes import (
    error_type,
    input_by_modality,
    operation_of,
    output_by_modality,
    sound,
)
from tollhouse.telemetry.conventions import NAMES, Version
from tollhouse.telemetry.handed import Handed

TOKENS: Final = tuple(float(4**power) for power in range(14))
"""Upper bounds of histograms of tokens: 1 to 67,108,864."""
_PARTS: Final = {
    "cached": "cache_read.input_tokens",
    "cache_write": "cache_write.input_tokens",
    "reasoning": "reasoning.output_tokens",
}
Labels = dict[str, str | int]


class CallInstruments:
    """Of calls that left, of operations that cost money."""

    def __init__(self, provider: MeterProvider, version: Version) -> None:
        self._names = names = NAMES[version]
        self._models = NamedModels()
        self._meter = provider.get_meter("tollhouse", __version__, schema_url=names.schema_url)
        self._duration = self._histogram(names.duration, "s", "Duration of a call.", SECONDS)
        self._other_duration = self._duration
        if names.other_duration != names.duration:
            self._other_duration = self._histogram(
                names.other_duration, "s", "Duration of a call that is no inference.", SECONDS
            )
        self._first_chunk = self._histogram(
            names.first_chunk, "s", "Until the first bytes of a streamed answer.", SECONDS
        )
        self._cost = self._meter.create_counter("tollhouse.cost", "USD", "Dollars charged.")
        self._token_usage = self._tokens(names.token_usage)
        self._input_tokens = self._tokens(names.input_tokens)
        self._output_tokens = self._tokens(names.output_tokens)
        self._usage: dict[str, Counter] = {}
        if names.usage is not None:
            for part in ("input_tokens", "output_tokens", *_PARTS.values()):
                self._usage[part] = self._meter.create_counter(
                    f"{names.usage}{part}", "{token}", "Tokens that were counted."
                )

    def _histogram(self, name: str, unit: str, what: str, bounds: tuple[float, ...]) -> Histogram:
        return self._meter.create_histogram(
            name, unit, what, explicit_bucket_boundaries_advisory=bounds
        )

    def _tokens(self, name: str | None) -> Histogram | None:
        if name is None:
            return None
        return self._histogram(name, "{token}", "Tokens of a call.", TOKENS)

    def tell(self, call: Handed) -> None:
        """A line that is not that of a call's end charges a call, and has no times and no target."""
        record = call.record
        if not record.get("provider"):
            return
        model = sound(self._models.name(record))
        cost = nano_usd(record)
        if cost:
            self._cost.add(
                cost / 1e9,
                {"tollhouse.provider": record["provider"], "gen_ai.request.model": model},
            )
        if not call.ended or not call.metered or not record["attempts"]:
            return
        labels: Labels = {
            "gen_ai.operation.name": operation_of(call),
            "gen_ai.provider.name": call.provider,
            **({"gen_ai.request.model": model} if model else {}),
        }
        self._times(call, labels)
        self._count(call, labels)

    def _times(self, call: Handed, labels: Labels) -> None:
        record = call.record
        error = error_type(record)
        inference = labels["gen_ai.operation.name"] != "embeddings"
        duration = self._duration if inference else self._other_duration
        duration.record(
            record["duration_ms"] / 1000, {**labels, **({"error.type": error} if error else {})}
        )
        if record["stream"] and record["ttft_ms"] is not None:
            self._first_chunk.record(record["ttft_ms"] / 1000, labels)

    def _count(self, call: Handed, labels: Labels) -> None:
        tokens = call.record["tokens"]
        if self._token_usage is not None:
            for kind in ("input", "output"):
                if kind in tokens:
                    self._token_usage.record(tokens[kind], {**labels, "gen_ai.token.type": kind})
            return
        for histogram, kind in ((self._input_tokens, "input"), (self._output_tokens, "output")):
            if histogram is not None and kind in tokens:
                histogram.record(tokens[kind], labels)
        split = input_by_modality(call)
        for name, counts in (
            ("input_tokens", split),
            ("output_tokens", output_by_modality(call)),
        ):
            for modality, count in counts.items():
                self._usage[name].add(count, {**labels, "gen_ai.token.modality": modality})
        modality = next(iter(split)) if len(split) == 1 else "unknown"
        for part, name in _PARTS.items():
            if count := tokens.get(part):
                self._usage[name].add(count, {**labels, "gen_ai.token.modality": modality})
