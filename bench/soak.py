"""Whether memory grows: ``python -m bench.soak [CALLS]`` (100,000), a tenth of them as streams, in ten parts.

What is shown after each part is the worker's memory and its CPU a call.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import psutil

from bench import load
from bench.__main__ import running_provider
from bench.servers import redis_server, tollhouse

PARTS = 10


def main() -> None:
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        port = stack.enter_context(running_provider(directory, 0.0))
        redis = stack.enter_context(redis_server(directory))
        side = stack.enter_context(tollhouse(directory, port, redis))
        process = psutil.Process(side.pids[0])
        print("calls       MB   CPU us a call")
        for part in range(1, PARTS + 1):
            before = process.cpu_times()
            asyncio.run(load.calls(side.proxy, calls // PARTS * 9 // 10, stream=False))
            asyncio.run(load.calls(side.proxy, calls // PARTS // 10, stream=True))
            after = process.cpu_times()
            cpu = after.user + after.system - before.user - before.system
            memory = process.memory_info().rss / 2**20
            print(
                f"{part * calls // PARTS:7} {memory:7.1f} {cpu / calls * PARTS * 1e6:15.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
