"""policies/kubernetes, read as a cluster would read them: what they let out, and that they agree with each other, with the
gateway's own rules, and with the image."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from tollhouse.config.load import Config, load_config, unenforced
from tollhouse.dispatch.guard import V4, V6, refused_address

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "policies" / "kubernetes"
LABELS = {
    "kube-dns": ("kube-system", {"k8s-app": "kube-dns"}),
    "tollhouse": ("tollhouse", {"app.kubernetes.io/name": "tollhouse"}),
    "redis": ("redis", {"app.kubernetes.io/name": "redis"}),
    "vault": ("vault", {"app.kubernetes.io/name": "vault"}),
    "impostor": ("elsewhere", {"app.kubernetes.io/name": "tollhouse", "k8s-app": "kube-dns"}),
    "neighbour": ("tollhouse", {"app.kubernetes.io/name": "other"}),
    "client": ("acme", {"app": "workload"}),
    "prometheus": ("monitoring", {"app.kubernetes.io/name": "prometheus"}),
    "monitoring-other": ("monitoring", {"app.kubernetes.io/name": "other"}),
}
"""Pods that traffic could go to: namespace and labels."""
CLIENTS = {"acme"}
"""Namespaces that are labelled as clients."""


def read(name: str) -> list[dict[str, Any]]:
    """The documents of a file; a key that stands twice in one mapping is an error."""
    return [
        document
        for document in YAML(typ="safe", pure=True).load_all((FOLDER / name).read_text())
        if document
    ]


def only(name: str, kind: str, called: str | None = None) -> dict[str, Any]:
    [found] = [
        d for d in read(name) if d["kind"] == kind and called in (None, d["metadata"]["name"])
    ]
    return found


def matches(selector: dict[str, Any] | None, labels: dict[str, str]) -> bool:
    assert selector is None or set(selector) <= {"matchLabels"}
    return all(
        labels.get(key) == value for key, value in (selector or {}).get("matchLabels", {}).items()
    )


def peer_is(peer: dict[str, Any], target: str, own_namespace: str) -> bool:
    """Whether a NetworkPolicyPeer means ``target``: a name of `LABELS`, or an IP address."""
    if target not in LABELS:
        if "ipBlock" not in peer:
            return False
        address, block = ipaddress.ip_address(target), peer["ipBlock"]
        inside = address in ipaddress.ip_network(block["cidr"])
        return inside and not any(
            address in ipaddress.ip_network(cut) for cut in block.get("except", ())
        )
    namespace, labels = LABELS[target]
    if "ipBlock" in peer:
        return False
    if "namespaceSelector" in peer:
        known = {"kubernetes.io/metadata.name": namespace} | (
            {"tollhouse-client": "true"} if namespace in CLIENTS else {}
        )
        if not matches(peer["namespaceSelector"], known):
            return False
    elif namespace != own_namespace:
        return False
    return matches(peer.get("podSelector"), labels)


def allows(
    policies: list[dict[str, Any]],
    pod: str,
    direction: str,
    other: str,
    port: int,
    protocol: str = "TCP",
) -> bool:
    """The rule of NetworkPolicy: what selects the pod in this direction denies all but the sum of its own rules.
    https://kubernetes.io/docs/concepts/services-networking/network-policies/"""
    namespace, labels = LABELS[pod]
    selecting = [
        policy["spec"]
        for policy in policies
        if policy["metadata"].get("namespace", namespace) == namespace
        and direction in policy["spec"]["policyTypes"]
        and matches(policy["spec"]["podSelector"], labels)
    ]
    if not selecting:
        return True
    for rule in (rule for spec in selecting for rule in spec.get(direction.lower(), ())):
        peers = rule.get("to" if direction == "Egress" else "from")
        right_port = "ports" not in rule or any(
            p["protocol"] == protocol and p["port"] == port for p in rule["ports"]
        )
        if right_port and (peers is None or any(peer_is(peer, other, namespace) for peer in peers)):
            return True
    return False


def rules() -> Iterator[tuple[str, dict[str, Any]]]:
    for name in ("tollhouse-network.yaml", "workload-network.yaml", "stores-network.yaml"):
        for policy in read(name):
            for rule in (*policy["spec"].get("egress", ()), *policy["spec"].get("ingress", ())):
                yield name, rule


@pytest.fixture(scope="module")
def workload_rules() -> list[dict[str, Any]]:
    return read("workload-network.yaml")


@cache
def _gateway_rules() -> list[dict[str, Any]]:
    return read("tollhouse-network.yaml")


