"""The admin API: projects, tokens and limits over HTTP, by the operations that the commands have.

It takes a bearer token of an admin and no cookie, so that no page of another site can have a browser change anything.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from aiohttp import web
from pydantic import BaseModel, ValidationError

from tollhouse.compact_json import compact_json
from tollhouse.config.load import Config, catalog
from tollhouse.config.rules import model_rules
from tollhouse.control.actor import Actor
from tollhouse.control.refusal import OperationRefused
from tollhouse.site import api_models as m
from tollhouse.site.access import Access
from tollhouse.site.api_document import document
from tollhouse.site.api_endpoints import ENDPOINTS, PARAMETERS, PREFIX, ApiEndpoint
from tollhouse.site.problem import ApiProblem

LONGEST_BODY: Final = 65_536
BODY_S: Final = 10.0
"""For a body to come."""
_READ_ONLY = (
    "The configuration file of the gateway names {what} {name}, and what the file says holds again from each start. Nothing was "
    "changed."
)


class PerformFor(Protocol):
    """Does an operation for somebody. Raises `OperationRefused`."""

    async def __call__(
        self, name: str, arguments: Mapping[str, Any], by: Actor | None = None
    ) -> Any: ...


class AdminApi:
    """One method an endpoint of `ENDPOINTS`; each gives a status and an answer. What they raise is answered as a problem."""

    def __init__(self, config: Config, perform: PerformFor, access: Access) -> None:
        self._config = config
        self._providers = catalog(config)
        self._perform = perform
        self._access = access
        self._document = compact_json(document()) + b"\n"

    def routes(self) -> list[web.RouteDef]:
        routes = [
            web.route(endpoint.method, PREFIX + endpoint.path, self._answering(endpoint))
            for endpoint in ENDPOINTS
        ]
        return [*routes, web.get(f"{PREFIX}/openapi.json", self._openapi, allow_head=False)]

    async def _openapi(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._document, content_type="application/json")

    def _answering(
        self, endpoint: ApiEndpoint
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        method = getattr(self, endpoint.name)

        async def answer(request: web.Request) -> web.StreamResponse:
            actor = await self._admin(request)
            given: list[Any] = [_parameter(request, name) for name in request.match_info]
            given += [_query(request, endpoint.query)] if endpoint.query else []
            given += [await _body(request, endpoint.body)] if endpoint.body else []
            if endpoint.query is None and request.query_string:
                raise ApiProblem(422, "not-valid", "This endpoint takes no query.", "Leave it out.")
            status, told = await method(actor, *given)
            answered = endpoint.answer.model_validate(told).model_dump(mode="json")
            return web.Response(
                status=status, body=compact_json(answered) + b"\n", content_type="application/json"
            )

        return answer

    async def _admin(self, request: web.Request) -> Actor:
        """The admin who asks. Raises `ApiProblem` for anybody else."""
        if "Authorization" not in request.headers:
            raise ApiProblem(
                401,
                "no-token",
                "The request has no Authorization: Bearer. No cookie counts here.",
                "Send a token that `tollhouse token create --admin` has made.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        viewer = await self._access.of(request)
        if viewer is None:
            raise ApiProblem(
                401,
                "token",
                "The token is mistyped, has expired, or was revoked.",
                "Make another one by `tollhouse token create --admin`.",
                headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
            )
        if not viewer.get("admin"):
            raise ApiProblem(
                403,
                "not-admin",
                f"{viewer['id']} is for looking or for calls, and changes nothing here.",
                "Send a token that `tollhouse token create --admin` has made.",
                headers={"WWW-Authenticate": 'Bearer error="insufficient_scope"'},
            )
        return Actor("api", viewer["id"], viewer["label"])

    # Projects

    async def list_projects(self, _by: Actor, query: m.PageQuery) -> Any:
        asked = {"after": query.after, "count": query.count + 1}
        found = [self._project(each) for each in await self._perform("project_page", asked)]
        return 200, _page(found, query.count, "project")

    async def get_project(self, _by: Actor, project: str) -> Any:
        return 200, self._project(await self._perform("project_show", {"project": project}))

    async def put_project(self, by: Actor, project: str, settings: m.ProjectSettings) -> Any:
        self._not_of_the_file("project", project, self._config.projects)
        problems = model_rules({project: settings.models}, self._providers)
        errors = [{"pointer": "/models", "detail": why} for _, why in problems]
        if errors:
            raise _not_valid(errors)
        new = await self._missing("project_show", {"project": project})
        asked = {"project": project, **settings.model_dump()}
        return 201 if new else 200, self._project(await self._perform("project_set", asked, by))

    async def delete_project(self, by: Actor, project: str) -> Any:
        self._not_of_the_file("project", project, self._config.projects)
        try:
            return 200, await self._perform("project_remove", {"project": project}, by)
        except OperationRefused as refused:
            if refused.status != 404:
                raise
        return 200, {"project": project, "revoked": []}

    async def get_budget(self, _by: Actor, project: str) -> Any:
        return 200, await self._perform("budget_show", {"project": project})

    async def put_grant(self, by: Actor, project: str, grant: str, wanted: m.GrantWanted) -> Any:
        asked = {
            "project": project,
            "amount": wanted.amount,
            "reason": wanted.reason,
            "by": by.name or by.id,
            "grant_id": grant,
        }
        made = await self._perform("budget_grant", asked, by)
        return 200 if made.get("repeated") else 201, {"id": grant, **made}

    # Tenants

    async def get_tenant(self, _by: Actor, tenant: str) -> Any:
        return 200, self._tenant(await self._perform("tenant_show", {"tenant": tenant}))

    async def put_tenant(self, by: Actor, tenant: str, settings: m.TenantSettings) -> Any:
        return 200, await self._limit(by, tenant, settings.limits)

    async def delete_tenant(self, by: Actor, tenant: str) -> Any:
        return 200, await self._limit(by, tenant, [])

    async def _limit(self, by: Actor, tenant: str, limits: Sequence[str]) -> Any:
        self._not_of_the_file("tenant", tenant, self._config.tenants)
        asked = {"tenant": tenant, "limits": list(limits)}
        return self._tenant(await self._perform("tenant_set", asked, by))

    # Tokens

    async def list_tokens(self, _by: Actor, query: m.TokensQuery) -> Any:
        asked = {"after": query.after, "count": query.count + 1, "project": query.project}
        return 200, _page(await self._perform("token_page", asked), query.count, "id")

    async def create_token(self, by: Actor, wanted: m.TokenWanted) -> Any:
        asked: dict[str, Any] = {"expires_s": wanted.expires_in_s, "label": wanted.label}
        if wanted.kind == "view":
            if wanted.projects or wanted.limits:
                why = "a token for looking charges nothing: leave it out, or ask for kind gate"
                named = [name for name in ("projects", "limits") if getattr(wanted, name)]
                raise _not_valid([{"pointer": f"/{name}", "detail": why} for name in named])
            asked["tenant"] = wanted.tenant or ""
            return 201, await self._perform("viewer_create", asked, by)
        if wanted.tenant is not None:
            why = "a project has its tenant already: leave it out, or ask for kind view"
            raise _not_valid([{"pointer": "/tenant", "detail": why}])
        if not wanted.projects:
            why = "name the projects that it may charge, or ask for kind view"
            raise _not_valid([{"pointer": "/projects", "detail": why}])
        asked |= {"projects": wanted.projects, "limits": wanted.limits}
        return 201, await self._perform("token_create", asked, by)

    async def get_token(self, _by: Actor, token: str) -> Any:
        return 200, await self._perform("token_show", {"token_id": token})

    async def revoke_token(self, by: Actor, token: str) -> Any:
        await self._perform("token_revoke", {"token_id": token}, by)
        return 200, await self._perform("token_show", {"token_id": token})

    async def rotate_token(self, by: Actor, token: str, wanted: m.RotationWanted) -> Any:
        await self._no_admin(token)
        asked = {
            "token_id": token,
            "overlap_s": wanted.overlap_s,
            "expires_s": wanted.expires_in_s,
        }
        return 201, await self._perform("token_rotate", asked, by)

    async def extend_token(self, by: Actor, token: str, wanted: m.Expiry) -> Any:
        await self._no_admin(token)
        asked = {"token_id": token, "expires_s": wanted.expires_in_s}
        return 200, await self._perform("token_extend", asked, by)

    # The audit log

    async def list_changes(self, _by: Actor, query: m.ChangesQuery) -> Any:
        since = 0.0 if query.since is None else query.since.timestamp()
        asked = {"since": since, "after": query.after, "count": query.count + 1}
        return 200, _page(await self._perform("audit", asked), query.count, "id")

    async def _missing(self, name: str, arguments: Mapping[str, Any]) -> bool:
        try:
            await self._perform(name, arguments)
        except OperationRefused as refused:
            if refused.status == 404:
                return True
            raise
        return False

    async def _no_admin(self, token: str) -> None:
        """An admin's token that is found by somebody must not become one that lives longer."""
        shown = await self._perform("token_show", {"token_id": token})
        if shown["kind"] == "admin":
            raise ApiProblem(
                409,
                "admin-token",
                f"{token} is an admin's, and those live no longer by what is asked here.",
                "Rotate it by `tollhouse token rotate`, where the gateway runs.",
            )

    def _not_of_the_file(self, what: str, name: str, of_file: Mapping[str, object]) -> None:
        if name in of_file:
            raise ApiProblem(
                409,
                "of-the-file",
                _READ_ONLY.format(what=what, name=name),
                f"Change it in the file and run `tollhouse reload`, or take [{what}s.{name}] out of it first.",
            )

    def _project(self, shown: Mapping[str, Any]) -> dict[str, Any]:
        of_file = shown["project"] in self._config.projects
        return {**shown, "source": "file" if of_file else "stored"}

    def _tenant(self, shown: Mapping[str, Any]) -> dict[str, Any]:
        of_file = shown["tenant"] in self._config.tenants
        return {**shown, "source": "file" if of_file else "stored"}


