"""CPU of the proxy's process, as the kernel counts it: a request, a chunk of a stream, a new client connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack

from bench import load
from bench.bed import Bed, Size, say
from bench.figures import Figure, of_rounds
from bench.provider import CHUNKS
from bench.servers import Side

ROWS = {
    "request_us": ("CPU a request, gates, Redis and line included", "<= 0.42"),
    "chunk_us": ("CPU a streamed chunk", "<= 0.50"),
    "connection_us": ("CPU a new connection: CONNECT, TLS, one call", "<= 0.20"),
}


def measure(bed: Bed) -> list[Figure]:
    with ExitStack() as stack:
        provider = stack.enter_context(bed.provider())
        sides = {
            "mitmdump": stack.enter_context(bed.mitmdump(provider.port)),
            "tollhouse": stack.enter_context(bed.tollhouse(provider.port)),
        }
        for side in sides.values():
            asyncio.run(load.calls(side.proxy, min(400, bed.size.requests), stream=False))
            asyncio.run(load.calls(side.proxy, 8, stream=True))
        rounds: list[dict[str, dict[str, float]]] = []
        for number in range(bed.size.rounds):
            say(f"cpu: round {number + 1} of {bed.size.rounds}")
            rounds.append({name: of_side(side, bed.size) for name, side in sides.items()})
    return [
        of_rounds(
            key,
            what,
            "us",
            [{name: found[key] for name, found in one.items()} for one in rounds],
            wanted=wanted,
        )
        for key, (what, wanted) in ROWS.items()
    ]


def of_side(side: Side, size: Size) -> dict[str, float]:
    """Microseconds. The cost of the call itself is taken off its chunks."""
    request = _cpu_us(
        side,
        lambda: asyncio.run(load.calls(side.proxy, size.requests, stream=False)),
        size.requests,
    )
    stream = _cpu_us(
        side, lambda: asyncio.run(load.calls(side.proxy, size.streams, stream=True)), size.streams
    )
    fresh = _cpu_us(side, lambda: asyncio.run(load.fresh(side.proxy, size.fresh)), size.fresh)
    return {
        "request_us": request,
        "chunk_us": (stream - request) / CHUNKS,
        "connection_us": fresh,
    }


def _cpu_us(side: Side, work: Callable[[], None], units: int) -> float:
    before = side.cpu_s()
    work()
    return (side.cpu_s() - before) / units * 1e6
