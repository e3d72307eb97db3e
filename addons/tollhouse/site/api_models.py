"""What the admin API takes and gives. What it takes is strict: unknown members are refused, and no type is converted."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

Limit = Annotated[str, Field(max_length=100, examples=["10 usd/day", "8 concurrent"])]
Limits = Annotated[list[Limit], Field(max_length=50)]
Glob = Annotated[str, Field(min_length=1, max_length=200, examples=["gpt-4o*", "anthropic/*"])]
ThingName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$", examples=["proj_123"])
]
Label = Annotated[str, Field(max_length=200)]
Lifetime = Annotated[float, Field(gt=0, lt=1e10, description="Seconds from now.")]


class ApiInput(BaseModel):
    """A body or a query."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


class ApiAnswer(BaseModel):
    """An answer."""

    model_config = ConfigDict(frozen=True)


class ProjectSettings(ApiInput):
    """A whole project: what is left out has its default."""

    tenant: ThingName
    limits: Limits = []
    on_shortfall: Literal["reject", "clamp"] = "reject"
    models: Annotated[list[Glob], Field(max_length=200)] = []
    """Globs of the models that it may use; none is all."""
    unpriced: Literal["refuse", "dearest"] = "refuse"
    estimate: Literal["typical", "worst"] = "typical"
    login: Literal["strip", "pass"] = "strip"


class ProjectTold(ApiAnswer):
    project: str
    tenant: str
    limits: list[str]
    on_shortfall: Literal["reject", "clamp"]
    models: list[str]
    unpriced: Literal["refuse", "dearest"]
    estimate: Literal["typical", "worst"]
    login: Literal["strip", "pass"]
    source: Literal["file", "stored"]
    """`file`: the configuration names it, and it is read only here."""


class ProjectRemoved(ApiAnswer):
    project: str
    revoked: list[str]
    """Ids of the tokens that were for it alone."""


class TenantSettings(ApiInput):
    """A tenant's limits, which all its projects share."""

    limits: Annotated[list[Limit], Field(min_length=1, max_length=50)]


class TenantTold(ApiAnswer):
    tenant: str
    limits: list[str]
    source: Literal["file", "stored"]


class TokenWanted(ApiInput):
    """`gate` is for a workload: it charges `projects`. `view` sees the status page, of `tenant` or of all."""

    kind: Literal["gate", "view"] = "gate"
    projects: Annotated[list[ThingName], Field(max_length=100)] = []
    tenant: ThingName | None = None
    expires_in_s: Lifetime | None = None
    """None: it never ends."""
    label: Label = ""
    limits: Limits = []


class TokenTold(ApiAnswer):
    id: str
    kind: Literal["gate", "view", "admin", "subject"]
    tenant: str
    """Empty: all."""
    projects: list[str]
    label: str
    created_at: str | None
    expires_at: str | None
    revoked_at: str | None
    limits: list[str]


class TokenMade(TokenTold):
    token: str
    """The secret. It is in this answer and in no other."""


class RotationWanted(ApiInput):
    overlap_s: Lifetime = 3600.0
    """How long both tokens are valid."""
    expires_in_s: Lifetime | None = None
    """None: the new one lives as long as the old one was made to."""


class TokenRotated(TokenMade):
    replaces: str
    replaced_ends_at: str | None


class Expiry(ApiInput):
    expires_in_s: Lifetime


class GrantWanted(ApiInput):
    """A one-time addition to the limits of a unit."""

    amount: Annotated[str, Field(max_length=100, examples=["5 usd"])]
    reason: Annotated[str, Field(min_length=1, max_length=500)]


class GrantTold(ApiAnswer):
    id: str
    project: str
    amount: str
    reason: str
    by: str
    at: str
    limits: int
    """How many limits were raised by this request."""
    repeated: bool = False
    """It was made before, and this request changed nothing."""


class LimitTold(ApiAnswer):
    model_config = ConfigDict(frozen=True, extra="allow")

    limit: str
    used: str
    held: str
    left: str
    resets_at: str | None


class ScopeTold(ApiAnswer):
    scope: str
    limits: list[LimitTold]


class BudgetTold(ApiAnswer):
    """Amounts are decimal strings in the limit's own unit."""

    model_config = ConfigDict(frozen=True, extra="allow")

    project: str
    scopes: list[ScopeTold]


class ChangeTold(ApiAnswer):
    id: str
    at: str
    by: str
    """A token's id, a subject's of an issuer, or a user of the gateway's machine. Empty: nobody but `via`."""
    by_name: str
    via: str
    operation: str
    target: str
    before: Any
    after: Any


class ProjectsTold(ApiAnswer):
    items: list[ProjectTold]
    next: str | None
    """`after` of the next page; null on the last one."""


class TokensTold(ApiAnswer):
    items: list[TokenTold]
    next: str | None


class ChangesTold(ApiAnswer):
    items: list[ChangeTold]
    next: str | None


class PageQuery(ApiInput):
    after: Annotated[str, Field(max_length=128)] = ""
    """`next` of the page before."""
    count: Annotated[int, Field(ge=1, le=200, strict=False)] = 100


class TokensQuery(PageQuery):
    project: ThingName | None = None


class ChangesQuery(PageQuery):
    since: Annotated[AwareDatetime | None, Field(strict=False)] = None


class ProblemError(ApiAnswer):
    pointer: str
    detail: str


class ProblemTold(ApiAnswer):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    """What happened, and why."""
    action: str = ""
    """What to do."""
    errors: list[ProblemError] = []
