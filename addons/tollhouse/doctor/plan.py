"""What the probe has to know: from the configuration, and from whoever asks for it."""

from __future__ import annotations

import json
import shlex
import socket
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Final, Literal
from urllib.parse import urlsplit

from tollhouse.admit.authority import normalise_host
from tollhouse.config.load import Address, Config, catalog
from tollhouse.policies.places import network_facts
from tollhouse.providers import DEFAULT

Language = Literal["python", "sh"]

# Public servers of documented addresses: https://developers.cloudflare.com/1.1.1.1/ip-addresses/.
RESOLVERS: Final = ("1.1.1.1", "2606:4700:4700::1111")
DOH: Final = "cloudflare-dns.com"
OUTSIDE: Final = "example.com"
"""It is no provider's, exists and has TXT records."""
TIMEOUT_S: Final = 3.0
_PLACE: Final = "PLAN: dict[str, Any] = {}\n"
_PLACE_SH: Final = "#PLAN#\n"


class CannotProbe(Exception):
    """The text says what happened, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The keys are those that the probe reads."""

    provider: str
    provider_port: int
    path: str
    header: str
    prefix: str
    variables: tuple[str, ...]
    """Where a workload has its credential for the provider."""
    addresses: tuple[str, str]
    """One of IPv4 and one of IPv6, for what dials without a name."""
    resolvers: tuple[str, str]
    doh: str
    outside: str
    transparent: bool
    """The network leads TCP 443 to the gateway."""
    gateway: str
    """The host by which workloads know it; "": the proxy's."""
    proxy: str | None
    """A URL; None: HTTPS_PROXY of the place, "": there is none."""
    proxy_auth: bool
    """The listener wants its token in Proxy-Authorization."""
    ca: str
    redis: tuple[str, int] | None
    vault: tuple[str, int] | None
    admin: tuple[str, int] | None
    at_once: bool
    """What is closed has to say so: a way that gives no answer is not as it should be."""
    timeout_s: float


def plan(
    config: Config,
    *,
    ca: str,
    gateway: str = "",
    transparent: bool | None = None,
    addresses: tuple[str, ...] = (),
    resolvers: tuple[str, ...] = (),
    at_once: bool = False,
    timeout_s: float = TIMEOUT_S,
) -> Plan:
    """``gateway`` is the host by which workloads know it; without one only the way of HTTPS_PROXY is tried, and what is on its
    loopback is not. Raises `CannotProbe`."""
    provider = next((one for one in catalog(config).providers if one.name == DEFAULT.name), None)
    assert provider is not None
    facts = network_facts(config)
    host = next(host for host in provider.hosts if not host.startswith("*."))
    for texts in (addresses, resolvers):
        families = [_family(text) for text in texts]
        for text, family in zip(texts, families, strict=True):
            if not family:
                raise CannotProbe(f"{text} is no address; give IPv4 and IPv6 addresses as numbers")
            if families.count(family) > 1:
                raise CannotProbe(
                    f"{text} is one of several of its family, and one is tried; give one"
                )
    if gateway and not _family(gateway) and normalise_host(gateway) is None:
        raise CannotProbe(
            f"{gateway} is no host; give the gateway's name or address alone: scheme and port are those of [listen]"
        )
    proxy = config.listen.proxy
    scheme = "https" if config.listen.tls else "http"
    slot = provider.slot
    stores = {store.of: store.address for store in facts.stores}
    return Plan(
        provider=host,
        provider_port=provider.port,
        path="/v1/models",
        header=slot.header,
        prefix=slot.prefix,
        variables=tuple(provider.key_variables),
        addresses=_pair(addresses, _resolved(host) if not addresses else (), RESOLVERS),
        resolvers=_pair(resolvers, (), RESOLVERS),
        doh=DOH,
        outside=OUTSIDE,
        transparent=config.listen.transparent is not None if transparent is None else transparent,
        gateway=gateway,
        proxy=""
        if proxy is None
        else f"{scheme}://{Address(gateway, proxy.port)}"
        if gateway
        else None,
        proxy_auth=config.listen.proxy_auth == "required",
        ca=ca,
        redis=_of(stores.get("redis"), gateway, _redis(config)),
        vault=_of(stores.get("vault"), gateway, _vault(config)),
        admin=(gateway, config.listen.admin.port) if gateway and config.listen.admin else None,
        at_once=at_once,
        timeout_s=timeout_s,
    )


def printed(made: Plan, language: Language) -> str:
    """The whole probe."""
    if language == "python":
        text = files("tollhouse.doctor").joinpath("probe.py").read_text("utf-8")
        if text.count(_PLACE) != 1:
            raise AssertionError("the probe has lost the place of its plan")
        values = json.dumps(json.dumps(asdict(made)))
        return text.replace(_PLACE, f"PLAN: dict[str, Any] = json.loads({values})\n")
    text = files("tollhouse.doctor").joinpath("probe.sh").read_text("utf-8")
    lines = []
    for name, value in asdict(made).items():
        if name == "variables":
            lines.append(f"{name}={shlex.quote(' '.join(value))}")
        elif isinstance(value, tuple | list):
            lines += [f"{name}_{at}={shlex.quote(str(one))}" for at, one in enumerate(value)]
        else:
            if name == "proxy" and value == "":
                lines.append("proxy_is_off=1")
            shown = {None: "", True: "1", False: ""}.get(value, value)
            lines.append(f"{name}={shlex.quote(str(shown))}")
    return text.replace(_PLACE_SH, "\n".join(lines) + "\n")


def _of(store: Address | None, gateway: str, port: int | None) -> tuple[str, int] | None:
    """A store on a machine of its own, else one that stands beside the gateway, if it is on a port at all."""
    if store is not None:
        return store.host, store.port
    return (gateway, port) if gateway and port else None


def _redis(config: Config) -> int | None:
    url = config.redis.url
    return (urlsplit(url).port or 6379) if url.startswith(("redis://", "rediss://")) else None


def _vault(config: Config) -> int | None:
    return None if config.vault.embedded else urlsplit(config.vault.address).port or 443


def _family(text: str) -> int:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, text)
        except OSError:
            continue
        return int(family)
    return 0


def _pair(*choices: tuple[str, ...]) -> tuple[str, str]:
    """The first address of each family."""
    found = [text for choice in choices for text in choice]
    four = next(text for text in found if _family(text) == socket.AF_INET)
    six = next(text for text in found if _family(text) == socket.AF_INET6)
    return four, six


def _resolved(host: str) -> tuple[str, ...]:
    try:
        found = socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)
    except OSError:
        return ()
    return tuple(str(place[0]) for *_, place in found)
