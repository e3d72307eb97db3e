"""What the commands do to projects, tokens and budgets: one method each, JSON in, JSON out.

The same methods serve a command that opened the stores itself and the running gateway's control socket.

Past 400 lines because each operation has its method here.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import ConfigDict, ValidationError, validate_call

from tollhouse.accounts import token as gate_token
from tollhouse.accounts.directory import Directory, TokenInfo
from tollhouse.admit.models import check_pattern
from tollhouse.call import Project
from tollhouse.config.values import Name
from tollhouse.control.settings import project_settings, tenant_settings
from tollhouse.ledger import names as names_of_keys
from tollhouse.ledger import report
from tollhouse.ledger.ledger import (
    STREAM_LENGTH,
    UNCHARGED_LENGTH,
    GrantedBefore,
    Ledger,
    LedgerUnavailable,
    Scope,
)
from tollhouse.ledger.limits import LimitError, format_amount, parse_amount, parse_limits
from tollhouse.ledger.store.client import connect
from tollhouse.prices.kept import PriceFileError
from tollhouse.timestamps import rfc3339

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from tollhouse.config.load import Config
    from tollhouse.control.key_desk import KeyDesk

Json = dict[str, Any]
Stream = Literal["calls", "uncharged"]
"""Records of calls: of those that were settled, and of those that held nothing."""
_LOOKED_AT: Final = 500
"""Records in which the names of subjects are looked for."""
MOST_RECORDS: Final = 1000
"""In one answer."""
_TOKEN_ID: Final = re.compile(r"tok_[0-9a-f]{16}")


class OperationRefused(Exception):
    """The text says to a person what happened, why, and what to do. ``status`` is for the control
    socket: 404 for an operation that does not exist, 400 for arguments that don't fit, 409 for a
    refusal, 503 for a store that is away."""

    def __init__(self, message: str, status: Literal[400, 404, 409, 503] = 409) -> None:
        super().__init__(message)
        self.status = status


class Operations:
    """The operations of `TABLE` on one directory and one ledger.

    Every method raises `OperationRefused`. Times in results are RFC 3339 in UTC, amounts are decimal strings in the
    limit's own unit (US dollars, tokens, requests, calls).
    """

    def __init__(
        self,
        directory: Directory,
        ledger: Ledger,
        *,
        keys: KeyDesk | None = None,
        reload_prices: Callable[[], Awaitable[str]] | None = None,
        clock: Callable[[], float] = time.time,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._directory = directory
        self._ledger = ledger
        self._keys = keys
        self._reload_prices = reload_prices
        self._clock = clock
        self._random_bytes = random_bytes

    async def perform(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Does the operation called ``name``. Its arguments are first judged by the method's
        signature."""
        operation = TABLE.get(name)
        if operation is None:
            raise OperationRefused(
                f"there is no operation {name!r}: is the gateway older than the command?", 404
            )
        if "self" in arguments:
            raise OperationRefused("self: Unexpected keyword argument", 400)
        try:
            return await operation(self, **arguments)
        except ValidationError as error:
            raise OperationRefused("; ".join(map(_problem, error.errors())), 400) from None
        except LedgerUnavailable as error:
            raise OperationRefused(
                f"the store can't be reached ({error}): start it, or correct [redis] url", 503
            ) from None
        except ValueError as error:
            raise OperationRefused(str(error), 400) from None
        except OSError as error:
            why = f"{error.filename or 'the state directory'}: {error.strerror or error}"
            raise OperationRefused(
                f"the change could not be written ({why}): free space or correct its owner", 503
            ) from None

    async def project_set(
        self,
        project: Name,
        tenant: Name | None = None,
        limits: list[str] | None = None,
        unpriced: Literal["refuse", "dearest"] | None = None,
        on_shortfall: Literal["reject", "clamp"] | None = None,
        models: list[str] | None = None,
        estimate: Literal["typical", "worst"] | None = None,
        login: Literal["strip", "pass"] | None = None,
    ) -> Json:
        """Makes or changes a project. An argument that is None leaves its value as it is. Gives the
        project as `project_show` does."""
        after = await self._judged(
            project, tenant, limits, unpriced, on_shortfall, models, estimate, login
        )
        await self._directory.set_project(after)
        return _project(after)

    async def _judged(
        self,
        project: Name,
        tenant: Name | None = None,
        limits: list[str] | None = None,
        unpriced: Literal["refuse", "dearest"] | None = None,
        on_shortfall: Literal["reject", "clamp"] | None = None,
        models: list[str] | None = None,
        estimate: Literal["typical", "worst"] | None = None,
        login: Literal["strip", "pass"] | None = None,
    ) -> Project:
        old = await self._directory.get_project(project)
        if old is None and tenant is None:
            raise OperationRefused(
                f"project {project} does not exist yet: name its tenant to make it (--tenant acme)"
            )
        if old is not None and tenant not in (None, old.tenant):
            raise OperationRefused(
                f"project {project} belongs to tenant {old.tenant}, where its spend and tokens are: remove it first "
                f"(`tollhouse project remove {project}`), or choose another name"
            )
        before = old or Project(project, tenant or "")
        try:
            parsed = parse_limits(before.limits if limits is None else limits)
        except LimitError as error:
            raise OperationRefused(str(error), 400) from None
        return Project(
            project,
            before.tenant,
            before.limits if limits is None else tuple(limit.text for limit in parsed),
            on_shortfall or before.on_shortfall,
            before.models if models is None else tuple(map(check_pattern, models)),
            unpriced or before.unpriced,
            estimate or before.estimate,
            login or before.login,
        )

    async def tenant_set(self, tenant: Name, limits: list[str]) -> Json:
        """Replace a tenant's limits, which all its projects share: ``{"tenant", "limits"}``."""
        return {"tenant": tenant, "limits": list(await self._directory.set_tenant(tenant, limits))}

    async def project_show(self, project: str) -> Json:
        return _project(await self._known(project))

    async def project_list(self) -> list[Json]:
        return [_project(p) for p in sorted(await self._directory.projects(), key=lambda p: p.id)]

    async def project_remove(self, project: str) -> Json:
        """Remove a project and revoke the tokens that were for it alone: ``{"project", "revoked": [ids]}``."""
        await self._known(project)
        revoked = []
        for info in await self._directory.tokens(project):
            if info.revoked_at is None and tuple(info.projects) == (project,):
                await self._directory.revoke(info.id)
                revoked.append(info.id)
        await self._directory.remove_project(project)
        return {"project": project, "revoked": revoked}

    async def apply(self, config: Config) -> Json:
        """Put the file's [projects] and [tenants] into the stores. What the file does not name stays as it is."""
        settings = {"projects": project_settings(config), "tenants": tenant_settings(config)}
        applied: Json = await self.perform("settings_apply", settings)
        return applied

    async def settings_apply(
        self, projects: list[dict[str, Any]], tenants: list[dict[str, Any]]
    ) -> Json:
        """`apply` over the control socket: the arguments of one `project_set` or `tenant_set` each. All are judged before
        the first is done. If one fails all the same, those before it are taken back. ``{"projects": [...], "tenants":
        [...]}``, each as its own operation gives it."""
        for settings in projects:
            await self._judged(**settings)
        known = {project.id: project for project in await self._directory.projects()}
        names = [name for each in tenants if isinstance(name := each.get("tenant"), str)]
        limits = {name: await self._limits_of(name) for name in names}
        try:
            return {
                # The limits of tenants are written first, so that their projects are never without
                # them.
                "tenants": [await self.perform("tenant_set", settings) for settings in tenants],
                "projects": [await self.perform("project_set", settings) for settings in projects],
            }
        except OperationRefused as refused:
            try:
                for settings in projects:
                    await self._restore(settings["project"], known.get(settings["project"]))
                for tenant, before in limits.items():
                    await self._directory.set_tenant(tenant, before)
            except (LedgerUnavailable, OSError):
                why = (
                    f"{refused}; some of the projects and tenants may be changed: apply them again"
                )
                raise OperationRefused(why, refused.status) from None
            raise

    async def _limits_of(self, tenant: str) -> list[str]:
        [state] = await self._ledger.show([Scope("tenant", tenant, tenant)])
        return [limit.limit.text for limit in state.limits]

    async def _restore(self, name: str, before: Project | None) -> None:
        if before is not None:
            await self._directory.set_project(before)
        else:
            await self._directory.remove_project(name)

    async def token_create(
        self,
        projects: list[str],
        expires_s: float | None = None,
        label: str = "",
        limits: list[str] | None = None,
    ) -> Json:
        """Mint a gate token for ``projects``, which are all of one tenant, with ``limits`` of its own. ``{"token", ...}``
        as in `token_list`; the token itself is in no other answer and in no store."""
        if not projects:
            raise OperationRefused("a token needs a project", 400)
        known = [await self._known(project) for project in dict.fromkeys(projects)]
        tenants = sorted({project.tenant for project in known})
        if len(tenants) > 1:
            raise OperationRefused(
                f"a token is for one tenant, but these projects belong to {', '.join(tenants)}: make one each"
            )
        _check_seconds("expires_s", expires_s)
        token = gate_token.mint(self._random_bytes(32))
        expires_at = None if expires_s is None else self._clock() + expires_s
        names = [p.id for p in known]
        info = await self._directory.add_token(
            token, names, tenants[0], expires_at, label, limits or []
        )
        return {"token": token, **_token(info)}

    async def token_rotate(
        self, token_id: str, overlap_s: float, expires_s: float | None = None
    ) -> Json:
        """Mint the successor of a token; both are valid for ``overlap_s``. Without ``expires_s`` it lives as long as the
        old one was made to. ``{"token", ..., "replaces", "replaced_ends_at"}``."""
        _check_token_id(token_id)
        _check_seconds("overlap_s", overlap_s)
        _check_seconds("expires_s", expires_s)
        old = await self._directory.token(token_id)
        ends = None if old is None or old.revoked_at is not None else old.expires_at
        if expires_s is None and old is not None and ends is not None:
            if successor := await self._directory.successor(old):
                raise OperationRefused(
                    f"{token_id} was rotated into {successor.id}, and its end no longer says how long a token should live: "
                    "rotate that one, or say --expires"
                )
            expires_s = max(ends - old.created_at, overlap_s)
        token = gate_token.mint(self._random_bytes(32))
        expires_at = None if expires_s is None else self._clock() + expires_s
        info = await self._directory.rotate(token_id, token, expires_at, overlap_s)
        if info is None:
            raise _no_token(token_id)
        replaced = await self._directory.token(token_id)
        ends = None if replaced is None else replaced.expires_at
        return {
            "token": token,
            **_token(info),
            "replaces": token_id,
            "replaced_ends_at": _shown(ends),
        }

    async def token_list(self, project: str | None = None) -> list[Json]:
        """``[{"id", "tenant", "projects", "label", "created_at", "expires_at", "revoked_at", "limits"}]``, oldest
        first."""
        if project is not None:
            await self._known(project)
        return [
            _token(info)
            for info in sorted(
                await self._directory.tokens(project), key=lambda t: (t.created_at, t.id)
            )
        ]

    async def token_revoke(self, token_id: str) -> Json:
        """Also of a subject of the platform, by the ``identity`` in its lines."""
        if gate_token.SUBJECT_ID.fullmatch(token_id):
            await self._directory.revoke_subject(token_id)
            return {"id": token_id, "revoked": True}
        _check_token_id(token_id)
        if not await self._directory.revoke(token_id):
            raise _no_token(token_id)
        return {"id": token_id, "revoked": True}

    async def token_restore(self, token_id: str) -> Json:
        """Lets a subject of the platform in again. A gate token stays revoked."""
        if not gate_token.SUBJECT_ID.fullmatch(token_id):
            raise OperationRefused(
                "only a subject of the platform (jwt_..., crt_..., net_...) can be let in again: make a new token instead"
            )
        if not await self._directory.restore_subject(token_id):
            raise OperationRefused(f"{token_id} was not revoked")
        return {"id": token_id, "revoked": False}

    async def token_extend(self, token_id: str, expires_s: float) -> Json:
        """Move a token's end to ``expires_s`` from now, also if it has ended: `token_list`'s entry of it. Refused once it
        was revoked."""
        _check_token_id(token_id)
        _check_seconds("expires_s", expires_s)
        info = await self._directory.expire(token_id, self._clock() + expires_s)
        if info is None:
            raise _no_token(token_id)
        if info.revoked_at is not None:
            raise OperationRefused(
                f"the token {token_id} was revoked: make a new one with `tollhouse token create`"
            )
        return _token(info)

    async def budget_show(self, project: str) -> Json:
        """``{"project", "scopes": [{"scope", "limits": [{"limit", "used", "held", "left", "resets_at"}]}]}``: the
        tenant's scope, the project's, then those of its tokens that have limits; ``resets_at`` is null where nothing
        resets. A limit with a grant in its window has ``granted``, and the project then ``grants``: what was added when
        and why. Limits by session are ``sessions``, where there are some: ``[{"scope", "limit"}]``."""
        known = await self._known(project)
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

    async def budget_grant(
        self, project: str, amount: str, reason: str, by: str = "", grant_id: str | None = None
    ) -> Json:
        """Add ``amount`` ("5 usd", "200000 tokens", "100 requests") to the project's limits of that
        unit, once, in the windows that they are in now. The grant as it is kept: ``{"at",
        "project", "amount", "reason", "by", "limits"}``, the last being how many limits were
        raised. With ``grant_id``, which is its ``id`` then, it is made once: told again it is the
        grant that was made, with ``limits`` 0 and ``repeated`` true."""
        known = await self._known(project)
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
        was spent by day. A user is whom the platform names, or the label of a token, or else a token with those that it was
        rotated from and into."""
        known = await self._known(project)
        first_day = None if since is None else datetime.fromtimestamp(since, UTC).date()
        rows = await self._ledger.usage(
            known.tenant, project, first_day, "token" if by == "user" else by, daily=daily
        )
        if by == "user":
            rows = await self._by_user(known, rows)
        return {"project": project, "by": by, "rows": [row.as_json() for row in rows]}

    async def _by_user(
        self, project: Project, rows: list[report.UsageRow]
    ) -> list[report.UsageRow]:
        names = {
            info.id: info.label or info.charged_as or info.id
            for info in await self._directory.tokens(project.id)
        }
        if any(gate_token.SUBJECT_ID.fullmatch(row.key) for row in rows):
            # Redis keeps no names of subjects but in the records of their calls.
            latest = await self._ledger.newest(names_of_keys.calls_key(project.tenant), _LOOKED_AT)
            for _, fields in reversed(latest):
                if fields.get("subject"):
                    names[fields.get("identity", "")] = fields["subject"]
        found: dict[str, report.UsageRow] = {}
        for row in rows:
            user = names.get(row.key, row.key)
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

    async def tenants(self) -> list[str]:
        """Those of all projects and tokens, also of revoked ones."""
        found = {project.tenant for project in await self._directory.projects()}
        return sorted(found | {info.tenant for info in await self._directory.tokens(None)})

    async def records(
        self, tenant: str, stream: Stream, first: str = "-", last: str = "+", count: int = 200
    ) -> list[tuple[str, dict[str, str]]]:
        """`Ledger.records` of the tenant's calls that were settled, or of those that held nothing; without a tenant of those
        that nobody could be charged with."""
        if not 0 < count <= MOST_RECORDS:
            raise OperationRefused(f"count: from 1 to {MOST_RECORDS}", 400)
        return await self._ledger.records(_stream(tenant, stream), first, last, count)

    async def records_latest(
        self, tenant: str, stream: Stream, count: int = 200
    ) -> list[tuple[str, dict[str, str]]]:
        """The same, the newest first."""
        if not 0 < count <= MOST_RECORDS:
            raise OperationRefused(f"count: from 1 to {MOST_RECORDS}", 400)
        return await self._ledger.newest(_stream(tenant, stream), count)

    async def records_kept(self, tenant: str, stream: Stream) -> Json:
        """``{"length", "most"}``: how many records there are, and about how many there can be."""
        most = STREAM_LENGTH if stream == "calls" else UNCHARGED_LENGTH
        return {"length": await self._ledger.length(_stream(tenant, stream)), "most": most}

    async def export_at(self, tenant: str, name: Name) -> str:
        """How far an export has come with the tenant's records, "" if it has not begun."""
        return await self._ledger.export_at(tenant, name)

    async def export_move(self, tenant: str, name: Name, before: str, after: str) -> bool:
        """`Ledger.move_export`."""
        return await self._ledger.move_export(tenant, name, before, after)

    async def call_held(self, tenant: str, call_id: str) -> Json | None:
        """`Ledger.holding`."""
        return await self._ledger.holding(tenant, call_id)

    async def prices_reload(self) -> Json:
        """Has the running gateway take the prices that are kept now: ``{"prices": their name}``."""
        if self._reload_prices is None:
            raise OperationRefused("only a running gateway has prices in use")
        try:
            return {"prices": await self._reload_prices()}
        except PriceFileError as error:
            raise OperationRefused(str(error)) from None

    async def key_list(self) -> list[Json]:
        """`KeyDesk.known` of the running gateway."""
        return self._desk().known()

    async def key_test(self, provider: str | None = None) -> list[Json]:
        """`KeyDesk.test` by the running gateway."""
        return await self._desk().test(provider)

    def _desk(self) -> KeyDesk:
        if self._keys is None:
            raise OperationRefused(
                "only a running gateway has read keys: start it (`tollhouse run`)"
            )
        return self._keys

    async def _known(self, project: str) -> Project:
        found = await self._directory.get_project(project)
        if found is None:
            raise OperationRefused(
                f"project {project} does not exist: `tollhouse project list` shows those that do, "
                f"`tollhouse project set {project} --tenant TENANT` makes it"
            )
        return found


