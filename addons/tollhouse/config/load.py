"""tollhouse.toml, read and judged: every problem at once, nothing unknown accepted, relative paths made absolute.

The tables are in `config.models`, rules between keys in `config.rules`, the words of problems in `config.text`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from tollhouse import files
from tollhouse.companions import AGENTS, Passable, PassableHost
from tollhouse.config.addresses import Address
from tollhouse.config.alert_rules import alert_rules
from tollhouse.config.alert_tables import AlertConfig
from tollhouse.config.entries import merged, way
from tollhouse.config.exchanges import issuer_rules
from tollhouse.config.models import (
    AddonsConfig,
    AdminConfig,
    CaConfig,
    CompanionConfig,
    HeadersConfig,
    IdentityConfig,
    JwtIssuerConfig,
    LimitsConfig,
    ListenConfig,
    LogConfig,
    ProjectConfig,
    ProviderConfig,
    StateConfig,
    TenantConfig,
    TlsFiles,
    TunnelConfig,
    UpstreamConfig,
)
from tollhouse.config.price_rules import price_key, price_rules
from tollhouse.config.price_tables import PriceConfig
from tollhouse.config.provider_rules import provider_rules, route_rules, tunnel_rules
from tollhouse.config.rules import (
    addon_rules,
    bound_rules,
    ca_rules,
    header_rules,
    identity_rules,
    limit_rules,
    listen_rules,
    model_rules,
    not_yet,
    redis_rules,
    secret_rules,
    vault_rules,
)
from tollhouse.config.store_tables import AppRoleAuth, JwtAuth, RedisConfig, TokenAuth, VaultConfig
from tollhouse.config.surroundings import OtelConfig, PolicyConfig, ProcessConfig
from tollhouse.config.text import ConfigError, Problem, keys_of, problems_of, unknown_key
from tollhouse.config.values import AgentName, List, Name, OfCompanions, ProviderName
from tollhouse.providers import Catalog, UpstreamProxy

__all__ = [
    "AddonsConfig",
    "Address",
    "AlertConfig",
    "AppRoleAuth",
    "CaConfig",
    "CompanionConfig",
    "Config",
    "ConfigError",
    "HeadersConfig",
    "IdentityConfig",
    "JwtAuth",
    "LimitsConfig",
    "ListenConfig",
    "LogConfig",
    "OtelConfig",
    "PolicyConfig",
    "PriceConfig",
    "Problem",
    "ProcessConfig",
    "ProjectConfig",
    "ProjectsFile",
    "ProviderConfig",
    "RedisConfig",
    "StateConfig",
    "TenantConfig",
    "TlsFiles",
    "TokenAuth",
    "TunnelConfig",
    "VaultConfig",
    "asks_store",
    "catalog",
    "issuer_proxy",
    "load_config",
    "load_projects",
    "own_prices",
    "passable",
    "receiver_proxy",
    "taken_once",
    "token_proxy",
    "unenforced",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One configuration file, sound. Each field but ``path`` is the table of that name."""

    path: Path
    listen: ListenConfig
    admin: AdminConfig
    state: StateConfig
    redis: RedisConfig
    vault: VaultConfig
    log: LogConfig
    process: ProcessConfig
    policy: PolicyConfig
    otel: OtelConfig
    ca: CaConfig
    limits: LimitsConfig
    headers: HeadersConfig
    identity: IdentityConfig
    addons: AddonsConfig
    upstream: UpstreamConfig
    providers: dict[ProviderName, ProviderConfig]
    routes: dict[str, str]
    projects: dict[Name, ProjectConfig]
    tenants: dict[Name, TenantConfig]
    companions: dict[AgentName, Annotated[CompanionConfig, OfCompanions]]
    tunnels: Annotated[tuple[TunnelConfig, ...], List]
    alerts: Annotated[tuple[AlertConfig, ...], List]
    prices: dict[str, PriceConfig]


_LISTS = frozenset({"tunnels", "alerts"})
"""The tables that there may be several of ([[tunnels]])."""
_PROJECT_TABLES = frozenset({"projects", "tenants"})
_IF_ABSENT: Mapping[str, dict[str, Any]] = {"state": {"directory": "state"}}
"""Defaults that depend on where the file lies, so that no model can hold them."""


