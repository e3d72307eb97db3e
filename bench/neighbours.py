"""What the dense bodies of one tenant do to the small calls of another: ``python -m bench.neighbours``.

Twenty connections of a tenant send bodies of many values, one after the other. Meanwhile another tenant makes small calls. What is
shown is the time that those take, and how much the gateway's memory rose. The load runs on the same machine: more than two cores
give it a core of its own.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import psutil

from bench import load
from bench.servers import provider, redis_server, tollhouse

AT_ONCE = 20
SECONDS = 8.0
_START = b'{"model":"gpt-4o","max_completion_tokens":9,"messages":[{"role":"user","content":"a"}],"metadata":{"x":['
BODIES = {
    "none": b"",
    "60 KiB of objects": _START + b'{"a":1},' * 7_500 + b"0]}}",
    "60 KiB of numbers": _START + b"1," * 30_000 + b"0]}}",
    "120 KiB of objects": _START + b'{"a":1},' * 14_000 + b"0]}}",
    "0.4 MiB of objects": _START + b'{"a":1},' * 50_000 + b"0]}}",
    "0.6 MiB of short texts": _START + b'"ab",' * 120_000 + b"0]}}",
    "4 MiB of text": _START + b'"' + b"\\n" * (2 << 20) + b'"]}}',
}


async def _dense(proxy: load.Proxy, body: bytes, over: asyncio.Event) -> int:
    """How many of them were read."""
    tls, done = load.tls_context(), 0
    tunnel = await load.Tunnel.open(proxy, tls)
    while not over.is_set():
        await tunnel.call(body)
        done += 1
    tunnel.close()
    return done


async def _small(proxy: load.Proxy, over: asyncio.Event) -> list[float]:
    tunnel, payload = await load.Tunnel.open(proxy, load.tls_context()), load.body(stream=False)
    for _ in range(20):
        await tunnel.call(payload)
    took: list[float] = []
    end = time.perf_counter() + SECONDS
    while (began := time.perf_counter()) < end:
        await tunnel.call(payload)
        took.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(0.005)
    over.set()
    tunnel.close()
    return sorted(took)


async def _both(noisy: load.Proxy, neighbour: load.Proxy, body: bytes) -> tuple[list[float], int]:
    over = asyncio.Event()
    dense = [_dense(noisy, body, over) for _ in range(AT_ONCE if body else 0)]
    took, done = await asyncio.gather(_small(neighbour, over), asyncio.gather(*dense))
    return took, sum(done)


def main() -> None:
    print(f"{'bodies':24}{'read':>6}{'median':>10}{'99 %':>10}{'longest':>10}  memory")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        port = stack.enter_context(provider(directory)).port
        redis = stack.enter_context(redis_server(directory))
        side = stack.enter_context(tollhouse(directory, port, redis))
        assert side.neighbour is not None
        process = psutil.Process(side.pids[0])
        asyncio.run(load.calls(side.proxy, 200, stream=False))
        for name, body in BODIES.items():
            before = process.memory_info().rss
            took, done = asyncio.run(_both(side.proxy, side.neighbour, body))
            rise = (process.memory_info().rss - before) / 2**20
            p99 = took[int(len(took) * 0.99)]
            print(
                f"{name:24}{done:6}{statistics.median(took):7.1f} ms{p99:7.1f} ms{took[-1]:7.1f} ms{rise:6.0f} MiB",
                flush=True,
            )


if __name__ == "__main__":
    os.environ.pop("SSLKEYLOGFILE", None)
    main()
