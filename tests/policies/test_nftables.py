"""policies/nftables on a host of its own: programs that know of no proxy reach the provider through Tollhouse, and nothing
else gets out.

Everything happens in network namespaces (host.py draws them), with users that have no accounts. What "gets out" is read
off the wire on the internet's side, and by listeners there which would be reached without the policy: the first test
shows that they are.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.policies.host import (
    BOUND,
    CHAT,
    ELSEWHERE,
    GATEWAY_UID,
    GUEST,
    NAMES,
    NEAR,
    NEAR6,
    ON_443,
    OTHER,
    OTHER6,
    POLICY,
    PROVIDER,
    RESOLVER,
    ROOT,
    SDK,
    TEXT,
    TRANSPARENT_PORT,
    WORKLOAD_UID,
    Host,
    open_host,
    start_gateway,
    with_variables,
)
from tests.policies.probe import Attempt
from tests.support.gateway import REAL_KEY
from tests.support.netns import Namespace
from tests.support.requires import program

pytestmark = pytest.mark.requires("netns", "nft", "curl")

URL = "https://api.openai.com/v1/chat/completions"
TO_PROVIDER = {("tcp", PROVIDER, 443)}
ASKED = {("udp", RESOLVER, 53)}
LET_IN = ((socket.AF_INET, NEAR), (socket.AF_INET6, NEAR6))


def load(where: Namespace, directory: Path, **variables: object) -> None:
    """Load the policy as README.md says, with these values at its top."""
    file = directory / "tollhouse.nft"
    file.write_text(with_variables(POLICY.read_text(), **variables))
    where.do(program("nft"), "-f", str(file))


@pytest.fixture(scope="module")
def bare_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host without the policy and without Tollhouse."""
    with open_host(tmp_path_factory.mktemp("bare-host")) as made:
        yield made


@pytest.fixture(scope="module")
def running_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host with the policy, then Tollhouse, running."""
    with open_host(tmp_path_factory.mktemp("host")) as made:
        load(
            made.near,
            made.directory,
            gateway_user=GATEWAY_UID,
            transparent_port=TRANSPARENT_PORT,
            resolvers_v4=f"{{ {RESOLVER} }}",
        )
        start_gateway(made)
        yield made


@pytest.fixture
def host(running_host: Host) -> Host:
    running_host.forget()
    return running_host


def places(attempts: tuple[Attempt, ...]) -> set[tuple[str, str, int]]:
    return {
        (protocol, address, port) for protocol, address, port, _ in attempts if protocol != "icmp"
    }


def assert_paid_for(host: Host, calls: int) -> None:
    """The provider got the real key and no gate token; each call left its line, from the transparent listener."""
    for received in host.standin.wait_count(calls):
        assert received.get_all("authorization") == [f"Bearer {REAL_KEY}"]
        assert b"gate_" not in received.everything()
        assert (received.sni, received.get("host")) == ("api.openai.com", "api.openai.com")
    lines = host.wait_lines(calls)
    assert [line["listener"] for line in lines] == ["transparent"] * calls
    assert [line["charged_by"] for line in lines] == ["usage"] * calls
    assert len(host.standin.snapshot()) == len(lines) == calls


@pytest.mark.parametrize("uid", [WORKLOAD_UID, ROOT])
def test_without_the_policy_everything_gets_out(bare_host: Host, uid: int) -> None:
    """Every attempt of the tests below succeeds where nothing is loaded: the listeners do listen."""
    bare_host.left()
    attempts = (*ON_443, *BOUND, *ELSEWHERE, *NAMES)
    outcomes = bare_host.probe(attempts, uid)
    assert set(outcomes.values()) == {"connected", "sent", "answered"}
    assert bare_host.ears.heard() == places(attempts) - ASKED
    assert bare_host.left() >= places(attempts)
    assert set(bare_host.probe((*ON_443, *ELSEWHERE), guest=True).values()) == {
        "connected",
        "sent",
        "answered",
    }


def test_unchanged_sdk_without_a_proxy_setting(host: Host) -> None:
    """The OpenAI SDK, told of nothing but the CA and a gate token, chats and streams through Tollhouse."""
    done = host.workload(sys.executable, "-c", SDK)
    assert (done.stdout, done.stderr) == (f"{TEXT}\n{TEXT}", "")
    assert_paid_for(host, 2)
    assert host.left() - ASKED == TO_PROVIDER
    assert host.ears.heard() == set()


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_curl_without_a_proxy_setting(host: Host, version: str) -> None:
    """So does curl, over HTTP/1.1 and HTTP/2."""
    done = host.curl(version, "-w", "\n%{http_version} %{remote_ip}", "-d", json.dumps(CHAT), URL)
    body, _, shown = done.stdout.rpartition("\n")
    assert json.loads(body)["choices"][0]["message"]["content"] == TEXT
    # The connection that curl believes to have is to an address of somebody else's.
    assert shown == f"{'2' if version == '--http2' else '1.1'} {OTHER}"
    assert_paid_for(host, 1)
    assert host.ears.heard() == set()


@pytest.mark.parametrize("address", [OTHER, f"[{OTHER6}]"])
def test_the_address_dialled_is_tollhouses_own_resolution(host: Host, address: str) -> None:
    """An allowed name in the handshake and an attacker's address, of either family: the provider is called, not he."""
    done = host.curl("--resolve", f"api.openai.com:443:{address}", "-d", json.dumps(CHAT), URL)
    assert json.loads(done.stdout)["choices"][0]["message"]["content"] == TEXT
    assert_paid_for(host, 1)
    assert host.ears.heard() == set()
    assert host.left() <= TO_PROVIDER | ASKED


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://other.example/", "other.example"),
        (f"https://{PROVIDER}/v1/models", ""),
        (f"https://{OTHER}/", ""),
        (f"https://[{OTHER6}]/", ""),
    ],
)
def test_other_hosts_and_bare_addresses_are_refused(host: Host, url: str, said: str) -> None:
    """TLS for a name of no provider, or for no name, ends at Tollhouse, and it dials nobody for it."""
    done = host.curl("--insecure", "-H", "host: api.openai.com", url)
    assert done.returncode == 35, done.stderr
    assert "unrecognized name" in done.stderr
    [line] = host.wait_lines(1)
    assert (line["reason"], line["host"], line["listener"]) == ("tls_refused", said, "transparent")
    assert host.left() == set()
    assert (host.ears.heard(), host.standin.dialled) == (set(), 0)


