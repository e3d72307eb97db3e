"""A process with a spool: what `test_spool` runs several of, and kills. It says each step on
stdout."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.support.values import replace

from tollhouse.call import Amount
from tollhouse.ledger.names import Scope
from tollhouse.ledger.spool import Spool, SpoolRecord


def scopes(tenant: str = "acme") -> tuple[Scope, ...]:
    return (
        Scope("tenant", tenant, tenant),
        Scope("project", tenant, "proj_123"),
        Scope("token", tenant, "tok_1"),
    )


def ending(number: int, tenant: str = "acme", **record: str) -> SpoolRecord:
    call_id = f"call_{number}"
    fields = {"call_id": call_id, **record}
    return SpoolRecord(call_id, scopes(tenant), Amount(number, 2 * number, 1), fields)


def begun(number: int, tokens: int = 1) -> SpoolRecord:
    return replace(ending(number), charged=Amount(number, tokens, 1), kind="begun")


async def put(spool: Spool, first: str, count: str) -> None:
    """Five at once, the first of them a beginning; each is said once it is on disk."""
    for number in range(int(first), int(first) + int(count), 5):
        some = [begun(number), *(ending(n) for n in range(number + 1, number + 5))]
        await asyncio.gather(*map(spool.put, some))
        print(*(one.call_id for one in some), flush=True)


async def tell(spool: Spool) -> None:
    """A round for each line of stdin; each record is said when it is told."""

    async def told(record: SpoolRecord) -> None:
        print(record.call_id, flush=True)

    while await asyncio.to_thread(sys.stdin.readline):
        await spool.replay(told)


async def hang(spool: Spool) -> None:
    """A round that waits within the first record."""

    async def told(record: SpoolRecord) -> None:
        print(record.call_id, flush=True)
        await asyncio.to_thread(sys.stdin.readline)

    await spool.replay(told)


async def main(job: str, directory: str, *arguments: str) -> None:
    jobs: dict[str, Callable[..., Awaitable[None]]] = {"put": put, "tell": tell, "hang": hang}
    spool = Spool(Path(directory))
    await spool.open()
    await jobs[job](spool, *arguments)
    await spool.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
