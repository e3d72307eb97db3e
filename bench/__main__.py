"""The table of docs/figures.md: bare `mitmdump` beside Tollhouse under the same load, in one run.

``uv run python -m bench [--only PART,...] [--rounds N] [--soak CALLS] [--json] [--profile [FILE]]``. Absolute figures belong to the
machine; the ratios are what counts. All parts together take about half an hour, most of it for the soak.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench import cold, cpu, flame, latency, soak, streams, workers
from bench.bed import TINY, Bed, Size, say
from bench.figures import Figure, as_documents, as_table
from bench.servers import redis_server

PARTS: dict[str, Callable[[Bed], list[Figure]]] = {
    "cpu": cpu.measure,
    "streams": streams.measure,
    "latency": latency.measure,
    "cold": cold.measure,
    "workers": workers.measure,
    "soak": soak.measure,
}


def main(words: Sequence[str] | None = None) -> int:
    options = _options(words)
    size = options.size
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        url, redis = "embedded", "embedded"
        if shutil.which("redis-server"):
            url, redis = stack.enter_context(redis_server(directory)), "redis-server"
        else:
            say("redis-server is not on PATH: the embedded store is measured, which is much slower")
        bed = Bed(directory, url, size)
        figures = [figure for name in options.only for figure in PARTS[name](bed)]
        if options.profile is not None:
            flame.draw(bed, options.profile)
    if options.json:
        machine = {"cores": os.cpu_count(), "redis": redis, "rounds": size.rounds}
        print(json.dumps({**machine, "figures": as_documents(figures)}, indent=2))
    elif figures:
        print(f"{os.cpu_count()} cores, Redis of tollhouse: {redis}, rounds: {size.rounds}\n")
        print(as_table(figures))
    return 0


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only",
        type=_parts,
        default=list(PARTS),
        metavar="PART,...",
        help=f"of {', '.join(PARTS)}; none for the profile alone",
    )
    parser.add_argument("--rounds", type=int, help="whose medians are shown (3)")
    parser.add_argument("--soak", type=int, metavar="CALLS", help="100,000")
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--profile",
        type=Path,
        nargs="?",
        const=Path("worker.svg"),
        metavar="FILE",
        help="a flame graph of the worker by py-spy, an SVG (worker.svg)",
    )
    parser.add_argument(
        "--tiny", action="store_true", help="a few calls each, to see that it works"
    )
    options = parser.parse_args(words)
    size = TINY if options.tiny else Size()
    if options.rounds is not None:
        size = dataclasses.replace(size, rounds=max(1, options.rounds))
    if options.soak is not None:
        size = dataclasses.replace(size, soak=max(10, options.soak))
    options.size = size
    return options


def _parts(text: str) -> list[str]:
    names = [name for name in text.split(",") if name and name != "none"]
    if unknown := [name for name in names if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: the parts are {', '.join(PARTS)}")
    return names


if __name__ == "__main__":
    os.environ.pop("SSLKEYLOGFILE", None)
    sys.exit(main())
