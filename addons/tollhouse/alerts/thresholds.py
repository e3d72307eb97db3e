"""Which shares of the limits are used, as the ledger has it. It is asked every few seconds, by one gateway of all.

What is used and held together bounds what is used from above, and is cheap to read. Only of scopes where that has come to a share
that was not told yet it is asked what is held. A share that is reached in the last seconds of a window may go untold.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import ROUND_DOWN, Decimal
from typing import Final

from tollhouse.alerts.event import DAY_S, WINDOWS, AlertEvent, KnownEvents
from tollhouse.alerts.receiver import Interest
from tollhouse.ledger import names, report
from tollhouse.ledger.ledger import Ledger, LimitState, Scope, ScopeState
from tollhouse.ledger.limits import format_amount
from tollhouse.ledger.windows import bounds
from tollhouse.parties import Project
from tollhouse.timestamps import rfc3339

AT_ONCE: Final = 25
"""Scopes that one script reads. To read its reply holds the loop for 5 ms at most."""
MOST_READ: Final = 500
"""Scripts of one turn, which is one for each tenant at least. 10,000 in each turn would take more than half of a processor."""
MOST_SHOWN: Final = 200
"""Scopes of which it is asked what is held, in one turn. The others come in the next."""
_FOREVER_S: Final = 3650.0 * DAY_S


class Thresholds:
    """``interests`` are those of the receivers, by their names. ``wall_clock`` is seconds since the epoch."""

    def __init__(
        self,
        ledger: Ledger,
        interests: Mapping[str, Interest],
        *,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._interests = {name: one for name, one in interests.items() if one.at}
        self._wall_clock = wall_clock
        self._least = min(
            (share for one in self._interests.values() for share in one.at), default=0
        )
        self._known = KnownEvents()
        self._next = 0
        """The script that comes first in the next turn."""
        self._from = 0

    async def reached(self, projects: Sequence[Project]) -> list[AlertEvent]:
        """What of the limits of ``projects`` and their tenants was reached, and is not `known` yet. Of many tenants a part is
        looked at in each turn. Raises `LedgerUnavailable`."""
        if not self._interests:
            return []
        by_tenant: dict[str, list[Scope]] = defaultdict(list)
        for project in projects:
            found = by_tenant[project.tenant]
            if not found and self._wanted(Scope("tenant", project.tenant, project.tenant)):
                found.append(Scope("tenant", project.tenant, project.tenant))
            if self._wanted(scope := Scope("project", project.tenant, project.id)):
                found.append(scope)
        parts = [
            (tenant, scopes[start : start + AT_ONCE])
            for tenant, scopes in by_tenant.items()
            for start in range(0, len(scopes), AT_ONCE)
        ]
        first = self._next if self._next < len(parts) else 0
        maybe: list[Scope] = []
        for number, (tenant, some) in enumerate(parts[first : first + MOST_READ], first + 1):
            states = await self._taken(tenant, some)
            self._next = number
            maybe += [state.scope for state in states if any(self._events(state))]
        # In turn, so that none of many waits for ever.
        self._from = self._from % len(maybe) if maybe else 0
        asked = [*maybe[self._from :], *maybe[: self._from]][:MOST_SHOWN]
        self._from += len(asked)
        events = []
        for scope in asked:
            for state in await self._ledger.show((scope,)):
                events += list(self._events(state))
        return events

    def known(self, event: AlertEvent) -> None:
        """It is in the outbox, for everybody who is told of it."""
        self._known.add(event, self._wall_clock())

    def _wanted(self, scope: Scope) -> bool:
        project = scope.id if scope.kind == "project" else ""
        return any(one.in_limits_of(scope.tenant, project) for one in self._interests.values())

    async def _taken(self, tenant: str, scopes: Sequence[Scope]) -> list[ScopeState]:
        keys = [names.script_keys(tenant, ())[0], *map(names.scope_key, scopes)]
        reply = await self._ledger.run_script("taken", keys, [str(self._least)])
        return report.scope_states(scopes, reply)

    def _events(self, state: ScopeState) -> Iterator[AlertEvent]:
        scope = state.scope
        project = scope.id if scope.kind == "project" else ""
        shares = sorted(
            {
                share
                for one in self._interests.values()
                if one.in_limits_of(scope.tenant, project)
                for share in one.at
            }
        )
        for limit in state.limits:
            window, whole = limit.limit.window, limit.limit.amount + limit.granted
            reached = [share for share in shares if whole and limit.used * 100 >= whole * share]
            if not reached or window not in WINDOWS:
                continue
            # A second before its end is in the window.
            inside = self._wall_clock() if limit.resets_at is None else limit.resets_at - 1
            start = bounds(window, inside)[0]
            # Another limit, or a grant, makes another share of it.
            of = (scope.tenant, scope.name, limit.limit.unit, window, str(int(start)), str(whole))
            for share in reached:
                if not self._known.has("budget.threshold", (*of, str(share))):
                    yield self._event(scope, project, limit, start, share, (*of, str(share)))

    def _event(
        self,
        scope: Scope,
        project: str,
        state: LimitState,
        start: float,
        share: int,
        once_for: tuple[str, ...],
    ) -> AlertEvent:
        limit, now = state.limit, self._wall_clock()
        whole = limit.amount + state.granted
        percent = (Decimal(state.used * 100) / whole).quantize(Decimal("0.1"), ROUND_DOWN)
        shown = state.as_json()
        return AlertEvent(
            "budget.threshold",
            once_for,
            now,
            (now + _FOREVER_S) if state.resets_at is None else state.resets_at + DAY_S,
            {
                "tenant": scope.tenant,
                "project": project,
                "scope": scope.name,
                "threshold": f"{share}%",
                "percent": str(percent),
                **shown,
                "granted": format_amount(limit.unit, state.granted) if state.granted else None,
                "window_start": rfc3339(start),
            },
            scope.tenant,
            project,
            share,
        )
