"""Cyclonus (https://github.com/mattfenwick/cyclonus) evaluates the policies for Kubernetes offline. It agrees with
test_kubernetes.py on all that pods could send to one another and to the world."""

from __future__ import annotations

import io
import itertools
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from tests.policies.test_kubernetes import CLIENTS, LABELS, allows, read
from tests.support.requires import program

PORTS = (53, 443, 6379, 8080, 8200, 9090)
WORLD = ("8.8.8.8", "10.9.0.1", "169.254.169.254", "2606:4700::1111", "fd00::9")


def policies() -> list[dict[str, Any]]:
    """As they are applied: those of workloads in the namespace of one."""
    found = [
        document
        for name in ("tollhouse-network.yaml", "workload-network.yaml", "stores-network.yaml")
        for document in read(name)
    ]
    for document in found:
        document["metadata"].setdefault("namespace", "acme")
    return found


def peer(name: str) -> dict[str, Any]:
    if name in WORLD:
        return {"IP": name}
    namespace, labels = LABELS[name]
    own = {"kubernetes.io/metadata.name": namespace}
    if namespace in CLIENTS:
        own["tollhouse-client"] = "true"
    inside = {"PodLabels": labels, "NamespaceLabels": own, "Namespace": namespace}
    # A pod has an address too, which no ipBlock here is meant for.
    return {"Internal": inside, "IP": f"100.127.0.{list(LABELS).index(name) + 1}"}


def ours(applied: list[dict[str, Any]], source: str, to: str, port: int, protocol: str) -> bool:
    return (source in WORLD or allows(applied, source, "Egress", to, port, protocol)) and (
        to in WORLD or allows(applied, to, "Ingress", source, port, protocol)
    )


@pytest.mark.requires("cyclonus")
def test_it_agrees(tmp_path: Path) -> None:
    applied = policies()
    (tmp_path / "policies").mkdir()
    for number, document in enumerate(applied):
        text = io.StringIO()
        YAML(typ="safe", pure=True).dump(document, text)
        (tmp_path / "policies" / f"{number}.yaml").write_text(text.getvalue())
    cases = [
        (source, to, port, protocol)
        for source, to in itertools.product((*LABELS, *WORLD), repeat=2)
        if source != to and not {source, to} <= set(WORLD)
        for port in PORTS
        for protocol in ("TCP", "UDP")
    ]
    traffic = [
        {
            "Source": peer(source),
            "Destination": peer(to),
            "Protocol": protocol,
            "ResolvedPort": port,
            "ResolvedPortName": "",
        }
        for source, to, port, protocol in cases
    ]
    (tmp_path / "traffic.json").write_text(json.dumps(traffic))
    done = subprocess.run(
        [
            *(program("cyclonus"), "analyze", "--mode", "query-traffic"),
            *("--policy-path", str(tmp_path / "policies")),
            *("--traffic-path", str(tmp_path / "traffic.json")),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    theirs = [
        said == "TRUE" for said in re.findall(r"IS ALLOWED\?\s*\|\s*(TRUE|FALSE)", done.stdout)
    ]
    assert len(theirs) == len(cases) > 1_000
    differing = [
        (case, said)
        for case, said in zip(cases, theirs, strict=True)
        if said is not ours(applied, *case)
    ]
    assert differing == []
    assert 20 < sum(theirs) < len(theirs)
