"""Rules of tollhouse.toml that need two keys at once, and what this version does not enforce yet. Those of providers and
prices stand in `provider_rules` and `price_rules`.

Each rule yields ``(key, message)``. It gets only tables that are sound by themselves, so that all
tables are judged in one go. `limit_rules` and `model_rules` get lists of the file itself, so that
another problem of the table does not hide theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from tollhouse.config.addresses import EVERY_ADDRESS, Address
from tollhouse.config.alert_tables import AlertConfig
from tollhouse.config.entries import no_provider
from tollhouse.config.models import (
    AddonsConfig,
    CaConfig,
    HeadersConfig,
    IdentityConfig,
    LimitsConfig,
    ListenConfig,
    ProviderConfig,
    TunnelConfig,
    UpstreamConfig,
    UpstreamProxyConfig,
)
from tollhouse.config.store_tables import JwtAuth, RedisConfig, VaultConfig
from tollhouse.config.text import Broken, dotted
from tollhouse.providers import Catalog

_NOT_EMBEDDED: Final = (
    "is read from Vault, and the embedded store has keys of providers alone; "
    "name a Vault in [vault] address, or remove it"
)
_EVERY_ADDRESS: Final = (EVERY_ADDRESS, "0.0.0.0", "::")  # noqa: S104
_LISTENERS: Final = ("proxy", "base_url", "transparent", "admin")


def listen_rules(listen: ListenConfig) -> Broken:
    """There is a way in, none is open to other machines by mistake, and no two have one port."""
    open_ones = [
        (name, address) for name in _LISTENERS if (address := getattr(listen, name)) is not None
    ]
    if not any(name != "admin" for name, _ in open_ones):
        yield (
            "listen",
            "has no way in: proxy, base_url and transparent are all off; open at least one of them",
        )
    for name, address in open_ones:
        if name in ("proxy", "base_url") and not (
            address.is_loopback or listen.tls or listen.unsafe_plaintext_listen
        ):
            yield (
                f"listen.{name}",
                f"{address} can be reached from other machines, and gate tokens would cross the network readable; give "
                "listen.tls, listen on 127.0.0.1, or set unsafe_plaintext_listen = true if the network is trusted",
            )
    seen: dict[int, list[tuple[str, str]]] = {}
    for name, address in open_ones:
        for other, host in seen.get(address.port, []) if address.port else []:
            if host == address.host or host in _EVERY_ADDRESS or address.host in _EVERY_ADDRESS:
                yield (
                    f"listen.{name}",
                    f"{address} is the port of listen.{other} as well; give each listener its own",
                )
        seen.setdefault(address.port, []).append((name, address.host))


def redis_rules(redis: RedisConfig) -> Broken:
    """What can never have an effect is refused."""
    if not redis.unsafe_fail_open:
        return
    if redis.embedded:
        yield (
            "redis.unsafe_fail_open",
            "has no effect with an embedded store, which is never away; remove it",
        )
    if redis.url.startswith("redis+cluster:"):
        yield (
            "redis.unsafe_fail_open",
            "is not for a Cluster: a part of it may be away while the rest answers, and then nobody can say for whom the "
            "limits hold; remove it, or use redis://, rediss://, unix:// or redis+sentinel://",
        )


def bound_rules(limits: LimitsConfig) -> Broken:
    """Memory for bodies has room for the largest one."""
    if (
        "max_bodies_mb" in limits.model_fields_set
        and limits.max_bodies_mb << 20 < limits.max_body_bytes
    ):
        yield (
            "limits.max_bodies_mb",
            f"is less than one body of limits.max_body_bytes ({limits.max_body_bytes}), which could never be read; raise it, "
            "or lower max_body_bytes",
        )


def vault_rules(vault: VaultConfig) -> Broken:
    """There is a login, and the token and the keys cross no network readable."""
    if vault.embedded:
        return
    if vault.auth is None:
        yield (
            "vault.auth",
            'is missing, so there is no way to log in; add auth = { method = "approle", role_id_file = "role-id", '
            'secret_id_file = "secret-id" }, or use address = "embedded"',
        )
    if (
        isinstance(vault.auth, JwtAuth)
        and vault.auth.method == "jwt"
        and vault.auth.jwt_file is None
    ):
        yield (
            "vault.auth.jwt_file",
            "is missing, and only a Kubernetes pod has a token at a place of its own; name its file",
        )
    if vault.versions and vault.kv_version == 1:
        yield (
            "vault.versions",
            "has no effect with kv_version = 1, which keeps no versions; remove it",
        )
    parts = urlsplit(vault.address)
    if vault.proxy is not None and parts.scheme == "http":
        yield (
            "vault.proxy",
            "opens tunnels to an https:// address alone, else it would see the Vault token; use https:// in address, or remove it",
        )
    if (
        vault.proxy is not None
        and vault.proxy.ca_file is not None
        and vault.proxy.url.startswith("http:")
    ):
        yield "vault.proxy.ca_file", "has no effect with an http:// proxy; remove it"
    if (
        parts.scheme == "http"
        and not _loopback(parts.hostname or "")
        and not vault.unsafe_plaintext
    ):
        yield (
            "vault.address",
            "speaks plain http, and the Vault token and every key would cross the network readable; use https:// "
            "(with ca_file for a private CA), or set unsafe_plaintext = true under [vault] if the network is trusted",
        )


def secret_rules(
    vault: VaultConfig,
    upstream: UpstreamConfig,
    providers: Mapping[str, ProviderConfig],
    tunnels: Sequence[TunnelConfig],
    identity: IdentityConfig,
    alerts: Sequence[AlertConfig] = (),
) -> Broken:
    """What is read from the store beside keys. The embedded one has nothing else."""
    proxies: list[tuple[tuple[str | int, ...], UpstreamProxyConfig | None]] = [
        (("upstream", "proxy"), upstream.proxy)
    ]
    for index, tunnel in enumerate(tunnels):
        if isinstance(tunnel.upstream_proxy, UpstreamProxyConfig):
            proxies.append((("tunnels", index, "upstream_proxy"), tunnel.upstream_proxy))
    for name, entry in providers.items():
        if isinstance(entry.upstream_proxy, UpstreamProxyConfig):
            proxies.append((("providers", name, "upstream_proxy"), entry.upstream_proxy))
        if entry.client_certificate is not None and entry.unsafe_plaintext:
            yield (
                dotted(("providers", name, "client_certificate")),
                "has no effect with unsafe_plaintext = true; remove one of the two",
            )
        if entry.client_certificate is not None and vault.embedded:
            yield dotted(("providers", name, "client_certificate")), _NOT_EMBEDDED
    for index, alert in enumerate(alerts):
        if isinstance(alert.upstream_proxy, UpstreamProxyConfig):
            proxies.append((("alerts", index, "upstream_proxy"), alert.upstream_proxy))
        if alert.secret is not None and vault.embedded:
            yield dotted(("alerts", index, "secret")), _NOT_EMBEDDED
    for index, issuer in enumerate(identity.jwt):
        here = ("identity", "jwt", index, "upstream_proxy")
        if isinstance(issuer.upstream_proxy, UpstreamProxyConfig):
            proxies.append((here, issuer.upstream_proxy))
        elif issuer.upstream_proxy == "on" and upstream.proxy is None:
            yield dotted(here), "wants upstream.proxy, and there is none; give it, or remove this"
    for place, proxy in proxies:
        if proxy is None:
            continue
        if proxy.secret is not None and vault.embedded:
            yield dotted((*place, "secret")), _NOT_EMBEDDED
        if proxy.ca_file is not None and proxy.url.startswith("http:"):
            yield dotted((*place, "ca_file")), "has no effect with an http:// proxy; remove it"


def _loopback(host: str) -> bool:
    return Address(host, 0).is_loopback


def ca_rules(ca: CaConfig) -> Broken:
    """A certificate and its key are named together."""
    if (ca.cert_file is None) is not (ca.key_file is None):
        missing = "key_file" if ca.key_file is None else "cert_file"
        yield (
            f"ca.{missing}",
            "is missing, and a CA is a certificate and its key together; name both files or neither",
        )


def addon_rules(addons: AddonsConfig) -> Broken:
    """No addon is named twice, and no option without one."""
    for index, place in enumerate(addons.load):
        if place in addons.load[:index]:
            yield (
                dotted(("addons", "load", index)),
                f"is {place} a second time, and it would be asked twice; remove it",
            )
    if addons.options and not addons.load:
        yield "addons.options", "has no effect without addons.load; remove it, or name the addons"


def header_rules(headers: HeadersConfig) -> Broken:
    """One header means one thing."""
    if headers.project.lower() == headers.trace.lower():
        yield (
            "headers.trace",
            "is the same header as headers.project, so one value would mean two things; rename one",
        )
    session = (headers.session or "").lower()
    for other, name in (("project", headers.project), ("trace", headers.trace)):
        if session == name.lower():
            yield (
                "headers.session",
                f"is the same header as headers.{other}, so one value would mean two things; rename one",
            )


def identity_rules(identity: IdentityConfig, listen: ListenConfig) -> Broken:
    """An issuer has one entry and one place of its keys; what no listener would ask for is refused."""
    # Imported when it is used: the configuration is a leaf of the road's folders.
    from tollhouse.identities.templates import names_nothing

    names: set[str] = set()
    for index, entry in enumerate(identity.jwt):
        here = ("identity", "jwt", index)
        if (entry.jwks_url is None) is (entry.jwks_file is None):
            yield (
                dotted((*here, "jwks_url")),
                "has to be there, or jwks_file, and not both: the keys of an issuer have one place",
            )
        for key in ("ca_file", "token_file", "upstream_proxy"):
            if getattr(entry, key) is not None and entry.jwks_url is None:
                yield dotted((*here, key)), "has no effect without jwks_url; remove it"
        looked_up = {"project": bool(entry.projects), "tenant": False}
        for key in ("project", "tenant"):
            if not looked_up[key] and names_nothing(getattr(entry, key), key):
                yield (
                    dotted((*here, key)),
                    f"has a character around its claims that no {key} can have in its name, and each token would be refused; "
                    "letters, digits and ._@- can stand there",
                )
        if entry.issuer in names:
            yield (
                dotted((*here, "issuer")),
                f"{entry.issuer} is there twice, and one token would have two judges; give each issuer one entry, and "
                "issuers of one name (clusters) names of their own",
            )
        names.add(entry.issuer)
    if identity.mtls is not None and listen.tls is None:
        yield (
            "identity.mtls",
            "has no effect without listen.tls: no listener would ask for a certificate; give listen.tls, or remove it",
        )
    networks = [entry.source for entry in identity.network]
    for index, source in enumerate(networks):
        if source in networks[:index]:
            yield (
                dotted(("identity", "network", index, "source")),
                f"{source} is there twice; give each network one project",
            )
    limited = {
        **{f"jwt[{index}]": entry.limits for index, entry in enumerate(identity.jwt)},
        **({"mtls": identity.mtls.limits} if identity.mtls is not None else {}),
        **{f"network[{index}]": entry.limits for index, entry in enumerate(identity.network)},
    }
    for key, message in limit_rules("identity", limited):
        yield key.replace('"', ""), message


def limit_rules(table: str, entries: Mapping[str, Sequence[object]]) -> Broken:
    """``entries`` are the limits by name. What is no text, or an empty one, the table's own rules refuse."""
    if not any(entries.values()):
        return
    # Imported when it is used: the configuration is a leaf of the road's folders.
    from tollhouse.ledger.limits import SESSION, LimitError, parse_limit

    for name, limits in entries.items():
        seen: dict[tuple[str, str], int] = {}
        for index, text in enumerate(limits):
            if not isinstance(text, str) or not text.strip():
                continue
            key = dotted((table, name, "limits", index))
            try:
                limit = parse_limit(text)
            except LimitError as error:
                yield key, str(error)
                continue
            if table == "tenants" and limit.window == SESSION:
                yield key, f"{text!r} is by session, which is for projects and tokens; remove it"
            first = seen.setdefault((limit.unit, limit.window), index)
            if first != index:
                yield (
                    key,
                    f"{text!r} limits the same as {limits[first]!r}, and only one can hold; remove one",
                )