def _problem(detail: ErrorDetails) -> str:
    """The problem in our own words, else in pydantic's. Of the input only a name is quoted:
    anything else could be a secret."""
    where = ".".join(map(str, detail["loc"]))
    if detail["type"] != "value_error":
        return f"{where}: {detail['msg']}"
    name = f"{detail['input'][:64]!a} " if where in ("project", "tenant") else ""
    return f"{where}: {name}{detail['ctx']['error']}"


def _project(project: Project) -> Json:
    return {
        "project": project.id,
        "tenant": project.tenant,
        "limits": list(project.limits),
        "on_shortfall": project.on_shortfall,
        "models": list(project.models),
        "unpriced": project.unpriced,
        "estimate": project.estimate,
        "login": project.login,
    }


def _token(info: TokenInfo) -> Json:
    return {
        "id": info.id,
        "tenant": info.tenant,
        "projects": list(info.projects),
        "label": info.label,
        "created_at": _shown(info.created_at),
        "expires_at": _shown(info.expires_at),
        "revoked_at": _shown(info.revoked_at),
        "limits": list(info.limits),
    }


def _stream(tenant: str, stream: Stream) -> str:
    if stream == "calls":
        return names_of_keys.calls_key(tenant)
    return names_of_keys.uncharged_key(tenant)


