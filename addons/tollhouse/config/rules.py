"""Rules of tollhouse.toml that need two keys at once, and what this version does not enforce yet.

Each rule yields ``(key, message)``. It gets only tables that are sound by themselves, so that all
tables are judged in one go. `limit_rules` and `model_rules` get lists of the file itself, so that
another problem of the table does not hide theirs.

Past 400 lines because the rules of all tables are read together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from tollhouse.config.exchanges import (
    federation_of,
    federation_rules,
    vault_role_of,
    vault_role_rules,
)
from tollhouse.config.models import (
    AddonsConfig,
    CaConfig,
    HeadersConfig,
    IdentityConfig,
    JwtAuth,
    LimitsConfig,
    ListenConfig,
    PriceAboveConfig,
    PriceConfig,
    PriceTierConfig,
    ProviderConfig,
    RedisConfig,
    TunnelConfig,
    UpstreamConfig,
    UpstreamProxyConfig,
    VaultConfig,
    VaultRoleConfig,
)
from tollhouse.config.openings import Openings, opening_rules
from tollhouse.config.text import dotted, unknown_key
from tollhouse.config.values import EVERY_ADDRESS, Address
from tollhouse.families import DEFAULT
from tollhouse.families.opened import opened
from tollhouse.providers import BUILT_IN, Catalog, Provider, UpstreamProxy

Found = Iterator[tuple[str, str]]

_BUILT_IN: Final = {provider.name: provider for provider in BUILT_IN}
_NOT_EMBEDDED: Final = (
    "is read from Vault, and the embedded store has keys of providers alone; "
    "name a Vault in [vault] address, or remove it"
)
_EVERY_ADDRESS: Final = (EVERY_ADDRESS, "0.0.0.0", "::")  # noqa: S104
_LISTENERS: Final = ("proxy", "base_url", "transparent", "admin")


def merged(
    providers: Mapping[str, ProviderConfig], proxy: UpstreamProxyConfig | None = None
) -> Catalog:
    """The built-in providers with what the configuration changes, then the configuration's own, in the file's order.
    ``proxy`` is that of all whose entry names no other."""
    entries = dict(_BUILT_IN)
    for name, changes in providers.items():
        entries[name] = _provider(name, changes)
    for name, entry in entries.items():
        own = providers[name].upstream_proxy if name in providers else None
        entries[name] = dataclasses.replace(entry, upstream_proxy=way(own or proxy))
    return Catalog(tuple(entries.values()))


def way(given: UpstreamProxyConfig | Literal["off"] | None) -> UpstreamProxy | None:
    """The proxy of a connection; None: it is dialled directly."""
    if given is None or given == "off":
        return None
    parts = urlsplit(given.url)
    assert parts.hostname is not None
    assert parts.port is not None
    ca_file = None if given.ca_file is None else str(given.ca_file)
    return UpstreamProxy(parts.hostname, parts.port, parts.scheme == "https", ca_file, given.secret)


def _provider(name: str, changes: ProviderConfig) -> Provider:
    given: dict[str, Any] = {key: getattr(changes, key) for key in changes.model_fields_set}
    given = {key: value for key, value in given.items() if value is not None}
    given.pop("upstream_proxy", None)
    given.pop("credential", None)
    if changes.connect_to is not None:
        given["connect_to"] = (changes.connect_to.host, changes.connect_to.port)
    if changes.ca_file is not None:
        given["ca_file"] = str(changes.ca_file)
    for key, field in (("unknown_hold_usd", "unknown_hold"), ("job_hold_usd", "job_hold")):
        if key in given:
            given[field] = given.pop(key)
    base = _base_of(name, changes)
    if isinstance(changes.credential, VaultRoleConfig):
        given["vault_role"] = vault_role_of(changes.credential)
    elif changes.credential is not None and base.exchange is not None:
        given["federation"] = federation_of(base.exchange, changes.credential)
    if name not in _BUILT_IN:
        prices_from = "" if base.family.spoken_by_others else base.price_id
        dialect = dataclasses.replace(base.dialect, own_rules=False)
        given.update(
            name=name, key_variables=(), login=None, prices_from=prices_from, dialect=dialect
        )
        if not prices_from:
            given["output_limits"] = ()
        given.setdefault("hosts", ())
    # The error format is the base's: of Azure that is OpenAI's.
    family = opened(base.family, changes.allow, changes.unmetered)
    return dataclasses.replace(base, **{**given, "family": family})


def _base_of(name: str, changes: ProviderConfig) -> Provider:
    """The built-in entry that ``changes`` are changes of."""
    family = changes.family or DEFAULT.name
    return (
        _BUILT_IN.get(name)
        or _BUILT_IN.get(family)
        or next(entry for entry in BUILT_IN if entry.family.name == family)
    )


def listen_rules(listen: ListenConfig) -> Found:
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


def redis_rules(redis: RedisConfig) -> Found:
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


def bound_rules(limits: LimitsConfig) -> Found:
    if (
        "max_bodies_mb" in limits.model_fields_set
        and limits.max_bodies_mb << 20 < limits.max_body_bytes
    ):
        yield (
            "limits.max_bodies_mb",
            f"is less than one body of limits.max_body_bytes ({limits.max_body_bytes}), which could never be read; raise it, "
            "or lower max_body_bytes",
        )


def vault_rules(vault: VaultConfig) -> Found:
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
) -> Found:
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


def ca_rules(ca: CaConfig) -> Found:
    if (ca.cert_file is None) is not (ca.key_file is None):
        missing = "key_file" if ca.key_file is None else "cert_file"
        yield (
            f"ca.{missing}",
            "is missing, and a CA is a certificate and its key together; name both files or neither",
        )


def provider_rules(providers: Mapping[str, ProviderConfig]) -> Found:
    for name, entry in providers.items():
        here = ("providers", name)
        built_in = _BUILT_IN.get(name)
        if built_in is None:
            known = ", ".join(sorted(_BUILT_IN))
            if entry.family is None:
                why = f"is missing: {name!r} is not one of the built-in providers ({known}); say whose API it speaks"
                yield dotted((*here, "family")), why
            if entry.hosts is None:
                yield (
                    dotted((*here, "hosts")),
                    "is missing, and no request could be for this provider; name its hosts",
                )
        elif not built_in.hosts and entry.hosts is None:
            yield (
                dotted((*here, "hosts")),
                f"is missing: each resource of {name} has a host and a key of its own, and only you know which are yours; "
                f'write hosts = ["{built_in.host_example}"], and give others entries of their own with family = "{name}"',
            )
        elif entry.family not in (None, built_in.family.name, name):
            why = f"is {built_in.family.name!r} for the built-in provider {name!r} and cannot be changed; use another name"
            yield dotted((*here, "family")), why
        if entry.connect_to is not None and entry.connect_to.is_inside and not entry.allow_private:
            yield (
                dotted((*here, "connect_to")),
                f"{entry.connect_to} is a private or loopback address, which is never dialled by default; add "
                "allow_private = true if the upstream really is inside your network",
            )
        if entry.ca_file is not None and entry.unsafe_plaintext:
            yield (
                dotted((*here, "ca_file")),
                "has no effect with unsafe_plaintext = true; remove one of the two",
            )
        if entry.credential is not None:
            base = _base_of(name, entry)
            if isinstance(entry.credential, VaultRoleConfig):
                yield from vault_role_rules(name, base, entry.credential, entry)
            else:
                yield from federation_rules(name, base, entry.credential, entry)
        family = _base_of(name, entry).family
        yield from opening_rules(
            name, Openings(family, entry.allow, entry.unmetered, entry.job_hold_usd)
        )
    yield from _hosts_twice(providers)
    yield from _fallbacks(providers)


def _fallbacks(providers: Mapping[str, ProviderConfig]) -> Found:
    """Objects live at one provider, so that only calls that need none are sent to another. It has to
    speak the same API and have a host that is known."""
    catalog = merged(providers)
    for name, entry in providers.items():
        if entry.fallback is None:
            continue
        key, of, to = dotted(("providers", name, "fallback")), catalog.by_name(name), entry.fallback
        other = catalog.by_name(to)
        if of is None or other is None:
            yield key, _no_provider(to, catalog)
        elif to == name:
            yield key, f"is {name} itself; name another provider, or remove it"
        elif other.family.name != of.family.name:
            yield (
                key,
                f"{to} speaks the API of {other.family.name!r}, and {name} that of {of.family.name!r}; "
                "name a provider of the same family",
            )
        elif all(host.startswith("*.") for host in other.hosts):
            yield (
                key,
                f"{to} has no host of its own that is known, so nothing could be sent there; "
                f"name one in [providers.{to}] hosts",
            )
        elif loop := _loop(name, catalog):
            yield key, f"leads back to {name} ({loop}); remove one of these fallbacks"


def _loop(name: str, catalog: Catalog) -> str:
    """The way from ``name`` back to it; "" if there is none."""
    way = [name]
    while (entry := catalog.by_name(way[-1])) is not None and entry.fallback:
        way.append(entry.fallback)
        if entry.fallback == name:
            return " -> ".join(way)
        if way.count(entry.fallback) > 1:
            break
    return ""


def _hosts_twice(providers: Mapping[str, ProviderConfig]) -> Found:
    """An exact host below another provider's wildcard is allowed: `Catalog.by_host` looks for exact names first."""
    catalog = merged(providers)
    owners: dict[str, str] = {}
    for provider in sorted(catalog.providers, key=lambda provider: provider.name in providers):
        own = providers.get(provider.name)
        for index, host in enumerate(provider.hosts):
            owner = owners.setdefault(host, provider.name)
            if owners[host] == provider.name and host not in provider.hosts[:index]:
                continue
            key: tuple[str | int, ...] = (
                "providers",
                provider.name,
                "hosts",
                *([index] if own and own.hosts else []),
            )
            whose = (
                "twice in this entry"
                if owner == provider.name
                else f"already a host of provider {owner!r}"
            )
            yield (
                dotted(key),
                f"{host} is {whose}, and a host must lead to one key; remove it from one of them",
            )


