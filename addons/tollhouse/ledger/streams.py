"""The records of calls in Redis: read in pages, by readers that keep how far they have come.

A tenant has two streams. ``calls`` has the calls that were settled. ``uncharged`` has those that no settle told of: refused ones
and tunnels. Ids begin with the milliseconds since the epoch, by Redis's clock, at which a record was written.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from redis.asyncio import Redis

from tollhouse.ledger import names, records
from tollhouse.ledger.store.client import persist, translated

UNCHARGED_LENGTH: Final = 20_000
"""About how many records of a tenant's calls that were charged nothing are kept, and of calls that have no tenant."""

AUDIT_LENGTH: Final = 10_000
"""About how many changes of projects, limits and tokens are kept."""

Found = list[tuple[str, dict[str, str]]]
"""Ids and fields."""
RunScript = Callable[[str, Sequence[str], Sequence[str]], Awaitable[Any]]


class Streams:
    """Every method raises `LedgerUnavailable` when Redis can't be asked. ``run_script`` is `Ledger.run_script`."""

    def __init__(self, redis: Redis, run_script: RunScript) -> None:
        self._redis = redis
        self._run_script = run_script

    async def page(self, stream: str, first: str, last: str, count: int) -> Found:
        """At most ``count`` records of ``stream`` (one of `names`) with ids from ``first`` to ``last``, both among them, the
        oldest first. "-" and "+" are the first and the last of all."""
        with translated():
            found: Any = await self._redis.xrange(stream, first, last, count)
        return [(key.decode(), _decoded(fields)) for key, fields in found]

    async def newest(self, stream: str, count: int) -> Found:
        """The latest ``count`` records, the newest first."""
        with translated():
            found: Any = await self._redis.xrevrange(stream, "+", "-", count)
        return [(key.decode(), _decoded(fields)) for key, fields in found]

    async def length(self, stream: str) -> int:
        with translated():
            length: int = await self._redis.xlen(stream)
        return length

    async def add_uncharged(self, tenant: str, record: Mapping[str, str]) -> None:
        """Adds the record of a call that was charged nothing. Told twice it is there twice."""
        fields = [str(UNCHARGED_LENGTH), *records.flat(record)]
        await self._run_script("append", [names.uncharged_key(tenant)], fields)

    async def add_audit(self, record: Mapping[str, str]) -> None:
        """Adds the record of a change. Told twice it is there twice."""
        fields = [text for pair in record.items() for text in pair]
        await self._run_script("append", [names.AUDIT], [str(AUDIT_LENGTH), *fields])
        persist(self._redis)

    async def export_at(self, tenant: str, name: str) -> str:
        """How far the export ``name`` has come, "" if it has not begun."""
        with translated():
            found: Any = await self._redis.hget(names.exports_key(tenant), name)
        return found.decode() if found else ""

    async def move_export(self, tenant: str, name: str, before: str, after: str) -> bool:
        """Has the export ``name`` go on from ``after``. False if it is not at ``before`` any more."""
        key = names.exports_key(tenant)
        moved = bool(await self._run_script("export_move", [key], [name, before, after]))
        persist(self._redis)
        return moved

    async def holding(self, tenant: str, call_id: str) -> dict[str, str] | None:
        """What a call under way carries, with ``held_nano_usd`` and ``held_tokens``. None if it holds nothing (any more)."""
        with translated():
            text: Any = await self._redis.hget(names.script_keys(tenant, ())[1], call_id)
        if text is None:
            return None
        amounts, _, packed = text.decode().split("\n", 2)
        _, nano_usd, tokens, _ = amounts.split()
        carried = records.unpacked(packed)
        return {**carried, "held_nano_usd": nano_usd, "held_tokens": tokens}


def _decoded(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    return {key.decode(): value.decode("utf-8", "replace") for key, value in fields.items()}
