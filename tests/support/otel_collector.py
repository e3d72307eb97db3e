"""Real collectors, which pass on what they are sent: OpenTelemetry's own (``otelcol``), and ``rotel``, which comes as a wheel."""

from __future__ import annotations

from pathlib import Path

from tests.support.programs import Program, free_port
from tests.support.requires import program

READY = {"otelcol": "Everything is ready", "rotel": "Starting Rotel"}
"""rotel listens a moment later: who sends tries again."""


class Collector:
    """Listens for OTLP over HTTP on a free loopback port while it is entered, and sends all of it on to ``target``. ``name`` is the
    program's."""

    def __init__(self, name: str, directory: Path, target: str) -> None:
        self._name = name
        self._binary = program(name)
        self._directory = directory
        self._target = target
        self._program = Program(name)
        self.endpoint = ""

    def _command(self) -> list[str]:
        at = f"127.0.0.1:{free_port()}"
        self.endpoint = f"http://{at}"
        return self._rotel(at) if self._name == "rotel" else self._otelcol(at)

    def _otelcol(self, at: str) -> list[str]:
        file = self._directory / "otelcol.yaml"
        file.write_text(
            f"""
receivers: {{otlp: {{protocols: {{http: {{endpoint: "{at}"}}}}}}}}
exporters: {{otlphttp: {{endpoint: "{self._target}"}}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [otlphttp]}}
    metrics: {{receivers: [otlp], exporters: [otlphttp]}}
"""
        )
        return [self._binary, "--config", f"file:{file}"]

    def _rotel(self, at: str) -> list[str]:
        settings = {
            "otlp-http-endpoint": at,
            "otlp-grpc-endpoint": f"127.0.0.1:{free_port()}",
            "exporter": "otlp",
            "otlp-exporter-protocol": "http",
            "otlp-exporter-endpoint": self._target,
            "pid-file": str(self._directory / "rotel.pid"),
        }
        return [
            *(self._binary, "start"),
            *(word for name, value in settings.items() for word in (f"--{name}", value)),
        ]

    def __enter__(self) -> Collector:
        self._program.start_on_a_port(self._command, ready=READY[self._name])
        return self

    def __exit__(self, *_: object) -> None:
        self._program.stop()