@pytest.fixture
def gateway_rules() -> list[dict[str, Any]]:
    return _gateway_rules()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The ConfigMap's tollhouse.toml, as the gateway reads it."""
    file = tmp_path_factory.mktemp("config") / "tollhouse.toml"
    file.write_text(only("tollhouse.yaml", "ConfigMap")["data"]["tollhouse.toml"])
    return load_config(file)


def test_every_document_is_an_object() -> None:
    """All files parse and name what they are, and no two documents the same thing."""
    files = sorted(FOLDER.glob("*.yaml"))
    assert len(files) == 5
    seen = [
        (d["apiVersion"], d["kind"], d["metadata"]["name"])
        for file in files
        for d in read(file.name)
    ]
    assert len(seen) == len(set(seen)) == 10


def test_no_rule_is_open_by_omission() -> None:
    """Every rule names its peers and its ports, and a selector of pods stands beside one of namespaces in one peer: apart,
    the two would be an "or"."""
    for name, rule in rules():
        peers = rule.get("to", rule.get("from"))
        assert peers, name
        assert all(set(port) == {"protocol", "port"} for port in rule["ports"]), name
        assert rule["ports"], name
        for peer in peers:
            assert set(peer) in (
                {"ipBlock"},
                {"namespaceSelector"},
                {"namespaceSelector", "podSelector"},
            ), name
            assert all(
                selector.get("matchLabels") for key, selector in peer.items() if key != "ipBlock"
            ), name


@pytest.mark.parametrize(
    ("other", "port", "protocol", "expected"),
    [
        ("kube-dns", 53, "UDP", True),
        ("kube-dns", 53, "TCP", True),
        ("kube-dns", 443, "TCP", False),
        ("tollhouse", 8080, "TCP", True),
        ("tollhouse", 9090, "TCP", False),
        ("tollhouse", 443, "UDP", False),
        ("impostor", 8080, "TCP", False),
        ("impostor", 53, "UDP", False),
        ("neighbour", 8080, "TCP", False),
        ("redis", 6379, "TCP", False),
        ("vault", 8200, "TCP", False),
        ("client", 8080, "TCP", False),
        ("104.18.7.192", 443, "TCP", False),
        ("104.18.7.192", 443, "UDP", False),
        ("8.8.8.8", 53, "UDP", False),
        ("2606:4700::6812:7c0", 443, "TCP", False),
        ("169.254.169.254", 80, "TCP", False),
    ],
)
def test_a_workload_gets_to_dns_and_tollhouse(
    workload_rules: list[dict[str, Any]], other: str, port: int, protocol: str, expected: bool
) -> None:
    """Nothing but name look-ups and Tollhouse's proxy port, whatever the pod is called."""
    assert allows(workload_rules, "client", "Egress", other, port, protocol) is expected


@pytest.mark.parametrize(
    ("other", "port", "protocol", "expected"),
    [
        ("kube-dns", 53, "UDP", True),
        ("redis", 6379, "TCP", True),
        ("redis", 443, "TCP", False),
        ("vault", 8200, "TCP", True),
        ("client", 443, "TCP", False),
        ("impostor", 443, "TCP", False),
        ("104.18.7.192", 443, "TCP", True),
        ("2606:4700::6812:7c0", 443, "TCP", True),
        ("104.18.7.192", 443, "UDP", False),
        ("104.18.7.192", 80, "TCP", False),
        ("8.8.8.8", 53, "UDP", False),
        ("10.0.0.1", 443, "TCP", False),
        ("169.254.169.254", 443, "TCP", False),
        ("168.63.129.16", 443, "TCP", False),
        ("fd00:ec2::254", 443, "TCP", False),
        ("::ffff:104.18.7.192", 443, "TCP", False),
    ],
)
def test_tollhouse_gets_to_its_stores_and_the_world(
    gateway_rules: list[dict[str, Any]], other: str, port: int, protocol: str, expected: bool
) -> None:
    """DNS, Redis, Vault, and TCP 443 of public addresses."""
    assert allows(gateway_rules, "tollhouse", "Egress", other, port, protocol) is expected


def test_other_pods_beside_tollhouse_get_nowhere(gateway_rules: list[dict[str, Any]]) -> None:
    """A pod in Tollhouse's namespace that is not Tollhouse has no way out and no way in."""
    assert not allows(gateway_rules, "neighbour", "Egress", "104.18.7.192", 443)
    assert not allows(gateway_rules, "neighbour", "Ingress", "client", 8080)


