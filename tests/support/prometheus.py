"""A real Prometheus, which scrapes one target."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import httpx2

from tests.support.programs import Program, free_port
from tests.support.requires import program


class Prometheus:
    """Scrapes ``target`` (host:port) five times a second while it is entered, and keeps what it has in ``directory``."""

    def __init__(self, directory: Path, target: str) -> None:
        self._binary = program("prometheus")
        self._directory = directory
        self._target = target
        self._program = Program("prometheus")
        self._address = ""

    def _command(self) -> list[str]:
        self._address = f"127.0.0.1:{free_port()}"
        scrape = {"job_name": "tollhouse", "static_configs": [{"targets": [self._target]}]}
        settings = {"global": {"scrape_interval": "200ms"}, "scrape_configs": [scrape]}
        file = self._directory / "prometheus.yaml"
        # JSON is YAML.
        file.write_text(json.dumps(settings))
        return [
            self._binary,
            f"--config.file={file}",
            f"--storage.tsdb.path={self._directory / 'data'}",
            f"--web.listen-address={self._address}",
        ]

    def values(self, expression: str) -> list[float]:
        """Of an instant vector, now. What is no number (0/0) is left out."""
        answer = httpx2.get(
            f"http://{self._address}/api/v1/query", params={"query": expression}, trust_env=False
        ).json()
        assert answer["status"] == "success", answer
        found = [float(one["value"][1]) for one in answer["data"]["result"]]
        return [value for value in found if not math.isnan(value)]

    def wait_for(self, *expressions: str, seconds: float = 60.0) -> None:
        """Until each has a value."""
        deadline = time.monotonic() + seconds
        waiting = [one for one in expressions if not self.values(one)]
        while waiting:
            assert time.monotonic() < deadline, f"no value: {waiting}"
            time.sleep(0.1)
            waiting = [one for one in waiting if not self.values(one)]

    def __enter__(self) -> Prometheus:
        self._program.start_on_a_port(self._command, ready="Server is ready to receive")
        return self

    def __exit__(self, *_: object) -> None:
        self._program.stop()
