"""What the status page shows, and to whom: read from Redis, as JSON. Nothing here changes anything."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import batched
from typing import Any, Final

from tollhouse.accounts.directory import Directory
from tollhouse.accounts.stored import TokenInfo
from tollhouse.control.refusal import Json, OperationRefused
from tollhouse.denial import REASONS
from tollhouse.ledger.history import History, Spend
from tollhouse.ledger.ledger import Ledger, Scope
from tollhouse.ledger.limits import format_usd
from tollhouse.parties import Project
from tollhouse.timestamps import rfc3339

MOST_PROJECTS: Final = 200
"""Of which the page adds up what was spent. Beyond that the page says that it shows a part."""
_AT_ONCE: Final = 8
_NAMED: Final = 10
"""Models, sessions and projects that are named; the rest is one sum."""
_LAST: Final = 20
REST: Final = "others"


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks. ``tenant`` empty is all tenants, ``projects`` None is all of the tenant's."""

    id: str
    label: str
    tenant: str = ""
    projects: tuple[str, ...] | None = None
    admin: bool = False
    """May change things through the admin API."""

    def sees(self, project: Project) -> bool:
        if self.tenant and project.tenant != self.tenant:
            return False
        return self.projects is None or project.id in self.projects

    def as_json(self) -> Json:
        projects = None if self.projects is None else list(self.projects)
        return {
            "id": self.id,
            "label": self.label,
            "tenant": self.tenant,
            "projects": projects,
            "admin": self.admin,
        }

    @classmethod
    def of_json(cls, told: Mapping[str, Any]) -> Viewer:
        projects = None if told["projects"] is None else tuple(told["projects"])
        return cls(told["id"], told["label"], told["tenant"], projects, bool(told.get("admin")))


def viewer_of(info: TokenInfo | None, now: float) -> Viewer | None:
    """Whom a token shows the page; None if it is not valid. One for no project is made for looking
    (`Directory.add_viewer`); another shows the projects that it may charge."""
    if info is None or info.revoked_at is not None:
        return None
    if info.expires_at is not None and info.expires_at <= now:
        return None
    return Viewer(info.id, info.label, info.tenant, info.projects or None, info.admin)


