"""Where the gateway goes out, by name: providers, tunnels, who gives tokens and keys. In a cluster a name may be a Service's."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from tollhouse.config.load import Config, catalog, issuer_proxy, passable, receiver_proxy
from tollhouse.credential.cloud.google import TOKEN_URI
from tollhouse.policies.places import NetworkFacts
from tollhouse.policies.rendering import CannotRender

API_SERVER_PORTS: Final = (443, 6443, 8443, 16443)
"""Of the API server itself, in most clusters, minikube and MicroK8s: policies are judged after the Service's address and port have
been replaced."""
_SERVICE: Final = re.compile(
    r"(?:[a-z0-9-]+\.)?(?P<name>[a-z0-9-]+)\.(?P<namespace>[a-z0-9-]+)\.svc(?:\.cluster\.local)?"
)
"""Of a Service, or of one pod of it."""


@dataclass(frozen=True, slots=True)
class Destination:
    of: str
    """Whose it is, as a person calls it."""
    host: str
    """A name, ``*.`` and a name, or an address."""
    port: int
    is_private: bool
    """It may have a private address."""
    networks: tuple[str, ...]
    """What ``[policy] addresses`` says of its name, or itself. Empty: unknown."""

    @property
    def service(self) -> tuple[str, str] | None:
        """Namespace and name of the Service that it is."""
        found = _SERVICE.fullmatch(self.host)
        return (found["namespace"], found["name"]) if found else None

    @property
    def is_api_server(self) -> bool:
        """The Service of the cluster's API server, behind which are no pods that a policy could name."""
        return self.service == ("default", "kubernetes")

    @property
    def is_address(self) -> bool:
        return self.networks == (self.host,)


def destinations(config: Config, facts: NetworkFacts) -> tuple[Destination, ...]:
    """The stores first. Without those on loopback, each once."""
    found = [
        *((store.of, store.address.host, store.address.port, True) for store in facts.stores),
        *_others(config),
    ]
    made: dict[tuple[str, int], Destination] = {}
    for of, host, port, is_private in found:
        if not _is_loopback(host):
            made.setdefault(
                (host, port), Destination(of, host, port, is_private, _networks(config, host))
            )
    return tuple(made.values())


def dialled_ports(config: Config, facts: NetworkFacts) -> tuple[int, ...]:
    """Where the gateway goes out, but for the stores. Never empty: a packet filter takes no empty set there."""
    stores = {(store.address.host, store.address.port) for store in facts.stores}
    return tuple(
        sorted({port for _, host, port, _ in _others(config) if (host, port) not in stores})
    )


def workload_ports(facts: NetworkFacts) -> tuple[int, ...]:
    """The ports of the gateway for workloads, at which other pods reach it. Without any it raises `CannotRender`."""
    ports = {
        address.port
        for name, address in facts.listeners.items()
        if name != "admin" and not address.is_loopback and address.port
    }
    if not ports:
        raise CannotRender(
            "[listen] has no listener that other pods reach: write "
            'proxy = "0.0.0.0:8080", with tls or unsafe_plaintext_listen = true'
        )
    return tuple(sorted(ports))


def admin_port(facts: NetworkFacts) -> int | None:
    """None: it is off, or on loopback, where no pod reaches it."""
    admin = facts.listeners.get("admin")
    return admin.port if admin is not None and not admin.is_loopback and admin.port else None


def _others(config: Config) -> Iterator[tuple[str, str, int, bool]]:
    exchange = urlsplit(TOKEN_URI).hostname
    proxy = config.upstream.proxy
    for provider in catalog(config).providers:
        of, private = provider.name, provider.allow_private
        if provider.upstream_proxy:
            yield (
                f"the proxy of {of}",
                provider.upstream_proxy.host,
                provider.upstream_proxy.port,
                True,
            )
        elif provider.connect_to:
            yield of, *provider.connect_to, private
        else:
            for host in provider.hosts:
                yield of, host, provider.port, private
        if provider.federation is not None:
            federation = provider.federation
            for step in federation.exchange.steps:
                url = urlsplit(step.url.format_map(federation.parameters))
                if provider.upstream_proxy is not None:
                    continue
                if federation.connect_to:
                    yield "access tokens", *federation.connect_to, True
                elif url.hostname is not None:
                    yield "access tokens", url.hostname, url.port or 443, False
        if "google" in provider.accepts and proxy is None and exchange:
            yield "access tokens", exchange, 443, False
    for tunnel in passable(config).hosts:
        if tunnel.upstream_proxy:
            yield "a tunnel's proxy", tunnel.upstream_proxy.host, tunnel.upstream_proxy.port, True
        elif tunnel.connect_to:
            yield "a tunnel", *tunnel.connect_to, tunnel.allow_private
        else:
            yield "a tunnel", tunnel.host, tunnel.port, tunnel.allow_private
    if (oidc := config.admin.oidc) is not None:
        parts, by = urlsplit(oidc.issuer), issuer_proxy(config, oidc)
        if by is not None:
            yield f"the proxy of {oidc.issuer}", by.host, by.port, True
        elif parts.hostname is not None:
            # Its token endpoint and its keys may be at another host: the discovery says where.
            yield f"logins at {oidc.issuer}", parts.hostname, parts.port or 443, True
    for receiver in config.alerts:
        way = receiver_proxy(config, receiver)
        if way is not None:
            yield "a receiver's proxy", way.host, way.port, True
        elif receiver.host:
            yield "alerts", receiver.host, receiver.port, receiver.allow_private
    for issuer in config.identity.jwt:
        parts = urlsplit(issuer.jwks_url or "")
        by = issuer_proxy(config, issuer)
        if by is not None:
            yield f"the proxy of {issuer.issuer}", by.host, by.port, True
        elif parts.hostname is not None:
            port = parts.port or (443 if parts.scheme == "https" else 80)
            yield f"keys of {issuer.issuer}", parts.hostname, port, True


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _networks(config: Config, host: str) -> tuple[str, ...]:
    try:
        return (str(ipaddress.ip_address(host)),)
    except ValueError:
        return config.policy.addresses.get(host, ())
