"""Calls as spans: one a call, and one for each attempt of a call that had several. For one thread."""

from __future__ import annotations

from typing import Final

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from tollhouse import __version__
from tollhouse.telemetry.attributes import (
    error_type,
    of_attempt,
    of_span,
    of_target,
    sound,
    span_name,
)
from tollhouse.telemetry.conventions import NAMES, Version
from tollhouse.telemetry.handed import Handed
from tollhouse.telemetry.sdk import SpanQueue
from tollhouse.telemetry.trace_parent import trace_parent

_NS: Final = 10**9
_MS: Final = 10**6


class CallSpans:
    """``queue`` has the bound of spans that wait for the collector."""

    def __init__(self, provider: TracerProvider, queue: SpanQueue, version: Version) -> None:
        self._version = version
        self._names = NAMES[version]
        self._queue = queue
        self._tracer = provider.get_tracer(
            "tollhouse", __version__, schema_url=self._names.schema_url
        )

    def tell(self, call: Handed) -> None:
        """A call of which it is known whose it is and who was meant has a span. Others are refusals that anybody can cause, and
        would take the places of all."""
        record = call.record
        if not call.ended or not record["project"] or not record["provider"]:
            return
        parent = trace_parent(call.traceparent)
        context = None
        if parent is not None:
            flags = TraceFlags(TraceFlags.SAMPLED if parent.sampled else TraceFlags.DEFAULT)
            theirs = SpanContext(parent.trace_id, parent.span_id, is_remote=True, trace_flags=flags)
            context = set_span_in_context(NonRecordingSpan(theirs))
        began = int(call.timestamp * _NS)
        span = self._tracer.start_span(
            span_name(call), context, SpanKind.CLIENT, of_target(call), start_time=began
        )
        if not span.is_recording():
            return
        attributes = of_span(call, self._names, self._version)
        several = len(call.attempts) if len(call.attempts) > 1 else 0
        if not self._queue.has_room(1 + several):
            return
        for name, value in attributes.items():
            span.set_attribute(name, value)
        if error_type(record):
            span.set_status(Status(StatusCode.ERROR))
        if several:
            self._attempts(call, span)
        span.end(began + int((record["duration_ms"] or 0) * _MS))

    def _attempts(self, call: Handed, span: Span) -> None:
        context = set_span_in_context(span)
        for number, attempt in enumerate(call.attempts):
            attributes = of_attempt(call, attempt.outcome, number)
            began = int((call.timestamp + attempt.began - call.started) * _NS)
            child = self._tracer.start_span(
                sound(call.record["method"]), context, SpanKind.CLIENT, attributes, start_time=began
            )
            if "error.type" in attributes:
                child.set_status(Status(StatusCode.ERROR))
            child.end(began + int(attempt.duration_ms * _MS))
