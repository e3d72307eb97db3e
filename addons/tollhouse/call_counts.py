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


class NamedModels:
    """The models that metrics name. It has its own memory of them, for one thread."""

    def __init__(self) -> None:
        self._named: set[tuple[str, str]] = set()

    def name(self, record: Mapping[str, Any]) -> str:
        """What the line's model is called: itself, `OTHER`, or "" for a call without one."""
        model = record.get("model") or ""
        if not model:
            return ""
        key = record["provider"], model
        if key not in self._named:
            counted = record.get("charged_by") == "usage" and nano_usd(record) > 0
            if not counted or len(self._named) >= MOST_MODELS:
                return OTHER
            self._named.add(key)
        return str(model)


def nano_usd(record: Mapping[str, Any]) -> int:
    """What the line says that was charged, in nano-dollars."""
    return int(Decimal(record.get("cost_usd") or 0) * 1_000_000_000)


class CallCounts:
    """``projects`` is how many projects are named."""

    def __init__(self, projects: int = 0) -> None:
        self._most_projects = projects
        self._models = NamedModels()
        self._projects: set[str] = set()
        self.calls: Counter[tuple[str, str, str, str]] = Counter()
        """Lines by provider ("" for none), model, class of the status and reason."""
        self.tokens: Counter[tuple[str, str, str]] = Counter()
        """By provider, model and kind."""
        self.nano_usd: Counter[tuple[str, str]] = Counter()
        self.duration: dict[str, Histogram] = {}
        self.overhead: dict[str, Histogram] = {}
        self.first_token: dict[str, Histogram] = {}
        self.response: dict[str, Histogram] = {}
        """Of each attempt that was answered: until the head of the answer."""
        self.project_calls: Counter[tuple[str, str, str]] = Counter()
        """By project, class of the status and reason."""
        self.project_nano_usd: Counter[str] = Counter()

    def add(self, record: Mapping[str, Any]) -> None:
        """``record`` is a line. A call that no provider was found for, or that did not leave, is counted, and has no tokens and
        no times. A line that charges a call later has no times either."""
        cost = nano_usd(record)
        provider = record.get("provider") or ""
        model = self._models.name(record) if provider else ""
        status, reason = _class(record.get("status")), record.get("reason") or ""
        self.calls[provider, model, status, reason] += 1
        project = record.get("project")
        if project and self._most_projects:
            project = self._named_project(project)
            self.project_calls[project, status, reason] += 1
            self.project_nano_usd[project] += cost
        attempts = record.get("attempts")
        if not provider or not (attempts or cost):
            return
        for kind, count in (record.get("tokens") or {}).items():
            self.tokens[provider, model, kind] += count
        self.nano_usd[provider, model] += cost
        if not attempts:
            return
        _add(self.duration, provider, SECONDS, record.get("duration_ms"))
        _add(self.overhead, provider, OWN_SECONDS, record.get("overhead_ms"))
        if record.get("stream"):
            _add(self.first_token, provider, SECONDS, record.get("ttft_ms"))
        for attempt in attempts:
            if attempt["outcome"].isdigit():
                asked = attempt.get("provider") or provider
                _add(self.response, asked, SECONDS, attempt["ms"])

    def _named_project(self, project: str) -> str:
        if project not in self._projects:
            if len(self._projects) >= self._most_projects:
                return OTHER
            self._projects.add(project)
        return project


def _class(status: object) -> str:
    """``2xx`` and so on; empty for a call that was answered nothing."""
    return f"{status // 100}xx" if isinstance(status, int) and status else ""


def _add(
    histograms: dict[str, Histogram], provider: str, bounds: tuple[float, ...], ms: float | None
) -> None:
    if ms is None:
        return
    histogram = histograms.get(provider)
    if histogram is None:
        histogram = histograms[provider] = Histogram(bounds)
    histogram.add(ms / 1000)