@pytest.mark.parametrize(
    ("other", "port", "expected"),
    [
        ("client", 8080, True),
        ("client", 9090, False),
        ("prometheus", 9090, True),
        ("prometheus", 8080, False),
        ("monitoring-other", 9090, False),
        ("impostor", 8080, False),
        ("104.18.7.192", 8080, False),
    ],
)
def test_labelled_namespaces_reach_tollhouse(
    gateway_rules: list[dict[str, Any]], other: str, port: int, expected: bool
) -> None:
    """Only the proxy port, and only from a namespace with the label; a pod's own labels count for nothing."""
    assert allows(gateway_rules, "tollhouse", "Ingress", other, port) is expected


def test_only_tollhouse_reaches_redis_and_vault() -> None:
    """No workload, no other pod of Tollhouse's namespace, no monitoring; and no other port."""
    policies = read("stores-network.yaml")
    for store, port in (("redis", 6379), ("vault", 8200)):
        assert {other for other in LABELS if allows(policies, store, "Ingress", other, port)} == {
            "tollhouse"
        }
        assert not allows(policies, store, "Ingress", "tollhouse", port + 1)


def test_kubernetes_schemas_take_every_document() -> None:
    """By the published schemas of a release that has MutatingAdmissionPolicy; a field that they do not know is an error."""
    for file in sorted(FOLDER.glob("*.yaml")):
        for document in read(file.name):
            kubernetes_validate.validate(document, "1.37", strict=True)


def test_the_configmap_is_the_file_that_the_policies_are_rendered_for() -> None:
    """The rules that are applied and the gateway that is run have one configuration."""
    _, _, rest = (FOLDER / "tollhouse.toml").read_text().partition("\n")
    assert rest == only("tollhouse.yaml", "ConfigMap")["data"]["tollhouse.toml"]


def edges() -> Iterator[str]:
    """The first and last address of each network that the gateway's table or the policy names, and their neighbours."""
    policy = only("tollhouse-network.yaml", "NetworkPolicy", "tollhouse")["spec"]["egress"]
    blocks = [peer["ipBlock"] for rule in policy for peer in rule["to"] if "ipBlock" in peer]
    named = [
        ipaddress.ip_network(text) for block in blocks for text in (block["cidr"], *block["except"])
    ]
    for network in (*named, *(network for network, _ in V4), *(network for network, _ in V6)):
        first, last = int(network.network_address), int(network.broadcast_address)
        top = (1 << network.max_prefixlen) - 1
        for number in (first - 1, first, last, last + 1):
            if 0 <= number <= top:
                yield str(type(network.network_address)(number))


def test_the_edges_of_what_is_refused_agree_with_the_gateway(
    gateway_rules: list[dict[str, Any]],
) -> None:
    """The policy lets out exactly what the gateway would dial, at every border between the two."""
    allowed = {
        address: allows(gateway_rules, "tollhouse", "Egress", address, 443) for address in edges()
    }
    assert allowed == {address: refused_address(address) is None for address in allowed}


