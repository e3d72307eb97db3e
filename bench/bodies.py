"""What a body of 31 MiB does to everybody else: ``python -m bench.bodies``.

For each body the longest time for which the event loop did not turn while it was read and estimated, and the most memory beside
the body itself, as a multiple of its bytes and in MiB: a dense body takes more than four times its
bytes, and then no more than `MAX_TREE` of `families/formats/document.py`, while it is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator

from tollhouse.admit.reading import ReadBody
from tollhouse.call import Admitted, Arrival, RequestHead
from tollhouse.denial import Refused
from tollhouse.loop import SWITCH_S
from tollhouse.parties import Identity, Project
from tollhouse.providers.openai import OPENAI

MIB = 1 << 20
BODIES = {
    "empty objects": b'{"model":"gpt-4o","messages":[' + b"{}," * (10 * MIB) + b"{}]}",
    "numbers": b'{"model":"gpt-4o","messages":[' + b"0," * (15 * MIB) + b"0]}",
    "the most objects that are read": b'{"model":"gpt-4o","messages":['
    + b'{"a":1},' * 58_000
    + b"{}]}",
    "the most numbers that are read": b'{"model":"gpt-4o","input":['
    + b"1234567," * 340_000
    + b"0]}",
    "the most short texts that are read": b'{"model":"gpt-4o","input":['
    + (b'"' + b"x" * 900 + b'",') * 4_500
    + b'""]}',
    "small and dense: objects": b'{"model":"gpt-4o","messages":[' + b"{}," * 20_000 + b"{}]}",
    "small and dense: lists": b'{"model":"gpt-4o","messages":[],"x":[' + b"[0]," * 15_000 + b"0]}",
    "dense: texts": b'{"model":"gpt-4o","input":[' + b'"ab",' * 120_000 + b'""]}',
    "one text": b'{"model":"gpt-4o","messages":[{"role":"user","content":"'
    + b"x" * (31 * MIB)
    + b'"}]}',
    "one text of escapes": b'{"model":"gpt-4o","messages":[{"role":"user","content":"'
    + b'\\"' * (15 * MIB)
    + b'"}]}',
    "one text of emoji": b'{"model":"gpt-4o","messages":[{"role":"user","content":"'
    + "😀".encode() * (7 * MIB)
    + b'"}]}',
    "texts of a conversation": json.dumps(
        {
            "model": "gpt-4o",
            "messages": [{"role": "user", "content": "Ein Satz, der länger ist. " * 400}] * 2_900,
        }
    ).encode(),
    "nested": b'{"model":"gpt-4o","x":' + b"[" * (31 * MIB) + b"}",
}


class _Exchange:
    """Has the body already."""

    body_complete = True

    def __init__(self, body: bytes) -> None:
        self._body = body

    @contextlib.asynccontextmanager
    async def interruptible(self) -> AsyncIterator[None]:
        yield

    async def read_all(self, limit: int, idle_s: float, kept: object = None) -> bytes:
        return self._body


async def _longest_stop(done: asyncio.Event) -> float:
    longest, before = 0.0, time.perf_counter()
    while not done.is_set():
        await asyncio.sleep(0.0005)
        now = time.perf_counter()
        longest, before = max(longest, now - before), now
    return longest


async def _read(body: bytes, estimate: str) -> str:
    head = RequestHead("proxy", "1.1", "POST", "/v1/chat/completions", "https", None, None, ())
    operation = OPENAI.family.operation(
        "POST", "/v1/embeddings" if b'"input"' in body[:60] else head.target
    )
    assert operation is not None
    project = Project("p", "t", estimate="worst" if estimate == "worst" else "typical")
    identity = Identity("tok", "t", ("p",))
    admitted = Admitted(
        Arrival.begin(head), OPENAI, OPENAI.hosts[0], "", "", (), identity, project, operation
    )
    try:
        requested = await ReadBody(max_body_bytes=64 * MIB, idle_s=1)(admitted, _Exchange(body))
    except Refused as refusal:
        return refusal.denial.code
    return f"{requested.estimate.units.input} tokens"


async def _measured(body: bytes, estimate: str) -> tuple[str, float]:
    done = asyncio.Event()
    watch = asyncio.create_task(_longest_stop(done))
    await asyncio.sleep(0.01)
    result = await _read(body, estimate)
    done.set()
    return result, await watch


def main() -> None:
    sys.setswitchinterval(SWITCH_S)
    print(f"{'body':38}{'MiB':>6}{'mode':>9}{'longest stop':>14}{'memory':>8}{'MiB':>6}  result")
    for name, body in BODIES.items():
        for estimate in ("typical", "worst"):
            began = time.perf_counter()
            result, stop = asyncio.run(_measured(body, estimate))
            took = time.perf_counter() - began
            tracemalloc.start()
            asyncio.run(_read(body, estimate))
            most = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            size, rise = len(body) / MIB, f"{most / len(body):8.2f}{most / MIB:6.1f}"
            print(
                f"{name:38}{size:6.1f}{estimate:>9}{stop * 1000:11.1f} ms{rise}  {result} ({took:.2f} s)"
            )


if __name__ == "__main__":
    main()
