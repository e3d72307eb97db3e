"""The endpoints of the admin API: one table, of which its routes and its document are made."""

from __future__ import annotations

from typing import Final, NamedTuple

from tollhouse.site import api_models as m

PREFIX: Final = "/api/v1"
PARAMETERS: Final = {
    "project": r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}",
    "tenant": r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}",
    "grant": r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}",
    "token": r"tok_[0-9a-f]{16}|(jwt|crt|net)_[0-9a-f]{24}",
}
"""The form of each parameter of a path."""


class ApiEndpoint(NamedTuple):
    """``name`` is a method's of `AdminApi`. ``statuses`` are those of success, ``refused`` those of problems beside 400, 401, 403,
    429 and 503, which each endpoint may answer."""

    name: str
    method: str
    path: str
    summary: str
    answer: type[m.ApiAnswer]
    statuses: tuple[int, ...] = (200,)
    body: type[m.ApiInput] | None = None
    query: type[m.ApiInput] | None = None
    refused: tuple[int, ...] = ()


_CHANGES: Final = (404, 409, 422)
ENDPOINTS: Final = (
    ApiEndpoint(
        *("list_projects", "GET", "/projects", "The projects, sorted by name.", m.ProjectsTold),
        query=m.PageQuery,
        refused=(422,),
    ),
    ApiEndpoint(
        *("get_project", "GET", "/projects/{project}", "One project.", m.ProjectTold),
        refused=(404,),
    ),
    ApiEndpoint(
        "put_project",
        "PUT",
        "/projects/{project}",
        "Makes a project (201), or replaces all of its settings (200). What it has used stays counted.",
        m.ProjectTold,
        (200, 201),
        body=m.ProjectSettings,
        refused=_CHANGES,
    ),
    ApiEndpoint(
        "delete_project",
        "DELETE",
        "/projects/{project}",
        "Removes a project, and revokes the tokens that are for it alone. One that does not exist is removed already.",
        m.ProjectRemoved,
        refused=(409,),
    ),
    ApiEndpoint(
        *(
            "get_budget",
            "GET",
            "/projects/{project}/budget",
            "What is used and left.",
            m.BudgetTold,
        ),
        refused=(404,),
    ),
    ApiEndpoint(
        "put_grant",
        "PUT",
        "/projects/{project}/grants/{grant}",
        "Adds an amount to the project's limits of that unit, once, for now (201). Told again it changes nothing (200).",
        m.GrantTold,
        (200, 201),
        body=m.GrantWanted,
        refused=_CHANGES,
    ),
    ApiEndpoint(
        *("get_tenant", "GET", "/tenants/{tenant}", "A tenant's limits.", m.TenantTold),
        refused=(404,),
    ),
    ApiEndpoint(
        *("put_tenant", "PUT", "/tenants/{tenant}", "Replaces a tenant's limits.", m.TenantTold),
        body=m.TenantSettings,
        refused=(409, 422),
    ),
    ApiEndpoint(
        *("delete_tenant", "DELETE", "/tenants/{tenant}", "Takes its limits away.", m.TenantTold),
        refused=(409,),
    ),
    ApiEndpoint(
        "list_tokens",
        "GET",
        "/tokens",
        "The tokens, without their secrets, and the subjects that were revoked, sorted by id.",
        m.TokensTold,
        query=m.TokensQuery,
        refused=(404, 422),
    ),
    ApiEndpoint(
        "create_token",
        "POST",
        "/tokens",
        "Makes a token. Its secret is in this answer alone.",
        m.TokenMade,
        (201,),
        body=m.TokenWanted,
        refused=_CHANGES,
    ),
    ApiEndpoint(
        *("get_token", "GET", "/tokens/{token}", "One token, without its secret.", m.TokenTold),
        refused=(404,),
    ),
    ApiEndpoint(
        "revoke_token",
        "DELETE",
        "/tokens/{token}",
        "Revokes a token for good. Every gateway refuses it within 5 s.",
        m.TokenTold,
        refused=(404,),
    ),
    ApiEndpoint(
        "rotate_token",
        "POST",
        "/tokens/{token}/rotations",
        "Makes a successor of a token. The old one ends after the overlap.",
        m.TokenRotated,
        (201,),
        body=m.RotationWanted,
        refused=_CHANGES,
    ),
    ApiEndpoint(
        "extend_token",
        "PUT",
        "/tokens/{token}/expiry",
        "Moves a token's end, also if it has ended.",
        m.TokenTold,
        body=m.Expiry,
        refused=_CHANGES,
    ),
    ApiEndpoint(
        *("list_changes", "GET", "/audit", "The audit log, the oldest first.", m.ChangesTold),
        query=m.ChangesQuery,
        refused=(422,),
    ),
)
