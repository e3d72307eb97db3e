"""What a call waits for, at 250 calls a second and at half of the rate at which one worker saturates.

Calls begin at a fixed rate over kept connections, straight to the provider and through each proxy in turn. A call's time counts
from the moment at which it was to begin. Load, provider, Redis and proxy share this machine's cores. Each proxy's half load is half
of its own saturation, which is measured in the same round: `CONNECTIONS` clients, each with one call after the other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack

from bench import load
from bench.bed import Bed, say
from bench.figures import Figure, of_rounds

CONNECTIONS, RATE = 32, 250.0
QUANTILES = {"p50": 0.5, "p99": 0.99}
WANTED = {"p50": "<= 1.2 ms", "p99": "<= 3 ms"}

Open = Callable[[], Awaitable[load.Tunnel]]


async def waits(connect: Open, rate: float, seconds: float) -> dict[str, float]:
    """The milliseconds of `QUANTILES`."""
    free: asyncio.Queue[load.Tunnel] = asyncio.Queue()
    found: list[float] = []

    async def warmed() -> load.Tunnel:
        tunnel = await connect()
        for _ in range(2):
            await tunnel.call(tunnel.api.body(stream=False))
        free.put_nowait(tunnel)
        return tunnel

    # All at once: a server ends a connection that has waited for some seconds.
    tunnels = await asyncio.gather(*(warmed() for _ in range(CONNECTIONS)))
    payload = tunnels[0].api.body(stream=False)

    async def one(since: float) -> None:
        tunnel = await free.get()
        await tunnel.call(payload)
        found.append(1000 * (time.perf_counter() - since))
        free.put_nowait(tunnel)

    began, calls = time.perf_counter(), []
    for number in range(max(1, int(rate * seconds))):
        since = began + number / rate
        if (early := since - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        calls.append(asyncio.ensure_future(one(since)))
    await asyncio.gather(*calls)
    while not free.empty():
        free.get_nowait().close()
    found.sort()
    return {name: found[int(len(found) * quantile)] for name, quantile in QUANTILES.items()}


def measure(bed: Bed) -> list[Figure]:
    rounds: dict[str, list[dict[str, float]]] = {}
    with ExitStack() as stack:
        provider = stack.enter_context(bed.provider())
        sides = {
            "mitmdump": stack.enter_context(bed.mitmdump(provider.port)),
            "tollhouse": stack.enter_context(bed.tollhouse(provider.port)),
        }
        tls = load.tls_context()

        def direct(rate: float) -> dict[str, float]:
            return asyncio.run(
                waits(lambda: load.open_direct(provider.port, tls), rate, bed.size.seconds)
            )

        def through(name: str, rate: float) -> dict[str, float]:
            proxy = sides[name].proxy
            return asyncio.run(waits(lambda: load.Tunnel.open(proxy, tls), rate, bed.size.seconds))

        for number in range(bed.size.rounds):
            say(f"latency: round {number + 1} of {bed.size.rounds}")
            found: dict[str, dict[str, float]] = {}
            straight = direct(RATE)
            for quantile, value in straight.items():
                found[f"rate_{quantile}"] = {"direct": value}
            for name, side in sides.items():
                there = through(name, RATE)
                saturation = asyncio.run(_saturation(side.proxy, bed.size.seconds / 2))
                found.setdefault("saturation", {})[name] = saturation
                half, alone = through(name, saturation / 2), direct(saturation / 2)
                for quantile in QUANTILES:
                    added = there[quantile] - straight[quantile]
                    found.setdefault(f"rate_added_{quantile}", {})[name] = added
                    added = half[quantile] - alone[quantile]
                    found.setdefault(f"half_added_{quantile}", {})[name] = added
            for key, values in found.items():
                rounds.setdefault(key, []).append(values)
    figures = [
        _figure(f"rate_{name}", f"{name} at {RATE:g} calls a second, no proxy", rounds)
        for name in QUANTILES
    ]
    figures += [
        _figure(
            f"rate_added_{name}", f"{name} added at {RATE:g} calls a second", rounds, WANTED[name]
        )
        for name in QUANTILES
    ]
    figures.append(
        of_rounds("saturation", "calls a second at saturation", "/s", rounds["saturation"])
    )
    figures += [
        _figure(f"half_added_{name}", f"{name} added at half of its saturation", rounds)
        for name in QUANTILES
    ]
    return figures


def _figure(
    key: str, what: str, rounds: dict[str, list[dict[str, float]]], wanted: str = ""
) -> Figure:
    # What two differences of milliseconds are to each other says nothing.
    return of_rounds(key, what, "ms", rounds[key], to="", wanted=wanted)


async def _saturation(proxy: load.Proxy, seconds: float) -> float:
    tunnels = await load.open_many(proxy, CONNECTIONS)
    rate, _ = await load.saturate(tunnels, seconds)
    for tunnel in tunnels:
        tunnel.close()
    return rate
