"""The replies of the ledger's scripts and its sums, as values that a command prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Final, Literal

from tollhouse.ledger.limits import (
    SESSION,
    Limit,
    Unit,
    Window,
    format_amount,
    format_limit,
    format_usd,
    parse_limits,
)
from tollhouse.ledger.names import Scope
from tollhouse.ledger.windows import WINDOWS, bounds
from tollhouse.timestamps import rfc3339

PAIRS: Final[dict[bytes, tuple[Unit, Window]]] = {
    **{f"{u} {w}".encode(): (u, w) for u in ("usd", "tokens", "requests") for w in WINDOWS},
    b"concurrent now": ("concurrent", ""),
}
"""How the scripts name a limit's unit and window."""
SumsBy = Literal["day", "model", "token", "session", "provider"]
"""What the sums of a project are told by. Those of a provider are those of its models; the others are kept."""
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class LimitState:
    """Amounts are in the limit's unit (nano-dollars for ``usd``). ``used`` may be more than the
    limit; ``left`` is 0 then. ``granted`` is the grant of this window (`Ledger.grant`), which
    ``left`` includes. ``resets_at`` is seconds since the epoch, None for ``total`` and
    ``concurrent``."""

    limit: Limit
    used: int
    held: int
    left: int
    resets_at: float | None
    granted: int = 0

    def as_json(self) -> dict[str, str | None]:
        unit = self.limit.unit
        shown = {
            "limit": self.limit.text,
            "used": format_amount(unit, self.used),
            "held": format_amount(unit, self.held),
            "left": format_amount(unit, self.left),
            "resets_at": None if self.resets_at is None else rfc3339(self.resets_at),
        }
        return {**shown, "granted": format_amount(unit, self.granted)} if self.granted else shown


@dataclass(frozen=True, slots=True)
class ScopeState:
    scope: Scope
    limits: tuple[LimitState, ...]

    def as_json(self) -> dict[str, Any]:
        """One of ``scopes`` in ``budget show --json``."""
        return {"scope": self.scope.name, "limits": [limit.as_json() for limit in self.limits]}


@dataclass(frozen=True, slots=True)
class UsageRow:
    """``key`` is a day (``2026-08-31``), a model (``openai/gpt-4o``), a provider, or the id of a token
    or of an agent's session."""

    key: str
    nano_usd: int
    tokens: int
    requests: int
    days: Mapping[str, int] | None = None
    """Nano-dollars by the day on which they were spent, where that was asked for."""

    def as_json(self) -> dict[str, Any]:
        shown = {
            "key": self.key,
            "usd": format_usd(self.nano_usd),
            "tokens": self.tokens,
            "requests": self.requests,
        }
        if self.days is None:
            return shown
        return {**shown, "days": {day: format_usd(usd) for day, usd in sorted(self.days.items())}}

    def named(self, key: str, other: UsageRow | None) -> UsageRow:
        """The sum of both under the name ``key``."""
        if other is None:
            return replace(self, key=key)
        days = None
        if self.days is not None and other.days is not None:
            both = {**self.days, **other.days}
            days = {day: self.days.get(day, 0) + other.days.get(day, 0) for day in both}
        return UsageRow(
            key,
            self.nano_usd + other.nano_usd,
            self.tokens + other.tokens,
            self.requests + other.requests,
            days,
        )


def budget_json(
    project: str, states: Sequence[ScopeState], owners: Sequence[tuple[Scope, Sequence[str]]] = ()
) -> dict[str, Any]:
    """What ``budget show PROJECT --json`` prints. ``owners`` are a project and its tokens, each
    with the texts of its limits. Those by session are shown without amounts."""
    shown = {"project": project, "scopes": [state.as_json() for state in states]}
    each = [
        {"scope": scope.name, "limit": limit.text}
        for scope, texts in owners
        for limit in parse_limits(texts)
        if limit.window == SESSION
    ]
    return {**shown, "sessions": each} if each else shown


def scope_states(scopes: Sequence[Scope], reply: Sequence[Any]) -> list[ScopeState]:
    """Reads the reply of scripts/show.lua."""
    now_s = int(reply[0]) / 1000
    return [
        ScopeState(scope, tuple(_state(rows[n : n + 5], now_s) for n in range(0, len(rows), 5)))
        for scope, rows in zip(scopes, reply[1:], strict=True)
    ]


def usage_rows(
    found: Mapping[bytes, bytes], since: date | None, by: SumsBy, *, daily: bool = False
) -> list[UsageRow]:
    """Sums the fields ``DAY UNIT KIND NAME`` of a project's usage hash. ``daily``: the rows have their `UsageRow.days`."""
    first = (since - _EPOCH).days if since else 0
    wanted = "model" if by == "provider" else by
    sums: dict[str, dict[str, int]] = {}
    days: dict[str, dict[str, int]] = {}
    for field, value in found.items():
        day, unit, kind, *name = field.decode().split(" ", 3)
        if kind != wanted or int(day) < first:
            continue
        on = date.fromordinal(_EPOCH.toordinal() + int(day)).isoformat()
        key = on if by == "day" else "".join(name)
        if by == "provider":
            key = key.partition("/")[0] if "/" in key else "-"
        row = sums.setdefault(key, {"usd": 0, "tokens": 0, "requests": 0})
        row[unit] += int(value)
        if daily and unit == "usd":
            spent = days.setdefault(key, {})
            spent[on] = spent.get(on, 0) + int(value)
    return [
        UsageRow(
            key, row["usd"], row["tokens"], row["requests"], days.get(key, {}) if daily else None
        )
        for key, row in sorted(sums.items())
    ]


def swept_fields(nano_usd: int) -> dict[str, str]:
    """The fields of a line that the sweep knows, and the dead gateway could not."""
    cost = format_usd(nano_usd)
    return {"charged_by": "sweep", "cost_usd": cost, "held_usd": cost}


def _state(row: Sequence[bytes], now_s: float) -> LimitState:
    unit, window = PAIRS[row[0]]
    amount, granted, taken, held = map(int, row[1:])
    limit = Limit(unit, amount, window, format_limit(unit, amount, window))
    resets_at = bounds(window, now_s)[1] if window else None
    return LimitState(
        limit, taken - held, held, max(amount + granted - taken, 0), resets_at, granted
    )
