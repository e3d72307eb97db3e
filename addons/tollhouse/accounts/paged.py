"""Projects and tokens in pages, so that nobody has to take all of them at once. Nothing is read from a cache."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import batched
from typing import Any, Final

from redis.asyncio import Redis

from tollhouse.accounts.stored import TokenInfo, decode
from tollhouse.ledger import names
from tollhouse.ledger.store.client import translated
from tollhouse.parties import Project

_AT_ONCE: Final = 200
"""Records that are read by one command."""


class Pages:
    """Every method raises `LedgerUnavailable`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def projects(self, after: str, count: int) -> list[Project]:
        """At most ``count`` projects with ids behind ``after``, sorted by id."""
        with translated():
            found: Any = await self._redis.hkeys(names.PROJECTS)
            ids = _behind(found, after)[:count]
            texts: Any = await self._redis.hmget(names.PROJECTS, ids) if ids else []
        return [decode(Project, text) for text in texts if text is not None]

    async def tokens(self, after: str, count: int, project: str | None = None) -> list[TokenInfo]:
        """The same of tokens, of those that may charge ``project`` if one is named, and of revoked subjects."""
        kept: list[TokenInfo] = []
        with translated():
            ids: Any = await self._redis.hkeys(names.TOKEN_IDS)
            for some in batched(_behind(ids, after), _AT_ONCE):
                digests: Any = await self._redis.hmget(names.TOKEN_IDS, list(some))
                keys = [key.decode() for key in digests if key is not None]
                texts: Any = await self._redis.hmget(names.TOKENS, keys) if keys else []
                infos = (decode(TokenInfo, text) for text in texts if text is not None)
                kept += (info for info in infos if project is None or project in info.projects)
                if len(kept) >= count:
                    break
        return kept[:count]


def _behind(ids: Iterable[bytes], after: str) -> list[str]:
    ordered = sorted(key.decode() for key in ids)
    return ordered[bisect_right(ordered, after) :]