@cache
def _tables() -> dict[str, TypeAdapter[Any]]:
    hints = get_type_hints(Config, include_extras=True)
    return {
        field.name: TypeAdapter(hints[field.name])
        for field in fields(Config)
        if field.name != "path"
    }


@cache
def _shapes() -> dict[str, object]:
    hints = get_type_hints(Config)
    return {name: hints[name] for name in _tables()}


@dataclass(frozen=True, slots=True)
class ProjectsFile:
    """A file with nothing but [projects] and [tenants], for ``tollhouse apply -f``."""

    path: Path
    projects: dict[Name, ProjectConfig]
    tenants: dict[Name, TenantConfig]


def load_projects(path: Path) -> Config | ProjectsFile:
    """Reads a file of projects and tenants. A file with other tables is read as a whole
    configuration. Raises `ConfigError`."""
    path = path.absolute()
    document = _document(path)
    if not document.keys() <= _PROJECT_TABLES:
        return load_config(path)
    parts = _parts(path, document, sorted(_PROJECT_TABLES))
    return ProjectsFile(path, parts["projects"], parts["tenants"])


def load_config(path: Path) -> Config:
    """Read the file at ``path``.

    Raises `ConfigError` with every problem found, and then with those of `unenforced` too. Whether the files that it
    names exist is for `tollhouse check` and for whoever opens them.
    """
    path = path.absolute()
    return Config(path=path, **_parts(path, _document(path), list(_tables())))


