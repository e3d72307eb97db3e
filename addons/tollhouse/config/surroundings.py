"""The tables of what is around the gateway: the user that it runs as, the network that `tollhouse policy render` writes for, and
the collector of its telemetry."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from tollhouse.config.addresses import Port
from tollhouse.config.models import Table
from tollhouse.config.values import List, Text


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        raise ValueError(
            'is no address and no network; write "10.0.0.53", "10.0.0.0/24" or "fd00::/64"'
        ) from None


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError('is no address; write "10.0.0.5" or "fd00::5"') from None


def _device(text: str) -> str:
    # The kernel's IFNAMSIZ is 16 with the zero; what nft would read as more than a name is refused.
    if not 0 < len(text) < 16 or not all(c.isascii() and (c.isalnum() or c in "._-") for c in text):
        raise ValueError("is not the name of a network device; `ip link` shows them")
    return text


def _account(text: str) -> str:
    if not text.isascii() or not text.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise ValueError(
            'is not a user or a group; write its name, or its number in quotes ("65532")'
        )
    if text in ("root", "0"):
        raise ValueError(
            "is root, which would keep every privilege; name a user of the gateway's own"
        )
    return text


def _collector(text: str) -> str:
    if "@" in text:
        raise ValueError(
            "has a user name or a password in it; the collector's credential belongs into the environment variable "
            "OTEL_EXPORTER_OTLP_HEADERS"
        )
    try:
        parts = urlsplit(text)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        sound, parts = False, urlsplit("")
    if not sound or parts.query or parts.fragment:
        raise ValueError(
            'is not the base URL of an OTLP receiver over HTTP; write it like "http://collector:4318"'
        )
    return text.rstrip("/")


Network = Annotated[str, AfterValidator(_network)]
"""An address is a network of one."""
Networks = Annotated[tuple[Network, ...], List]
Addresses = Annotated[tuple[Annotated[str, AfterValidator(_address)], ...], List]
Account = Annotated[str, AfterValidator(_account)]


class ProcessConfig(Table):
    """Whom a gateway that was started as root becomes, once its listeners are bound."""

    user: Account | None = None
    group: Account | None = None
    """None: the user's own."""


class PolicyConfig(Table):
    """What policies need to know and the gateway does not."""

    resolvers: Networks = ()
    """The name servers that the gateway asks."""
    dns_users: Annotated[tuple[Account, ...], List] = ()
    """Who may ask them beside the gateway's user: a stub's."""
    addresses: dict[Text, Networks] = Field(default_factory=dict)
    """Of Redis and Vault, where ``[redis]`` and ``[vault]`` name a host: a packet filter knows no names."""
    ssh_port: Port = 22
    ssh_from: Networks = ("0.0.0.0/0", "::/0")
    workload_devices: Annotated[
        tuple[Annotated[str, AfterValidator(_device)], ...], List, Field(min_length=1)
    ] = ("workloads",)
    """Of a router: the devices behind which the workloads are."""
    workload_resolvers: Networks = ()
    """Of a router: name servers that workloads may ask. One that answers for the whole world is a way out."""
    gateway: Addresses = ()
    """Of a router whose gateway stands on another machine: where that is, one address a family."""


class OtelConfig(Table):
    """Spans and metrics of calls, for an OpenTelemetry collector."""

    endpoint: Annotated[str, AfterValidator(_collector)] | None = None
    """The base URL of its OTLP receiver over HTTP; ``/v1/traces`` and ``/v1/metrics`` are appended. None: nothing is told."""
    traces: bool = True
    metrics: bool = True
    sample: Annotated[float, Field(ge=0, le=1)] = 1.0
    """The share of calls that have a span, of those whose workload has not decided it by its ``traceparent``."""
    genai: Literal["0.1", "1.41"] = "0.1"
    """The version of the GenAI conventions whose names are used."""
