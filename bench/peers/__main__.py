"""Tollhouse beside other gateways for LLMs under the same load, in one run: a table of Markdown.

``uv run python -m bench.peers [--only PEER,...] [--rounds N] [--json] [--tiny]``. It takes less than ten minutes on a machine that
does nothing else, needs redis-server, and installs the peers at its first run (docs/figures.md). The ratios are what counts.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench import servers
from bench.bed import say
from bench.peers.litellm import LITELLM, LITELLM_RUST
from bench.peers.measure import RATE, TINY, Size
from bench.peers.ours import MITMDUMP, TOLLHOUSE, TOLLHOUSE_BASE_URL
from bench.peers.portkey import PORTKEY
from bench.peers.run import run
from bench.peers.table import as_documents, as_markdown
from bench.peers.tensorzero import TENSORZERO

PEERS: Final = {
    one.key: one
    for one in (
        TOLLHOUSE,
        MITMDUMP,
        TOLLHOUSE_BASE_URL,
        LITELLM,
        LITELLM_RUST,
        TENSORZERO,
        PORTKEY,
    )
}


def main(words: Sequence[str] | None = None) -> int:
    options = _options(words)
    size: Size = options.size
    if shutil.which("redis-server") is None:
        say("redis-server is not on PATH. Budgets of all of them are in it: install it.")
        return 1
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-peers-")))
        provider = stack.enter_context(servers.provider(directory))
        rows, straight = run([PEERS[key] for key in options.only], directory, provider.port, size)
    if options.json:
        machine = {"cores": os.cpu_count(), "redis": _redis(), "rounds": size.rounds}
        found = {"rate": RATE, "direct": straight, "rows": as_documents(rows)}
        print(json.dumps({**machine, **found}, indent=2))
    else:
        print(as_markdown(rows, straight, _redis()))
    return 0


def _redis() -> str:
    said = subprocess.run(["redis-server", "--version"], capture_output=True, text=True).stdout
    return " ".join(said.split()[:3])


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only", type=_keys, default=list(PEERS), metavar="PEER,...", help=f"of {', '.join(PEERS)}"
    )
    parser.add_argument("--rounds", type=int, help="whose medians are shown (3)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--tiny", action="store_true", help="a few calls each, to see that it works"
    )
    options = parser.parse_args(words)
    options.size = TINY if options.tiny else Size()
    if options.rounds is not None:
        options.size = dataclasses.replace(options.size, rounds=max(1, options.rounds))
    return options


def _keys(text: str) -> list[str]:
    keys = [key for key in text.split(",") if key]
    if unknown := [key for key in keys if key not in PEERS]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: the peers are {', '.join(PEERS)}")
    return keys


if __name__ == "__main__":
    os.environ.pop("SSLKEYLOGFILE", None)
    sys.exit(main())
