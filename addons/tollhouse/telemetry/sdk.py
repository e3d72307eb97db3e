"""OpenTelemetry's SDK: what it sends to the collector, and what of it got lost.

`https://opentelemetry.io/docs/specs/otel/protocol/exporter/` names the environment variables that hold beside the configuration:
headers, certificates, compression and time-outs. Its threads are the process's own, so this is for a process that forks no more.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import requests
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

from tollhouse import __version__
from tollhouse.telemetry.deadline import Deadline, DeadlineAdapter

log = logging.getLogger(__name__)

MOST_SPANS: Final = 4_096
"""That wait for the collector. Each is a few KB at most."""
_BATCH: Final = 64
"""Spans of one request. Encoding them holds the interpreter's lock, which the calls need."""
_TRY_S: Final = 3.0
_LONGEST: Final = 512
"""Characters of a text in a span, as of one in a line."""


_LOUD: Final = tuple(
    f"opentelemetry.exporter.otlp.proto.http.{kind}_exporter" for kind in ("trace", "metric")
)
"""Loggers."""


class CollectorState:
    """Whether the collector takes what it is sent. The log says each change once."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._away: set[str] = set()
        self.why = ""

    @property
    def away(self) -> bool:
        return bool(self._away)

    def told(self, signal: str, taken: bool) -> None:
        """``signal``: traces or metrics."""
        if taken and signal in self._away:
            self._away.discard(signal)
            log.warning("the OTLP collector at %s takes %s again", self._endpoint, signal)
        elif not taken and signal not in self._away:
            self._away.add(signal)
            log.warning(
                "the OTLP collector at %s does not take %s (%s): they are lost until it does, and calls go on",
                self._endpoint,
                signal,
                self.why or "no reason is known",
            )


class _Quiet(logging.Filter):
    """Keeps the exporters' own words, which would come at each try, out of the log: `CollectorState` says it once."""

    def filter(self, record: logging.LogRecord) -> bool:
        return False


class _Session(requests.Session):
    """Notes why a request failed. A collector may be anybody's: of an answer it takes the head alone, and follows no redirect."""

    def __init__(self, state: CollectorState) -> None:
        super().__init__()
        self._state = state
        # A proxy of the environment is for the way to providers, if it is there at all.
        self.trust_env = False
        for scheme in ("http://", "https://"):
            self.mount(scheme, DeadlineAdapter())

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """The time-out is that of the whole request."""
        timeout = kwargs.get("timeout")
        seconds = _TRY_S if timeout is None else float(timeout)
        if seconds <= 0:
            # The exporter tries again when its time is over. Why its last try failed stands.
            self._state.why = self._state.why or "it took no request in time"
            raise requests.ConnectTimeout(self._state.why)
        with Deadline(seconds) as deadline:
            try:
                asked = {**kwargs, "stream": True, "allow_redirects": False}
                response = super().send(request, **asked)
                self._leave_body(response)
            except Exception as error:
                if not deadline.passed:
                    self._state.why = _root(error)
                    raise
        if deadline.passed:
            self._state.why = f"its answer did not end within {seconds:.3g} s"
            raise requests.ReadTimeout(self._state.why)
        if response.status_code >= 300:
            self._state.why = f"it answers {response.status_code}"
        if 300 <= response.status_code < 400:
            # The exporter would take it for a success.
            raise requests.TooManyRedirects(self._state.why, response=response)
        return response

    @staticmethod
    def _leave_body(response: requests.Response) -> None:
        """The body is not read, unless it is short: then the connection can be used again."""
        length = response.headers.get("content-length", "")
        if response.status_code == 200 and length.isdigit() and len(length) < 3:
            response.raw.read(int(length) + 1, decode_content=False)
            response.raw.release_conn()
        else:
            response.close()
        response.raw = None


def _root(error: BaseException) -> str:
    """What was at the bottom of it. It may be what the collector has answered."""
    while error.__context__ is not None:
        error = error.__context__
    text = str(error)[:_LONGEST].strip()
    return (text if text.isprintable() else ascii(text)) or type(error).__name__


