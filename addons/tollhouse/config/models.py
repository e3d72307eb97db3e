"""The tables of tollhouse.toml, each a frozen pydantic model. Their keys are a contract: tests/data/reference.toml. Those of
the stores, of prices, of the admin listener, and of what is around the gateway stand in `store_tables`, `price_tables`,
`admin_tables` and `surroundings`.

A model judges its own values one by one; what depends on two keys is in `config.rules`. Everything is strict:
``"8443"`` is not a number and ``1`` is not a switch.

Past 400 lines because each table of the file is a model of its own here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from tollhouse.companions import EVERY_PROJECT, Choice
from tollhouse.config.addresses import Address, AllowedHost, Listener, Port, ProviderHost, Target
from tollhouse.config.store_places import VaultPlace
from tollhouse.config.values import (
    Addon,
    CallsFile,
    ClaimName,
    Dollars,
    FilePath,
    HeaderName,
    IdentityIssuer,
    IdentityRule,
    JwksAddress,
    JwtAlgorithm,
    List,
    ModelName,
    Name,
    OneOrList,
    OpenedPath,
    ProviderFamily,
    ProviderName,
    ProxyUrl,
    Seconds,
    SecondsOrZero,
    SourceRange,
    TenantRule,
    Text,
    Texts,
)


class Table(BaseModel):
    """What all tables share: unknown keys refused, no conversion of types, frozen, no value repeated in an error."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


class TlsFiles(Table):
    """A certificate chain and its key, PEM."""

    cert_file: FilePath
    key_file: FilePath


class ListenConfig(Table):
    """Where the gateway listens, and by which names it is called there."""

    proxy: Listener = Address("127.0.0.1", 8080)
    proxy_auth: Literal["optional", "required"] = "optional"
    base_url: Listener = Address("127.0.0.1", 8000)
    base_url_hosts: Annotated[tuple[AllowedHost, ...], List] = ("localhost", "127.0.0.1")
    tls: TlsFiles | None = None
    """For proxy and base_url. The transparent listener sees TLS anyway, and admin has its own (`admin_tables`)."""
    unsafe_plaintext_listen: bool = False
    http1: Literal["own", "mitmproxy"] = "own"
    """Who speaks HTTP/1 with clients. HTTP/2 is mitmproxy's anyway."""
    transparent: Listener = None
    refuse_ech: bool = False
    """Refuses each ClientHello with an encrypted name, GREASE or not, where this gateway ends the TLS of a provider's host."""
    admin: Listener = Address("127.0.0.1", 9090)

    @property
    def base_url_names(self) -> tuple[str, ...]:
        """Each Host that the base URL answers as: those of the file, and the loopback addresses it
        is bound to."""
        return (*self.base_url_hosts, *(self.base_url.own_literals if self.base_url else ()))


class StateConfig(Table):
    """What the gateway itself keeps on the disk: the CA, the spool, the embedded stores."""

    directory: FilePath


class LogConfig(Table):
    """Where the line of each call goes: ``-`` is stdout."""

    calls: Annotated[Literal["-"] | Path, CallsFile] = "-"


class CaConfig(Table):
    """For replicas that share one CA; without it the CA is ``ca.pem`` and ``ca-key.pem`` in the state directory."""

    cert_file: FilePath | None = None
    key_file: FilePath | None = None


class UpstreamProxyConfig(Table):
    """A proxy that opens tunnels (CONNECT)."""

    url: ProxyUrl
    ca_file: FilePath | None = None
    """PEM of the roots trusted for an https:// proxy instead of the public ones."""
    secret: VaultPlace | None = None
    """The path below the mount of a secret with the fields ``username`` and ``password``."""


class UpstreamConfig(Table):
    """The connections to all providers."""

    proxy: UpstreamProxyConfig | None = None
    """For each provider, and each of [[tunnels]], whose entry names no other; for companions, access tokens and exchanges."""
    connections_per_host: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """0: as many as there are calls at one time."""
    idle_s: Seconds = 50.0
    """Below the 60 s after which AWS's load balancers close an idle connection."""
    age_s: Seconds = 3600.0


class FileSubject(Table):
    """What Kubernetes projects."""

    source: Literal["file"]
    file: FilePath


class SpiffeSubject(Table):
    """A JWT-SVID: of the Workload API at ``socket``, or a file that spiffe-helper writes."""

    source: Literal["spiffe"]
    file: FilePath | None = None
    socket: FilePath | None = None
    id: Text | None = None
    """Which identity is asked for, where the Workload API has several."""


class VaultSubject(Table):
    """A token that Vault signs for ``role``."""

    source: Literal["vault"]
    role: Name


class GithubSubject(Table):
    """A token that GitHub signs for the workflow in which the gateway runs."""

    source: Literal["github"]


class CertificateSubject(Table):
    """The provider's own ``client_certificate`` takes the place of a token."""

    source: Literal["certificate"]


