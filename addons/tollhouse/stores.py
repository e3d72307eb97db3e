"""Opens what a configuration names: the CA, the store of keys, the certificate of the listeners."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from tollhouse.accounts.subjects import Subjects
from tollhouse.admit.identifying import Platform
from tollhouse.call import ListenerKind
from tollhouse.config.load import (
    AppRoleAuth,
    Config,
    JwtAuth,
    TlsFiles,
    TokenAuth,
    catalog,
    issuer_proxy,
    token_proxy,
)
from tollhouse.credential.beside_keys import SecretsBesideKeys
from tollhouse.credential.cache import KeyCache
from tollhouse.credential.cloud.google import AccessTokens
from tollhouse.credential.cloud.google_endpoint import TokenEndpoint
from tollhouse.credential.cloud.token_host import TokenHost
from tollhouse.credential.federation.federated_keys import (
    CertificateShown,
    Federated,
    KeysAndFederation,
    place_of,
)
from tollhouse.credential.federation.subject import SubjectTokens
from tollhouse.credential.federation.subject_token import SubjectToken, subject_of_certificate
from tollhouse.credential.lease import Lease, Reader
from tollhouse.credential.vault.leased_keys import LeasedKeys
from tollhouse.dispatch.pool import PoolBounds
from tollhouse.dispatch.proxied import ProxyTunnels
from tollhouse.dispatch.sign import check_lease
from tollhouse.dispatch.upstream_tls import with_certificate
from tollhouse.ledger.ledger import Ledger
from tollhouse.providers import Catalog, Federation
from tollhouse.trust.ca import CertificateAuthority, some
from tollhouse.trust.leaf import HTTP, server_context

if TYPE_CHECKING:
    from tollhouse.config.models import JwtIssuerConfig
    from tollhouse.config.store_tables import VaultAuth
    from tollhouse.credential.vault.auth import Auth, Unwrapped
    from tollhouse.credential.vault.dynamic_secrets import DynamicSecrets
    from tollhouse.credential.vault.reader import VaultReader
    from tollhouse.identities.jwt_judge import JwtJudge
    from tollhouse.identities.key_sets import IssuerKeys

log = logging.getLogger(__name__)

_ONE_WAIT: Final = 0.6
"""The part of `[vault] timeout_s` that one wait for Vault may take: behind it there is another try."""
EMBEDDED_REFRESH_S: Final = 5.0
"""How often the embedded store is read. It is a file, so that costs little, and a new key of
`tollhouse key set` is seen soon."""


def open_ca(config: Config, catalog: Catalog) -> CertificateAuthority:
    """The configured CA, or that of the state directory, which is made if there is none. Raises
    `CaError`. Raises `ValueError` when it does not cover a host that tollhouse.toml names. An older
    version may have made the CA without a built-in host: the log says so, calls to that host are
    refused, and all others go on."""
    hosts = catalog.hosts
    if config.ca.cert_file is not None and config.ca.key_file is not None:
        ca = CertificateAuthority.load(config.ca.cert_file, config.ca.key_file)
    else:
        made = config.state.directory / "ca.pem"
        new = not made.exists()
        ca = CertificateAuthority.load_or_create(config.state.directory, hosts)
        if new:
            log.warning("a new CA was made: give %s to the workloads, which trust no other", made)
    missing = ca.uncovered(hosts)
    configured = {host for entry in config.providers.values() for host in entry.hosts or ()}
    todo = "Make a new one (`tollhouse ca renew`) and give it to the workloads."
    if added := [host for host in missing if host in configured]:
        raise ValueError(
            f"the CA does not cover {some(added)}: a provider host was added since it was made. {todo}"
        )
    if missing:
        log.warning(
            "the CA was made before %s was built in, and calls there are refused (tls_refused). %s",
            some(missing),
            todo,
        )
    return ca


def open_reader(
    config: Config,
    clock: Callable[[], float] = time.monotonic,
    unwrapped: Unwrapped | None = None,
) -> Reader:
    """The store of keys, not logged in yet. The login to Vault is renewed by ``clock``, in monotonic seconds. ``unwrapped`` is
    what another process of this gateway has unwrapped. Raises `ValueError` for what `config.rules` would have refused."""
    vault = config.vault
    if vault.embedded:
        from tollhouse.credential.vault.embedded_vault import EmbeddedVault

        return EmbeddedVault(config.state.directory)
    from tollhouse.credential.vault.connection import VaultProxy
    from tollhouse.credential.vault.reader import VaultReader

    return VaultReader(
        vault.address,
        _vault_auth(vault.auth, unwrapped),
        mount=vault.mount,
        kv_version=vault.kv_version,
        versions=vault.versions,
        namespace=vault.namespace or None,
        ca_file=vault.ca_file,
        clock=clock,
        timeout_s=vault.timeout_s * _ONE_WAIT,
        proxy=None
        if vault.proxy is None
        else VaultProxy(vault.proxy.url, vault.proxy.ca_file, vault.proxy.login_file),
    )


def open_issuer(config: Config) -> VaultReader | None:
    """The same, of a Vault that signs tokens. None for the embedded store, which signs none."""
    reader = open_reader(config)
    return None if config.vault.embedded else cast("VaultReader", reader)


def _vault_auth(auth: VaultAuth | None, unwrapped: Unwrapped | None) -> Auth:
    from tollhouse.credential.vault.auth import SERVICE_ACCOUNT, AppRole, JwtLogin, TokenFile

    if isinstance(auth, AppRoleAuth):
        return AppRole(auth.role_id_file, auth.secret_id_file, auth.mount, auth.wrapped, unwrapped)
    if isinstance(auth, TokenAuth):
        return TokenFile(auth.token_file)
    if isinstance(auth, JwtAuth):
        file = auth.jwt_file or (SERVICE_ACCOUNT if auth.method == "kubernetes" else None)
        if file is not None:
            return JwtLogin(auth.method, auth.role, file, auth.mount or auth.method)
    raise ValueError("[vault] auth: there is no way to log in")


def open_keys(
    config: Config,
    reader: Reader | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> KeyCache:
    """The cache over the store of keys: over ``reader``, or over `open_reader` of the configuration. Providers with a federation
    have what is exchanged in it, which ends by ``clock``."""
    from tollhouse.credential.vault.embedded_vault import EmbeddedVault

    vault = config.vault
    refresh_s = min(vault.refresh_s, EMBEDDED_REFRESH_S) if vault.embedded else vault.refresh_s
    providers = catalog(config)

    def judge(lease: Lease, name: str) -> None:
        if (provider := providers.by_name(name)) is not None:
            check_lease(lease, provider)

    federations = {
        entry.name: entry.federation for entry in providers.providers if entry.federation
    }
    roles = {entry.name: entry.vault_role for entry in providers.providers if entry.vault_role}
    kind = KeysAndFederation if federations or roles else KeyCache
    reader = reader or open_reader(config)
    keys = kind(
        reader,
        vault.paths,
        vault.field,
        refresh_s,
        vault.stale_for_s,
        place=vault.mount,
        bound_s=vault.timeout_s,
        account_headers=providers.account_headers,
        judge=judge,
    )
    if isinstance(keys, KeysAndFederation):
        issuer = None if isinstance(reader, EmbeddedVault) else cast("VaultReader", reader)
        engines = _dynamic_secrets(issuer) if roles else None
        leased = {
            name: LeasedKeys(role, engines, place_of(name, leased=True), vault.timeout_s)
            for name, role in roles.items()
        }
        keys.federated = Federated(
            federations, SubjectTokens(issuer, vault.timeout_s), leased=leased, clock=clock
        )
    return keys


def _dynamic_secrets(reader: VaultReader | None) -> DynamicSecrets | None:
    from tollhouse.credential.vault.dynamic_secrets import DynamicSecrets

    return None if reader is None else DynamicSecrets(reader)


def open_exchanges(
    config: Config, keys: KeyCache, proxies: ProxyTunnels, secrets: SecretsBesideKeys
) -> None:
    """Has exchanges go the way of their provider's calls and show its certificate, and the question to GitHub go that of other
    access tokens."""
    if not isinstance(keys, KeysAndFederation):
        return
    keys.federated.connectors = {
        entry.name: proxies.connector(entry.upstream_proxy, entry.federation.connect_to)
        for entry in catalog(config).providers
        if entry.federation is not None and entry.upstream_proxy is not None
    }
    keys.federated.certificates = {
        entry.name: _certificate(secrets, entry.federation)
        for entry in catalog(config).providers
        if entry.federation is not None and entry.federation.source == "certificate"
    }
    keys.federated.subjects.github_host = github_host(config, proxies)


def _certificate(secrets: SecretsBesideKeys, of: Federation) -> CertificateShown:
    async def certificate() -> tuple[ssl.SSLContext, SubjectToken]:
        cert, key = await secrets.get(of.place, "cert", "key")
        tls = await asyncio.to_thread(with_certificate, of.ca_file, of.place, cert, key)
        return tls, subject_of_certificate(cert.reveal(), of.place)

    return certificate


def github_host(config: Config, proxies: ProxyTunnels) -> Callable[[str], TokenHost]:
    proxy = token_proxy(config)
    connector = None if proxy is None else proxies.connector(proxy)
    return lambda url: TokenHost(url, connector=connector)


@contextlib.asynccontextmanager
async def ways_once(config: Config) -> AsyncIterator[tuple[ProxyTunnels, SecretsBesideKeys]]:
    """The ways through proxies, and what is in the store beside keys, with a login for this alone, if one is needed."""
    keys = open_keys(config)
    secrets = open_secrets(config, keys)
    proxies = ProxyTunnels(secrets)
    try:
        yield proxies, secrets
    finally:
        await proxies.close()
        await secrets.close()
        await keys.close()


def open_secrets(config: Config, keys: KeyCache) -> SecretsBesideKeys:
    """What is read from the store beside keys."""
    return SecretsBesideKeys(keys.raw, config.vault.refresh_s, config.vault.stale_for_s)


def open_platform(
    config: Config,
    ledger: Ledger,
    proxies: ProxyTunnels,
    wall_clock: Callable[[], float] = time.time,
) -> tuple[Platform | None, list[IssuerKeys]]:
    """The identities beside gate tokens, and the keys of their issuers, which are not read yet. None where the
    configuration has none. Identities end by ``wall_clock``."""
    from tollhouse.identities.networks import Networks, SourceNetwork

    wanted = config.identity
    if not (wanted.jwt or wanted.mtls or wanted.network):
        return None, []
    judge, keys = _jwt_judge(config, proxies, wall_clock) if wanted.jwt else (None, [])
    certificates = None
    if wanted.mtls is not None:
        from tollhouse.identities.certificates import Certificates

        mtls = wanted.mtls
        certificates = Certificates(mtls.projects, mtls.tenant, mtls.limits, wall_clock)
    networks = [
        SourceNetwork(one.source, one.project, one.tenant, one.limits) for one in wanted.network
    ]
    found = Platform(
        Subjects(ledger), judge, certificates, Networks(networks) if networks else None
    )
    return found, keys


def _jwt_judge(
    config: Config, proxies: ProxyTunnels, wall_clock: Callable[[], float]
) -> tuple[JwtJudge, list[IssuerKeys]]:
    # Not every gateway needs its library.
    from tollhouse.identities.jwt_judge import Issuer, JwtJudge
    from tollhouse.identities.templates import ClaimPath, ProjectRule

    issuers = [
        Issuer(
            entry.issuer,
            entry.audience,
            entry.algorithms,
            ProjectRule(entry.project, entry.projects),
            entry.tenant,
            open_issuer_keys(config, entry, proxies),
            entry.token_type,
            entry.limits,
            {ClaimPath(name): values for name, values in entry.claims.items()},
        )
        for entry in config.identity.jwt
    ]
    return JwtJudge(issuers, wall_clock), [issuer.keys for issuer in issuers]


def open_issuer_keys(config: Config, entry: JwtIssuerConfig, proxies: ProxyTunnels) -> IssuerKeys:
    """The keys of one issuer, not read yet."""
    from tollhouse.identities.key_sets import IssuerKeys, JwksFile, JwksUrl

    source: JwksUrl | JwksFile
    if entry.jwks_url is not None:
        proxy = issuer_proxy(config, entry)
        connector = None if proxy is None else proxies.connector(proxy)
        source = JwksUrl(entry.jwks_url, entry.ca_file, entry.token_file, connector)
    else:
        assert entry.jwks_file is not None
        source = JwksFile(entry.jwks_file)
    return IssuerKeys(source, entry.algorithms)


def pool_bounds(config: Config) -> PoolBounds:
    """The bounds of the connections to each provider."""
    upstream = config.upstream
    return PoolBounds(upstream.connections_per_host, upstream.idle_s, upstream.age_s)


def open_tokens(config: Config, proxies: ProxyTunnels) -> AccessTokens:
    """The access tokens of Google service accounts."""
    proxy = token_proxy(config)
    return AccessTokens(
        TokenEndpoint(connector=None if proxy is None else proxies.connector(proxy))
    )


def asking_context(clients_ca: Path, protocols: Sequence[str] = ()) -> ssl.SSLContext:
    """A TLS context that asks for a client certificate. A client may have none; one that ``clients_ca`` (PEM) has not signed
    ends the handshake. Raises `ValueError` for a file that can't be used."""
    context = server_context(protocols)
    context.verify_mode = ssl.CERT_OPTIONAL
    try:
        context.load_verify_locations(cafile=clients_ca)
    except (ssl.SSLError, OSError):
        raise ValueError(
            f"[identity.mtls] ca_file: {clients_ca} is no PEM file of CA certificates; correct the name."
        ) from None
    return context


