"""What the ledger costs: CPU of a gateway for a call's hold and settle, round trips, and how many scripts a second Redis does.

``uv run python -m bench.ledger [--json]``. Needs redis-server and redis-benchmark on PATH. CPU is this process's own, as the
kernel counts it; ``p99_us`` is the run time of the scripts as Redis counts it (INFO latencystats), without the way there.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import io
import itertools
import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop
from redis.asyncio import Redis

from bench.servers import environment, redis_server
from tollhouse.call import Amount
from tollhouse.ledger import names
from tollhouse.ledger.hold_reply import Held
from tollhouse.ledger.ledger import Ledger, Scope
from tollhouse.ledger.limits import parse_limits
from tollhouse.ledger.store.client import connect, load_script

CALLS, AT_ONCE = 20_000, 64
LOAD_PER_S, LOAD_S = 5_000, 4
SCRIPTS = 100_000
LIMITS = {
    1: {"project": ["1000000 usd/day"]},
    6: {
        "tenant": ["1000000 usd/month", "9000000000 tokens/day"],
        "project": [
            "1000000 usd/day",
            "9000000000 tokens/minute",
            "9000000 requests/minute",
            "100000 concurrent",
        ],
    },
}
SCOPES = (
    Scope("tenant", "acme", "acme"),
    Scope("project", "acme", "proj_123"),
    Scope("token", "acme", "tok_1"),
)
HELD, COST = Amount(2_560_000, 300), Amount(950_000, 140)
CARRIED = {
    "call_id": "",
    "identity": "tok_1",
    "provider": "openai",
    "host": "api.openai.com",
    "model": "gpt-4o",
}
RECORD = {f"field_{n}": "a value of a line" for n in range(24)} | CARRIED
WANTED_CPU_US, WANTED_P99_US = 200.0, 1_000.0

_numbers = itertools.count()


async def _one(ledger: Ledger) -> None:
    call_id = f"call_{next(_numbers):024d}"
    held = await ledger.hold(call_id, SCOPES, HELD, carried=CARRIED)
    if not isinstance(held, Held):
        raise RuntimeError(f"the hold was refused: {held}")
    await ledger.settle(call_id, SCOPES, COST, record=RECORD)


async def _cpu(ledger: Ledger) -> float:
    """Microseconds of this process's CPU a call, `AT_ONCE` of them under way."""

    async def work(count: int) -> None:
        for _ in range(count):
            await _one(ledger)

    before = time.process_time()
    await asyncio.gather(*(work(CALLS // AT_ONCE) for _ in range(AT_ONCE)))
    return (time.process_time() - before) / (CALLS // AT_ONCE * AT_ONCE) * 1e6


async def _steady(ledger: Ledger) -> float:
    """`LOAD_PER_S` calls begun each second, whether or not the ones before are done; how many a second were done."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    tasks = []
    for tick in range(LOAD_S * 100):
        tasks += [loop.create_task(_one(ledger)) for _ in range(LOAD_PER_S // 100)]
        await asyncio.sleep(max(0.0, began + (tick + 1) / 100 - loop.time()))
    await asyncio.gather(*tasks)
    return len(tasks) / (loop.time() - began)


async def _scripts(redis: Redis) -> dict[str, float]:
    """Of the scripts since the last reset: how many, their p50 and p99 in microseconds."""
    calls: Any = await redis.info("commandstats")
    times: Any = await redis.info("latencystats")
    found = times["latency_percentiles_usec_evalsha"]
    return {
        "count": calls["cmdstat_evalsha"]["calls"],
        "p50_us": found["p50"],
        "p99_us": found["p99"],
    }


def _ceiling(port: int) -> dict[str, float]:
    """Holds a second that Redis does for 50 connections that send one after the other, and how long each waited."""
    script_keys = names.script_keys("acme", SCOPES)
    scope_names = " ".join(scope.name for scope in SCOPES)
    arguments = ["call___rand_int__", "60000", "2560000", "300", "1", scope_names, "a\x1fb"]
    command = ["EVALSHA", load_script("hold").sha, str(len(script_keys)), *script_keys, *arguments]
    options = ["-p", str(port), "-n", str(SCRIPTS), "-c", "50", "-r", "100000000", "--csv"]
    done = subprocess.run(
        ["redis-benchmark", *options, *command],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    [row] = csv.DictReader(io.StringIO(done.stdout))
    return {"holds_per_s": float(row["rps"]), "waited_p99_us": float(row["p99_latency_ms"]) * 1000}


async def _measure(url: str, count: int) -> dict[str, float]:
    redis = connect(url, Path())
    await redis.flushall()
    ledger = Ledger(redis)
    for scope in SCOPES[:2]:
        await ledger.set_limits(scope, parse_limits(LIMITS[count].get(scope.kind, [])))
    await _one(ledger)
    await redis.config_resetstat()
    cpu = await _cpu(ledger)
    round_trips = (await _scripts(redis))["count"] / (CALLS // AT_ONCE * AT_ONCE)
    await redis.config_resetstat()
    per_s = await _steady(ledger)
    steady = await _scripts(redis)
    await redis.config_resetstat()
    ceiling = await asyncio.to_thread(_ceiling, int(url.rpartition(":")[2].partition("/")[0]))
    script = await _scripts(redis)
    await ledger.close()
    return {
        "cpu_us": cpu,
        "round_trips": round_trips,
        "steady_calls_per_s": per_s,
        "steady_p50_us": steady["p50_us"],
        "steady_p99_us": steady["p99_us"],
        **ceiling,
        "hold_p99_us": script["p99_us"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.ledger", description=__doc__)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
        redis_server(Path(directory)) as url,
    ):
        found = {
            count: asyncio.run(_measure(url, count), loop_factory=uvloop.new_event_loop)
            for count in sorted(LIMITS)
        }
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        for count, figures in found.items():
            print(f"{count} limit(s)")
            for name, value in figures.items():
                print(f"  {name:20} {value:10.1f}")
    good = all(
        figures["cpu_us"] <= WANTED_CPU_US
        and figures["round_trips"] <= 2.01
        and figures["steady_p99_us"] < WANTED_P99_US
        for figures in found.values()
    )
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
