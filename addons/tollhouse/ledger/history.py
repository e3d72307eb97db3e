"""What has happened of late, for people to look at: sums, the last calls, the last refusals.

Nothing here decides anything. A call that was refused before anything was held has no record in its tenant's stream, so that a
flood of refusals pushes no call out of it: they have a stream of their own (`uncharged`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

from redis.asyncio import Redis

from tollhouse.ledger import names
from tollhouse.ledger.store.client import translated

_AT_ONCE: Final = 500
"""Fields of a hash, or records of a stream, that are read in one turn of the loop."""
_LOOKED_AT: Final = 2_000
"""Records that are looked at to find those of some projects."""
_EPOCH: Final = date(1970, 1, 1).toordinal()


@dataclass(slots=True)
class Spend:
    """Nano-dollars by day (``2026-08-31``), model (``openai/gpt-4o``) and session. The owner adds to it."""

    days: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    sessions: Counter[str] = field(default_factory=Counter)

    def add(self, other: Spend) -> None:
        self.days.update(other.days)
        self.models.update(other.models)
        self.sessions.update(other.sessions)


class History:
    """Every method raises `LedgerUnavailable` when Redis can't be asked."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def spend(self, tenant: str, project: str, since: date) -> Spend:
        """What a project's calls came to from the day ``since`` (UTC) on. A project may have a hundred thousand sums: they are
        read in parts."""
        found, first, cursor = Spend(), since.toordinal() - _EPOCH, 0
        by = {"day": found.days, "model": found.models, "session": found.sessions}
        key = names.usage_key(tenant, project)
        while True:
            with translated():
                reply: Any = await self._redis.hscan(key, cursor, count=_AT_ONCE)
            cursor, fields = reply
            for name, value in fields.items():
                day, unit, kind, *rest = name.decode().split(" ", 3)
                if unit != "usd" or kind not in by or int(day) < first:
                    continue
                shown = date.fromordinal(_EPOCH + int(day)).isoformat()
                by[kind][shown if kind == "day" else "".join(rest)] += int(value)
            if not cursor:
                return found

    async def calls(
        self, tenant: str, projects: Collection[str] | None, most: int
    ) -> list[dict[str, str]]:
        """The last ``most`` records of calls that held something, the newest first. ``projects`` None is all."""
        return await self._last(names.calls_key(tenant), projects, most)

    async def refusals(
        self, tenant: str, projects: Collection[str] | None, most: int
    ) -> list[dict[str, str]]:
        """The same of calls that were refused. ``tenant`` is empty for those of nobody who is known."""
        return await self._last(names.uncharged_key(tenant), projects, most, "deny")

    async def _last(
        self, key: str, projects: Collection[str] | None, most: int, decision: str = ""
    ) -> list[dict[str, str]]:
        found: list[dict[str, str]] = []
        last, looked = "+", 0
        while len(found) < most and looked < _LOOKED_AT:
            at_once = most if projects is None and not decision else _AT_ONCE
            with translated():
                entries: Any = await self._redis.xrevrange(key, max=last, count=at_once)
            looked += at_once
            for _, fields in entries:
                record = {
                    name.decode(): value.decode("utf-8", "replace")
                    for name, value in fields.items()
                }
                if decision not in ("", record.get("decision")):
                    continue
                if projects is None or record.get("project") in projects:
                    found.append(record)
            if len(entries) < at_once:
                break
            last = "(" + entries[-1][0].decode()
        return found[:most]
