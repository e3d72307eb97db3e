"""One worker and two, as fast as they go: calls a second, CPU of a call, and who got the connections."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass

import psutil
import redis

from bench import load
from bench.bed import Bed, say
from bench.figures import Figure
from bench.servers import Provider, Side, cpu_s

CONNECTIONS = 64


@dataclass(frozen=True)
class Found:
    """Of one load."""

    rate: float
    """Calls a second."""
    cpu_us: tuple[float, ...]
    """CPU a call of each worker, of the calls that it answered itself. The one with the most connections comes first."""
    connections: tuple[int, ...]
    """In the same order."""
    cores: dict[str, float]
    """How many cores each program took."""

    @property
    def unevenness(self) -> float:
        return max(self.connections) / statistics.mean(self.connections)


def measure(bed: Bed) -> list[Figure]:
    if bed.redis_url == "embedded":
        say("workers: left out, because a gateway with the embedded store has one worker")
        return []
    rounds: dict[int, list[Found]] = {1: [], 2: []}
    with ExitStack() as stack:
        provider = stack.enter_context(bed.provider())
        sides = {
            count: stack.enter_context(bed.tollhouse(provider.port, count)) for count in (1, 2)
        }
        with redis.Redis.from_url(bed.redis_url) as client:
            redis_pid = int(client.info("server")["process_id"])
        for number in range(bed.size.rounds):
            say(f"workers: round {number + 1} of {bed.size.rounds}")
            for count, side in sides.items():
                asyncio.run(load.calls(side.proxy, min(400, bed.size.requests), stream=False))
                found = asyncio.run(_load(side, provider, redis_pid, bed.size.seconds))
                rounds[count].append(found)
        pairs = list(zip(rounds[1], rounds[2], strict=True))
    cpu = {count: [statistics.mean(one.cpu_us) for one in found] for count, found in rounds.items()}
    return [
        Figure(
            "two_workers_rate",
            f"two workers, calls a second on {os.cpu_count()} cores",
            "/s",
            {"tollhouse": statistics.median(two.rate for _, two in pairs)},
            statistics.median(two.rate / one.rate for one, two in pairs),
            "one worker",
        ),
        Figure(
            "two_workers_cpu_us",
            "CPU a call of two workers",
            "us",
            {"tollhouse": statistics.median(cpu[2])},
            statistics.median(two / one for one, two in zip(cpu[1], cpu[2], strict=True)),
            "one worker",
            notes=tuple(_said(count, rounds[count][-1]) for count in rounds),
        ),
        Figure(
            "two_workers_carry",
            "what two carry, by CPU a call",
            "x",
            {
                "tollhouse": statistics.median(
                    2 * one / two for one, two in zip(cpu[1], cpu[2], strict=True)
                )
            },
        ),
        Figure(
            "two_workers_uneven",
            f"most of {CONNECTIONS} connections to the mean",
            "x",
            {"tollhouse": statistics.median(two.unevenness for _, two in pairs)},
        ),
    ]


async def _load(side: Side, provider: Provider, redis_pid: int, seconds: float) -> Found:
    programs = {"load": os.getpid(), "provider": provider.pid, "Redis": redis_pid}
    tunnels = await load.open_many(side.proxy, CONNECTIONS)
    owners = await asyncio.to_thread(_owners, side)
    before = {pid: cpu_s(pid) for pid in (*side.pids, *programs.values())}
    began = time.perf_counter()
    rate, made = await load.saturate(tunnels, seconds)
    took = time.perf_counter() - began
    spent = {pid: cpu_s(pid) - since for pid, since in before.items()}
    for tunnel in tunnels:
        tunnel.close()
    calls, connections = Counter[int](), Counter[int]()
    for port, count in made.items():
        calls[owners[port]] += count
        connections[owners[port]] += 1
    # Chance may give a worker none.
    pids = sorted(side.pids, key=lambda pid: -connections[pid])
    cores = {"workers": sum(spent[pid] for pid in side.pids) / took}
    return Found(
        rate,
        tuple(spent[pid] / calls[pid] * 1e6 for pid in pids if calls[pid]),
        tuple(connections[pid] for pid in pids),
        cores | {name: spent[pid] / took for name, pid in programs.items()},
    )


def _owners(side: Side) -> dict[int, int]:
    """Whose connection it is, by the client's port."""
    return {
        connection.raddr.port: pid
        for pid in side.pids
        for connection in psutil.Process(pid).net_connections("tcp")
        if connection.raddr and connection.laddr.port == side.proxy.port
    }


def _said(workers: int, found: Found) -> str:
    each = ", ".join(
        f"{connections} connections at {cpu:.0f} us a call"
        for connections, cpu in zip(found.connections, found.cpu_us, strict=False)
    )
    cores = ", ".join(f"{name} {share:.2f}" for name, share in found.cores.items())
    return (
        f"{workers} worker(s), last round: {found.rate:.0f} calls a second; {each}; "
        f"of {os.cpu_count()} cores took {cores}."
    )
