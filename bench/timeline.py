"""Where the time of one call goes: ``uv run python -m bench.timeline [--rate N] [--json]``.

Client, Redis and provider each speak to a running gateway through a relay (`bench.wire`), which notes when bytes pass. So the
gateway has no probe in it. Calls are made one after the other. `ROWS` are the stretches of a call between two such moments; a
stretch has the hop of a relay in it, whose length is measured and shown.

- The same where the gateway has to make a new connection to the provider.
- Two stretches in parts, by the hooks of an addon (`bench.marks`). They cost a call its flow, so that it takes longer.
- What the slowest calls wait for at ``--rate`` calls a second (`bench.slow_calls`).

Needs redis-server, and Linux, whose clock is one for all processes.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench import load, slow_calls
from bench.bed import TINY, Bed, Size, say
from bench.servers import Side, redis_server
from bench.wire import Wire

CALLS: Final = 300
ROWS: Final = {
    "gates": "bytes in, TLS, head, gates, body, estimate -> hold is asked",
    "hold": "Redis holds",
    "send": "key, proof, a connection, TLS -> request is at the provider",
    "provider": "the provider",
    "answer": "answer is in, TLS, metering, TLS -> last bytes are at the client",
}
BEHIND: Final = {
    "charge": "answer is in, TLS, metering, the charge, the line -> settle is asked",
    "settle": "Redis settles",
}
"""No client waits for these two where no limit is near."""
INSIDE: Final = {
    "identified": "bytes in, TLS, head, gates, the flow for the hooks",
    "body": "the body",
    "hold": "what was changed, estimate, models, limits -> hold is asked",
    "head": "answer is in -> its head is known",
    "settle": "metering, the answer to the client, the charge, the line -> settle is asked",
}


class Passing(NamedTuple):
    at: float
    place: str
    """client, redis or provider."""
    direction: str
    """``out`` is away from who opened the connection."""


class Taps:
    """What passes at the three places, in order. For one event loop."""

    def __init__(self) -> None:
        self.seen: list[Passing] = []

    async def settled(self) -> None:
        """Until Redis has answered twice, a second at most."""
        for _ in range(1_000):
            if sum((one.place, one.direction) == ("redis", "back") for one in self.seen) >= 2:
                return
            await asyncio.sleep(0.001)

    def wire(self, place: str, target: int) -> Wire:
        return Wire(
            target, passed=lambda direction, at, _: self.seen.append(Passing(at, place, direction))
        )


def stretches(seen: Sequence[Passing]) -> dict[str, float] | None:
    """Seconds of each of `ROWS`. None for a call beside which the gateway had something else to ask Redis."""

    def at(place: str, direction: str) -> list[float]:
        return [one.at for one in seen if (one.place, one.direction) == (place, direction)]

    asked, told = at("redis", "out"), at("redis", "back")
    if len(asked) != 2 or len(told) != 2:
        return None
    # A new connection says more before: the request is what was sent last, the answer what came behind it.
    sent, came = at("provider", "out")[-1], at("provider", "back")[-1]
    moments = [at("client", "out")[0], asked[0], told[0], sent, came, at("client", "back")[-1]]
    if moments != sorted(moments) or asked[1] < came:
        return None
    found = {
        name: later - sooner for name, (sooner, later) in zip(ROWS, pairwise(moments), strict=True)
    }
    return found | {"charge": asked[1] - came, "settle": told[1] - asked[1]}


class Bench:
    """One gateway between taps, and its client."""

    def __init__(self, bed: Bed, calls: int) -> None:
        self._bed = bed
        self._calls = calls
        self._taps = Taps()

    async def measure(self, *, dial: bool = False, marks: Path | None = None) -> list[Measured]:
        """The calls that tell something. ``dial``: each makes a new connection to the provider. ``marks``: the file that
        `bench.marks` writes."""
        bed, taps = self._bed, self._taps
        with ExitStack() as stack:

            async def enter(side: AbstractContextManager[Side]) -> Side:
                return await asyncio.to_thread(stack.enter_context, side)

            provider = stack.enter_context(bed.provider())
            onward = taps.wire("provider", provider.port)
            redis = taps.wire("redis", int(bed.redis_url.rpartition(":")[2].partition("/")[0]))
            await onward.open()
            await redis.open()
            tapped = dataclasses.replace(bed, redis_url=f"redis://127.0.0.1:{redis.port}/0")
            addon = None if marks is None else Path(__file__).with_name("marks.py")
            side = await enter(tapped.tollhouse(onward.port, addon=addon, BENCH_WATCH=str(marks)))
            inward = taps.wire("client", side.proxy.port)
            await inward.open()
            proxy = load.Proxy(inward.port, side.proxy.authorization)
            tunnel = await load.Tunnel.open(proxy, load.tls_context())
            found = []
            for number in range(self._calls + 20):
                if dial:
                    await onward.drop()
                taps.seen.clear()
                await tunnel.call(load.body(stream=False))
                await taps.settled()
                # The first calls warm up.
                if number >= 20 and (parts := stretches(taps.seen)) is not None:
                    found.append(Measured(taps.seen[0].at, parts))
            tunnel.close()
            for wire in (inward, onward, redis):
                await wire.close()
            await asyncio.to_thread(stack.close)
        if not found:
            raise RuntimeError(
                "beside each of the calls the gateway had something else to ask Redis"
            )
        return found


class Measured(NamedTuple):
    at: float
    parts: dict[str, float]


async def _hop_s(bed: Bed, calls: int) -> float:
    """What one relay adds in one direction."""
    with bed.provider() as provider:
        wire = Wire(provider.port)
        await wire.open()
        took = {}
        for port in (provider.port, wire.port):
            tunnel, each = await load.open_direct(port, load.tls_context()), []
            for _ in range(calls):
                since = time.perf_counter()
                await tunnel.call(load.body(stream=False))
                each.append(time.perf_counter() - since)
            took[port] = statistics.median(each[len(each) // 5 :])
            tunnel.close()
        await wire.close()
    return (took[wire.port] - took[provider.port]) / 2


def _inside(measured: Sequence[Measured], moments: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """The parts of the first stretch and of that behind the answer, in microseconds."""
    found: dict[str, list[float]] = {name: [] for name in INSIDE}
    times = [at for _, at in moments]
    for began, parts in measured:
        first = bisect_left(times, began)
        marks = dict(moments[first : first + 3])
        if marks.keys() != {"identified", "body", "head"}:
            continue
        ends = dict(zip(ROWS, accumulate(parts.values(), initial=began), strict=False))
        found["identified"].append(marks["identified"] - began)
        found["body"].append(marks["body"] - marks["identified"])
        found["hold"].append(ends["hold"] - marks["body"])
        found["head"].append(marks["head"] - ends["answer"])
        found["settle"].append(ends["answer"] + parts["charge"] - marks["head"])
    return {name: _quantiles(each) for name, each in found.items() if each}


def _quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """In microseconds."""
    found = sorted(seconds)
    return {"p50": found[len(found) // 2] * 1e6, "p99": found[int(len(found) * 0.99)] * 1e6}


def _parts(measured: Sequence[Measured]) -> dict[str, Any]:
    rows = {name: _quantiles([one.parts[name] for one in measured]) for name in (*ROWS, *BEHIND)}
    whole = [sum(one.parts[name] for name in ROWS) for one in measured]
    return rows | {"whole": _quantiles(whole)}


def run(size: Size, calls: int, rate: float) -> dict[str, Any]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        bed = Bed(directory, stack.enter_context(redis_server(directory)), size)
        say("timeline: a call, with a kept connection and with a new one")
        kept = asyncio.run(Bench(bed, calls).measure())
        new = asyncio.run(Bench(bed, calls).measure(dial=True))
        say("timeline: with hooks")
        marks = directory / "marks.json"
        marked = asyncio.run(Bench(bed, calls).measure(marks=marks))
        hop = asyncio.run(_hop_s(bed, calls))
        say(f"timeline: {rate:g} calls a second")
        slow = slow_calls.measure(bed, rate)
        return {
            "calls": {"kept": len(kept), "new": len(new), "hooks": len(marked)},
            "hop_us": hop * 1e6,
            "kept": _parts(kept),
            "new": _parts(new),
            "inside": _inside(marked, json.loads(marks.read_text())),
            "slow": slow,
        }


def _show(found: dict[str, Any], rate: float) -> None:
    print(f"{'microseconds of a call':66}{'p50':>8}{'p99':>8}   new connection: p50")
    for name, what in {**ROWS, "whole": "the whole call", **BEHIND}.items():
        row, new = found["kept"][name], found["new"][name]
        print(f"{what:66}{row['p50']:8.0f}{row['p99']:8.0f}{new['p50']:12.0f}")
    print(f"\nthe hop of a relay, which each of them has in it: {found['hop_us']:.0f}\n")
    print("two of them, by the hooks of an addon")
    for name, row in found["inside"].items():
        print(f"{INSIDE[name]:66}{row['p50']:8.0f}{row['p99']:8.0f}")
    slow = found["slow"]
    print(f"\n{slow['calls']} calls, {rate:g} a second, milliseconds:", end="")
    for name in ("p50", "p90", "p99", "longest"):
        print(f"  {name} {slow[f'{name}_ms']:.2f}", end="")
    every, slowest = slow["did_ms"]["all"], slow["did_ms"]["slow"]
    print(f"\n\n{'meanwhile, milliseconds, means':56}{'all calls':>12}{'slowest 1 %':>14}")
    for name, what in {**slow_calls.DID, "whole": "the whole call"}.items():
        print(f"{what:56}{every[name]:12.2f}{slowest[name]:14.2f}")
    counts = ", ".join(f"{count} of generation {n}" for n, count in slow["collections"].items())
    print(
        f"\ncollections: {counts}; {100 * slow['collecting_share']:.1f} % of the time, "
        f"longest {slow['longest_collection_ms']:.2f} ms"
        f"\nstalls of the worker's loop: {slow['stalls']}, longest {slow['longest_stall_ms']:.2f} ms"
        "\nof the slowest hundredth of the calls, each under way during"
    )
    for what, share in slow["slow_during"].items():
        print(f"  {what:64}{100 * share:6.0f} %")
    print(f"and on average {slow['slow_beside_slow']:.1f} other calls began meanwhile")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.timeline",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rate", type=float, default=250.0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="a few calls, to see that it works")
    options = parser.parse_args()
    found = run(TINY if options.tiny else Size(), 20 if options.tiny else CALLS, options.rate)
    if options.json:
        json.dump(found, sys.stdout, indent=2)
    else:
        _show(found, options.rate)


if __name__ == "__main__":
    main()
