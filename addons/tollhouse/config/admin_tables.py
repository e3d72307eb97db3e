"""The tables of the admin listener."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from tollhouse.config.addresses import Address
from tollhouse.config.models import Table, TlsFiles, UpstreamProxyConfig
from tollhouse.config.store_places import VaultPlace
from tollhouse.config.values import (
    FilePath,
    IdentityIssuer,
    IdentityRule,
    JwtAlgorithm,
    List,
    Name,
    OneOrList,
    Text,
)

CALLBACK = "/oidc/callback"


def _redirect_url(text: str) -> str:
    parts = urlsplit(text)
    local = parts.scheme == "http" and parts.hostname and Address(parts.hostname, 0).is_loopback
    if (parts.scheme != "https" and not local) or not parts.hostname or "@" in parts.netloc:
        raise ValueError(
            "must be the https:// URL at which browsers reach the admin listener, because the code passes there; http:// is for "
            "loopback alone"
        )
    if parts.path != CALLBACK or parts.query or parts.fragment:
        raise ValueError(f"must end with {CALLBACK}, which is where the login comes back")
    return text


def _scopes(scopes: tuple[str, ...]) -> tuple[str, ...]:
    if "openid" not in scopes:
        raise ValueError('must have "openid", without which there is no ID token')
    return scopes


Claims = dict[IdentityRule, Annotated[tuple[Text, ...], OneOrList, Field(min_length=1)]]
"""Each of these claims has to have one of its values."""


class OidcView(Table):
    """What people see of whom these claims are made. Either of tenant and projects; ``tenant = "*"`` is all."""

    claims: Annotated[Claims, Field(min_length=1)]
    tenant: Name | Literal["*"] | None = None
    projects: Annotated[tuple[Name, ...], List] = ()


class OidcConfig(Table):
    """People log in at an OpenID provider."""

    issuer: IdentityIssuer
    client_id: Text
    redirect_url: Annotated[Text, AfterValidator(_redirect_url)]
    client_secret_file: FilePath | None = None
    """Read again at each login."""
    client_secret: VaultPlace | None = None
    """The path below the mount of a secret with the field ``client_secret``. Neither of both: PKCE alone."""
    scopes: Annotated[tuple[Text, ...], List, AfterValidator(_scopes)] = ("openid", "profile")
    admins: Claims = Field(default_factory=dict)
    """Who sees all, and may change all through the API. Empty: nobody."""
    views: Annotated[tuple[OidcView, ...], List] = ()
    """Of others. The first that fits decides."""
    audience: Annotated[tuple[Text, ...], OneOrList] = ()
    """The ``aud`` of JWTs that are taken as bearer tokens. Empty: none is."""
    token_type: Text | None = None
    """The ``typ`` that those have to have. None: none, or JWT."""
    algorithms: Annotated[tuple[JwtAlgorithm, ...], List, Field(min_length=1)] = ("RS256", "ES256")
    ca_file: FilePath | None = None
    """PEM of the roots trusted for the provider instead of the public ones."""
    upstream_proxy: UpstreamProxyConfig | Literal["on"] | None = None
    """As of [[identity.jwt]]."""


class AdminConfig(Table):
    """What the admin listener shows beside its probes."""

    page: bool = True
    api: bool = False
    """/api/v1 changes projects, limits and tokens, for a token of `tollhouse token create --admin`."""
    oidc: OidcConfig | None = None
    tls: TlsFiles | None = None
    unsafe_plaintext: bool = False
    """Tokens are taken without TLS from other hosts than this one."""
    metrics_projects: Annotated[int, Field(ge=0, le=1000)] = 0
    """How many projects /metrics names; the others are one."""
    unsafe_open_metrics: bool = False
    """/metrics needs no token."""
