"""What open streams take: ``python -m bench.streams [N ...]`` (200 and 1,000).

N clients open a stream each, whose frames come 150 ms apart. What is shown is the gateway's memory before and while all are
open, its CPU meanwhile, and how many streams came whole.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import psutil

from bench import load
from bench.__main__ import running_provider
from bench.servers import redis_server, tollhouse

PAUSE_S = 0.15
OPEN_AT_ONCE = 16


async def _open(proxy: load.Proxy, count: int) -> list[load.Tunnel]:
    tls, free = load.tls_context(), asyncio.Semaphore(OPEN_AT_ONCE)

    async def one() -> load.Tunnel:
        async with free:
            return await load.Tunnel.open(proxy, tls)

    return list(await asyncio.gather(*(one() for _ in range(count))))


async def measure(process: psutil.Process, proxy: load.Proxy, count: int) -> str:
    idle = process.memory_info().rss
    tunnels = await _open(proxy, count)
    connected = process.memory_info().rss
    payload = load.body(stream=True)
    before, since = process.cpu_times(), time.monotonic()
    calls = [asyncio.ensure_future(tunnel.call(payload)) for tunnel in tunnels]
    most = connected
    while not all(call.done() for call in calls):
        await asyncio.sleep(0.5)
        most = max(most, process.memory_info().rss)
    after, took = process.cpu_times(), time.monotonic() - since
    sizes = [call.result() for call in calls if call.exception() is None]
    for tunnel in tunnels:
        tunnel.close()
    whole = sum(size == max(sizes, default=0) for size in sizes)
    cpu = after.user + after.system - before.user - before.system
    return (
        f"{count:6} {idle / 2**20:9.1f} {connected / 2**20:11.1f} {most / 2**20:9.1f} "
        f"{(most - idle) / count / 1024:12.1f} {100 * cpu / took:6.0f} % {whole:8}"
    )


def main() -> None:
    counts = [int(text) for text in sys.argv[1:]] or [200, 1_000]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65_536)), hard))
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        port = stack.enter_context(running_provider(directory, PAUSE_S))
        side = stack.enter_context(
            tollhouse(directory, port, stack.enter_context(redis_server(directory)))
        )
        process = psutil.Process(side.pids[0])
        asyncio.run(load.calls(side.proxy, 400, stream=False))
        print("open    idle MB connected MB  most MB  KB a stream    CPU    whole")
        for count in counts:
            print(asyncio.run(measure(process, side.proxy, count)), flush=True)


if __name__ == "__main__":
    main()
