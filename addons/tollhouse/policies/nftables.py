"""The packet filter of a host that runs Tollhouse, or of a router with workloads behind it. What its rules do stands in
``template.nft``, whose lines begin with ``@host`` or ``@router`` where the two differ, and of a router without Tollhouse in
``template-elsewhere.nft``, whose lines begin with ``@v4`` or ``@v6`` where they are for one family alone."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Final, Literal

from tollhouse.config.load import Config
from tollhouse.policies.destinations import dialled_ports
from tollhouse.policies.places import NetworkFacts, network_facts
from tollhouse.policies.rendering import CannotRender, Rendered

Form = Literal["host", "router"]

_VALUE: Final = re.compile(r"(?<!@)@(\w+)@")
_SET: Final = "@@"
"""A set of nft's own in the template, which writes it with one."""


def host(config: Config) -> Rendered:
    """Workloads are users of this machine."""
    return _rendered(config, "host", "nftables", "tollhouse.nft")


def router(config: Config) -> Rendered:
    """Workloads are behind this machine, or are its users. With ``[policy] gateway`` Tollhouse is on another one."""
    transparent = config.listen.transparent
    if transparent is not None and transparent.is_loopback:
        raise CannotRender(
            f"[listen] transparent = {str(transparent)!r} can't be reached by what is redirected from behind the router; write "
            f'"*:{transparent.port}", which is every address of the router, of both families'
        )
    if config.policy.gateway:
        return _elsewhere(config)
    return _rendered(config, "router", "nftables-router", "router.nft")


def _elsewhere(config: Config) -> Rendered:
    found = network_facts(config)
    values = _values(config, found, _transparent_port(found))
    families = {"v4": 4, "v6": 6}
    forms = []
    for form, version in families.items():
        match _of(version, config.policy.gateway):
            case []:
                continue
            case [address]:
                values[f"gateway_{form}"] = address
                forms.append(form)
            case several:
                raise CannotRender(
                    f"[policy] gateway has {len(several)} addresses of IPv{version}, and a connection is led to one; write one"
                )
    notes = [
        f"[policy] gateway has no address of IPv{version}: what workloads send to TCP 443 over it is refused, and not led anywhere"
        for form, version in families.items()
        if form not in forms
    ]
    text = _filled("template-elsewhere.nft", forms, values)
    return Rendered({"router.nft": text}, tuple(notes))


def _rendered(config: Config, form: Form, target: str, name: str) -> Rendered:
    found = network_facts(config)
    transparent_port = _transparent_port(found)
    unknown = [store for store in found.stores if not store.addresses]
    notes = [
        f"{store.of} is at {store.address.host}, and a packet filter knows no names: "
        f'write [policy.addresses] "{store.address.host}" = ["ITS ADDRESS"], else the gateway does not reach it'
        for store in unknown
    ]
    if not config.policy.resolvers:
        notes.append(
            "[policy] resolvers is empty: the gateway may ask no name server, unless one on loopback that needs to ask nobody"
        )
    values = _values(config, found, transparent_port)
    values["target"] = target
    values["unknown_stores"] = "".join(
        f"# {store.address} ({store.of}) is not in it: [policy.addresses] does not know the name.\n"
        for store in unknown
    ).rstrip()
    return Rendered({name: _filled("template.nft", (form,), values)}, tuple(notes))


def _transparent_port(found: NetworkFacts) -> int:
    transparent = found.listeners.get("transparent")
    if transparent is None or not transparent.port:
        raise CannotRender(
            "TCP 443 is led to [listen] transparent, which is "
            + ("off" if transparent is None else "any free port")
            + '; write transparent = "localhost:8443" for workloads of this machine, "*:8443" for a router, and render again'
        )
    return transparent.port


def _values(config: Config, found: NetworkFacts, transparent_port: int) -> dict[str, str]:
    policy = config.policy
    for_workloads = {
        address.port
        for name, address in found.listeners.items()
        if name != "admin" and not address.is_loopback
    }
    values = {
        "gateway_user": found.user,
        "transparent_port": str(transparent_port),
        "provider_ports": _set(found.provider_ports),
        "dialled_ports": _set(dialled_ports(config, found)),
        "dns_users": _set(("$gateway_user", *policy.dns_users)),
        "workload_devices": _set(f'"{device}"' for device in policy.workload_devices),
        "workload_ports": _set(sorted(for_workloads)),
        "ssh_port": str(policy.ssh_port),
    }
    stores = [
        (address, store.address.port) for store in found.stores for address in store.addresses
    ]
    for family, version in (("v4", 4), ("v6", 6)):
        for name, networks in (
            ("resolvers", policy.resolvers),
            ("workload_resolvers", policy.workload_resolvers),
            ("admin", policy.ssh_from),
        ):
            values[f"{name}_{family}"] = _set(_of(version, networks))
        values[f"stores_{family}"] = _set(
            f"{address} . {port}" for text, port in stores for address in _of(version, (text,))
        )
    return values


def _of(version: int, networks: Iterable[str]) -> list[str]:
    """Those of one family, single addresses without their prefix."""
    found = [ipaddress.ip_network(text) for text in networks]
    return [
        str(one.network_address if one.prefixlen == one.max_prefixlen else one)
        for one in found
        if one.version == version
    ]


def _set(elements: Iterable[object]) -> str:
    return f"{{ {', '.join(map(str, elements))} }}".replace("{  }", "{ }")


def _filled(template: str, forms: Sequence[str], values: dict[str, str]) -> str:
    """The template's lines that are for all, and those that are for one of ``forms``."""
    text = files("tollhouse.policies").joinpath(template).read_text("utf-8")
    lines = []
    for line in text.splitlines():
        if line.startswith(("@host", "@router", "@v4", "@v6")):
            mark, _, line = line.partition(" ")
            if mark[1:] not in forms:
                continue
        if line == "@unknown_stores@" and not values["unknown_stores"]:
            continue
        lines.append(_VALUE.sub(lambda found: values[found[1]], line).replace(_SET, "@"))
    return "\n".join(lines) + "\n"
