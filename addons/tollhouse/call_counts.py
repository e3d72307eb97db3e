"""What calls came to since the start, for the metrics: counted from their lines, so that it says what they say.

A label is never what a workload chooses freely. A model has a name of its own here once a call of it was charged by its provider's
count, which needs a model that the provider knows: a call that was left is charged whatever its model is called. The first
`MOST_MODELS` are named. A project is named if the operator says how many may be.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from itertools import accumulate
from typing import Any, Final

MOST_MODELS: Final = 100
OTHER: Final = "other"
SECONDS: Final = (
    0.01,
    0.02,
    0.04,
    0.08,
    0.16,
    0.32,
    0.64,
    1.28,
    2.56,
    5.12,
    10.24,
    20.48,
    40.96,
    81.92,
)
"""Upper bounds for what providers take (OpenTelemetry's GenAI conventions have the same)."""
OWN_SECONDS: Final = (
    0.0005,
    0.001,
    0.002,
    0.004,
    0.008,
    0.016,
    0.032,
    0.064,
    0.128,
    0.256,
    0.512,
    1.024,
)
"""Upper bounds for what the gateway adds."""


class Histogram:
    """Of one provider. Its owner adds to it."""

    __slots__ = ("_bounds", "_counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self.sum += seconds

    @property
    def buckets(self) -> list[tuple[str, float]]:
        """Upper bound and how many were not above it, as Prometheus counts: the last is of all."""
        names = [*(f"{bound:g}" for bound in self._bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(self._counts)), strict=True))


class CallCounts:
    """``projects`` is how many projects are named."""

    def __init__(self, projects: int = 0) -> None:
        self._most_projects = projects
        self._models: set[tuple[str, str]] = set()
        self._projects: set[str] = set()
        self.tokens: Counter[tuple[str, str, str]] = Counter()
        """By provider, model and kind."""
        self.nano_usd: Counter[tuple[str, str]] = Counter()
        self.duration: dict[str, Histogram] = {}
        self.overhead: dict[str, Histogram] = {}
        self.first_token: dict[str, Histogram] = {}
        self.project_calls: Counter[str] = Counter()
        self.project_nano_usd: Counter[str] = Counter()

    def add(self, record: Mapping[str, Any]) -> None:
        """``record`` is a line. Of a call that no provider was found for, or that did not leave, only its project counts."""
        nano_usd = int(Decimal(record.get("cost_usd") or 0) * 1_000_000_000)
        project = record.get("project")
        if project and self._most_projects:
            project = self._named_project(project)
            self.project_calls[project] += 1
            self.project_nano_usd[project] += nano_usd
        provider = record.get("provider")
        if not provider or not record.get("attempts"):
            return
        counted = nano_usd > 0 and record.get("charged_by") == "usage"
        model = self._named_model(provider, record.get("model") or "", counted)
        for kind, count in (record.get("tokens") or {}).items():
            self.tokens[provider, model, kind] += count
        self.nano_usd[provider, model] += nano_usd
        _add(self.duration, provider, SECONDS, record.get("duration_ms"))
        _add(self.overhead, provider, OWN_SECONDS, record.get("overhead_ms"))
        if record.get("stream"):
            _add(self.first_token, provider, SECONDS, record.get("ttft_ms"))

    def _named_model(self, provider: str, model: str, counted: bool) -> str:
        if not model:
            return ""
        key = provider, model
        if key not in self._models:
            if not counted or len(self._models) >= MOST_MODELS:
                return OTHER
            self._models.add(key)
        return model

    def _named_project(self, project: str) -> str:
        if project not in self._projects:
            if len(self._projects) >= self._most_projects:
                return OTHER
            self._projects.add(project)
        return project


def _add(
    histograms: dict[str, Histogram], provider: str, bounds: tuple[float, ...], ms: float | None
) -> None:
    if ms is None:
        return
    histogram = histograms.get(provider)
    if histogram is None:
        histogram = histograms[provider] = Histogram(bounds)
    histogram.add(ms / 1000)
