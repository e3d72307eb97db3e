"""policies/admission: the API server's schemas take it, labelled pods get the proxy and the CA, and pods that could go around
the network policy are refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from ruamel.yaml import YAML
from tests.policies.admission import VERSION, chosen, mutated, refused

POLICIES = Path(__file__).parents[2] / "policies"
CLIENTS = {"tollhouse-client": "true"}


def read(name: str) -> list[dict[str, Any]]:
    return list(YAML(typ="safe", pure=True).load_all((POLICIES / name).read_text()))


def bare_pod() -> dict[str, Any]:
    """workload.yaml's, as somebody writes it who knows of no proxy: labelled, with settings of its own and an init container."""
    [pod] = read("kubernetes/workload.yaml")
    [container] = pod["spec"]["containers"]
    del pod["spec"]["volumes"], container["volumeMounts"]
    container["env"] = [
        {"name": "MODE", "value": "batch"},
        {"name": "HTTPS_PROXY", "value": "http://elsewhere.example:3128"},
        *(variable for variable in container["env"] if "valueFrom" in variable),
    ]
    pod["metadata"]["labels"] = {"app": "worker", "tollhouse": "true"}
    pod["spec"]["initContainers"] = [{**copy.deepcopy(container), "name": "first", "env": []}]
    return pod


@pytest.mark.parametrize("name", ["inject", "require"])
def test_kubernetes_schemas_take_it(name: str) -> None:
    """Each policy is bound, and fails closed."""
    policy, binding = read(f"admission/{name}.yaml")
    for document in (policy, binding):
        kubernetes_validate.validate(document, VERSION, strict=True)
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]
    assert policy["spec"]["failurePolicy"] == "Fail"


def test_a_labelled_pod_gets_proxy_and_ca() -> None:
    """Each container has workload.yaml's variables and mount, once, beside what it had; another proxy is replaced. Applied once
    more nothing changes."""
    [shown] = read("kubernetes/workload.yaml")
    wanted = {
        one["name"]: one["value"].replace("/ca.pem", "/bundle.pem")
        for one in shown["spec"]["containers"][0]["env"]
        if "value" in one
    }
    policy, _ = read("admission/inject.yaml")
    pod = bare_pod()
    assert chosen(policy, pod, CLIENTS, "CREATE")
    made = mutated(policy, pod)
    kubernetes_validate.validate(made, VERSION, strict=True)
    for kind in ("containers", "initContainers"):
        [before], [after] = pod["spec"][kind], made["spec"][kind]
        values = {one["name"]: one.get("value") for one in after["env"]}
        assert len(values) == len(after["env"])
        assert values.items() >= wanted.items()
        kept = {one["name"]: one for one in before["env"] if one["name"] != "HTTPS_PROXY"}
        assert {one["name"]: one for one in after["env"] if one["name"] in kept} == kept
        [mount] = after["volumeMounts"]
        [like] = shown["spec"]["containers"][0]["volumeMounts"]
        assert mount == {**like, "name": "tollhouse-certs"}
        same = set(before) - {"env"}
        assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert made["spec"]["volumes"] == [
        {"name": "tollhouse-certs", "configMap": shown["spec"]["volumes"][0]["configMap"]}
    ]
    assert mutated(policy, made) == made


def test_a_pod_without_init_containers() -> None:
    policy, _ = read("admission/inject.yaml")
    pod = bare_pod()
    del pod["spec"]["initContainers"]
    made = mutated(policy, pod)
    assert "initContainers" not in made["spec"]
    assert "SSL_CERT_FILE" in {one["name"] for one in made["spec"]["containers"][0]["env"]}


@pytest.mark.parametrize(
    ("namespace", "labels"),
    [
        ({}, {"tollhouse": "true"}),
        (CLIENTS, {}),
        (CLIENTS, {"tollhouse": "false"}),
        ({"tollhouse-client": "false"}, {"tollhouse": "true"}),
    ],
)
def test_other_pods_are_left_alone(namespace: dict[str, str], labels: dict[str, str]) -> None:
    policy, _ = read("admission/inject.yaml")
    pod = bare_pod()
    pod["metadata"]["labels"] = labels
    assert not chosen(policy, pod, namespace, "CREATE")


def test_an_expression_is_judged_by_the_schema_of_a_pod() -> None:
    """A field that no container has is no field of the mutation's either."""
    policy, _ = read("admission/inject.yaml")
    apply = policy["spec"]["mutations"][0]["applyConfiguration"]
    apply["expression"] = apply["expression"].replace("mountPath:", "mountPoint:")
    with pytest.raises(Exception, match="mountPoint"):
        mutated(policy, bare_pod())


REFUSED: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("the node's network", {"hostNetwork": True}, {}, "hostNetwork"),
    ("privileged", {}, {"privileged": True}, "privileged"),
    ("its own files", {}, {"readOnlyRootFilesystem": False}, "readOnlyRootFilesystem"),
    ("no word of its files", {}, {"readOnlyRootFilesystem": None}, "readOnlyRootFilesystem"),
    ("capabilities", {}, {"capabilities": None}, "capabilities"),
    (
        "one capability",
        {},
        {"capabilities": {"drop": ["ALL"], "add": ["NET_RAW"]}},
        "capabilities",
    ),
]


@pytest.mark.parametrize("kind", ["containers", "initContainers", "ephemeralContainers"])
@pytest.mark.parametrize(
    ("spec", "security", "said"),
    [row[1:] for row in REFUSED],
    ids=[row[0] for row in REFUSED],
)
def test_a_pod_that_could_go_around_is_refused(
    kind: str, spec: dict[str, Any], security: dict[str, Any], said: str
) -> None:
    """For one reason, whichever container it is; workload.yaml's own pod is let in."""
    policy, _ = read("admission/require.yaml")
    [pod] = read("kubernetes/workload.yaml")
    [container] = pod["spec"]["containers"]
    assert chosen(policy, pod, CLIENTS, "CREATE")
    assert chosen(policy, pod, CLIENTS, "UPDATE")
    assert refused(policy, pod) == []
    context = {**container["securityContext"], **security}
    context = {name: value for name, value in context.items() if value is not None}
    other = {**container, "name": "other", "securityContext": context}
    pod["spec"] |= spec
    pod["spec"][kind] = [*pod["spec"].get(kind, []), other]
    [message] = refused(policy, pod)
    assert said in message


def test_the_bundle_makes_the_config_map() -> None:
    """Of the name and the key that pods mount, in namespaces of clients alone."""
    [pod] = read("kubernetes/workload.yaml")
    [bundle] = read("admission/bundle.yaml")
    assert bundle["metadata"]["name"] == pod["spec"]["volumes"][0]["configMap"]["name"]
    assert set(bundle["spec"]) == {"sources", "target"}
    assert bundle["spec"]["target"] == {
        "configMap": {"key": "bundle.pem"},
        "namespaceSelector": {"matchLabels": CLIENTS},
    }