def _check_token_id(token_id: str) -> None:
    if not _TOKEN_ID.fullmatch(token_id):
        # The text is not repeated: it may be a token or a part of one.
        raise OperationRefused(
            "that is not a token's id (tok_...): `tollhouse token list` shows the ids"
        )


def _no_token(token_id: str) -> OperationRefused:
    return OperationRefused(f"no token has the id {token_id}: `tollhouse token list` shows the ids")


def _check_seconds(what: str, seconds: float | None) -> None:
    if seconds is not None and not 0 < seconds < 1e10:
        raise OperationRefused(f"{what} must be a positive number of seconds", 400)


def _shown(seconds: float | None) -> str | None:
    return None if seconds is None else rfc3339(seconds)


def _checked(operation: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    return validate_call(config=ConfigDict(strict=True, arbitrary_types_allowed=True))(operation)


TABLE: Final[Mapping[str, Callable[..., Awaitable[Any]]]] = {
    name: _checked(operation)
    for name, operation in (
        ("project_set", Operations.project_set),
        ("project_show", Operations.project_show),
        ("project_list", Operations.project_list),
        ("project_remove", Operations.project_remove),
        ("tenant_set", Operations.tenant_set),
        ("settings_apply", Operations.settings_apply),
        ("token_create", Operations.token_create),
        ("token_rotate", Operations.token_rotate),
        ("token_extend", Operations.token_extend),
        ("token_list", Operations.token_list),
        ("token_revoke", Operations.token_revoke),
        ("token_restore", Operations.token_restore),
        ("budget_show", Operations.budget_show),
        ("budget_grant", Operations.budget_grant),
        ("usage", Operations.usage),
        ("models_used", Operations.models_used),
        ("tenants", Operations.tenants),
        ("records", Operations.records),
        ("records_latest", Operations.records_latest),
        ("records_kept", Operations.records_kept),
        ("export_at", Operations.export_at),
        ("export_move", Operations.export_move),
        ("call_held", Operations.call_held),
        ("prices_reload", Operations.prices_reload),
        ("key_list", Operations.key_list),
        ("key_test", Operations.key_test),
    )
}
"""Every operation that the control socket answers to."""


def perform_once(config: Config, name: str, arguments: Mapping[str, Any]) -> Any:
    """Open the configuration's stores, do one operation, close them. Raises `OperationRefused`."""

    async def once() -> Any:
        redis = connect(config.redis.url, config.state.directory)
        ledger = Ledger(redis)
        try:
            return await Operations(Directory(redis, ledger), ledger).perform(name, arguments)
        finally:
            await ledger.close()

    try:
        return asyncio.run(once())
    except ValueError as error:
        raise OperationRefused(str(error)) from None
