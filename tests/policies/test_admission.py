"""policies/admission: the API server's schemas take it, and what it puts into pods is what workload.yaml shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from ruamel.yaml import YAML

POLICIES = Path(__file__).parents[2] / "policies"


def read(name: str) -> list[dict[str, Any]]:
    return list(YAML(typ="safe", pure=True).load_all((POLICIES / name).read_text()))


@pytest.mark.parametrize("name", ["inject", "require"])
def test_kubernetes_schemas_take_it(name: str) -> None:
    """Each policy is bound, and fails closed."""
    policy, binding = read(f"admission/{name}.yaml")
    for document in (policy, binding):
        kubernetes_validate.validate(document, "1.37", strict=True)
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]
    assert policy["spec"]["failurePolicy"] == "Fail"


def test_what_is_put_into_pods_is_the_workloads() -> None:
    """Proxy and mount of workload.yaml, in containers and init containers; the Bundle makes the ConfigMap and the key."""
    [pod] = read("kubernetes/workload.yaml")
    [container] = pod["spec"]["containers"]
    inject, _ = read("admission/inject.yaml")
    for mutation in inject["spec"]["mutations"]:
        text = mutation["applyConfiguration"]["expression"]
        for variable in container["env"]:
            if "value" in variable:
                value = variable["value"].replace("/ca.pem", "/bundle.pem")
                assert f'{{name: "{variable["name"]}", value: "{value}"}}' in text
        assert f'mountPath: "{container["volumeMounts"][0]["mountPath"]}"' in text
    [bundle] = read("admission/bundle.yaml")
    assert bundle["metadata"]["name"] == pod["spec"]["volumes"][0]["configMap"]["name"]
    assert set(bundle["spec"]) == {"sources", "target"}
    assert bundle["spec"]["target"] == {
        "configMap": {"key": "bundle.pem"},
        "namespaceSelector": {"matchLabels": {"tollhouse-client": "true"}},
    }
