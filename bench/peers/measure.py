"""What is measured of a peer that runs: CPU, memory, what it adds to a call, and how much one core carries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bench import load
from bench.latency import waits
from bench.peers.peer import Running
from bench.provider import CHUNKS
from bench.servers import cpu_s

CONNECTIONS: Final = 32
RATE: Final = 25.0
"""Calls a second at which time is measured: what each peer has much more than."""


@dataclass(frozen=True)
class Size:
    rounds: int = 3
    requests: int = 1_000
    streams: int = 16
    seconds: float = 6.0
    """Of the load at `RATE`. The fastest load takes half of it."""


TINY: Final = Size(1, 24, 8, 0.4)


def warm(running: Running, size: Size) -> None:
    asyncio.run(load.calls(running.way, min(300, size.requests), stream=False))
    asyncio.run(load.calls(running.way, 8, stream=True))


def direct(provider_port: int, size: Size) -> dict[str, float]:
    """Milliseconds of a call with no gateway."""
    tls = load.tls_context()
    return asyncio.run(waits(lambda: load.open_direct(provider_port, tls), RATE, size.seconds))


def of_peer(running: Running, straight: dict[str, float], size: Size) -> dict[str, float]:
    """One round. The cost of the call itself is taken off its chunks."""
    way, tls = running.way, load.tls_context()
    store = running.redis_pid
    store_before = cpu_s(store) if store else 0.0
    request = _cpu_us(
        running,
        lambda: asyncio.run(load.calls(way, size.requests, stream=False)),
        size.requests,
    )
    store_us = (cpu_s(store) - store_before) / size.requests * 1e6 if store else 0.0
    stream = _cpu_us(
        running, lambda: asyncio.run(load.calls(way, size.streams, stream=True)), size.streams
    )
    there = asyncio.run(waits(lambda: load.Tunnel.open(way, tls), RATE, size.seconds))
    before = running.side.whole_cpu_s()
    made = asyncio.run(_as_fast_as_it_goes(way, size.seconds / 2))
    spent = running.side.whole_cpu_s() - before
    return {
        "request_us": request,
        "chunk_us": (stream - request) / CHUNKS,
        **({"redis_us": store_us} if store else {}),
        "p50_ms": there["p50"] - straight["p50"],
        "p99_ms": there["p99"] - straight["p99"],
        "of_a_core": made / spent if spent else 0.0,
        "memory_mb": running.side.whole_memory_mb(),
    }


async def _as_fast_as_it_goes(way: load.Way, seconds: float) -> int:
    """How many calls were made."""
    connections = await load.open_many(way, CONNECTIONS)
    _, made = await load.saturate(connections, seconds)
    for connection in connections:
        connection.close()
    return sum(made.values())


def _cpu_us(running: Running, work: Callable[[], None], units: int) -> float:
    before = running.side.whole_cpu_s()
    work()
    return (running.side.whole_cpu_s() - before) / units * 1e6
