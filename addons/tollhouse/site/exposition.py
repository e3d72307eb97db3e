"""Prometheus's text format, and the way of its metrics from process to process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from tollhouse.site.totals import Families, Family

# https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def told(metric: Metric) -> Family:
    """One metric, as JSON can carry it."""
    samples = [[sample.name, sample.labels, sample.value] for sample in metric.samples]
    return {
        "name": metric.name,
        "type": metric.type,
        "help": metric.documentation,
        "samples": samples,
    }


def exposed(families: Families) -> tuple[str, bytes]:
    """The content type and the text."""
    # A registry of our own: the library's global one belongs to whoever imports it.
    registry = CollectorRegistry()
    registry.register(_Told(families))
    return CONTENT_TYPE, generate_latest(registry)


class _Told(Collector):
    def __init__(self, families: Families) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            metric = Metric(family["name"], family["help"], family["type"])
            for name, labels, value in family["samples"]:
                metric.add_sample(name, labels, value)
            yield metric