class FederationConfig(Table):
    """A credential that the provider gives for a token of the gateway's own identity."""

    method: Literal["federation"]
    subject: Annotated[
        FileSubject | SpiffeSubject | VaultSubject | GithubSubject | CertificateSubject,
        Field(discriminator="source"),
    ]
    audience: Text | None = None
    """What the subject token's ``aud`` has to be. None: what the provider expects by custom."""
    parameters: dict[Text, Text] = Field(default_factory=dict)
    """Ids of the provider's rule. None is secret."""
    connect_to: Target | None = None
    """Dialled instead of what DNS says of the exchange's host. TLS is verified for that host."""
    ca_file: FilePath | None = None
    """PEM of the roots trusted for the exchange instead of the public ones."""


class VaultRoleConfig(Table):
    """Keys that Vault's AWS engine leases."""

    method: Literal["vault_role"]
    path: Text
    """MOUNT/creds/ROLE, or MOUNT/sts/ROLE."""
    ttl_s: Annotated[int, Field(ge=900, le=129_600)] | None = None
    role_arn: Text | None = None
    """Which role is assumed, if Vault's allows several."""
    session_name: Text | None = None


class ProviderConfig(Table):
    """The differences from a built-in entry, or an entry of its own. None leaves the built-in
    value."""

    family: ProviderFamily | None = None
    """The API that it speaks: the name of a family or of a built-in provider. It takes over
    everything of that provider's entry but the hosts."""
    hosts: Annotated[tuple[ProviderHost, ...], List, Field(min_length=1)] | None = None
    port: Port | None = None
    connect_to: Target | None = None
    ca_file: FilePath | None = None
    upstream_proxy: UpstreamProxyConfig | Literal["off"] | None = None
    """``off``: dialled directly, whatever ``[upstream] proxy`` says."""
    credential: (
        Annotated[FederationConfig | VaultRoleConfig, Field(discriminator="method")] | None
    ) = None
    """None: a key of the store."""
    client_certificate: VaultPlace | None = None
    """The path below the mount of a secret with the fields ``cert`` and ``key``, PEM."""
    allow_private: bool | None = None
    unsafe_plaintext: bool | None = None
    attempts: Annotated[int, Field(ge=1, le=10)] | None = None
    deadline_s: Seconds | None = None
    connect_timeout_s: Seconds | None = None
    answer_timeout_s: Seconds | None = None
    silence_timeout_s: Seconds | None = None
    models: Annotated[dict[ModelName, ModelName], Field(max_length=1024)] | None = None
    """The model behind each name that is no model's: a deployment, an inference profile."""
    default_input_tokens: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """None: the model's context window as the price table has it, else the longest of the provider's."""
    default_output_tokens: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """None: what the model is known to give, else 128,000."""
    allow: Annotated[tuple[OpenedPath, ...], List] = ()
    """Endpoints beside those of the family, and jobs of the family's."""
    unmetered: Annotated[tuple[OpenedPath, ...], List] = ()
    """The same, of endpoints that cost nothing."""
    unknown_hold_usd: Dollars | None = None
    job_hold_usd: Dollars | None = None
    share_objects: bool | None = None
    fallback: ProviderName | None = None
    """A provider of the same family, called when this one is away, limits the rate, or fails."""


class TunnelConfig(Table):
    """Hosts that are no provider's. What goes there is passed on without interception."""

    hosts: Annotated[tuple[ProviderHost, ...], List, Field(min_length=1)]
    projects: Annotated[tuple[Text, ...], List, Field(min_length=1)]
    """Those that may; "*" is all."""
    port: Port = 443
    connect_to: Target | None = None
    upstream_proxy: UpstreamProxyConfig | Literal["off"] | None = None
    """As of a provider."""
    allow_private: bool = False


class CompanionConfig(Table):
    """What of an agent's companions passes. A choice alone (``"needed"``) is one for every project."""

    hosts: Choice
    projects: Annotated[tuple[Text, ...], List, Field(min_length=1)] = (EVERY_PROJECT,)
    """As in `TunnelConfig`."""


class ProjectConfig(Table):
    """A project: who pays, up to which limits."""

    tenant: Name
    limits: Texts = ()
    on_shortfall: Literal["reject", "clamp"] = "reject"
    models: Texts = ()
    unpriced: Literal["refuse", "dearest"] = "refuse"
    estimate: Literal["typical", "worst"] = "typical"
    login: Literal["strip", "pass"] = "strip"


class TenantConfig(Table):
    """A tenant's limits, which all of its projects share."""

    limits: Texts = ()


class JwtIssuerConfig(Table):
    """An issuer whose JWTs are identities."""

    issuer: IdentityIssuer
    """The ``iss`` of its tokens; a SPIFFE trust domain for JWT-SVIDs."""
    jwks_url: JwksAddress | None = None
    jwks_file: FilePath | None = None
    ca_file: FilePath | None = None
    """PEM of the roots trusted for jwks_url instead of the public ones."""
    token_file: FilePath | None = None
    """A bearer token for jwks_url, read again each time."""
    upstream_proxy: UpstreamProxyConfig | Literal["on"] | None = None
    """For jwks_url: ``on`` is that of [upstream]. None: it is dialled directly, as issuers inside of the network are."""
    audience: Annotated[tuple[Text, ...], OneOrList, Field(min_length=1)]
    algorithms: Annotated[tuple[JwtAlgorithm, ...], List, Field(min_length=1)] = ("RS256", "ES256")
    project: IdentityRule
    projects: dict[Text, Name] = Field(default_factory=dict)
    """The project by what ``project`` gives. Empty: that is its name."""
    tenant: TenantRule
    claims: dict[ClaimName, Annotated[tuple[Text, ...], OneOrList, Field(min_length=1)]] = Field(
        default_factory=dict
    )
    """Claims that have to have one of these values, each by its name or a JSON Pointer. A boolean is "true" or "false"."""
    token_type: Text | None = None
    """The ``typ`` that its tokens have to have. None: none, or JWT."""
    limits: Texts = ()
    """Of each subject."""


