"""A flame graph of the worker under the load of requests, if py-spy is there."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

from bench import load
from bench.bed import Bed, say

RATE, CONNECTIONS = 200, 8


def draw(bed: Bed, file: Path) -> bool:
    """Writes an SVG. False, with the reason on stderr, if there is none."""
    program = shutil.which("py-spy")
    if program is None:
        say("profile: py-spy is not on PATH, so there is no flame graph (`uv tool install py-spy`)")
        return False
    with ExitStack() as stack:
        provider = stack.enter_context(bed.provider())
        side = stack.enter_context(bed.tollhouse(provider.port))
        asyncio.run(load.calls(side.proxy, min(400, bed.size.requests), stream=False))
        words = ["record", "--pid", str(side.pids[0]), "--output", str(file), "--rate", str(RATE)]
        words += ["--duration", str(max(1, round(bed.size.seconds))), "--nonblocking"]
        spy = subprocess.Popen(
            [program, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        asyncio.run(_until_ended(side.proxy, spy))
        said, _ = spy.communicate()
    if spy.returncode:
        say(f"profile: py-spy ended with {spy.returncode}: {said.strip()}")
        return False
    say(f"profile: {file}")
    return True


async def _until_ended(proxy: load.Proxy, spy: subprocess.Popen[str]) -> None:
    tunnels = await load.open_many(proxy, CONNECTIONS)
    while spy.poll() is None:
        await load.saturate(tunnels, 0.5)
    for tunnel in tunnels:
        tunnel.close()
