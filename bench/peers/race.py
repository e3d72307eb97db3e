"""A hundred calls at once against money for ten: how many reach the provider, by the provider's own book.

The stand-in answers a call of the race when 2 s are over, so that all of them are under way before the first is paid. Each answer
costs what its call may cost at most, so a gateway that holds the most that a call may cost can let ten through.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass
from typing import Final

from bench import load
from bench.formats import TOKENS_OUT
from bench.peers.peer import CALLS_PAID

CALLS: Final = 100
_PATIENCE_S: Final = 120.0
_QUESTION: Final = "Say in a few words why a toll is paid before the road, and answer after 2 s."


@dataclass(frozen=True)
class Raced:
    budget: str
    """What kind of budget. Empty for a peer that has one kind, or none."""
    served: int
    """Calls that the provider worked on."""
    refused: dict[str, int]
    """The first lines of the answers that were not 200."""
    sent: int = CALLS
    paid: int = CALLS_PAID


def race(way: load.Way, provider_port: int, budget: str = "") -> Raced:
    return asyncio.run(_race(way, provider_port, budget))


async def _race(way: load.Way, provider_port: int, budget: str) -> Raced:
    payload = way.api.body(stream=False, cap=TOKENS_OUT, question=_QUESTION)
    refused: Counter[str] = Counter()

    async def one(connection: load.Tunnel) -> None:
        try:
            await connection.call(payload)
        except load.CallRefused as refusal:
            refused[refusal.status] += 1

    before = await _served(provider_port)
    async with asyncio.timeout(_PATIENCE_S):
        connections = await load.open_many(way, CALLS)
        await asyncio.gather(*map(one, connections))
    for connection in connections:
        connection.close()
    return Raced(budget, await _served(provider_port) - before, dict(refused))


async def _served(provider_port: int) -> int:
    """How many calls the provider's book has."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", provider_port, ssl=load.tls_context(), server_hostname=load.HOST
    )
    writer.write(f"GET /book HTTP/1.1\r\nHost: {load.HOST}\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    book: dict[str, int] = json.loads(await reader.readexactly(length))
    writer.close()
    return sum(book.values())