def tunnel_rules(tunnels: Sequence[TunnelConfig], catalog: Catalog) -> Found:
    """A tunnel to a provider would lead round its budget. Of two entries for a host only one would count."""
    seen: dict[str, int] = {}
    for index, entry in enumerate(tunnels):
        for number, host in enumerate(entry.hosts):
            if seen.setdefault(host, index) != index:
                yield (
                    dotted(("tunnels", index, "hosts", number)),
                    f"{host} is in tunnels[{seen[host]}] already, which alone would count; name all its projects there",
                )
            owner = next((one.name for one in catalog.providers if _meet(one.hosts, host)), None)
            if owner is not None:
                yield (
                    dotted(("tunnels", index, "hosts", number)),
                    f"{host} is a host of provider {owner!r}, and what goes through a tunnel is neither held nor metered; "
                    "remove it",
                )
        if entry.connect_to is not None and entry.connect_to.is_inside and not entry.allow_private:
            yield (
                dotted(("tunnels", index, "connect_to")),
                f"{entry.connect_to} is a private or loopback address, which is never dialled by default; add "
                "allow_private = true if the host really is inside your network",
            )


def _meet(hosts: Sequence[str], host: str) -> bool:
    """Whether one name may be both one of ``hosts`` and ``host``, either with a wildcard."""
    for other in hosts:
        if other == host:
            return True
        first, second = (name.partition(".")[2] for name in (other, host))
        if first == second and (other.startswith("*.") or host.startswith("*.")):
            return True
    return False