def test_a_name_of_the_providers_with_another_inside_is_refused(host: Host) -> None:
    """The handshake names the provider and the request somebody else: 421, nothing is dialled."""
    done = host.curl(
        "-w",
        "%{http_code} %header{x-tollhouse-reason}",
        "-o",
        "/dev/null",
        "-H",
        "host: other.example",
        URL,
    )
    assert done.stdout == "421 authority_mismatch"
    assert host.left() == set()
    assert host.standin.dialled == 0


@pytest.mark.parametrize("uid", [WORKLOAD_UID, ROOT])
def test_nothing_else_gets_out(host: Host, uid: int) -> None:
    """UDP 443, other ports, other name servers, ping, over both families: an error at once, and nothing on the wire."""
    outcomes = host.probe((*ELSEWHERE, *NAMES), uid)
    assert {outcome for (kind, *_), outcome in outcomes.items() if kind == "tcp"} == {
        "ECONNREFUSED"
    }
    assert {outcome for (kind, *_), outcome in outcomes.items() if kind == "udp"} == {"EPERM"}
    assert "answered" not in outcomes.values()
    # Led to Tollhouse, whoever it was meant for.
    assert set(host.probe(ON_443, uid).values()) == {"connected"}
    assert host.left() == set()
    assert (host.ears.heard(), host.standin.dialled, host.names.asked) == (set(), 0, [])


def test_a_socket_bound_to_the_device_does_not_get_out(host: Host) -> None:
    """SO_BINDTODEVICE would take the redirected packet, addressed to loopback, out of the device."""
    assert "connected" not in host.probe(BOUND).values()
    assert host.left() == set()
    assert host.ears.heard() == set()


