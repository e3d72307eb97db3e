"""The audit log: who changed what in projects, limits and tokens, and how it was before and after.

A record is in a stream of Redis beside those of calls, bounded, and in the log of the process that made the change. What
changes nothing is no record. No record holds a token.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Final, NamedTuple

from pydantic import Field

from tollhouse.accounts.directory import Directory
from tollhouse.accounts.token import without_tokens
from tollhouse.compact_json import compact_json
from tollhouse.control.actor import acting
from tollhouse.control.described import project_json, token_json
from tollhouse.control.refusal import Json, OperationRefused
from tollhouse.ledger import names
from tollhouse.ledger.ledger import Ledger, LedgerUnavailable, Scope
from tollhouse.timestamps import rfc3339

log = logging.getLogger("tollhouse.audit")

LONGEST: Final = 4096
"""Bytes of ``before`` and of ``after``, each."""
KEPT_ALIVE_S: Final = 300.0
_STREAM_ID: Final = re.compile(r"[0-9]{1,20}(?:-[0-9]{1,20})?", re.ASCII)
Count = Annotated[int, Field(gt=0, le=1000)]


class _Change(NamedTuple):
    """What an operation changes: a ``kind`` of thing, which its argument ``key`` names. Empty: a new token, which its result
    names."""

    kind: str
    key: str


_CHANGES: Final[Mapping[str, _Change]] = {
    "project_set": _Change("project", "project"),
    "project_remove": _Change("project", "project"),
    "tenant_set": _Change("tenant", "tenant"),
    "token_create": _Change("token", ""),
    "viewer_create": _Change("token", ""),
    "admin_create": _Change("token", ""),
    "token_rotate": _Change("token", "token_id"),
    "token_extend": _Change("token", "token_id"),
    "token_revoke": _Change("token", "token_id"),
    "token_restore": _Change("token", "token_id"),
    "budget_grant": _Change("grant", "project"),
}

_NOT_KNOWN: Final = "not known: Redis was away"


class AuditDesk:
    """``clock`` is seconds since the epoch."""

    def __init__(
        self, directory: Directory, ledger: Ledger, clock: Callable[[], float] = time.time
    ) -> None:
        self._directory = directory
        self._ledger = ledger
        self._clock = clock

    async def watch(
        self, operation: str, arguments: Mapping[str, Any], do: Callable[[], Awaitable[Any]]
    ) -> Any:
        """What ``do`` gives, which is the operation; what it has changed is noted. Raises what ``do`` raises.

        The operation is tried although Redis does not say how things were: a revocation holds in this process at once."""
        change = _CHANGES.get(operation)
        if change is None or _keeps_alive(operation, arguments):
            return await do()
        which = str(arguments.get(change.key, ""))
        try:
            before = await self._state(change.kind, which)
        except LedgerUnavailable:
            before = _NOT_KNOWN
        result = await do()
        if not change.key:
            which = result["id"]
        try:
            after = await self._after(operation, change.kind, which, result)
        except LedgerUnavailable:
            after = _NOT_KNOWN
        await self.note(operation, change.kind, which, before, after)
        return result

    async def note(self, operation: str, kind: str, which: str, before: Any, after: Any) -> None:
        """A change that was made. Raises nothing: if Redis takes no record, the log says so and has it."""
        if before == after:
            return
        actor = acting()
        record = {
            "at": rfc3339(self._clock(), "milliseconds"),
            "by": actor.id,
            "by_name": actor.name[:200],
            "via": actor.via,
            "operation": operation,
            "target": f"{kind}:{which}",
            "before": _text(before),
            "after": _text(after),
        }
        record = {name: without_tokens(text) for name, text in record.items()}
        line = compact_json(_read(record)).decode()
        try:
            await self._ledger.streams.add_audit(record)
        except (LedgerUnavailable, OSError) as error:
            log.error("%s (Redis has no record of it: %s)", line, error)
        else:
            log.info("%s", line)

    async def page(self, since: float = 0.0, after: str = "", count: Count = 200) -> list[Json]:
        """Records from the moment ``since`` on (seconds since the epoch), behind the one with the id ``after``, the oldest
        first: ``[{"id", "at", "by", "by_name", "via", "operation", "target", "before", "after"}]``."""
        if after and (not _STREAM_ID.fullmatch(after) or max(_moment(after)) >= 1 << 64):
            raise OperationRefused(
                "after: that is no id of a record; give the `next` of the page before, or leave it out",
                400,
            )
        first = max(f"{max(0, int(since * 1000))}", after, key=_moment)
        # The one with the id `after` is among them.
        found = await self._ledger.streams.page(names.AUDIT, first, "+", count + 1)
        behind = [(key, record) for key, record in found if key != after]
        return [{"id": key, **_read(record)} for key, record in behind[:count]]

    async def _state(self, kind: str, which: str) -> Any:
        """How a thing is now; None if there is none."""
        try:
            match kind:
                case "project":
                    project = await self._directory.read_project(which)
                    return project and project_json(project)
                case "tenant":
                    [state] = await self._ledger.show([Scope("tenant", which, which)])
                    return [limit.limit.text for limit in state.limits] or None
                case "token" if which:
                    info = await self._directory.token(which)
                    return info and token_json(info)
        except ValueError:
            pass  # No name of one: the operation refuses it.
        return None

    async def _after(self, operation: str, kind: str, which: str, result: Any) -> Any:
        match operation:
            case "project_set" | "token_extend":
                return result
            case "tenant_set":
                return result["limits"] or None
            case "project_remove":
                return None
            case "budget_grant":
                # One that is told again is no second grant.
                return None if result.get("repeated") else result
            case "token_revoke" | "token_restore":
                return await self._state(kind, which)
        return {name: value for name, value in result.items() if name != "token"}


def _keeps_alive(operation: str, arguments: Mapping[str, Any]) -> bool:
    """Whether a command keeps its own token valid while it runs (`cli.command_token`): each minute, and many may run. That the
    token was made and revoked is in the log."""
    ahead_s = arguments.get("expires_s")
    return (
        operation == "token_extend"
        and acting().via == "command"
        and isinstance(ahead_s, int | float)
        and ahead_s <= KEPT_ALIVE_S
    )


def _text(state: Any) -> str:
    text = compact_json(state)
    if len(text) > LONGEST and isinstance(state, dict):
        text = _shortened(state)
    if len(text) > LONGEST:
        return f'{{"bytes":{len(text)},"why":"it is too long for the audit log"}}'
    return text.decode()


def _shortened(state: Json) -> bytes:
    """Of the longest members only what tells one from another is kept, so that none of them hides what stands beside it."""
    parts = {name: compact_json(value) for name, value in state.items()}
    for name in sorted(parts, key=lambda name: len(parts[name]), reverse=True):
        part = parts[name]
        state = {**state, name: {"bytes": len(part), "sha256": hashlib.sha256(part).hexdigest()}}
        if len(compact_json(state)) <= LONGEST:
            break
    return compact_json(state)


def _read(record: Mapping[str, str]) -> Json:
    found: Json = dict(record)
    for name in ("before", "after"):
        try:
            found[name] = json.loads(record.get(name, "null"))
        except ValueError:
            pass  # A token in it was replaced.
    return found


def _moment(stream_id: str) -> tuple[int, int]:
    milliseconds, _, number = stream_id.partition("-")
    return int(milliseconds or 0), int(number or 0)
