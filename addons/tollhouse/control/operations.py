"""What the commands do to a gateway: one method an operation, JSON in, JSON out. Those of projects and tenants stand here.

The same methods serve a command that opened the stores itself and the running gateway's control socket.

Past 400 lines because the table of all operations stands below the methods that it names.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import ConfigDict, ValidationError, validate_call

from tollhouse.accounts.directory import Directory
from tollhouse.admit.models import check_pattern
from tollhouse.config.values import Name
from tollhouse.control.actor import Actor, on_behalf_of, this_user
from tollhouse.control.audit_desk import AuditDesk
from tollhouse.control.budget_desk import BudgetDesk
from tollhouse.control.described import project_json
from tollhouse.control.overview import Overview
from tollhouse.control.people_desk import PeopleDesk
from tollhouse.control.records_desk import Count, RecordsDesk
from tollhouse.control.refusal import Json, OperationRefused, known_project
from tollhouse.control.settings import project_settings, tenant_settings
from tollhouse.control.token_desk import TokenDesk
from tollhouse.ledger.ledger import Ledger, LedgerUnavailable, Scope
from tollhouse.ledger.limits import LimitError, parse_limits
from tollhouse.ledger.store.client import connect
from tollhouse.parties import Project
from tollhouse.prices.kept import PriceFileError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from tollhouse.alerts.alert_desk import AlertDesk
    from tollhouse.config.load import Config
    from tollhouse.control.key_desk import KeyDesk


_BACK: Final = "taken_back"
"""In the audit log: what a file has set is as before, because a later part of it could not be set."""


class Operations:
    """The operations of `TABLE` on one directory and one ledger.

    Every method raises `OperationRefused`.
    """

    def __init__(
        self,
        directory: Directory,
        ledger: Ledger,
        *,
        keys: KeyDesk | None = None,
        overview: Overview | None = None,
        people: PeopleDesk | None = None,
        reload_prices: Callable[[], Awaitable[str]] | None = None,
        alerts: AlertDesk | None = None,
        clock: Callable[[], float] = time.time,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._directory = directory
        self._ledger = ledger
        self._keys = keys
        self._overview = overview
        self._reload_prices = reload_prices
        self._people = people
        self._alerts = alerts
        self.tokens = TokenDesk(directory, clock, random_bytes)
        self.budgets = BudgetDesk(directory, ledger, clock)
        self.records = RecordsDesk(directory, ledger)
        self.audit = AuditDesk(directory, ledger, clock)

    @property
    def overview(self) -> Overview:
        if self._overview is None:
            raise OperationRefused(
                "only a running gateway shows its status page: start it (`tollhouse run`)"
            )
        return self._overview

    @property
    def people(self) -> PeopleDesk:
        if self._people is None:
            raise OperationRefused(
                "only a running gateway with [admin.oidc] knows who logs in: set it, and start the gateway (`tollhouse run`)"
            )
        return self._people

    async def perform(
        self, name: str, arguments: Mapping[str, Any], by: Actor | None = None
    ) -> Any:
        """Does the operation called ``name``, for ``by``. Its arguments are first judged by the method's
        signature. What it changes is in the audit log."""
        found = TABLE.get(name)
        if found is None:
            raise OperationRefused(
                f"there is no operation {name!r}: the gateway is older than the command; `tollhouse upgrade` it",
                404,
            )
        if "self" in arguments:
            raise OperationRefused("self: is no argument of an operation; leave it out", 400)
        try:
            whose, operation = found
            with on_behalf_of(by):
                return await self.audit.watch(
                    name, arguments, lambda: operation(whose(self), **arguments)
                )
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
        return project_json(after)

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
        old = await self._directory.read_project(project)
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
        """One project: its tenant, its limits and its settings."""
        return project_json(await known_project(self._directory, project))

    async def project_list(self) -> list[Json]:
        """All projects as `project_show` gives them, sorted by name."""
        return [
            project_json(p) for p in sorted(await self._directory.projects(), key=lambda p: p.id)
        ]

    async def project_page(self, after: str = "", count: Count = 100) -> list[Json]:
        """At most ``count`` projects with names behind ``after``, as `project_show` gives them, sorted by name."""
        return [project_json(p) for p in await self._directory.pages.projects(after, count)]

    async def tenant_show(self, tenant: Name) -> Json:
        """``{"tenant", "limits"}``. Refused if it has neither a limit nor a project."""
        limits = await self._limits_of(tenant)
        if not limits and tenant not in await self._directory.tenants():
            raise OperationRefused(
                f"tenant {tenant} has neither a limit nor a project: `tollhouse project list` shows the tenants",
                404,
            )
        return {"tenant": tenant, "limits": limits}

    async def project_remove(self, project: str) -> Json:
        """Remove a project and revoke the tokens that were for it alone: ``{"project", "revoked": [ids]}``."""
        await known_project(self._directory, project)
        revoked = []
        for info in await self._directory.tokens(project):
            if info.revoked_at is None and tuple(info.projects) == (project,):
                await self.perform("token_revoke", {"token_id": info.id})
                revoked.append(info.id)
        await self._directory.remove_project(project)
        return {"project": project, "revoked": revoked}

    async def apply(self, config: Config) -> Json:
        """Put the file's [projects] and [tenants] into the stores. What the file does not name stays as it is."""
        settings = {"projects": project_settings(config), "tenants": tenant_settings(config)}
        by = Actor("file", name=str(config.path))
        applied: Json = await self.perform("settings_apply", settings, by)
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
                    now = await self._limits_of(tenant)
                    await self._directory.set_tenant(tenant, before)
                    await self.audit.note(_BACK, "tenant", tenant, now or None, before or None)
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
        now = await self._directory.read_project(name)
        if before is not None:
            await self._directory.set_project(before)
        else:
            await self._directory.remove_project(name)
        await self.audit.note(
            _BACK, "project", name, now and project_json(now), before and project_json(before)
        )

    async def prices_reload(self) -> Json:
        """Has the running gateway take the prices that are kept now: ``{"prices": their name}``."""
        if self._reload_prices is None:
            raise OperationRefused(
                "only a running gateway has prices in use: start it (`tollhouse run`)"
            )
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

    async def alerts_test(self, name: str | None = None) -> list[Json]:
        """`AlertDesk.test` by the running gateway."""
        return await self._alert_desk().test(name)

    async def alerts_list(self) -> Json:
        """`AlertDesk.listed` of the running gateway."""
        return await self._alert_desk().listed()

    def _alert_desk(self) -> AlertDesk:
        if self._alerts is None:
            raise OperationRefused(
                "only a running gateway has receivers of alerts: start it (`tollhouse run`)"
            )
        return self._alerts

    def _desk(self) -> KeyDesk:
        if self._keys is None:
            raise OperationRefused(
                "only a running gateway has read keys: start it (`tollhouse run`)"
            )
        return self._keys


