"""A real OpenTelemetry collector (``otelcol``), which passes on what it is sent."""

from __future__ import annotations

from pathlib import Path

from tests.support.programs import Program, free_port
from tests.support.requires import program

READY = "Everything is ready"


class OtelCollector:
    """Listens for OTLP over HTTP on a free loopback port while it is entered, and sends all of it on to ``endpoint``."""

    def __init__(self, directory: Path, endpoint: str) -> None:
        self._binary = program("otelcol")
        self._file = directory / "otelcol.yaml"
        self._target = endpoint
        self._program = Program("otelcol")
        self.endpoint = ""

    def _command(self) -> list[str]:
        port = free_port()
        self.endpoint = f"http://127.0.0.1:{port}"
        self._file.write_text(
            f"""
receivers: {{otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:{port}"}}}}}}}}
exporters: {{otlphttp: {{endpoint: "{self._target}"}}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [otlphttp]}}
    metrics: {{receivers: [otlp], exporters: [otlphttp]}}
"""
        )
        return [self._binary, "--config", f"file:{self._file}"]

    def __enter__(self) -> OtelCollector:
        self._program.start_on_a_port(self._command, ready=READY)
        return self

    def __exit__(self, *_: object) -> None:
        self._program.stop()