class MtlsConfig(Table):
    """Client certificates on the listeners that speak TLS themselves."""

    ca_file: FilePath
    projects: Annotated[dict[Text, Name], Field(min_length=1)]
    """The project by a name in the certificate: a DNS name or a URI, such as a SPIFFE ID."""
    tenant: Name
    limits: Texts = ()


class SourceNetworkConfig(Table):
    """Clients of one network are one identity."""

    source: SourceRange
    project: Name
    tenant: Name
    limits: Texts = ()


class IdentityConfig(Table):
    """Identities beside gate tokens."""

    jwt: Annotated[tuple[JwtIssuerConfig, ...], List] = ()
    mtls: MtlsConfig | None = None
    network: Annotated[tuple[SourceNetworkConfig, ...], List] = ()


class LimitsConfig(Table):
    """Bounds of the gateway itself, the same for all; what a project may spend is the project's own ``limits``."""

    max_body_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 32 << 20
    max_header_bytes: Annotated[int, Field(ge=4096, le=1 << 20)] = 64 << 10
    request_timeout_s: Seconds = 30.0
    """For the whole head, and for a silence inside a body."""
    max_bodies_mb: Annotated[int, Field(ge=1, le=1 << 20)] = 256
    """MiB of all requests' bodies that are kept at one time."""
    max_upload_bytes: Annotated[int, Field(ge=1024, le=1 << 40)] = 512 << 20
    """Of a file that is sent to a provider as it comes."""
    upload_spool_mb: Annotated[int, Field(ge=0, le=1 << 24)] = 4096
    """MiB of the disk that such files take at one time. 0: none is written to the disk."""
    max_connections: Annotated[int, Field(ge=1, le=1_000_000)] = 4096
    max_tunnels: Annotated[int, Field(ge=1, le=100_000)] = 256
    """That are passed on at one time; a token has a quarter of it."""
    tunnel_idle_s: Seconds = 300.0
    tunnel_s: Seconds = 3600.0
    """The longest that one may be open."""
    max_connections_per_source: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Of one address. None: three quarters of ``max_connections``."""
    max_connections_per_token: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """That a token has called over, open WebSockets among them. None: half of ``max_connections``."""
    max_connections_per_tenant: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """The same of all tokens of a tenant. None: three quarters of ``max_connections``."""
    max_calls: Annotated[int, Field(ge=1, le=1_000_000)] = 8192
    """Calls under way at one time, open streams among them."""
    max_calls_per_source: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """None: three quarters of ``max_calls``."""
    max_calls_per_token: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """None: half of ``max_calls``."""
    min_body_bytes_s: Annotated[int, Field(ge=0, le=1 << 30)] = 1024
    """A body that comes more slowly is given up once ``request_timeout_s`` was waited for it; 0 is no bound."""
    stalled_timeout_s: Seconds | None = None
    """How long a client may read nothing of an answer. None: ten times ``request_timeout_s``."""
    idle_connection_s: Seconds | None = None
    """How long a connection of a client is kept without a request. None: the same."""
    call_timeout_s: Seconds = 21_600.0
    """A whole call, from its head to the last byte of its answer."""
    websocket_message_bytes: Annotated[int, Field(ge=1024, le=1 << 28)] = 16 << 20
    """Of one message in either direction. No more than ``max_body_bytes``."""
    websocket_idle_s: Seconds = 600.0
    """How long no message may come in either direction."""
    websocket_max_s: Seconds = 7200.0
    """For a whole session."""
    drain_s: SecondsOrZero = 30.0
    abandoned_read_s: SecondsOrZero = 2.0

    @property
    def max_bodies_bytes(self) -> int:
        """At least the largest body that is allowed."""
        return max(self.max_bodies_mb << 20, self.max_body_bytes)


class AddonsConfig(Table):
    """mitmproxy addons of the operator's own. They run in the gateway's process, on every call."""

    load: Annotated[tuple[Addon, ...], List] = ()
    """In this order."""
    timeout_s: Seconds = 10.0
    """For each hook that is awaited."""
    options: dict[Text, str | int | float | bool | list[str]] = Field(default_factory=dict)
    """Values of options that the addons have added (``loader.add_option``)."""


class HeadersConfig(Table):
    """Names of headers that workloads send."""

    project: HeaderName = "X-Coreason-Project-ID"
    trace: HeaderName = "X-Coreason-Trace-ID"
    session: HeaderName | None = None
    """Counts before the headers in which coding agents name their session."""