class Overview:
    """Its methods raise `LedgerUnavailable`, and `OperationRefused` for arguments that don't fit."""

    def __init__(
        self,
        directory: Directory,
        ledger: Ledger,
        history: History,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._ledger = ledger
        self._history = history
        self._clock = clock

    async def viewer(self, digest: str) -> Json | None:
        """Whom the token with this digest shows the page, as `Viewer.as_json`; None if it is not valid."""
        found = viewer_of(await self._directory.find(digest), self._clock())
        return None if found is None else found.as_json()

    async def show(self, viewer: dict[str, Any], days: int = 30) -> Json:
        """What `viewer` has answered sees: ``at``, ``days`` [[day, usd]], ``projects``, ``models``, ``sessions`` [[name, usd]],
        ``total`` (usd), ``budgets``, ``calls``, ``refusals``; amounts are decimal strings. ``partial`` if there are more
        projects than are added up."""
        if not 1 <= days <= 366:
            raise OperationRefused(f"days: {days} days are not added up; give 1 to 366", 400)
        return await self._show(Viewer.of_json(viewer), days)

    async def _show(self, viewer: Viewer, days: int) -> Json:
        now = self._clock()
        today = datetime.fromtimestamp(now, UTC).date()
        since = today - timedelta(days=days - 1)
        mine = [project for project in await self._directory.projects() if viewer.sees(project)]
        projects = mine[:MOST_PROJECTS]
        total, by_project = Spend(), {}
        for some in batched(projects, _AT_ONCE):
            spent = await asyncio.gather(
                *(self._history.spend(each.tenant, each.id, since) for each in some)
            )
            for project, spend in zip(some, spent, strict=True):
                total.add(spend)
                by_project[project.id] = sum(spend.days.values())
        every_day = [(since + timedelta(days=n)).isoformat() for n in range(days)]
        calls, refusals = await self._last(viewer, projects)
        return {
            "at": rfc3339(now),
            "partial": len(mine) > len(projects),
            "total": format_usd(sum(by_project.values())),
            "days": [[day, format_usd(total.days[day])] for day in every_day],
            "projects": _largest(by_project),
            "models": _largest(total.models),
            "sessions": _largest(total.sessions),
            "budgets": await self._budgets(viewer, projects),
            "calls": calls,
            "refusals": refusals,
        }

    async def _budgets(self, viewer: Viewer, projects: Sequence[Project]) -> list[Json]:
        """Each limit of the projects and their tenants, the fullest first. What a tenant has spent tells of its other
        projects: a viewer of some of them does not see it."""
        scopes = [Scope("project", each.tenant, each.id) for each in projects]
        if viewer.projects is None:
            tenants = dict.fromkeys(each.tenant for each in projects)
            scopes += [Scope("tenant", name, name) for name in tenants]
        by_tenant: dict[str, list[Scope]] = {}
        for scope in scopes:
            by_tenant.setdefault(scope.tenant, []).append(scope)
        found = []
        for mine in by_tenant.values():
            for some in batched(mine, _AT_ONCE):
                # A script takes one project: each is asked by itself.
                states = await asyncio.gather(*(self._ledger.show([scope]) for scope in some))
                found += [(state.scope, limit) for [state] in states for limit in state.limits]
        rows = [
            {
                "scope": scope.name,
                "tenant": scope.tenant,
                **limit.as_json(),
                "percent": _percent(limit.used + limit.held, limit.limit.amount + limit.granted),
            }
            for scope, limit in found
        ]
        return sorted(rows, key=lambda row: -row["percent"])

    async def _last(
        self, viewer: Viewer, projects: Sequence[Project]
    ) -> tuple[list[Json], list[Json]]:
        tenants = list(dict.fromkeys(each.tenant for each in projects))
        names = None if viewer.projects is None else frozenset(viewer.projects)
        calls: list[dict[str, str]] = []
        refused: list[dict[str, str]] = []
        for some in batched(tenants, _AT_ONCE):
            read = [self._history.calls(tenant, names, _LAST) for tenant in some]
            denied = [self._history.refusals(tenant, names, _LAST) for tenant in some]
            for found in await asyncio.gather(*read):
                calls += found
            for found in await asyncio.gather(*denied):
                refused += found
        if not viewer.tenant and viewer.projects is None:
            refused += await self._history.refusals("", None, _LAST)
        return (
            [_call(record) for record in _newest(calls)],
            [_refusal(record) for record in _newest(refused)],
        )


def _newest(records: list[dict[str, str]]) -> list[dict[str, str]]:
    return sorted(records, key=lambda record: record.get("ts", ""), reverse=True)[:_LAST]


def _call(record: Mapping[str, str]) -> Json:
    names = ("ts", "call_id", "project", "provider", "model", "status", "reason", "cost_usd")
    shown = {name: record.get(name, "") for name in (*names, "duration_ms", "settled_by")}
    return {**shown, "what": _what(shown["reason"])}


def _refusal(record: Mapping[str, str]) -> Json:
    names = ("ts", "call_id", "project", "provider", "host", "model", "status", "reason")
    shown = {name: record.get(name, "") for name in names}
    reason = REASONS.get(shown["reason"])
    return {**shown, "what": _what(shown["reason"]), "todo": reason.todo if reason else ""}


def _what(code: str) -> str:
    reason = REASONS.get(code)
    return reason.what if reason else ""


def _largest(amounts: Mapping[str, int]) -> list[list[str]]:
    """The names with the largest amounts of nano-dollars, and what the others came to."""
    ordered = sorted(((usd, name) for name, usd in amounts.items() if usd > 0), reverse=True)
    rows = [[name, format_usd(usd)] for usd, name in ordered[:_NAMED]]
    rest = sum(usd for usd, _ in ordered[_NAMED:])
    return [*rows, [REST, format_usd(rest)]] if rest else rows


def _percent(taken: int, of: int) -> int:
    """Of a limit; 100 for one of nothing."""
    return min(taken * 100 // of, 999) if of > 0 else 100