def route_rules(routes: Mapping[str, str], catalog: Catalog) -> Found:
    for pattern, name in routes.items():
        if not pattern.strip():
            yield (
                dotted(("routes", pattern)),
                'is an empty model name; write a name or a pattern like "claude-*"',
            )
        if catalog.by_name(name) is None:
            yield dotted(("routes", pattern)), _no_provider(name, catalog)
        elif (provider := catalog.by_name(name)) is not None and provider.openai_path is None:
            yield (
                dotted(("routes", pattern)),
                f"{name} does not speak OpenAI's API, and only calls in its form go by their model; "
                f"remove the route, and call it as /{name}/... at the base URL",
            )


def price_rules(prices: Mapping[str, PriceConfig], catalog: Catalog) -> Found:
    seen: dict[str, str] = {}
    for key, price in prices.items():
        provider, separator, model = key.partition("/")
        if not separator or not model:
            yield (
                dotted(("prices", key)),
                'must be named "provider/model", for example [prices."openai/gpt-4o"]',
            )
            continue
        if catalog.by_name(provider) is None:
            yield dotted(("prices", key)), _no_provider(provider, catalog)
            continue
        yield from _one_price(("prices", key), price)
        first = seen.setdefault(price_key(key, catalog), key)
        if prices[first] != price:
            yield (
                dotted(("prices", key)),
                f"is {price_key(key, catalog)} in the table of prices, as {dotted(('prices', first))} is, and of two "
                "prices only one could hold; remove one, or write both alike",
            )