class SpanQueue:
    """The spans that wait, those that were sent, and those that got lost. Each count has one writer."""

    def __init__(self) -> None:
        self._given = 0
        self._taken = 0
        self.lost = 0
        """There was no room."""
        self.exported = 0
        self.failed = 0
        """The collector did not take them."""

    def has_room(self, spans: int) -> bool:
        """Takes it, for the thread that makes spans."""
        if self._given - self._taken + spans > MOST_SPANS:
            self.lost += spans
            return False
        self._given += spans
        return True

    def sent(self, spans: int, taken: bool) -> None:
        """By the exporter's thread."""
        self._taken += spans
        if taken:
            self.exported += spans
        else:
            self.failed += spans


class _SpanExporter(OTLPSpanExporter):
    def __init__(self, endpoint: str, queue: SpanQueue, state: CollectorState) -> None:
        super().__init__(f"{endpoint}/v1/traces", session=_Session(state))
        self._queue = queue
        self._state = state

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = super().export(spans)
        finally:
            taken = result is SpanExportResult.SUCCESS
            self._queue.sent(len(spans), taken)
            self._state.told("traces", taken)
        return result


class _MetricExporter(OTLPMetricExporter):
    def __init__(self, endpoint: str, exports: Counter[str], state: CollectorState) -> None:
        super().__init__(f"{endpoint}/v1/metrics", session=_Session(state))
        self._exports = exports
        self._state = state

    def export(
        self, metrics_data: MetricsData, timeout_millis: float | None = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        result = super().export(metrics_data, timeout_millis, **kwargs)
        taken = result is MetricExportResult.SUCCESS
        self._exports["exported" if taken else "failed"] += 1
        self._state.told("metrics", taken)
        return result


def try_out(endpoint: str, seconds: float = _TRY_S) -> str:
    """Sends a request without spans. Why the collector did not take it within ``seconds``; "" if it did."""
    state = CollectorState(endpoint)
    quiet = _Quiet()
    loud = logging.getLogger(_LOUD[0])
    loud.addFilter(quiet)
    try:
        with _Session(state) as session:
            exporter = OTLPSpanExporter(f"{endpoint}/v1/traces", session=session, timeout=seconds)
            taken = exporter.export([]) is SpanExportResult.SUCCESS
    finally:
        loud.removeFilter(quiet)
    return "" if taken else state.why.rstrip(".") or "no reason is known"


class Sdk:
    """The providers of spans and metrics. Raises `ValueError` for an environment variable that the SDK can't read."""

    def __init__(self, endpoint: str, *, sample: float, traces: bool, metrics: bool) -> None:
        self.state = CollectorState(endpoint)
        self.spans = SpanQueue()
        self.exports: Counter[str] = Counter()
        self._quiet = _Quiet()
        for name in _LOUD:
            logging.getLogger(name).addFilter(self._quiet)
        resource = _resource()
        self.tracers: TracerProvider | None = None
        self.meters: MeterProvider | None = None
        if traces:
            self.tracers = TracerProvider(
                sampler=ParentBasedTraceIdRatio(sample),
                resource=resource,
                shutdown_on_exit=False,
                span_limits=SpanLimits(max_span_attribute_length=_LONGEST),
            )
            self.tracers.add_span_processor(
                BatchSpanProcessor(
                    _SpanExporter(endpoint, self.spans, self.state),
                    max_queue_size=MOST_SPANS,
                    max_export_batch_size=_BATCH,
                )
            )
        if metrics:
            reader = PeriodicExportingMetricReader(
                _MetricExporter(endpoint, self.exports, self.state)
            )
            self.meters = MeterProvider([reader], resource, shutdown_on_exit=False)

    def stop(self) -> None:
        """Sends what is left. It waits for the collector."""
        if self.tracers is not None:
            self.tracers.shutdown()
        if self.meters is not None:
            self.meters.shutdown()
        for name in _LOUD:
            logging.getLogger(name).removeFilter(self._quiet)


def _resource() -> Resource:
    """Each process is an instance: its counters begin at 0 and are its own."""
    ours = {SERVICE_VERSION: __version__, SERVICE_INSTANCE_ID: str(uuid.uuid4())}
    named = "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    if not named and not os.environ.get("OTEL_SERVICE_NAME"):
        ours["service.name"] = "tollhouse"
    return Resource.create(ours)
