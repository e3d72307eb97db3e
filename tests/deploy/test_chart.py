"""deploy/helm: what the chart makes of its values, rendered and linted by the library that `helm` itself is made of."""

from __future__ import annotations

import json
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
from helm_python import chart as helm
from helm_python.errors import HelmError
from ruamel.yaml import YAML

from tollhouse.config.load import load_config, unenforced
from tollhouse.policies.kubernetes import kubernetes

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "tollhouse"
VALUES = (CHART / "values.yaml").read_text()

NAME = "tollhouse"
"""Of the release and of its namespace."""
SCRAPED = {
    "serviceMonitor.enabled": True,
    "serviceMonitor.tokenSecret.name": "view",
    "config.admin.unsafe_plaintext": True,
}
EVERYTHING = SCRAPED | {
    "prometheusRule.enabled": True,
    "dashboard.enabled": True,
    "autoscaling.enabled": True,
    "networkPolicy.defaultDeny": True,
    "workloads.namespaces": ["acme", "beta"],
    "workloads.networkPolicy": True,
    "workloads.ca": "-----BEGIN CERTIFICATE-----\n",
    "workloads.bundle": "-----BEGIN CERTIFICATE-----\n",
    "tls.existingSecret": "tls",
    "federation": [{"name": "openai", "audience": "https://tollhouse.example"}],
}


def yaml(text: str) -> list[Any]:
    """A key that stands twice in one mapping is an error."""
    return [one for one in YAML(typ="safe", pure=True).load_all(text) if one]


def nested(values: dict[str, object]) -> dict[str, Any]:
    """A tree of values of names with dots, as `helm --set` takes them."""
    tree: dict[str, Any] = {}
    for name, value in values.items():
        *tables, key = name.split(".")
        at = tree
        for table in tables:
            at = at.setdefault(table, {})
        at[key] = value
    return tree


@cache
def _render(values: str) -> dict[str, str]:
    with helm.Chart.load(CHART) as chart:
        return chart.render(json.loads(values), name=NAME, namespace=NAME)


def rendered(**values: object) -> dict[tuple[str, str], dict[str, Any]]:
    """The chart's documents for these values, by kind and namespace/name."""
    files = _render(json.dumps(nested(values)))
    documents = [d for name, text in files.items() if name.endswith(".yaml") for d in yaml(text)]
    found = {
        (d["kind"], f"{d['metadata']['namespace']}/{d['metadata']['name']}"): d for d in documents
    }
    assert len(found) == len(documents)
    return found


def refused(**values: object) -> str:
    with pytest.raises(HelmError) as caught:
        _render(json.dumps(nested(values)))
    return str(caught.value)


def pod(**values: object) -> dict[str, Any]:
    template = rendered(**values)["Deployment", "tollhouse/tollhouse"]["spec"]["template"]
    assert isinstance(template, dict)
    return template


def test_the_values_fit_their_schema() -> None:
    """And a value that the chart does not know is refused."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    [values] = yaml(VALUES)
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(values, schema)
    assert values.keys() <= schema["properties"].keys()
    for wrong in (
        {"replicas": 3},
        {"networkPolicy": values["networkPolicy"] | {"enable": True}},
        {"federation": [{"name": "openai"}]},
        {"config": values["config"] | {"redis": {"url": "rediss://u:secret@redis:6379/0"}}},
        {"config": values["config"] | {"state": {"directory": "/data"}}},
        {"config": values["config"] | {"alerts": [{"to": "https://hooks.slack.com/services/x"}]}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(values | wrong, schema)


def test_the_chart_is_of_this_version() -> None:
    """The image's tag is the package's version unless one is given."""
    [chart] = yaml((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert chart["appVersion"] == project["version"]


def test_the_default_policy_lets_out_what_the_renderer_does() -> None:
    """The chart's list of public addresses is that of `tollhouse policy render kubernetes`, with and without Helm."""
    [networks] = yaml((CHART / "files" / "public-networks.yaml").read_text())
    config = load_config(ROOT / "policies" / "kubernetes" / "tollhouse.toml")
    made = yaml(kubernetes(config).files["tollhouse-network.yaml"])
    assert made[-1]["spec"]["egress"][-1]["to"] == networks


