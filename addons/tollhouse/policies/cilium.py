"""Pods of a cluster whose plug-in is Cilium: the gateway goes to the names that the configuration has, and to no other."""

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
from tollhouse.policies.places import network_facts
from tollhouse.policies.rendering import Rendered

_NAMESPACE: Final = "k8s:io.kubernetes.pod.namespace"
_LABEL: Final = "k8s:app.kubernetes.io/name"
_GATEWAY: Final = "tollhouse"
_SERVICE: Final = "tollhouse.tollhouse.svc.cluster.local"
_SEARCHED: Final = ("", ".*.svc.cluster.local", ".svc.cluster.local", ".cluster.local")
"""What a pod's resolver puts behind a name before it asks for the name itself (``search`` in resolv.conf)."""
_MADE: Final = (
    "# Made by `tollhouse policy render cilium` from tollhouse.toml: change that, and render it again.\n"
    "# Policies add up, NetworkPolicies too: a second one for the same pods can only open more.\n"
)


def cilium(config: Config) -> Rendered:
    facts = network_facts(config)
    ports, admin = workload_ports(facts), admin_port(facts)
    found = destinations(config, facts)
    return Rendered(
        {
            "tollhouse-network.yaml": _gateway(ports, admin, found),
            "workload-network.yaml": _workload(ports),
        },
        (
            "a NetworkPolicy that opens TCP 443 to the world for the same pods undoes this one: delete that of "
            "`policy render kubernetes` in Tollhouse's namespace",
        ),
    )


def _gateway(ports: tuple[int, ...], admin: int | None, found: tuple[Destination, ...]) -> str:
    ingress = _rule(
        "fromEndpoints",
        _match({"k8s:io.cilium.k8s.namespace.labels.tollhouse-client": "true"}),
        ports,
    )
    if admin is not None:
        ingress += "    # Metrics. The kubelet is the node, which Cilium lets in.\n" + _rule(
            "fromEndpoints", _match({_NAMESPACE: "monitoring", _LABEL: "prometheus"}), (admin,)
        )
    egress = (
        "    # The names that it may ask for. Cilium reads the answers, and knows by them whose an address is.\n"
        + _dns(_completed(one) for one in found if not one.is_address)
    )
    by_port: dict[int, list[str]] = {}
    for one in found:
        if one.is_api_server:
            egress += _rule("toEntities", "        - kube-apiserver\n", API_SERVER_PORTS)
        elif one.service:
            namespace, name = one.service
            egress += _rule(
                "toEndpoints", _match({_NAMESPACE: namespace, _LABEL: name}), (one.port,)
            )
        elif one.is_address:
            egress += _rule(
                "toCIDR", f'        - "{ipaddress.ip_network(one.host)}"\n', (one.port,)
            )
        else:
            by_port.setdefault(one.port, []).append(one.host)
    for port, hosts in sorted(by_port.items()):
        egress += _rule("toFQDNs", "".join(f"        - {_name(host)}\n" for host in hosts), (port,))
    return (
        "# What may reach Tollhouse, and where Tollhouse may go: the names that its configuration has.\n"
        + _MADE
        + _policy("default-deny", _GATEWAY, " {}")
        + "  ingress:\n    - {}\n  egress:\n    - {}\n---\n"
        + _policy(
            "tollhouse", _GATEWAY, "\n    matchLabels:\n      app.kubernetes.io/name: tollhouse"
        )
        + "  ingress:\n"
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
        + _policy("out-through-tollhouse-only", None, " {}")
        + "  egress:\n"
        + "    # One name, as it is and as a resolver completes it: no data goes out in names.\n"
        + _dns(f"{_SERVICE}{suffix}" for suffix in _SEARCHED)
        + _rule("toEndpoints", _match({_NAMESPACE: _GATEWAY, _LABEL: "tollhouse"}), ports)
    )


def _policy(name: str, namespace: str | None, selector: str) -> str:
    where = f"  namespace: {namespace}\n" if namespace else ""
    return f"""\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: {name}
{where}spec:
  endpointSelector:{selector}
"""


def _dns(names: Iterable[str]) -> str:
    pods = _match({_NAMESPACE: "kube-system", "k8s:k8s-app": "kube-dns"})
    each = "".join(f"              - {_name(name)}\n" for name in dict.fromkeys(names))
    return (
        f"    - toEndpoints:\n{pods}      toPorts:\n        - ports:\n"
        '            - port: "53"\n              protocol: ANY\n          rules:\n            dns:\n'
        + each
    )


def _completed(one: Destination) -> str:
    """A Service's name as the cluster's name server knows it: ``redis.stores.svc`` is completed by the resolver."""
    return f"{one.host}.cluster.local" if one.host.endswith(".svc") else one.host


def _match(labels: dict[str, str]) -> str:
    each = "".join(f'            "{key}": "{value}"\n' for key, value in labels.items())
    return f"        - matchLabels:\n{each}"


def _name(host: str) -> str:
    """Cilium's ``*`` is like ours: of one label, as it stands for no dot."""
    return f'{"matchPattern" if "*" in host else "matchName"}: "{host}"'


def _rule(key: str, peers: str, ports: Iterable[int]) -> str:
    each = "".join(f'            - port: "{port}"\n              protocol: TCP\n' for port in ports)
    return f"    - {key}:\n{peers}      toPorts:\n        - ports:\n{each}"
