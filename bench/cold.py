"""A client's first call where the provider is 40 ms of round trip away: it has no connection, and its time counts from the first
packet to the last byte of the answer.

The delay is a `bench.wire.Wire`. Directly the client pays it for TCP, for TLS and for the call. Three cases of a proxy:
``near``  the proxy stands beside the client and has other calls' connection to the provider: the delay is paid once
``first`` the same, but it has none, so that it pays for TCP, TLS and the call itself
``far``   the proxy stands beside the provider: the client pays for TCP, CONNECT, TLS and the call
"""

from __future__ import annotations

import asyncio
import ssl
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, ExitStack
from functools import partial

from bench import load
from bench.bed import Bed, say
from bench.figures import Figure
from bench.servers import Side
from bench.wire import Wire

ROUND_TRIP_S = 0.040
ROWS = {
    "near": ("cold client, 40 ms to the provider", "<= 0.45"),
    "first": ("the same, the proxy has no connection", ""),
    "far": ("cold client, 40 ms to the proxy", ""),
}

Open = Callable[[ssl.SSLContext], Awaitable[load.Tunnel]]


def measure(bed: Bed) -> list[Figure]:
    say("cold")
    found = asyncio.run(_measure(bed))
    return [
        Figure(
            key=f"cold_{case}_ms",
            what=what,
            unit="ms",
            found=found[case],
            ratio=found[case]["tollhouse"] / found[case]["direct"],
            to="direct",
            wanted=wanted,
        )
        for case, (what, wanted) in ROWS.items()
    ]


async def _measure(bed: Bed) -> dict[str, dict[str, float]]:
    calls = bed.size.cold * bed.size.rounds
    with ExitStack() as stack:
        provider = stack.enter_context(bed.provider())
        line = Wire(provider.port, round_trip_s=ROUND_TRIP_S)
        await line.open()

        # Their start and their commands are waited for in a thread: the relay's loop must turn meanwhile.
        async def enter(side: AbstractContextManager[Side]) -> Side:
            return await asyncio.to_thread(stack.enter_context, side)

        sides: dict[str, Side] = {
            "mitmdump": await enter(bed.mitmdump(line.port)),
            "tollhouse": await enter(bed.tollhouse(line.port)),
        }
        beside: dict[str, Side] = {
            "mitmdump": await enter(bed.mitmdump(provider.port)),
            "tollhouse": await enter(bed.tollhouse(provider.port)),
        }
        direct = await _median(partial(load.open_direct, line.port), calls)
        found: dict[str, dict[str, float]] = {case: {"direct": direct} for case in ROWS}
        for name, side in sides.items():
            through = partial(load.Tunnel.open, side.proxy)
            await _first_call(through)
            found["near"][name] = await _median(through, calls)
            found["first"][name] = await _median(through, calls, line.drop)
        for name, side in beside.items():
            far = Wire(side.proxy.port, round_trip_s=ROUND_TRIP_S)
            await far.open()
            await _first_call(partial(load.Tunnel.open, side.proxy))
            proxy = load.Proxy(far.port, side.proxy.authorization)
            found["far"][name] = await _median(partial(load.Tunnel.open, proxy), calls)
            await far.close()
        await line.close()
    return found


async def _median(
    connect: Open, calls: int, before: Callable[[], Awaitable[None]] | None = None
) -> float:
    took = []
    for _ in range(calls):
        if before is not None:
            await before()
        took.append(await _first_call(connect))
    return 1000 * statistics.median(took)


async def _first_call(connect: Open) -> float:
    # A context of its own: no session of TLS is resumed.
    tls, payload = load.tls_context(), load.body(stream=False)
    since = time.perf_counter()
    tunnel = await connect(tls)
    await tunnel.call(payload)
    took = time.perf_counter() - since
    tunnel.close()
    return took