def test_helm_lint() -> None:
    """Strict: a warning is a failure as well. An icon is no more than recommended."""
    for values in ({}, EVERYTHING):
        report = helm.lint(CHART, nested(values), strict=True, kube_version="1.37.0")
        assert report["total_charts_linted"] == 1
        assert report["errors"] == []
        assert [one["error"] for one in report["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["default", "everything"])
def test_kubernetes_takes_every_document(values: dict[str, object]) -> None:
    """By Kubernetes' published schemas, without a field that they do not know."""
    found = rendered(**values)
    for (kind, _), document in found.items():
        if kind not in ("ServiceMonitor", "PrometheusRule"):
            kubernetes_validate.validate(document, "1.37", strict=True)
    assert len(found) == (16 if values else 6)


def test_the_pod_is_confined() -> None:
    """What Kubernetes' "restricted" level asks for, and a root filesystem that nobody writes."""
    spec = pod(**EVERYTHING)["spec"]
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "fsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    [container] = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    assert [m["name"] for m in container["volumeMounts"] if not m.get("readOnly")] == ["state"]
    modes = {v["name"]: v["secret"]["defaultMode"] for v in spec["volumes"] if "secret" in v}
    assert modes == dict.fromkeys(("ca", "vault", "tls"), 0o440)
    [token] = [v for v in spec["volumes"] if "projected" in v]
    assert token["projected"]["sources"] == [
        {
            "serviceAccountToken": {
                "audience": "https://tollhouse.example",
                "expirationSeconds": 3600,
                "path": "token",
            }
        }
    ]
    [mount] = [m for m in container["volumeMounts"] if m["name"] == token["name"]]
    assert mount["mountPath"] == "/var/run/secrets/openai"


def test_probes_and_services_have_their_own_ports() -> None:
    """Probes ask the admin port, which is not at the workloads' Service; ports follow the configuration."""
    values = {"config.listen.proxy": "*:3128", "config.listen.base_url": "0.0.0.0:8000"}
    found = rendered(**values | SCRAPED)
    [container] = found["Deployment", "tollhouse/tollhouse"]["spec"]["template"]["spec"][
        "containers"
    ]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"proxy": 3128, "base-url": 8000, "admin": 9090}
    probes = {
        name: (probe["httpGet"]["path"], probe["httpGet"]["port"], probe["httpGet"]["scheme"])
        for name, probe in container.items()
        if name.endswith("Probe")
    }
    assert probes == {
        "startupProbe": ("/livez", "admin", "HTTP"),
        "livenessProbe": ("/livez", "admin", "HTTP"),
        "readinessProbe": ("/readyz", "admin", "HTTP"),
    }
    served = found["Service", "tollhouse/tollhouse"]["spec"]["ports"]
    assert {one["name"]: one["port"] for one in served} == {"proxy": 3128, "base-url": 8000}
    admin = found["Service", "tollhouse/tollhouse-admin"]
    monitor = found["ServiceMonitor", "tollhouse/tollhouse"]["spec"]
    wanted = monitor["selector"]["matchLabels"].items()
    assert wanted <= admin["metadata"]["labels"].items()
    assert not wanted <= found["Service", "tollhouse/tollhouse"]["metadata"]["labels"].items()
    assert [one["name"] for one in admin["spec"]["ports"]] == [monitor["endpoints"][0]["port"]]


def test_the_scrape_shows_a_token_as_the_gateway_takes_it() -> None:
    """With a token over TLS or by the switch, or open; and no scrape that could only be refused."""
    [endpoint] = rendered(**SCRAPED)["ServiceMonitor", "tollhouse/tollhouse"]["spec"]["endpoints"]
    assert (endpoint["scheme"], endpoint["path"]) == ("http", "/metrics")
    credentials = {"type": "Bearer", "credentials": {"name": "view", "key": "token"}}
    assert endpoint["authorization"] == credentials

    tls = {"cert_file": "/run/tollhouse-tls/tls.crt", "key_file": "/run/tollhouse-tls/tls.key"}
    secured = SCRAPED | {
        "config.admin": {"tls": tls},
        "tls.existingSecret": "tls",
        "serviceMonitor.tls.serverName": "tollhouse",
    }
    del secured["config.admin.unsafe_plaintext"]
    [endpoint] = rendered(**secured)["ServiceMonitor", "tollhouse/tollhouse"]["spec"]["endpoints"]
    assert (endpoint["scheme"], endpoint["authorization"]) == ("https", credentials)
    assert endpoint["tlsConfig"] == {"serverName": "tollhouse"}
    [container] = pod(**secured)["spec"]["containers"]
    assert container["readinessProbe"]["httpGet"]["scheme"] == "HTTPS"

    opened = {"serviceMonitor.enabled": True, "config.admin.unsafe_open_metrics": True}
    [endpoint] = rendered(**opened)["ServiceMonitor", "tollhouse/tollhouse"]["spec"]["endpoints"]
    assert "authorization" not in endpoint

    assert "tollhouse token create --view" in refused(**{"serviceMonitor.enabled": True})
    without = {key: value for key, value in SCRAPED.items() if not key.startswith("config.")}
    assert "config.admin.unsafe_plaintext=true" in refused(**without)


def test_rules_and_board_are_those_of_deploy() -> None:
    """What Prometheus writes for a person, such as {{ $labels.provider }}, is not Helm's to fill in."""
    found = rendered(**EVERYTHING)
    [rules] = yaml((ROOT / "deploy" / "prometheus" / "tollhouse-rules.yaml").read_text())
    assert found["PrometheusRule", "tollhouse/tollhouse"]["spec"] == rules
    board = found["ConfigMap", "tollhouse/tollhouse-dashboard"]
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
    wanted = json.loads((ROOT / "deploy" / "grafana" / "tollhouse.json").read_text())
    assert json.loads(board["data"]["tollhouse.json"]) == wanted


def test_the_configuration_runs_and_the_policy_is_rendered_for_it(tmp_path: Path) -> None:
    """The ConfigMap is a file that the gateway takes, numbers as they were; its own renderer writes the chart's policy."""
    values = {
        "config.listen.base_url": "0.0.0.0:8000",
        "config.limits": {"drain_s": 60, "abandoned_read_s": 0.5},
        "config.providers": {"openai": {"attempts": 2, "allow": ["POST /v1/a&b"]}},
    }
    for case in ({}, values):
        found = rendered(**case)
        file = tmp_path / "tollhouse.toml"
        file.write_text(found["ConfigMap", "tollhouse/tollhouse"]["data"]["tollhouse.toml"])
        config = load_config(file)
        assert unenforced(config) == []
        made = yaml(kubernetes(config).files["tollhouse-network.yaml"])[-1]["spec"]
        of_chart = found["NetworkPolicy", "tollhouse/tollhouse"]["spec"]
        assert of_chart["policyTypes"] == made["policyTypes"]
        assert of_chart["egress"] == made["egress"]
        by_port = sorted(port["port"] for port in made["ingress"][0].pop("ports"))
        assert sorted(port["port"] for port in of_chart["ingress"][0].pop("ports")) == by_port
        assert of_chart["ingress"] == made["ingress"]
    read = tomllib.loads(file.read_text())
    assert read["limits"] == values["config.limits"]
    assert read["providers"] == values["config.providers"]
    assert isinstance(read["limits"]["drain_s"], int)
    assert pod(**values)["spec"]["terminationGracePeriodSeconds"] == 90


def test_a_changed_configuration_is_a_rollout() -> None:
    """By the annotation of the pods, which nothing else changes."""
    before = pod()["metadata"]["annotations"]["checksum/config"]
    assert (
        before
        != pod(**{"config.limits": {"drain_s": 40}})["metadata"]["annotations"]["checksum/config"]
    )
    assert before == pod(replicaCount=3)["metadata"]["annotations"]["checksum/config"]


def test_replicas_are_spread_scaled_and_kept() -> None:
    """Selectors mean the pods; the autoscaler owns the number of them."""
    found = rendered(**EVERYTHING)
    deployment = found["Deployment", "tollhouse/tollhouse"]["spec"]
    labels = deployment["selector"]["matchLabels"]
    assert labels.items() <= deployment["template"]["metadata"]["labels"].items()
    assert "replicas" not in deployment
    [spread] = deployment["template"]["spec"]["topologySpreadConstraints"]
    for selector in (
        spread["labelSelector"],
        found["PodDisruptionBudget", "tollhouse/tollhouse"]["spec"]["selector"],
        found["NetworkPolicy", "tollhouse/tollhouse"]["spec"]["podSelector"],
    ):
        assert selector == {"matchLabels": labels}
    scaler = found["HorizontalPodAutoscaler", "tollhouse/tollhouse"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == "tollhouse"
    assert found["NetworkPolicy", "tollhouse/tollhouse-deny"]["spec"]["podSelector"] == {}


def test_workloads_get_the_certificate_and_one_way_out() -> None:
    """In each of their namespaces; a private key goes into none."""
    found = rendered(**EVERYTHING)
    for namespace in ("acme", "beta"):
        certs = found["ConfigMap", f"{namespace}/tollhouse-certs"]["data"]
        assert certs.keys() == {"ca.pem", "bundle.pem"}
        policy = found["NetworkPolicy", f"{namespace}/out-through-tollhouse-only"]["spec"]
        assert (policy["podSelector"], policy["policyTypes"]) == ({}, ["Egress"])
        assert [port["port"] for rule in policy["egress"] for port in rule["ports"]] == [
            53,
            53,
            8080,
        ]
    key = "-----BEGIN PRIVATE KEY-----\n"
    assert "private key" in refused(**EVERYTHING | {"workloads.ca": key})


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"config.listen.admin": "off"}, "the probes need it"),
        ({"config.listen.proxy": "127.0.0.1:8080"}, "which no other pod"),
        ({"config.listen.proxy": "off"}, "no listener for workloads"),
        ({"config.redis.url": "redis://u:p@redis/0"}, "url"),
        ({"replicas": 2}, "replicas"),
    ],
)
def test_what_could_not_run_is_not_installed(values: dict[str, object], why: str) -> None:
    assert why in refused(**values)
