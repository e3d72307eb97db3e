"""What open streams take, in lock step: all of them are open before the first chunk of one is sent, and the provider sends the next
chunk of each stream only when every client has the one before."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

from bench import load
from bench.bed import Bed, say
from bench.figures import Figure
from bench.provider import allow_many_files
from bench.servers import Provider, Side

WANTED_MB = {1_000: 250}
_WAIT_S = 120.0
"""For one chunk of every stream. Over it the bench ends: a chunk was kept back."""


def measure(bed: Bed) -> list[Figure]:
    """Memory once calls were made, with so many open streams, and the CPU that a chunk of each takes then."""
    allow_many_files()
    found: dict[str, dict[str, float]] = {}
    for name in ("mitmdump", "tollhouse"):
        with ExitStack() as stack:
            provider = stack.enter_context(bed.provider(lock_step=True))
            proxy = getattr(bed, name)
            side = stack.enter_context(proxy(provider.port))
            say(f"streams: {name}")
            asyncio.run(load.calls(side.proxy, min(400, bed.size.requests), stream=False))
            found.setdefault("idle_mb", {})[name] = side.memory_mb()
            found.setdefault("idle_whole_mb", {})[name] = side.whole_memory_mb()
        for count in bed.size.open_streams:
            # A proxy of its own for each: memory that was taken once is not given back.
            with ExitStack() as stack:
                provider = stack.enter_context(bed.provider(lock_step=True))
                side = stack.enter_context(proxy(provider.port))
                asyncio.run(load.calls(side.proxy, min(400, bed.size.requests), stream=False))
                say(f"streams: {count} at once, {name}")
                most, chunk = asyncio.run(in_lock_step(side, provider, count, bed.size.steps))
            found.setdefault(f"open_{count}_mb", {})[name] = most
            found.setdefault(f"open_{count}_chunk_us", {})[name] = chunk
    figures = [
        _figure("idle_mb", "memory, no stream open", "MB", found),
        _figure("idle_whole_mb", "the same with all of its processes", "MB", found),
    ]
    for count in bed.size.open_streams:
        wanted = f"< {WANTED_MB[count]} MB" if count in WANTED_MB else ""
        what = f"memory with {count:,} open streams"
        figures.append(_figure(f"open_{count}_mb", what, "MB", found, wanted))
        what = f"CPU a chunk, {count:,} streams at once"
        figures.append(_figure(f"open_{count}_chunk_us", what, "us", found))
    return figures


async def in_lock_step(
    side: Side, provider: Provider, count: int, steps: int
) -> tuple[float, float]:
    """The most memory while ``count`` streams of ``steps`` chunks are open, in MB, and the CPU a chunk, in microseconds. Raises
    if a chunk does not come before the next one is sent, or if a stream does not end whole."""
    payload = load.body(stream=True)
    tunnels = await load.open_many(side.proxy, count)
    async with asyncio.timeout(_WAIT_S):
        await asyncio.gather(*(tunnel.begin(payload) for tunnel in tunnels))
    # All have their heads.
    most, before = side.memory_mb(), side.cpu_s()
    for _ in range(steps):
        provider.step()
        async with asyncio.timeout(_WAIT_S):
            await _chunk_of_each(tunnels)
        most = max(most, side.memory_mb())
    cpu = side.cpu_s() - before
    provider.step()
    async with asyncio.timeout(_WAIT_S):
        ends = await asyncio.gather(*(_rest(tunnel) for tunnel in tunnels))
    assert all(end.endswith(b"data: [DONE]\n\n") for end in ends)
    for tunnel in tunnels:
        tunnel.close()
    return most, cpu / (steps * count) * 1e6


async def _chunk_of_each(tunnels: list[load.Tunnel]) -> None:
    chunks = await asyncio.gather(*(tunnel.chunk() for tunnel in tunnels))
    assert all(chunk.startswith(b"data: {") and chunk.endswith(b"}\n\n") for chunk in chunks)


async def _rest(tunnel: load.Tunnel) -> bytes:
    rest = b""
    while chunk := await tunnel.chunk():
        rest += chunk
    return rest


def _figure(
    key: str, what: str, unit: str, found: dict[str, dict[str, float]], wanted: str = ""
) -> Figure:
    values = found[key]
    ratio = values["tollhouse"] / values["mitmdump"] if values["mitmdump"] else None
    return Figure(key, what, unit, values, ratio, "mitmdump", wanted)
