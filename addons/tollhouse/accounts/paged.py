"""Projects and tokens, all of them or in pages. Nothing is read from a cache.

A hash has no order, so each page looks at all of its names. They are read piece by piece, so that neither Redis nor the loop
stands still for long. A page has no more in memory than two pages. What is added or removed meanwhile is there or is not.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

from redis.asyncio import Redis

from tollhouse.accounts.stored import TokenInfo, decode
from tollhouse.ledger import names
from tollhouse.ledger.store.client import translated
from tollhouse.parties import Project

_AT_ONCE: Final = 100
"""Names that are looked at by one command."""


class Pages:
    """Every method raises `LedgerUnavailable`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def all_projects(self) -> list[Project]:
        """Sorted by id."""
        found: dict[str, Project] = {}
        async for fields in self._pieces(names.PROJECTS):
            for text in fields.values():
                project = decode(Project, text)
                found[project.id] = project
        return [found[name] for name in sorted(found)]

    async def all_tokens(self, fits: Callable[[TokenInfo], bool]) -> list[TokenInfo]:
        """Those that ``fits`` is true of, and revoked subjects among them, the oldest first."""
        found = await self.few_tokens(fits, sys.maxsize)
        assert found is not None
        return found

    async def few_tokens(
        self, fits: Callable[[TokenInfo], bool], most: int
    ) -> list[TokenInfo] | None:
        """The same. None if there are more than ``most``."""
        found: dict[str, TokenInfo] = {}
        async for fields in self._pieces(names.TOKENS):
            for text in fields.values():
                info = decode(TokenInfo, text)
                if fits(info):
                    found[info.id] = info
            if len(found) > most:
                return None
        return sorted(found.values(), key=lambda info: (info.created_at, info.id))

    async def tenants_of_tokens(self) -> set[str]:
        """Those of all tokens, also of revoked ones. A token that sees all tenants is of none."""
        found: set[str] = set()
        async for fields in self._pieces(names.TOKENS):
            found |= {decode(TokenInfo, text).tenant for text in fields.values()}
        return found - {""}

    async def projects(self, after: str, count: int) -> list[Project]:
        """At most ``count`` projects with ids behind ``after``, sorted by id."""
        found = await self._first(names.PROJECTS, after, count, lambda name, text: (name, text))
        return [decode(Project, text) for text in found]

    async def tokens(self, after: str, count: int, project: str | None = None) -> list[TokenInfo]:
        """The same of tokens, of those that may charge ``project`` if one is named, and of revoked subjects."""
        if project is not None:

            def of_project(_digest: str, text: bytes) -> tuple[str, TokenInfo] | None:
                info = decode(TokenInfo, text)
                return (info.id, info) if project in info.projects else None

            return await self._first(names.TOKENS, after, count, of_project)
        found = await self._first(names.TOKEN_IDS, after, count, lambda name, key: (name, key))
        if not found:
            return []
        with translated():
            texts: Any = await self._redis.hmget(names.TOKENS, [key.decode() for key in found])
        return [decode(TokenInfo, text) for text in texts if text is not None]

    async def _first[T](
        self,
        key: str,
        after: str,
        count: int,
        named: Callable[[str, bytes], tuple[str, T] | None],
    ) -> list[T]:
        """Of the fields of the hash ``key``, as ``named`` makes ids and values of them, the first ``count`` behind ``after``."""
        kept: dict[str, T] = {}
        async for fields in self._pieces(key):
            for field, value in fields.items():
                pair = named(field.decode(), value)
                if pair is not None and pair[0] > after:
                    kept[pair[0]] = pair[1]
            if len(kept) > 2 * count:
                kept = _least(kept, count)
        return list(_least(kept, count).values())

    async def _pieces(self, key: str) -> AsyncIterator[Mapping[bytes, bytes]]:
        """The fields of the hash ``key``, some at a time. One may come twice."""
        cursor, begun = 0, False
        while cursor or not begun:
            begun = True
            with translated():
                scanned: Any = await self._redis.hscan(key, cursor, count=_AT_ONCE)
            cursor, fields = scanned
            yield fields
            # The embedded store answers at once.
            await asyncio.sleep(0)


def _least[T](kept: dict[str, T], count: int) -> dict[str, T]:
    return dict(sorted(kept.items(), key=lambda pair: pair[0])[:count])