def _parts(path: Path, document: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The tables called ``names``. Each is sound by itself, and so are all together. Any other
    table is an error."""
    unknown = [name for name in document if name not in _tables()]
    problems = [
        Problem(path, name, unknown_key(name, _tables(), _tables_with(name))) for name in unknown
    ]
    parts: dict[str, Any] = {}
    for name in names:
        adapter = _tables()[name]
        table = document.get(name, [] if name in _LISTS else {})
        if isinstance(table, dict):
            table = {**_IF_ABSENT.get(name, {}), **table}
        try:
            parts[name] = adapter.validate_python(table, strict=True, context={"base": path.parent})
        except ValidationError as error:
            problems += problems_of(path, name, error, _shapes())
    problems += [Problem(path, key, message) for key, message in _between(parts, document, names)]
    if problems:
        raise ConfigError(
            [*problems, *(Problem(path, key, message) for key, message in not_yet(parts))]
        )
    return parts


def catalog(config: Config) -> Catalog:
    """All providers: the built-in ones with the configuration's changes, then the configuration's own."""
    return merged(config.providers, config.upstream.proxy)


def taken_once(config: Config) -> str:
    """A provider that takes a subject token once, where it comes from a file that all workers would share. Empty without one."""
    found = (
        one.name
        for one in catalog(config).providers
        if one.federation is not None
        and one.federation.exchange.single_use
        and one.federation.source == "file"
    )
    return next(found, "")


def passable(config: Config) -> Passable:
    """The hosts that pass without interception: the configuration's own before those of agents, so that an entry of the same
    host counts instead. A host of several agents is open to the projects of each."""
    own = (
        PassableHost(
            host,
            frozenset(entry.projects),
            entry.port,
            (entry.connect_to.host, entry.connect_to.port) if entry.connect_to else None,
            entry.allow_private,
            way(entry.upstream_proxy or config.upstream.proxy),
        )
        for entry in config.tunnels
        for host in entry.hosts
    )
    of_agents: dict[str, set[str]] = {}
    for agent in AGENTS:
        chosen = config.companions.get(agent.agent)
        if chosen is None:
            continue
        for host in agent.of(chosen.hosts):
            of_agents.setdefault(host, set()).update(chosen.projects)
    by = way(config.upstream.proxy)
    beside = (
        PassableHost(host, frozenset(projects), upstream_proxy=by)
        for host, projects in of_agents.items()
    )
    return Passable([*own, *beside])


def token_proxy(config: Config) -> UpstreamProxy | None:
    """The way to those who give access tokens."""
    return way(config.upstream.proxy)


def issuer_proxy(config: Config, entry: JwtIssuerConfig) -> UpstreamProxy | None:
    """The way to the keys of an issuer."""
    return way(config.upstream.proxy if entry.upstream_proxy == "on" else entry.upstream_proxy)


def receiver_proxy(config: Config, entry: AlertConfig) -> UpstreamProxy | None:
    """The way to who is told of alerts."""
    return way(entry.upstream_proxy or config.upstream.proxy)


def asks_store(config: Config, entry: AlertConfig) -> bool:
    """Whether a receiver can be told only with something of the store of keys."""
    proxy = receiver_proxy(config, entry)
    return bool(entry.fields) or (proxy is not None and proxy.secret is not None)


def own_prices(config: Config) -> dict[str, dict[str, Any]]:
    """The configuration's prices as a `PriceTable` takes them: by the price id of their provider."""
    providers = catalog(config)
    return {
        price_key(key, providers): price.model_dump(exclude_none=True)
        for key, price in config.prices.items()
    }


def unenforced(config: Config) -> list[Problem]:
    """The settings of the file that this version does not carry out yet. `check` and `run` refuse
    them."""
    tables = {name: getattr(config, name) for name in _tables()}
    return [Problem(config.path, key, message) for key, message in not_yet(tables)]


def _document(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(files.read(path).decode())
    except FileNotFoundError:
        message = (
            "there is no such file; make one with `tollhouse init`, or name yours with --config"
        )
    except UnicodeDecodeError as error:
        message = f"is not UTF-8 (byte {error.start}), which TOML must be; save it as UTF-8"
    except tomllib.TOMLDecodeError as error:
        message = f"is not valid TOML: {error}; correct that line, nothing after it was read"
    except OSError as error:
        message = f"cannot be read ({error.strerror}); make it a file that this user may read"
    raise ConfigError([Problem(path, "", message)])


def _tables_with(name: str) -> list[str]:
    return [f"[{table}]" for table, shape in _shapes().items() if name in keys_of(shape)]


def _between(
    parts: Mapping[str, Any], document: Mapping[str, Any], names: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """The problems between tables. A rule is asked if its tables are sound. The rules for single
    lists need only the list."""
    if "listen" in parts:
        yield from listen_rules(parts["listen"])
    if "redis" in parts:
        yield from redis_rules(parts["redis"])
    if "limits" in parts:
        yield from bound_rules(parts["limits"])
    if "vault" in parts:
        yield from vault_rules(parts["vault"])
    if "ca" in parts:
        yield from ca_rules(parts["ca"])
    if "addons" in parts:
        yield from addon_rules(parts["addons"])
    if "headers" in parts:
        yield from header_rules(parts["headers"])
    if "alerts" in parts:
        yield from alert_rules(parts["alerts"])
    if {"vault", "upstream", "providers", "identity"} <= parts.keys():
        yield from secret_rules(
            parts["vault"],
            parts["upstream"],
            parts["providers"],
            parts.get("tunnels", ()),
            parts["identity"],
            parts.get("alerts", ()),
        )
        yield from issuer_rules(parts["vault"], parts["providers"])
    if {"identity", "listen"} <= parts.keys():
        yield from identity_rules(parts["identity"], parts["listen"])
    if "providers" in parts:
        providers = merged(parts["providers"])
        yield from provider_rules(parts["providers"])
        yield from route_rules(parts.get("routes", {}), providers)
        yield from price_rules(parts.get("prices", {}), providers)
    catalog = merged(parts["providers"]) if "providers" in parts else None
    if "tunnels" in parts and catalog is not None:
        yield from tunnel_rules(parts["tunnels"], catalog)
    if "projects" in names:
        yield from model_rules(_lists(document, "projects", "models"), catalog)
    for table in ("projects", "tenants"):
        if table in names:
            yield from limit_rules(table, _lists(document, table, "limits"))


def _lists(document: Mapping[str, Any], table: str, key: str) -> dict[str, list[object]]:
    """The lists called ``key`` in the tables inside ``table``, by the names of those."""
    entries = document.get(table)
    if not isinstance(entries, dict):
        return {}
    found = {name: entry.get(key) for name, entry in entries.items() if isinstance(entry, dict)}
    return {name: value for name, value in found.items() if isinstance(value, list)}