def model_rules(projects: Mapping[str, Sequence[object]], catalog: Catalog | None) -> Broken:
    """``projects`` are the patterns by name, as in `limit_rules`; ``catalog`` is None while the providers themselves are
    not sound."""
    # Imported when it is used: the configuration is a leaf of the road's folders.
    from tollhouse.admit.models import check_pattern

    for name, models in projects.items():
        for index, text in enumerate(models):
            if not isinstance(text, str) or not text.strip():
                continue
            key = dotted(("projects", name, "models", index))
            try:
                provider, slash, _ = check_pattern(text).partition("/")
            except ValueError as error:
                yield key, str(error)
                continue
            if slash and catalog is not None and catalog.by_name(provider) is None:
                yield (
                    key,
                    f"{no_provider(provider, catalog)} (a model's own slash stands behind its provider's name)",
                )


_NOT_YET: Final[tuple[tuple[str, str, Callable[[Any], object], str], ...]] = (
    (
        "vault",
        "vault.versions",
        lambda vault: vault.embedded and vault.versions,
        "remove it: the embedded store keeps the latest version only",
    ),
)
"""What the file may spell and this version does not do: the table, the key, whether it is asked for, what to do instead."""


def not_yet(tables: Mapping[str, Any]) -> Broken:
    """What `_NOT_YET` names and ``tables`` ask for."""
    for table, key, asked, todo in _NOT_YET:
        if table in tables and asked(tables[table]):
            yield (
                key,
                f"is not enforced yet by this version, and nothing is accepted in silence; {todo}",
            )
