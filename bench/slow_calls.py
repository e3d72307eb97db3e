"""What the slowest calls of a load have waited for: what each program did meanwhile, by the kernel's own counts, collections of
garbage, and an event loop that did not turn."""

from __future__ import annotations

import asyncio
import json
import time
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import redis

from bench import load
from bench.bed import Bed
from bench.watch import Ticker

CONNECTIONS, SLOW = 32, 0.99
Span = tuple[float, float]
"""Begin and end of something, by `time.perf_counter`."""


class Call(NamedTuple):
    """Seconds. What a program did counts from when the load sent the call."""

    since: float
    """When it was to begin."""
    until: float
    late: float
    """How much later the load sent it."""
    ran: float
    """The worker, on a core: for this call and for others."""
    queued: float
    """The worker could have run, and had no core."""
    others_ran: float
    """The provider and Redis."""
    others_queued: float


DID = {
    "late": "sent late by the load itself",
    "ran": "the worker computed, for this call or for others",
    "queued": "the worker waited for a core",
    "others_ran": "provider and Redis computed",
    "others_queued": "provider and Redis waited for a core",
}


class Scheduled:
    """What the kernel counts of the main threads of some processes (``schedstat``): on a core, and waiting for one."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._files = [Path(f"/proc/{pid}/schedstat") for pid in pids]

    def seconds(self) -> tuple[float, float]:
        """Of all of them together, since their start."""
        found = [file.read_text().split() for file in self._files]
        return sum(int(one[0]) for one in found) / 1e9, sum(int(one[1]) for one in found) / 1e9


def measure(bed: Bed, rate: float) -> dict[str, Any]:
    file = bed.directory / "watched.json"
    with ExitStack() as stack:
        provider = stack.enter_context(bed.provider())
        addon = Path(__file__).with_name("watch.py")
        side = stack.enter_context(bed.tollhouse(provider.port, addon=addon, BENCH_WATCH=str(file)))
        asyncio.run(load.calls(side.proxy, min(400, bed.size.requests), stream=False))
        with redis.Redis.from_url(bed.redis_url) as client:
            redis_pid = int(client.info("server")["process_id"])
        worker, others = Scheduled(side.pids), Scheduled((provider.pid, redis_pid))
        calls, own = asyncio.run(_load(side.proxy, rate, bed.size.seconds, worker, others))
    seen = json.loads(file.read_text())
    return judged(
        calls,
        stalls=[(begin, end) for begin, end in seen["stalls"]],
        collections=[(begin, end, generation) for begin, end, generation in seen["collections"]],
        own=own,
    )


def judged(
    calls: Sequence[Call],
    *,
    stalls: Sequence[Span],
    collections: Sequence[tuple[float, float, int]],
    own: Sequence[Span],
) -> dict[str, Any]:
    """The slowest hundredth of the calls, and the part of them during which each thing was. ``own`` are the stalls of the load's
    loop. What was before the first call or after the last one does not count."""
    begin, end = min(one.since for one in calls), max(one.until for one in calls)
    stalls = [one for one in stalls if begin <= one[0] <= end]
    collections = [one for one in collections if begin <= one[0] <= end]
    waits = sorted(one.until - one.since for one in calls)
    bound = waits[int(len(waits) * SLOW)]
    slow = [one for one in calls if one.until - one.since >= bound]
    collecting = [(since, until) for since, until, _ in collections]
    oldest = [(since, until) for since, until, generation in collections if generation == 2]
    return {
        "calls": len(calls),
        **{f"p{100 * q:g}_ms": waits[int(len(waits) * q)] * 1000 for q in (0.5, 0.9, 0.99)},
        "longest_ms": waits[-1] * 1000,
        "did_ms": {"all": _did(calls), "slow": _did(slow)},
        "collections": {
            str(generation): sum(one[2] == generation for one in collections)
            for generation in range(3)
        },
        "collecting_share": sum(map(_length, collecting)) / (end - begin),
        "longest_collection_ms": 1000 * max(map(_length, collecting), default=0.0),
        "stalls": len(stalls),
        "longest_stall_ms": 1000 * max(map(_length, stalls), default=0.0),
        "slow_during": {
            "a collection of the oldest generation": _during(slow, oldest),
            "any other collection of 1 ms or more": _during(
                slow, [one for one in collecting if _length(one) >= 0.001 and one not in oldest]
            ),
            "a stall of the worker's loop": _during(slow, stalls),
            "a stall of the load's own loop": _during(slow, own),
        },
        "slow_beside_slow": _beside(calls, slow),
    }


def _did(calls: Sequence[Call]) -> dict[str, float]:
    """Means, in milliseconds."""
    whole = sum(one.until - one.since for one in calls) / len(calls) * 1000
    return {name: 1000 * sum(getattr(one, name) for one in calls) / len(calls) for name in DID} | {
        "whole": whole
    }


def _length(span: Span) -> float:
    return span[1] - span[0]


def _during(calls: Sequence[Call], spans: Sequence[Span]) -> float:
    during = [one for one in calls if any(b < one.until and one.since < e for b, e in spans)]
    return len(during) / len(calls)


def _beside(calls: Sequence[Call], slow: Sequence[Call]) -> float:
    """How many other calls began while a slow one was under way, on average."""
    begins = sorted(one.since for one in calls)
    meanwhile = (
        bisect_left(begins, one.until) - bisect_left(begins, one.since) - 1 for one in slow
    )
    return sum(meanwhile) / len(slow)


async def _load(
    proxy: load.Proxy, rate: float, seconds: float, worker: Scheduled, others: Scheduled
) -> tuple[list[Call], list[Span]]:
    """The calls, each from when it was to begin, and the stalls of this loop."""
    payload, free = load.body(stream=False), asyncio.Queue[load.Tunnel]()
    for tunnel in await load.open_many(proxy, CONNECTIONS):
        await tunnel.call(payload)
        free.put_nowait(tunnel)
    found: list[Call] = []

    async def one(since: float) -> None:
        tunnel = await free.get()
        (ran, queued), (others_ran, others_queued) = worker.seconds(), others.seconds()
        sent = time.perf_counter()
        await tunnel.call(payload)
        until = time.perf_counter()
        done, others_done = worker.seconds(), others.seconds()
        did = (done[0] - ran, done[1] - queued)
        found.append(
            Call(
                since,
                until,
                sent - since,
                *did,
                others_done[0] - others_ran,
                others_done[1] - others_queued,
            )
        )
        free.put_nowait(tunnel)

    ticker = Ticker()
    began, calls = time.perf_counter(), []
    for number in range(max(1, int(rate * seconds))):
        since = began + number / rate
        if (early := since - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        calls.append(asyncio.ensure_future(one(since)))
    await asyncio.gather(*calls)
    ticker.stop()
    while not free.empty():
        free.get_nowait().close()
    return found, list(ticker.stalls)