def test_tollhouses_user_gets_out_to_443_and_its_name_server_alone(host: Host) -> None:
    """It may dial any address on 443, since a provider has many, and nothing else but DNS."""
    assert {"connected", "sent", "answered"}.isdisjoint(host.probe(ELSEWHERE, GATEWAY_UID).values())
    assert host.left() == set()
    assert set(host.probe((*ON_443, *NAMES), GATEWAY_UID).values()) == {"connected", "sent"}
    assert host.left() == places(ON_443) | places(NAMES)
    assert host.ears.heard() == places(ON_443) | places(NAMES) - ASKED


def test_guests_get_nothing_through_the_host(host: Host) -> None:
    """A container's network is not routed, not even to 443: it would pass Tollhouse by."""
    assert {"connected", "answered"}.isdisjoint(
        host.probe((*ON_443, *ELSEWHERE), guest=True).values()
    )
    assert not any(frame.source == GUEST for frame in host.sniffer.take())
    assert host.ears.heard() == set()


@pytest.mark.parametrize("loaded", [False, True])
def test_ssh_gets_in_and_nothing_else_does(
    bare_host: Host, running_host: Host, loaded: bool
) -> None:
    """From outside port 22 answers and another listening port does not, over both families."""
    where = running_host if loaded else bare_host
    for family, address in LET_IN:
        with (
            where.near.run(socket.create_server, (address, 8080), family=family) as listening,
            where.far.run(socket.socket, family) as caller,
        ):
            listening.setblocking(False)
            caller.setblocking(False)
            caller.connect_ex((address, 8080))
            where.far.run(socket.create_connection, (address, 22), timeout=5).close()
            with contextlib.nullcontext() if not loaded else pytest.raises(BlockingIOError):
                listening.accept()[0].close()


def test_with_tollhouse_stopped_nothing_gets_out(host: Host) -> None:
    """The policy does not open when the gateway is away: SDK and curl fail, and the wire stays silent."""
    host.gateway.stop()
    try:
        host.forget()
        sdk = host.workload(sys.executable, "-c", SDK)
        assert sdk.returncode == 1
        assert "openai.APIConnectionError" in sdk.stderr
        assert host.curl("-d", json.dumps(CHAT), URL).returncode == 7
        assert "connected" not in host.probe((*ON_443, *BOUND, *ELSEWHERE, *NAMES)).values()
        assert host.left() == set()
        assert (host.ears.heard(), host.standin.dialled, host.names.asked) == (set(), 0, [])
    finally:
        host.gateway.start()


def test_the_file_as_it_is_loads_twice_and_unloads() -> None:
    """nft accepts it unedited; loading replaces, unloading leaves the tables of others alone."""
    nft = program("nft")
    with Namespace() as where:
        where.do(nft, "-c", "-f", str(POLICY))
        where.do(nft, "add", "table", "inet", "of_others")
        where.do(nft, "-f", str(POLICY))
        once = where.do(nft, "list", "ruleset")
        where.do(nft, "-f", str(POLICY))
        assert where.do(nft, "list", "ruleset") == once
        assert once.count("policy drop;") == 4
        where.do(nft, "delete", "table", "inet", "tollhouse")
        assert where.do(nft, "list", "tables").split() == ["table", "inet", "of_others"]


def test_every_variable_may_be_set(tmp_path: Path) -> None:
    """Names, ranges and both families are taken for what the file leaves empty."""
    with Namespace() as where:
        load(
            where,
            tmp_path,
            gateway_user="root",
            transparent_port=443,
            provider_ports="{ 443, 8443 }",
            dns_users="{ $gateway_user, nobody }",
            resolvers_v4="{ 10.0.0.53, 10.1.0.0/24 }",
            resolvers_v6="{ fd00::53 }",
            stores_v4="{ 10.0.0.5 . 6379, 10.0.0.6 . 8200 }",
            stores_v6="{ fd00::5 . 6379 }",
            ssh_port=2222,
            admin_v4="{ 10.9.0.0/16 }",
            admin_v6="{ fd09::/32 }",
        )
        assert "10.0.0.6 . 8200" in where.do(program("nft"), "list", "ruleset")


def test_readme_names_every_variable() -> None:
    """A reader who sets up a host finds each of them explained."""
    readme = POLICY.with_name("README.md").read_text()
    names = re.findall(r"(?m)^define (\w+) = ", POLICY.read_text())
    assert names
    assert [name for name in names if f"`{name}`" not in readme] == []
