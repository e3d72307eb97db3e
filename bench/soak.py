"""Whether memory grows: many calls, a tenth of them streams, in ten parts."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

from bench import load
from bench.bed import Bed, say
from bench.figures import Figure

PARTS = 10


def measure(bed: Bed) -> list[Figure]:
    """The worker's memory after the first part and after the last one."""
    calls = bed.size.soak // PARTS * PARTS
    memory = []
    with ExitStack() as stack:
        provider = stack.enter_context(bed.provider(0.0))
        side = stack.enter_context(bed.tollhouse(provider.port))
        for part in range(1, PARTS + 1):
            before, streams = side.cpu_s(), calls // PARTS // 10
            asyncio.run(load.calls(side.proxy, calls // PARTS - streams, stream=False))
            asyncio.run(load.calls(side.proxy, streams, stream=True))
            cpu = (side.cpu_s() - before) / (calls // PARTS) * 1e6
            memory.append(side.memory_mb())
            say(f"soak: {part * calls // PARTS:7} calls {memory[-1]:7.1f} MB {cpu:6.0f} us a call")
    begin, end = f"memory after {calls // PARTS:,} calls", f"memory after {calls:,} calls"
    return [
        Figure("soak_begin_mb", begin, "MB", {"tollhouse": memory[0]}),
        Figure(
            "soak_end_mb",
            end,
            "MB",
            {"tollhouse": memory[-1]},
            memory[-1] / memory[0],
            "its beginning",
        ),
    ]
