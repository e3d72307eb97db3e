"""An OTLP receiver over HTTP with protobuf, which keeps what it is sent."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue


class ReceivedSpan(NamedTuple):
    """One span. ``resource`` and ``attributes`` are plain values."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    status: int
    seconds: float
    attributes: dict[str, Any]
    resource: dict[str, Any]
    schema_url: str


class ReceivedPoint(NamedTuple):
    """One point of a metric, as it was told last: a sum, or a histogram's count, sum and bounds."""

    value: float
    count: int
    bounds: tuple[float, ...]


Points = dict[str, dict[frozenset[tuple[str, Any]], ReceivedPoint]]
"""By the metric's name and its attributes."""


def _value(found: AnyValue) -> Any:
    which = found.WhichOneof("value")
    if which == "array_value":
        return [_value(one) for one in found.array_value.values]
    return getattr(found, str(which))


def _plain(found: Any) -> dict[str, Any]:
    return {one.key: _value(one.value) for one in found}


class OtlpReceiver:
    """Listens while it is entered. ``status`` is what it answers, and while `hold` is set it answers nothing."""

    def __init__(self) -> None:
        self.status = 200
        self.hold = threading.Event()
        self.requests: list[tuple[str, Mapping[str, str]]] = []
        self.bodies: list[bytes] = []
        self.spans: list[ReceivedSpan] = []
        self._points: dict[str, Points] = {}
        self._changed = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                receiver.take(self.path, dict(self.headers), body)
                while receiver.hold.is_set():
                    time.sleep(0.05)
                self.send_response(receiver.status)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> OtlpReceiver:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.hold.clear()
        self._server.shutdown()
        self._server.server_close()

    def take(self, path: str, headers: Mapping[str, str], body: bytes) -> None:
        """A request has come."""
        with self._changed:
            self.requests.append((path, headers))
            self.bodies.append(body)
            if self.status == 200 and path == "/v1/traces":
                self._take_spans(ExportTraceServiceRequest.FromString(body))
            elif self.status == 200 and path == "/v1/metrics":
                self._take_metrics(ExportMetricsServiceRequest.FromString(body))
            self._changed.notify_all()

    def _take_spans(self, request: ExportTraceServiceRequest) -> None:
        for of in request.resource_spans:
            for scope in of.scope_spans:
                for span in scope.spans:
                    self.spans.append(
                        ReceivedSpan(
                            span.name,
                            span.kind,
                            span.trace_id.hex(),
                            span.span_id.hex(),
                            span.parent_span_id.hex(),
                            span.status.code,
                            (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                            _plain(span.attributes),
                            _plain(of.resource.attributes),
                            scope.schema_url,
                        )
                    )

    def _take_metrics(self, request: ExportMetricsServiceRequest) -> None:
        for of in request.resource_metrics:
            instance = str(_plain(of.resource.attributes).get("service.instance.id"))
            points = self._points.setdefault(instance, {})
            for scope in of.scope_metrics:
                for metric in scope.metrics:
                    kind = metric.WhichOneof("data")
                    for point in getattr(metric, str(kind)).data_points:
                        histogram = kind == "histogram"
                        found = ReceivedPoint(
                            point.sum if histogram else point.as_double or point.as_int,
                            point.count if histogram else 0,
                            tuple(point.explicit_bounds) if histogram else (),
                        )
                        key = frozenset(_plain(point.attributes).items())
                        points.setdefault(metric.name, {})[key] = found

    def points(self) -> Points:
        """Of all instances: those of one series add up."""
        with self._changed:
            found: Points = {}
            for points in self._points.values():
                for name, series in points.items():
                    mine = found.setdefault(name, {})
                    for key, point in series.items():
                        before = mine.get(key, ReceivedPoint(0, 0, point.bounds))
                        mine[key] = ReceivedPoint(
                            before.value + point.value, before.count + point.count, point.bounds
                        )
            return found

    @property
    def instances(self) -> set[str]:
        with self._changed:
            return set(self._points)

    def until(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        """Until ``condition`` holds, looked at after each request."""
        deadline = time.monotonic() + seconds
        while not condition():
            with self._changed:
                left = deadline - time.monotonic()
                assert left > 0, f"{len(self.spans)} spans, {sorted(self.points())}"
                self._changed.wait(min(left, 0.2))

    def wait_spans(self, count: int) -> list[ReceivedSpan]:
        self.until(lambda: len(self.spans) >= count)
        return self.spans
