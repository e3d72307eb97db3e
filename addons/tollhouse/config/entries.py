"""The providers as the file makes them: the built-in entries with its changes, and entries of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from tollhouse.config.exchanges import federation_of, vault_role_of
from tollhouse.config.models import ProviderConfig, UpstreamProxyConfig, VaultRoleConfig
from tollhouse.config.text import unknown_key
from tollhouse.families import DEFAULT
from tollhouse.families.opened import opened
from tollhouse.providers import BUILT_IN, Catalog, Provider, UpstreamProxy

BUILT_IN_ENTRIES: Final = {provider.name: provider for provider in BUILT_IN}


def merged(
    providers: Mapping[str, ProviderConfig], proxy: UpstreamProxyConfig | None = None
) -> Catalog:
    """The built-in providers with what the configuration changes, then the configuration's own, in the file's order.
    ``proxy`` is that of all whose entry names no other."""
    entries = dict(BUILT_IN_ENTRIES)
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
    base = base_of(name, changes)
    if isinstance(changes.credential, VaultRoleConfig):
        given["vault_role"] = vault_role_of(changes.credential)
    elif changes.credential is not None and base.exchange is not None:
        given["federation"] = federation_of(
            base.exchange, changes.credential, changes.client_certificate
        )
    if name not in BUILT_IN_ENTRIES:
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


def base_of(name: str, changes: ProviderConfig) -> Provider:
    """The built-in entry that ``changes`` are changes of."""
    family = changes.family or DEFAULT.name
    return (
        BUILT_IN_ENTRIES.get(name)
        or BUILT_IN_ENTRIES.get(family)
        or next(entry for entry in BUILT_IN if entry.family.name == family)
    )


def no_provider(name: str, catalog: Catalog) -> str:
    """The words for a name that no provider has."""
    names = [provider.name for provider in catalog.providers]
    hint = unknown_key(name, names).rpartition("; ")[2]
    return f"there is no provider {name!r}; {hint}"
