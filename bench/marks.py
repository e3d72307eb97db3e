"""An operator's addon for the bench alone: the moments at which a call's hooks are asked. `bench.timeline` has a gateway load it.

The hooks cost a call its `HTTPFlow`. ``done`` writes the moments, by `time.perf_counter`, to the file that ``BENCH_WATCH`` names.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from pathlib import Path

from mitmproxy import http

MOST = 100_000


class Watch:
    """A class of mitmproxy's: its public methods are hooks."""

    def __init__(self) -> None:
        self._moments: deque[tuple[str, float]] = deque(maxlen=MOST)

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        self._moments.append(("identified", time.perf_counter()))

    def request(self, flow: http.HTTPFlow) -> None:
        self._moments.append(("body", time.perf_counter()))

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        if flow.response is not None:
            flow.response.stream = True
        self._moments.append(("head", time.perf_counter()))

    def done(self) -> None:
        Path(os.environ["BENCH_WATCH"]).write_text(json.dumps(list(self._moments)))