def listener_context(
    files: TlsFiles, kind: ListenerKind, clients_ca: Path | None = None
) -> ssl.SSLContext:
    """The TLS context of a listener of ours. CONNECT is spoken over HTTP/1.1 only. Raises `ValueError` for files that can't
    be used."""
    protocols = ("http/1.1",) if kind == "proxy" else HTTP
    # A handshake verifies with the context that its name has chosen.
    context = asking_context(clients_ca, protocols) if clients_ca else server_context(protocols)
    _present(context, files, "[listen] tls")
    return context


def admin_tls(config: Config) -> ssl.SSLContext | None:
    """The TLS context of the admin listener, if it has one. Raises `ValueError` as `listener_context`."""
    if config.admin.tls is None:
        return None
    context = server_context(("http/1.1",))
    _present(context, config.admin.tls, "[admin] tls")
    return context


def _present(context: ssl.SSLContext, files: TlsFiles, where: str) -> None:
    try:
        # A key with a password would be asked for at the terminal.
        context.load_cert_chain(files.cert_file, files.key_file, password=lambda: "")
    except (ssl.SSLError, OSError, ValueError):
        raise ValueError(
            f"{where}: {files.cert_file} and {files.key_file} are not a PEM certificate chain and its key; correct the names."
        ) from None
