"""The queue between the calls and the thread that tells of them. A call pays for one entry; a collector that is slow or away
costs telemetry, which is counted, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tollhouse.book import Concluded
from tollhouse.config.surroundings import OtelConfig
from tollhouse.telemetry.handed import Handed, handed

log = logging.getLogger(__name__)

MOST_CALLS: Final = 8_192
"""That wait for the thread. It tells of thousands a second."""
_EVERY_S: Final = 0.2
_PAUSE_S: Final = 0.000_2
"""After each call that was told, so that the thread never keeps the interpreter from those that are under way."""
_LAST_S: Final = 3.0
"""How long a stop waits for the collector, and for one that was away before."""
_LAST_AWAY_S: Final = 0.2
MISSING: Final = (
    "[otel] needs OpenTelemetry's SDK, which is not installed; `pip install 'tollhouse[otel]'`"
)


def installed() -> bool:
    """Loads the SDK, which takes half a second."""
    try:
        import tollhouse.telemetry.sdk  # noqa: F401
    except ImportError:
        return False
    return True


class Telemetry:
    """Of one process that forks no more. ``config`` has an endpoint, and the SDK is `installed`."""

    def __init__(self, config: OtelConfig, most_calls: int = MOST_CALLS) -> None:
        from tollhouse.telemetry.instruments import CallInstruments
        from tollhouse.telemetry.sdk import Sdk
        from tollhouse.telemetry.spans import CallSpans

        assert config.endpoint is not None
        self._sdk = sdk = Sdk(
            config.endpoint, sample=config.sample, traces=config.traces, metrics=config.metrics
        )
        self._tellers: list[CallSpans | CallInstruments] = []
        if sdk.tracers is not None:
            self._tellers.append(CallSpans(sdk.tracers, sdk.spans, config.genai))
        if sdk.meters is not None:
            self._tellers.append(CallInstruments(sdk.meters, config.genai))
        self._waiting: deque[Handed] = deque()
        self._most_calls = most_calls
        self._lost_calls = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._tell_all, name="telemetry", daemon=True)
        self._thread.start()

    def hand_over(self, record: Mapping[str, Any], call: Concluded | None) -> None:
        """On the road. Raises nothing."""
        if len(self._waiting) >= self._most_calls:
            self._lost_calls += 1
            return
        try:
            self._waiting.append(handed(record, call))
        except Exception:
            log.exception("call %s could not be told to telemetry", record.get("call_id"))

    def counts(self) -> Iterator[tuple[str, str, int]]:
        """Signal (``calls``, ``traces``, ``metrics``), outcome and how many: calls and spans, and requests of metrics."""
        sdk = self._sdk
        yield "calls", "lost", self._lost_calls
        if sdk.tracers is not None:
            yield "traces", "exported", sdk.spans.exported
            yield "traces", "failed", sdk.spans.failed
            yield "traces", "lost", sdk.spans.lost
        if sdk.meters is not None:
            yield "metrics", "exported", sdk.exports["exported"]
            yield "metrics", "failed", sdk.exports["failed"]

    def _tell_all(self) -> None:
        stopped = False
        while not stopped:
            stopped = self._stopping.wait(_EVERY_S)
            while self._waiting:
                self._tell(self._waiting.popleft())
                if not stopped:
                    time.sleep(_PAUSE_S)

    def _tell(self, call: Handed) -> None:
        for teller in self._tellers:
            try:
                teller.tell(call)
            except Exception:
                log.exception("call %s could not be told to telemetry", call.record.get("call_id"))

    async def close(self) -> None:
        """Sends what is left, for a bounded time."""
        self._stopping.set()
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def finish() -> None:
            self._thread.join()
            self._sdk.stop()
            with contextlib.suppress(RuntimeError):
                # The loop is closed if nobody waits any more.
                loop.call_soon_threadsafe(done.set)

        # A daemon: the process ends whatever the collector does.
        threading.Thread(target=finish, name="telemetry-end", daemon=True).start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_AWAY_S if self._sdk.state.away else _LAST_S):
                await done.wait()