@given(st.ip_addresses())
def test_any_address_agrees_with_the_gateway(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    """And anywhere else."""
    assert allows(_gateway_rules(), "tollhouse", "Egress", str(address), 443) is (
        refused_address(str(address)) is None
    )


def test_the_configuration_is_one_that_runs(config: Config) -> None:
    """The ConfigMap's file has no problem, asks for nothing that is not enforced yet, and holds no secret."""
    assert unenforced(config) == []
    text = only("tollhouse.yaml", "ConfigMap")["data"]["tollhouse.toml"]
    assert not re.search(r"gate_|sk-|hvs\.|redis://[^/]*@", text)
    assert (config.redis.embedded, config.vault.embedded) == (False, False)


def test_ports_agree(config: Config, gateway_rules: list[dict[str, Any]]) -> None:
    """Listeners, container ports, Service, probes and policies mean the same ports."""
    [container] = only("tollhouse.yaml", "Deployment")["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert config.listen.proxy is not None
    assert config.listen.admin is not None
    assert ports == {"proxy": config.listen.proxy.port, "admin": config.listen.admin.port}
    assert (config.listen.base_url, config.listen.transparent) == (None, None)
    [service_port] = only("tollhouse.yaml", "Service")["spec"]["ports"]
    assert (service_port["port"], service_port["targetPort"]) == (config.listen.proxy.port, "proxy")
    paths = {
        probe: container[probe]["httpGet"]["path"] for probe in container if probe.endswith("Probe")
    }
    assert paths == {
        "startupProbe": "/livez",
        "livenessProbe": "/livez",
        "readinessProbe": "/readyz",
    }
    assert {container[probe]["httpGet"]["port"] for probe in paths} == {"admin"}
    policy = only("tollhouse-network.yaml", "NetworkPolicy", "tollhouse")["spec"]
    of_ingress = [[port["port"] for port in rule["ports"]] for rule in policy["ingress"]]
    assert of_ingress == [[config.listen.proxy.port], [config.listen.admin.port]]


def test_selectors_mean_the_deployments_pods() -> None:
    """Deployment, Service and policy select the same labels in the same namespace."""
    deployment = only("tollhouse.yaml", "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels == deployment["spec"]["selector"]["matchLabels"] == LABELS["tollhouse"][1]
    assert only("tollhouse.yaml", "Service")["spec"]["selector"] == labels
    policy = only("tollhouse-network.yaml", "NetworkPolicy", "tollhouse")
    assert policy["spec"]["podSelector"]["matchLabels"] == labels
    namespace = only("tollhouse.yaml", "Namespace")["metadata"]["name"]
    for document in (*read("tollhouse.yaml"), *read("tollhouse-network.yaml")):
        assert (
            document["kind"] == "Namespace"
            or document["metadata"]["namespace"] == namespace == "tollhouse"
        )


def test_the_pod_may_do_as_little_as_possible() -> None:
    """Non-root, nothing writable but the state, no capability, no token of the cluster, none of the node's namespaces."""
    pod = only("tollhouse.yaml", "Deployment")["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    [container] = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    # A provider's key in the environment would stop the gateway; none of its settings are read from there.
    assert "env" not in container
    assert "envFrom" not in container
    writable = [
        mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")
    ]
    assert writable == ["/var/lib/tollhouse"]


def test_the_image_is_the_one_that_the_dockerfile_makes(config: Config) -> None:
    """Its user, its configuration's place and its state directory are those of the manifest."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    pod = only("tollhouse.yaml", "Deployment")["spec"]["template"]["spec"]
    context, [container] = pod["securityContext"], pod["containers"]
    assert f"USER {context['runAsUser']}:{context['runAsGroup']}" in dockerfile
    mounts = {mount["name"]: Path(mount["mountPath"]) for mount in container["volumeMounts"]}
    assert f"TOLLHOUSE_CONFIG={mounts['config']}/tollhouse.toml" in dockerfile
    assert f'VOLUME ["{mounts["state"]}"]' in dockerfile
    assert config.state.directory.is_relative_to(mounts["state"])


def test_every_file_of_the_configuration_is_mounted(config: Config) -> None:
    """The CA and Vault's files come from Secrets that the gateway's group may read and others may not."""
    pod = only("tollhouse.yaml", "Deployment")["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {
        mount["name"]: Path(mount["mountPath"]) for mount in pod["containers"][0]["volumeMounts"]
    }
    assert mounts.keys() == volumes.keys()
    auth: Any = config.vault.auth
    for name, files in (
        ("ca", (config.ca.cert_file, config.ca.key_file)),
        ("vault", (config.vault.ca_file, auth.role_id_file, auth.secret_id_file)),
    ):
        assert volumes[name]["secret"]["defaultMode"] == 0o440
        assert {file.parent for file in files if file} == {mounts[name]}
        assert None not in files
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]


def test_a_stopped_pod_has_time_to_drain(config: Config) -> None:
    """preStop, `drain_s` and the ten seconds after it fit into the grace period."""
    pod = only("tollhouse.yaml", "Deployment")["spec"]["template"]["spec"]
    waited = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > waited + config.limits.drain_s + 10


def test_the_workload_knows_the_proxy_the_ca_and_its_token() -> None:
    """HTTPS_PROXY names the Service and no secret; the token comes from a Secret, the CA from a mount."""
    [container] = only("workload.yaml", "Pod")["spec"]["containers"]
    values = {variable["name"]: variable.get("value") for variable in container["env"]}
    service = only("tollhouse.yaml", "Service")
    host = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc.cluster.local"
    assert (
        values["HTTPS_PROXY"]
        == values["https_proxy"]
        == f"http://{host}:{service['spec']['ports'][0]['port']}"
    )
    [token] = [variable for variable in container["env"] if variable["name"] == "OPENAI_API_KEY"]
    assert set(token["valueFrom"]) == {"secretKeyRef"}
    [mount] = container["volumeMounts"]
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"):
        assert Path(str(values[name])).parent == Path(mount["mountPath"])


def test_the_label_of_clients_is_the_one_that_is_told() -> None:
    """The files' and README's command sets the label that Tollhouse's policy asks for."""
    policy = only("tollhouse-network.yaml", "NetworkPolicy", "tollhouse")
    [ingress, _] = policy["spec"]["ingress"]
    [(key, value)] = ingress["from"][0]["namespaceSelector"]["matchLabels"].items()
    for name in ("workload-network.yaml", "README.md"):
        assert f"{key}={value}" in (FOLDER / name).read_text()
