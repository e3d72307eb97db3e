"""What the commands ask of budgets and usage, and how they add to a budget."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Literal

from tollhouse.accounts.directory import Directory
from tollhouse.accounts.token import SUBJECT_ID
from tollhouse.control.refusal import Json, OperationRefused, known_project
from tollhouse.ledger import report
from tollhouse.ledger.hold_reply import GrantedBefore
from tollhouse.ledger.ledger import Ledger, Scope
from tollhouse.ledger.limits import format_amount, parse_amount
from tollhouse.ledger.names import calls_key
from tollhouse.parties import Project
from tollhouse.timestamps import rfc3339

_LOOKED_AT: Final = 500
"""Records in which the names of subjects are looked for."""


class BudgetDesk:
    """Every method raises `OperationRefused`. Times in results are RFC 3339 in UTC, amounts are decimal strings in the
    limit's own unit (US dollars, tokens, requests, calls)."""

    def __init__(
        self, directory: Directory, ledger: Ledger, clock: Callable[[], float] = time.time
    ) -> None:
        self._directory = directory
        self._ledger = ledger
        self._clock = clock

    async def show(self, project: str) -> Json:
        """``{"project", "scopes": [{"scope", "limits": [{"limit", "used", "held", "left", "resets_at"}]}]}``: the
        tenant's scope, the project's, then those of its tokens that have limits; ``resets_at`` is null where nothing
        resets. A limit with a grant in its window has ``granted``, and the project then ``grants``: what was added when
        and why. Limits by session are ``sessions``, where there are some: ``[{"scope", "limit"}]``."""
        known = await known_project(self._directory, project)
        scope = Scope("project", known.tenant, known.id)
        now = self._clock()
        limited = {
            info.scope(): info.limits
            for info in await self._directory.tokens(project)
            if info.limits
            and info.revoked_at is None
            and (info.expires_at is None or info.expires_at > now)
        }
        scopes = [Scope("tenant", known.tenant, known.tenant), scope, *limited]
        owners = [(scope, known.limits), *limited.items()]
        shown = report.budget_json(project, await self._ledger.show(scopes), owners)
        grants = await self._ledger.grants(scope)
        return {**shown, "grants": grants} if grants else shown

    async def grant(
        self, project: str, amount: str, reason: str, by: str = "", grant_id: str | None = None
    ) -> Json:
        """Add ``amount`` ("5 usd", "200000 tokens", "100 requests") to the project's limits of that
        unit, once, in the windows that they are in now. The grant as it is kept: ``{"at",
        "project", "amount", "reason", "by", "limits"}``, the last being how many limits were
        raised. With ``grant_id``, which is its ``id`` then, it is made once: told again it is the
        grant that was made, with ``limits`` 0 and ``repeated`` true."""
        known = await known_project(self._directory, project)
        unit, value = parse_amount(amount)
        if not reason.strip():
            raise OperationRefused(
                "a grant needs a reason, which is kept beside it (--reason)", 400
            )
        record = {
            "at": rfc3339(self._clock()),
            "project": project,
            "amount": f"{format_amount(unit, value)} {unit}",
            "reason": reason.strip()[:500],
            "by": by[:100],
        }
        scope = Scope("project", known.tenant, known.id)
        raised = await self._ledger.grant(scope, unit, value, record, grant_id or "")
        if isinstance(raised, GrantedBefore):
            earlier = raised.record
            if earlier["amount"] != record["amount"]:
                raise OperationRefused(
                    f"the grant {grant_id} of project {project} was {earlier['amount']}, made {earlier['at']}: nothing was "
                    f"changed; give {record['amount']} another id"
                )
            return {**earlier, "limits": 0, "repeated": True}
        if not raised:
            raise OperationRefused(
                f"project {project} has no limit in {unit}, so that there is nothing to add to: "
                f"`tollhouse budget show {project}` shows what it has"
            )
        return {**record, **({"id": grant_id} if grant_id else {}), "limits": raised}

    async def usage(
        self,
        project: str,
        since: float | None = None,
        by: report.SumsBy | Literal["user"] = "model",
        daily: bool = False,
    ) -> Json:
        """``{"project", "by", "rows": [{"key", "usd", "tokens", "requests"}]}``: what was charged from the day of
        ``since`` on (seconds since the epoch; days are UTC's). None is all that is kept. ``daily``: each row has ``days``, what
        was spent by day. A user is whom the platform names, or the label of a token, or else a token with those that were
        rotated from it."""
        known = await known_project(self._directory, project)
        first_day = None if since is None else datetime.fromtimestamp(since, UTC).date()
        kind = "token" if by == "user" else by
        rows = await self._ledger.usage(known.tenant, project, first_day, kind, daily=daily)
        if by == "user":
            rows = await self._by_user(known, rows)
        return {"project": project, "by": by, "rows": [row.as_json() for row in rows]}

    async def _by_user(
        self, project: Project, rows: list[report.UsageRow]
    ) -> list[report.UsageRow]:
        users = {
            info.id: info.label or info.charged_as or info.id
            for info in await self._directory.tokens(project.id)
        }
        if any(SUBJECT_ID.fullmatch(row.key) for row in rows):
            # Redis keeps no names of subjects but in the records of their calls.
            latest = await self._ledger.streams.newest(calls_key(project.tenant), _LOOKED_AT)
            for _, fields in reversed(latest):
                if fields.get("subject"):
                    users[fields.get("identity", "")] = fields["subject"]
        found: dict[str, report.UsageRow] = {}
        for row in rows:
            user = users.get(row.key, row.key)
            found[user] = row.named(user, found.get(user))
        return [found[user] for user in sorted(found)]

    async def models_used(self, since: float) -> list[str]:
        """``provider/model`` of every model that any project's calls were charged for from the day of ``since`` on."""
        first_day = datetime.fromtimestamp(since, UTC).date()
        used: set[str] = set()
        for project in await self._directory.projects():
            rows = await self._ledger.usage(project.tenant, project.id, first_day, "model")
            used.update(row.key for row in rows if row.key != "-")
        return sorted(used)