def _page(found: Sequence[Mapping[str, Any]], count: int, key: str) -> dict[str, Any]:
    """``found`` is one more than ``count``, if there are more."""
    items = found[:count]
    return {"items": items, "next": items[-1][key] if len(found) > count else None}


def _parameter(request: web.Request, name: str) -> str:
    value = request.match_info[name]
    if not re.fullmatch(PARAMETERS[name], value, re.ASCII):
        raise ApiProblem(
            422,
            "not-valid",
            f"What the path has in the place of the {name} can't be one.",
            "It has to fit the pattern that openapi.json gives.",
        )
    return value


def _query[M: BaseModel](request: web.Request, model: type[M]) -> M:
    if len(set(request.query)) != len(request.query):
        raise ApiProblem(422, "not-valid", "The query names something twice.", "Name it once.")
    try:
        return model.model_validate(dict(request.query))
    except ValidationError as error:
        raise _not_valid(_errors(error)) from None


async def _body[M: BaseModel](request: web.Request, model: type[M]) -> M:
    if request.content_type != "application/json":
        raise ApiProblem(
            415, "content-type", "The body is no application/json.", "Send JSON, and say so."
        )
    if "Content-Encoding" in request.headers:
        raise ApiProblem(
            415, "content-type", "The body is compressed, which is not read here.", "Send it plain."
        )
    text = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            while piece := await request.content.readany():
                text += piece
                if len(text) > LONGEST_BODY:
                    raise ApiProblem(
                        413,
                        "too-large",
                        f"The body has more than {LONGEST_BODY} bytes.",
                        "Send less.",
                    )
    except TimeoutError:
        raise ApiProblem(
            408, "timeout", f"The body did not come within {BODY_S:.0f} s.", "Send it again."
        ) from None
    try:
        return model.model_validate_json(bytes(text))
    except ValidationError as error:
        errors = _errors(error)
        if error.errors(include_input=False, include_url=False)[0]["type"] == "json_invalid":
            raise ApiProblem(
                400, "not-json", "The body is no JSON.", "Send an object.", errors=errors
            ) from None
        raise _not_valid(errors) from None


def _errors(error: ValidationError) -> list[dict[str, str]]:
    """Of what was sent only names are repeated."""
    found = error.errors(include_input=False, include_url=False, include_context=False)
    return [
        {
            "pointer": "".join("/" + _escaped(part) for part in one["loc"]),
            "detail": one["msg"],
        }
        for one in found[:20]
    ]


def _escaped(part: str | int) -> str:
    """RFC 6901."""
    return str(part)[:64].replace("~", "~0").replace("/", "~1")


def _not_valid(errors: Sequence[Mapping[str, str]]) -> ApiProblem:
    return ApiProblem(
        422,
        "not-valid",
        "What was sent is not what this endpoint takes. Nothing was changed.",
        "Correct what `errors` names; openapi.json has the models.",
        errors=errors,
    )