_TOKEN_PRICES: Final = tuple(name for name in PriceAboveConfig.model_fields if name != "tokens")


def _one_price(here: tuple[str | int, ...], price: PriceConfig) -> Found:
    """The rules inside one entry."""
    given = {name for name in PriceTierConfig.model_fields if getattr(price, name) is not None}
    if not given:
        yield (
            dotted(here),
            "has no price, and what it is for would be refused; add input and output, or what else it is charged by",
        )
        return
    if given.intersection(_TOKEN_PRICES):
        for name in ("input", "output"):
            if name not in given:
                yield dotted((*here, name)), "is missing and has no default; add it"
    last = 0
    for index, step in enumerate(price.above or ()):
        place = (*here, "above", index)
        dearer = [name for name in _TOKEN_PRICES if getattr(step, name) is not None]
        if step.tokens <= last:
            yield (
                dotted((*place, "tokens")),
                f"is {step.tokens}, and the step before it begins at {last}; put the steps in ascending order",
            )
        last = max(last, step.tokens)
        if not dearer:
            yield (
                dotted(place),
                "has no price, so nothing changes above it; add what changes, or remove it",
            )
        for name in dearer:
            if name not in given:
                yield (
                    dotted((*place, name)),
                    f"has no price below {step.tokens} tokens; give the entry itself {name} as well",
                )
    for tier, entry in (price.tier or {}).items():
        if all(getattr(entry, name) is None for name in PriceTierConfig.model_fields):
            yield (
                dotted((*here, "tier", tier)),
                "has no price, so nothing changes at this tier; add what changes, or remove it",
            )


def price_key(key: str, catalog: Catalog) -> str:
    """``provider/model`` of a sound file by the provider's price id, in lower case: how a `PriceTable` knows it."""
    name, _, model = key.partition("/")
    provider = catalog.by_name(name)
    assert provider is not None
    return f"{provider.price_id}/{model}".lower()


def _no_provider(name: str, catalog: Catalog) -> str:
    names = [provider.name for provider in catalog.providers]
    hint = unknown_key(name, names).rpartition("; ")[2]
    return f"there is no provider {name!r}; {hint}"


def addon_rules(addons: AddonsConfig) -> Found:
    for index, place in enumerate(addons.load):
        if place in addons.load[:index]:
            yield (
                dotted(("addons", "load", index)),
                f"is {place} a second time, and it would be asked twice; remove it",
            )
    if addons.options and not addons.load:
        yield "addons.options", "has no effect without addons.load; remove it, or name the addons"


def header_rules(headers: HeadersConfig) -> Found:
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


def identity_rules(identity: IdentityConfig, listen: ListenConfig) -> Found:
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


def limit_rules(table: str, entries: Mapping[str, Sequence[object]]) -> Found:
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


def model_rules(projects: Mapping[str, Sequence[object]], catalog: Catalog | None) -> Found:
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
                    f"{_no_provider(provider, catalog)} (a model's own slash stands behind its provider's name)",
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


def not_yet(tables: Mapping[str, Any]) -> Found:
    for table, key, asked, todo in _NOT_YET:
        if table in tables and asked(tables[table]):
            yield (
                key,
                f"is not enforced yet by this version, and nothing is accepted in silence; {todo}",
            )