def _problem(detail: ErrorDetails) -> str:
    """The problem in our own words, else in pydantic's. Of the input only a name is quoted:
    anything else could be a secret."""
    where = ".".join(map(str, detail["loc"]))
    if detail["type"] != "value_error":
        return f"{where}: {detail['msg']}"
    name = f"{detail['input'][:64]!a} " if where in ("project", "tenant") else ""
    return f"{where}: {name}{detail['ctx']['error']}"


def _checked(operation: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    return validate_call(config=ConfigDict(strict=True, arbitrary_types_allowed=True))(operation)


_OF_PROJECTS: Final = (
    ("project_set", Operations.project_set),
    ("project_show", Operations.project_show),
    ("project_list", Operations.project_list),
    ("project_page", Operations.project_page),
    ("project_remove", Operations.project_remove),
    ("tenant_set", Operations.tenant_set),
    ("tenant_show", Operations.tenant_show),
    ("settings_apply", Operations.settings_apply),
    ("prices_reload", Operations.prices_reload),
    ("key_list", Operations.key_list),
    ("key_test", Operations.key_test),
    ("alerts_test", Operations.alerts_test),
    ("alerts_list", Operations.alerts_list),
)
_OF_TOKENS: Final = (
    ("token_create", TokenDesk.create),
    ("viewer_create", TokenDesk.create_viewer),
    ("admin_create", TokenDesk.create_admin),
    ("token_rotate", TokenDesk.rotate),
    ("token_extend", TokenDesk.extend),
    ("token_list", TokenDesk.listed),
    ("token_show", TokenDesk.show),
    ("token_page", TokenDesk.page),
    ("token_revoke", TokenDesk.revoke),
    ("token_restore", TokenDesk.restore),
)
_OF_BUDGETS: Final = (
    ("budget_show", BudgetDesk.show),
    ("budget_grant", BudgetDesk.grant),
    ("usage", BudgetDesk.usage),
    ("models_used", BudgetDesk.models_used),
)
_OF_RECORDS: Final = (
    ("tenants", RecordsDesk.tenants),
    ("records", RecordsDesk.page),
    ("records_kept", RecordsDesk.kept),
    ("export_at", RecordsDesk.export_at),
    ("export_move", RecordsDesk.export_move),
    ("call_held", RecordsDesk.held),
)
_OF_THE_LOG: Final = (("audit", AuditDesk.page),)
_OF_THE_PAGE: Final = (("viewer", Overview.viewer), ("overview", Overview.show))
_PERSONS: Final = (PeopleDesk.begin, PeopleDesk.finish, PeopleDesk.bearer, PeopleDesk.stays)
_OF_PEOPLE: Final = [(f"person_{method.__name__}", method) for method in _PERSONS]
_Whose = Callable[[Operations], object]
TABLE: Final[Mapping[str, tuple[_Whose, Callable[..., Awaitable[Any]]]]] = {
    **{name: (lambda own: own, _checked(operation)) for name, operation in _OF_PROJECTS},
    **{name: (lambda own: own.tokens, _checked(operation)) for name, operation in _OF_TOKENS},
    **{name: (lambda own: own.budgets, _checked(operation)) for name, operation in _OF_BUDGETS},
    **{name: (lambda own: own.records, _checked(operation)) for name, operation in _OF_RECORDS},
    **{name: (lambda own: own.audit, _checked(operation)) for name, operation in _OF_THE_LOG},
    **{name: (lambda own: own.people, _checked(operation)) for name, operation in _OF_PEOPLE},
    **{name: (lambda own: own.overview, _checked(operation)) for name, operation in _OF_THE_PAGE},
}
"""Every operation that the control socket answers to: whose method it is, and the method, which judges its arguments first."""


def perform_once(config: Config, name: str, arguments: Mapping[str, Any]) -> Any:
    """Open the configuration's stores, do one operation, close them. Raises `OperationRefused`."""

    async def once() -> Any:
        redis = connect(config.redis.url, config.state.directory)
        ledger = Ledger(redis)
        try:
            return await Operations(Directory(redis, ledger), ledger).perform(
                name, arguments, this_user()
            )
        finally:
            await ledger.close()

    try:
        return asyncio.run(once())
    except ValueError as error:
        raise OperationRefused(str(error)) from None
