"""What a call waits for: ``python -m bench.latency [RATE]`` (250 calls a second).

Calls begin at that rate over 32 connections, straight to the provider and through the gateway in turn, three times. What is shown
are milliseconds, and what the gateway adds. Load, provider, Redis and gateway share this machine's cores.
"""

from __future__ import annotations

import asyncio
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

from bench import load
from bench.__main__ import running_provider
from bench.servers import redis_server, tollhouse

SECONDS, CONNECTIONS, ROUNDS = 10, 32, 3
QUANTILES = (0.5, 0.9, 0.99)

Open = Callable[[], Awaitable[load.Tunnel]]


async def _direct(port: int, tls: ssl.SSLContext) -> load.Tunnel:
    return load.Tunnel(
        *await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=load.HOST)
    )


async def waits(connect: Open, rate: float) -> list[float]:
    """The milliseconds of `QUANTILES`."""
    payload = load.body(stream=False)
    free: asyncio.Queue[load.Tunnel] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        free.put_nowait(await connect())
    found: list[float] = []

    async def one() -> None:
        tunnel = await free.get()
        since = time.perf_counter()
        await tunnel.call(payload)
        found.append(1000 * (time.perf_counter() - since))
        free.put_nowait(tunnel)

    for _ in range(2 * CONNECTIONS):
        await one()
    found.clear()
    began, calls = time.perf_counter(), []
    for number in range(int(rate * SECONDS)):
        early = began + number / rate - time.perf_counter()
        if early > 0:
            await asyncio.sleep(early)
        calls.append(asyncio.ensure_future(one()))
    await asyncio.gather(*calls)
    found.sort()
    return [found[int(len(found) * quantile)] for quantile in QUANTILES]


def main() -> None:
    rate = float(sys.argv[1]) if len(sys.argv) > 1 else 250.0
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        port = stack.enter_context(running_provider(directory))
        redis = stack.enter_context(redis_server(directory))
        side = stack.enter_context(tollhouse(directory, port, redis))
        tls = load.tls_context()
        ways: dict[str, Open] = {
            "direct": lambda: _direct(port, tls),
            "through": lambda: load.Tunnel.open(side.proxy, tls),
        }
        rounds = [
            {name: asyncio.run(waits(connect, rate)) for name, connect in ways.items()}
            for _ in range(ROUNDS)
        ]
    print(f"{rate:g} calls a second   " + "".join(f"p{100 * q:g}".rjust(9) for q in QUANTILES))
    for name in ways:
        medians = [
            statistics.median(found[name][at] for found in rounds) for at in range(len(QUANTILES))
        ]
        print(f"{name:20}  " + "".join(f"{value:9.2f}" for value in medians))
    added = [
        statistics.median(found["through"][at] - found["direct"][at] for found in rounds)
        for at in range(len(QUANTILES))
    ]
    print(f"{'added':20}  " + "".join(f"{value:9.2f}" for value in added))


if __name__ == "__main__":
    main()
