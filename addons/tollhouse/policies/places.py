"""What the configuration says of the network: where workloads come in, and where the gateway goes out."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from tollhouse.config.load import Address, Config, catalog
from tollhouse.ledger.store.urls import CLUSTER, SENTINEL, parse_servers

DEFAULT_USER: Final = "65532"
"""The user of the image (Dockerfile)."""
_REDIS_PORT: Final = 6379
COLLECTOR: Final = "collector"
"""The `Store.of` that others than the gateway use as well."""


@dataclass(frozen=True, slots=True)
class Store:
    """A server of Redis or Vault, or the OTLP collector, on another machine."""

    of: str
    """``redis``, ``vault`` or ``collector``."""
    address: Address
    addresses: tuple[str, ...]
    """What ``[policy] addresses`` says of its name, or itself. Empty: unknown."""


@dataclass(frozen=True, slots=True)
class NetworkFacts:
    user: str
    listeners: dict[str, Address]
    """Those that are not off, by their keys in ``[listen]``."""
    provider_ports: tuple[int, ...]
    """Where workloads dial providers."""
    hosts: tuple[str, ...]
    """Of all providers; ``*.`` stands for one label."""
    stores: tuple[Store, ...]


def network_facts(config: Config) -> NetworkFacts:
    listen = config.listen
    found = {
        "proxy": listen.proxy,
        "base_url": listen.base_url,
        "transparent": listen.transparent,
        "admin": listen.admin,
    }
    providers = catalog(config).providers
    return NetworkFacts(
        user=config.process.user or DEFAULT_USER,
        listeners={name: address for name, address in found.items() if address is not None},
        provider_ports=tuple(sorted({provider.port for provider in providers})),
        hosts=tuple(dict.fromkeys(host for provider in providers for host in provider.hosts)),
        stores=tuple(
            Store(of, address, _addresses(config, address.host))
            for of, address in _stores(config)
            if not address.is_loopback
        ),
    )


def _stores(config: Config) -> Iterator[tuple[str, Address]]:
    url = config.redis.url
    if url.startswith((CLUSTER, SENTINEL)):
        for host, port in parse_servers(url).places:
            yield "redis", Address(host, port)
    elif not config.redis.embedded:
        parts = urlsplit(url)
        if parts.hostname is not None:
            yield "redis", Address(parts.hostname, parts.port or _REDIS_PORT)
    if not config.vault.embedded:
        yield from _of_url("vault", config.vault.address)
    if config.otel.endpoint is not None:
        yield from _of_url(COLLECTOR, config.otel.endpoint)


def _of_url(of: str, url: str) -> Iterator[tuple[str, Address]]:
    parts = urlsplit(url)
    if parts.hostname is not None:
        yield of, Address(parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))


def _addresses(config: Config, host: str) -> tuple[str, ...]:
    try:
        return (str(ipaddress.ip_address(host)),)
    except ValueError:
        return config.policy.addresses.get(host, ())
