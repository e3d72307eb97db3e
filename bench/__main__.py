"""Bare `mitmdump` beside Tollhouse, the same load on both in turn, CPU seconds of the proxy's process as the kernel counts them.

``uv run python -m bench [--rounds N] [--json]``. Absolute figures belong to the machine; the ratios are what counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from bench import load, provider
from bench.servers import free_port, make_certificate, mitmdump, redis_server, tollhouse

REQUESTS, STREAMS, FRESH = 2000, 40, 200
WANTED = {"request_us": 0.42, "chunk_us": 0.5, "connection_us": 0.2}
MEMORY_MB = 120


def _cpu_us(process: psutil.Process, work: Callable[[], None], units: int) -> float:
    before = process.cpu_times()
    work()
    after = process.cpu_times()
    return (after.user + after.system - before.user - before.system) / units * 1e6


def measure(process: psutil.Process, proxy: load.Proxy) -> dict[str, float]:
    """Microseconds of the proxy's CPU a request, a streamed chunk (its call's own cost taken off), a new connection."""
    request = _cpu_us(
        process, lambda: asyncio.run(load.calls(proxy, REQUESTS, stream=False)), REQUESTS
    )
    stream = _cpu_us(process, lambda: asyncio.run(load.calls(proxy, STREAMS, stream=True)), STREAMS)
    fresh = _cpu_us(process, lambda: asyncio.run(load.fresh(proxy, FRESH)), FRESH)
    return {
        "request_us": request,
        "chunk_us": (stream - request) / provider.CHUNKS,
        "connection_us": fresh,
        "memory_mb": process.memory_info().rss / 2**20,
    }


@contextmanager
def running_provider(directory: Path, pause_s: float = provider.PAUSE_S) -> Iterator[int]:
    cert, key = make_certificate(directory)
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.provider", str(cert), str(key), str(pause_s)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        port = stack.enter_context(running_provider(directory))
        redis_url, redis = "embedded", "embedded"
        if shutil.which("redis-server"):
            redis_url, redis = stack.enter_context(redis_server(directory)), "redis-server"
        else:
            print(
                "redis-server is not on PATH: the embedded store is measured, which is much slower",
                file=sys.stderr,
            )
        sides = {
            "mitmdump": stack.enter_context(mitmdump(directory, port, free_port())),
            "tollhouse": stack.enter_context(tollhouse(directory, port, redis_url)),
        }
        processes = {name: psutil.Process(side.pids[0]) for name, side in sides.items()}
        for name, side in sides.items():
            asyncio.run(load.calls(side.proxy, 400, stream=False))
            asyncio.run(load.calls(side.proxy, 8, stream=True))
            print(f"{name}: warm", file=sys.stderr)
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
        for _ in range(options.rounds):
            for name, side in sides.items():
                rounds[name].append(measure(processes[name], side.proxy))
    figures = {
        name: {key: statistics.median(r[key] for r in found) for key in found[0]}
        for name, found in rounds.items()
    }
    ratios = {
        key: statistics.median(
            t[key] / m[key] for t, m in zip(rounds["tollhouse"], rounds["mitmdump"], strict=True)
        )
        for key in figures["tollhouse"]
    }
    if options.json:
        print(json.dumps({"figures": figures, "ratios": ratios, "redis": redis}, indent=2))
    else:
        _table(figures, ratios, redis)
    return 0


def _table(figures: dict[str, dict[str, float]], ratios: dict[str, float], redis: str) -> None:
    print(f"Redis of tollhouse: {redis}")
    print(f"{'':16}{'mitmdump':>12}{'tollhouse':>12}{'ratio':>8}  wanted")
    for key, ratio in ratios.items():
        wanted = (
            f"<= {WANTED[key]}"
            if key in WANTED
            else f"< {MEMORY_MB} MB"
            if key == "memory_mb"
            else ""
        )
        print(
            f"{key:16}{figures['mitmdump'][key]:12.1f}{figures['tollhouse'][key]:12.1f}{ratio:8.2f}  {wanted}"
        )


if __name__ == "__main__":
    os.environ.pop("SSLKEYLOGFILE", None)
    sys.exit(main())
