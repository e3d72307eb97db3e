"""policies/cilium: its fields are Cilium's published ones, the names that it opens the configuration's. No cluster ran it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tollhouse.config.load import catalog, load_config
from tollhouse.policies.cilium import cilium

FOLDER = Path(__file__).parents[2] / "policies" / "cilium"
MATCH = {"matchLabels"}
FIELDS = {
    "": {"apiVersion", "kind", "metadata", "spec"},
    "metadata": {"name", "namespace"},
    "spec": {"endpointSelector", "ingress", "egress"},
    "endpointSelector": MATCH,
    "ingress": {"fromEndpoints", "toPorts"},
    "egress": {"toEndpoints", "toEntities", "toCIDR", "toFQDNs", "toPorts"},
    "fromEndpoints": MATCH,
    "toEndpoints": MATCH,
    "toFQDNs": {"matchName", "matchPattern"},
    "toPorts": {"ports", "rules"},
    "ports": {"port", "protocol"},
    "rules": {"dns"},
    "dns": {"matchName", "matchPattern"},
}
"""Of what https://docs.cilium.io/en/stable/security/policy/language/ has, those that are used, by the key above them."""


def documents(text: str) -> list[dict[str, Any]]:
    return list(YAML(typ="safe", pure=True).load_all(text))


def check(value: object, above: str = "") -> None:
    if isinstance(value, list):
        for one in value:
            check(one, above)
    elif isinstance(value, dict) and above != "matchLabels":
        assert set(value) <= FIELDS[above], above
        for key, inner in value.items():
            check(inner, key)


def test_every_field_is_ciliums() -> None:
    """Each rule has exactly one kind of peer and names its ports, which are text."""
    for file in FOLDER.glob("*.yaml"):
        for document in documents(file.read_text()):
            assert (document["apiVersion"], document["kind"]) == (
                "cilium.io/v2",
                "CiliumNetworkPolicy",
            )
            check(document)
            rules = [*document["spec"].get("ingress", ()), *document["spec"].get("egress", ())]
            for rule in filter(None, rules):
                assert len(set(rule) - {"toPorts"}) == 1
                [ports] = rule["toPorts"]
                assert all(isinstance(port["port"], str) for port in ports["ports"])
                assert ports["ports"]


def test_the_gateway_goes_to_the_configurations_names(tmp_path: Path) -> None:
    """Every provider's host may be asked for and dialled at its port; a name that is taken out of the file is in neither, an
    address is a CIDR, and no rule opens the world."""
    file = tmp_path / "tollhouse.toml"
    text = (FOLDER / "tollhouse.toml").read_text()
    file.write_text(
        text + '[providers.a]\nfamily = "openai"\nhosts = ["llm.example.com"]\nport = 8443\n'
        '[providers.b]\nfamily = "openai"\nhosts = ["b.internal"]\nconnect_to = "10.0.0.7:9000"\nallow_private = true\n'
    )
    made = cilium(load_config(file)).files["tollhouse-network.yaml"]
    stored = (FOLDER / "tollhouse-network.yaml").read_text()
    for written, more in ((made, True), (stored, False)):
        deny, gateway = documents(written)
        assert (deny["spec"]["endpointSelector"], deny["spec"]["egress"]) == ({}, [{}])
        egress = gateway["spec"]["egress"]
        dialled = {
            (name, port["port"])
            for rule in egress
            for entry in rule.get("toFQDNs", ())
            for name in entry.values()
            for port in rule["toPorts"][0]["ports"]
        }
        [asked] = [
            {name for entry in rule["toPorts"][0]["rules"]["dns"] for name in entry.values()}
            for rule in egress
            if "rules" in rule["toPorts"][0]
        ]
        hosts = {
            (host, str(provider.port))
            for provider in catalog(load_config(FOLDER / "tollhouse.toml")).providers
            for host in provider.hosts
        }
        assert hosts <= dialled
        assert {name for name, _ in dialled} <= asked
        assert "*" not in asked
        assert (("llm.example.com", "8443") in dialled) is more
        cidrs = [rule["toCIDR"] for rule in egress if "toCIDR" in rule]
        assert cidrs == ([["10.0.0.7/32"]] if more else [])
        assert not {"b.internal", "10.0.0.7"} & asked
        assert "world" not in written


def test_a_workload_asks_for_one_name() -> None:
    """No name that it makes up reaches a name server."""
    [policy] = documents((FOLDER / "workload-network.yaml").read_text())
    dns, gateway = policy["spec"]["egress"]
    names = [name for entry in dns["toPorts"][0]["rules"]["dns"] for name in entry.values()]
    assert all(name.startswith("tollhouse.tollhouse.svc.cluster.local") for name in names)
    assert gateway["toPorts"] == [{"ports": [{"port": "8080", "protocol": "TCP"}]}]


def test_who_exchanges_tokens_may_be_reached(tmp_path: Path) -> None:
    """A provider by workload identity federation: the host of its exchange, with the configuration's values in it, is open."""
    file = tmp_path / "tollhouse.toml"
    file.write_text(
        (FOLDER / "tollhouse.toml").read_text()
        + '[providers.bedrock]\ncredential = { method = "federation", subject = { source = "file", file = "/run/token" }, '
        'parameters = { role_arn = "arn:aws:iam::123456789012:role/gateway", region = "eu-west-1" } }\n'
    )
    made = cilium(load_config(file)).files["tollhouse-network.yaml"]
    assert made.count('- matchName: "sts.eu-west-1.amazonaws.com"') == 2
    file.write_text(
        file.read_text().replace(
            "[providers.bedrock]\n",
            '[providers.bedrock]\nupstream_proxy = { url = "http://proxy.test:3128" }\n',
        )
    )
    made = cilium(load_config(file)).files["tollhouse-network.yaml"]
    assert '"sts.eu-west-1.amazonaws.com"' not in made
    assert '- matchName: "proxy.test"' in made
