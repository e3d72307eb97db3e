"""Pods of a cluster, by NetworkPolicy, as most plug-ins enforce it. It knows addresses and labels, and no names."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final

from tollhouse.config.load import Config
from tollhouse.policies.destinations import (
    API_SERVER_PORTS,
    Destination,
    admin_port,
    destinations,
    workload_ports,
)
from tollhouse.policies.places import COLLECTOR, network_facts
from tollhouse.policies.rendering import Rendered

_DNS: Final = ("kube-system", "k8s-app", "kube-dns")
_NAME: Final = "app.kubernetes.io/name"
_GATEWAY: Final = ("tollhouse", _NAME, "tollhouse")
_MONITORING: Final = ("monitoring", _NAME, "prometheus")

_MADE: Final = (
    "# Made by `tollhouse policy render kubernetes` from tollhouse.toml: change that, and render it again.\n"
    "# Policies add up: a second one in a namespace can only open more.\n"
)
_CLIENTS: Final = """\
        - namespaceSelector:
            matchLabels:
              tollhouse-client: "true"
"""
_WORLD: Final = """\
        - ipBlock:
            cidr: 0.0.0.0/0
            except:
              - 0.0.0.0/8
              - 10.0.0.0/8
              - 100.64.0.0/10
              - 127.0.0.0/8
              - 168.63.129.16/32 # Azure's wire server, in public space
              - 169.254.0.0/16 # cloud metadata among them
              - 172.16.0.0/12
              - 192.0.0.0/24
              - 192.0.2.0/24
              - 192.88.99.0/24
              - 192.168.0.0/16
              - 198.18.0.0/15
              - 198.51.100.0/24
              - 203.0.113.0/24
              - 224.0.0.0/4
              - 240.0.0.0/4
        - ipBlock:
            cidr: 2000::/3
            except:
              - 2001::/23
              - 2001:db8::/32
              - 2002::/16 # 6to4: an IPv4 address inside
              - 3fff::/20
"""
"""What the gateway would dial (dispatch/guard.py). A test compares the two address by address."""


def kubernetes(config: Config) -> Rendered:
    facts = network_facts(config)
    ports, admin = workload_ports(facts), admin_port(facts)
    found = destinations(config, facts)
    in_cluster = [one for one in found if one.service]
    notes = [
        f"{one.of} is at {one.host}, which may have a private address, and NetworkPolicy knows no names: write "
        f'[policy.addresses] "{one.host}" = ["ITS ADDRESS"], else the gateway does not reach it'
        for one in found
        if not one.service and one.is_private and not one.networks
    ]
    notes += [
        f'{one.of} are at the API server, which is no pod: write [policy.addresses] "{one.host}" = ["ITS ADDRESS"], as '
        "`kubectl get endpoints kubernetes` shows it, else the gateway does not reach it"
        for one in found
        if one.is_api_server and not one.networks
    ]
    stores = {
        (store.address.host, store.address.port) for store in facts.stores if store.of != COLLECTOR
    }
    own = [one for one in in_cluster if (one.host, one.port) in stores]
    files = {
        "tollhouse-network.yaml": _gateway(ports, admin, found),
        "workload-network.yaml": _workload(ports),
    }
    if own:
        files["stores-network.yaml"] = _stores(own)
    return Rendered(files, tuple(notes))


def _gateway(ports: tuple[int, ...], admin: int | None, found: tuple[Destination, ...]) -> str:
    ingress = _rule("from", _CLIENTS, ports)
    if admin is not None:
        ingress += "    # Metrics. The kubelet's probes need no rule.\n" + _rule(
            "from", _pods(*_MONITORING), (admin,)
        )
    egress = _dns()
    world: set[int] = set()
    for one in found:
        if one.is_api_server:
            if one.networks:
                egress += "    # The API server.\n" + _rule(
                    "to", _blocks(one.networks), API_SERVER_PORTS
                )
        elif one.service:
            namespace, name = one.service
            egress += _rule("to", _pods(namespace, _NAME, name), (one.port,))
        elif one.networks and (one.is_private or one.is_address):
            egress += _rule("to", _blocks(one.networks), (one.port,))
        elif not one.is_private:
            world.add(one.port)
    if world:
        egress += (
            "    # The providers: NetworkPolicy knows no names, so it is the world, without what the gateway would not dial\n"
            "    # either (addons/tollhouse/dispatch/guard.py; a test compares the two).\n"
            + _rule("to", _WORLD, sorted(world))
        )
    return (
        "# What may reach Tollhouse, and where Tollhouse may go.\n"
        + _MADE
        + _policy("default-deny", _GATEWAY[0], "{}", "Ingress, Egress")
        + "---\n"
        + _policy("tollhouse", _GATEWAY[0], _GATEWAY[2], "Ingress, Egress")
        + "  ingress:\n"
        + "    # By the label of the namespace, which its own users can't set.\n"
        + ingress
        + "  egress:\n"
        + egress
    )


def _workload(ports: tuple[int, ...]) -> str:
    return (
        "# For each namespace whose pods may go out through Tollhouse and nowhere else:\n"
        "#   kubectl label namespace NAMESPACE tollhouse-client=true\n"
        "#   kubectl apply --namespace NAMESPACE -f workload-network.yaml\n"
        + _MADE
        + _policy("out-through-tollhouse-only", None, "{}", "Egress")
        + "  egress:\n"
        + _dns()
        + "    # Pod ports, not the Service's: policies are judged after the Service's address has been replaced.\n"
        + _rule("to", _pods(*_GATEWAY), ports)
    )


def _stores(stores: Iterable[Destination]) -> str:
    """One policy for each set of pods: a store of several servers may be named by several."""
    ports: dict[tuple[str, str], set[int]] = {}
    for one in stores:
        if one.service:
            ports.setdefault(one.service, set()).add(one.port)
    return (
        "# Redis and Vault, for the gateway only. Servers of one cluster need a rule for each other: README.md.\n"
        + _MADE
        + "---\n".join(
            _policy(f"{name}-for-tollhouse-only", namespace, name, "Ingress")
            + "  ingress:\n"
            + _rule("from", _pods(*_GATEWAY), sorted(each))
            for (namespace, name), each in ports.items()
        )
    )


def _policy(name: str, namespace: str | None, pods: str, types: str) -> str:
    where = f"  namespace: {namespace}\n" if namespace else ""
    selector = " {}" if pods == "{}" else f"\n    matchLabels:\n      {_NAME}: {pods}"
    return f"""\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {name}
{where}spec:
  podSelector:{selector}
  policyTypes: [{types}]
"""


def _dns() -> str:
    return _rule("to", _pods(*_DNS), (53,), ("UDP", "TCP"))


def _pods(namespace: str, label: str, value: str) -> str:
    """A namespace and pods in one peer: as two they would be an "or"."""
    return f"""\
        - namespaceSelector:
            matchLabels:
              kubernetes.io/metadata.name: {namespace}
          podSelector:
            matchLabels:
              {label}: {value}
"""


def _blocks(networks: Iterable[str]) -> str:
    return "".join(
        f'        - ipBlock:\n            cidr: "{ipaddress.ip_network(one)}"\n' for one in networks
    )


def _rule(
    direction: str, peers: str, ports: Iterable[int], protocols: tuple[str, ...] = ("TCP",)
) -> str:
    each = "".join(
        f"        - protocol: {protocol}\n          port: {port}\n"
        for port in ports
        for protocol in protocols
    )
    return f"    - {direction}:\n{peers}      ports:\n{each}"
