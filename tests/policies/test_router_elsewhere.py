"""The rules of a router whose Tollhouse stands on another machine: what is led there arrives, nothing else gets out, and each
rule that is taken out turns a row of doctor's red.

    workload: 10.98.0.2, fd98::2  --guests--  router  --gates--  10.97.1.2, fd97::2  Tollhouse, whose way out is the router too
                                                      --wire--   10.99.0.2  the provider
                                                                 10.99.0.3, fd99::3  the attacker: all that is dialled
                                                                 10.99.0.53, fd99::53  who is asked for names
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.policies.host import readable_directory, write_etc
from tests.policies.router import (
    ATTACKER,
    ATTACKER6,
    GATEWAY_UID,
    GUESTS,
    INNER,
    INNER6,
    METADATA,
    OUTER,
    OUTER6,
    PROVIDER,
    RESOLVER,
    RESOLVER6,
    TRANSPARENT_PORT,
    USER_UID,
    WORKLOAD,
    WORKLOAD6,
    Echo,
)
from tests.policies.rules import ROUTER, Rule, rules, without
from tests.support.gateway import REAL_KEY
from tests.support.nameserver import NameServer
from tests.support.netns import Ears, Namespace, add_addresses, as_user, join, with_etc
from tests.support.requires import program

from tollhouse.config.load import load_config
from tollhouse.demo.gateway_config import write_config
from tollhouse.demo.gateway_process import GatewayProcess
from tollhouse.demo.standin import StandIn
from tollhouse.doctor.plan import plan, printed
from tollhouse.policies import nftables

pytestmark = pytest.mark.requires("netns", "nft")
GATES = "gates"
PROXY_PORT = 8080
GATEWAY, GATEWAY6, NEAR, NEAR6 = "10.97.1.2", "fd97::2", "10.97.1.1", "fd97::1"
RIGHT = ("right-proxy", "right-ipv4", "right-ipv6")
STORES = ("redis", "vault", "admin")


@dataclass
class Network:
    workload: Namespace
    router: Namespace
    directory: Path
    gateway: GatewayProcess
    ears: Ears
    rules: str
    token: str = ""

    def load(self, text: str) -> None:
        file = self.directory / "router.nft"
        file.write_text(text)
        self.router.do(program("nft"), "-f", str(file))

    def doctor(self, resolver: str = RESOLVER, timeout_s: float = 2.0) -> list[str]:
        """The rows that are not as they should be."""
        etc = self.directory / "workload-etc"
        (etc / "resolv.conf").write_text(f"nameserver {resolver}\n")
        made = plan(
            load_config(self.gateway.config),
            ca=(self.directory / "state" / "ca.pem").read_text(),
            gateway=GATEWAY,
            addresses=(ATTACKER, ATTACKER6),
            resolvers=(ATTACKER, ATTACKER6),
            at_once=True,
            timeout_s=timeout_s,
        )
        made = dataclasses.replace(made, redis=(GATEWAY, 6379), vault=(GATEWAY, 8200))
        done = subprocess.run(
            [
                *(*self.workload.enter, *with_etc(etc), *as_user(USER_UID)),
                *(sys.executable, "-I", "-", "--json"),
            ],
            input=printed(made, "python"),
            env={"TOLLHOUSE_TOKEN": self.token, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        said: dict[str, Any] = json.loads(done.stdout)
        found: list[str] = said["wrong"]
        return found


def connected(workload: Namespace, router: Namespace, gates: Namespace, far: Namespace) -> None:
    join(router, far)
    join(router, workload, near_device=GUESTS)
    join(router, gates, near_device=GATES)
    add_addresses(router, f"{OUTER}/24", f"{OUTER6}/64")
    add_addresses(router, f"{INNER}/24", f"{INNER6}/64", device=GUESTS)
    add_addresses(router, f"{NEAR}/24", f"{NEAR6}/64", device=GATES)
    add_addresses(workload, f"{WORKLOAD}/24", f"{WORKLOAD6}/64")
    add_addresses(gates, f"{GATEWAY}/24", f"{GATEWAY6}/64")
    add_addresses(far, f"{PROVIDER}/24", f"{ATTACKER}/24", f"{RESOLVER}/24", f"{METADATA}/32")
    add_addresses(far, f"{ATTACKER6}/64", f"{RESOLVER6}/64")
    for where, via, via6 in (
        (workload, INNER, INNER6),
        (gates, NEAR, NEAR6),
        (router, PROVIDER, ATTACKER6),
        (far, OUTER, OUTER6),
    ):
        where.ip("route", "add", "default", "via", via)
        where.ip("-6", "route", "add", "default", "via", via6)
    for name, value in (
        ("ipv4/ip_forward", "1"),
        ("ipv6/conf/all/forwarding", "1"),
        # For as many runs of doctor as there are here.
        ("ipv4/icmp_ratelimit", "0"),
        ("ipv6/icmp/ratelimit", "0"),
    ):
        router.sysctl(name, value)
    workload.sysctl("ipv4/ping_group_range", "0 2147483647")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(readable_directory(tmp_path_factory.mktemp("elsewhere")))
        workload, router, gates, far = (stack.enter_context(Namespace()) for _ in range(4))
        connected(workload, router, gates, far)
        ears = Ears(far)
        stack.callback(ears.close)
        for address in (ATTACKER, ATTACKER6):
            for port in (53, 853, 8443):
                ears.listen("tcp", address, port)
        ears.listen("tcp", METADATA, 80)
        services = Ears(gates)
        stack.callback(services.close)
        for port in (6379, 8200):
            services.listen("tcp", GATEWAY, port)
        echo = Echo(far, [(one, port) for one in (ATTACKER, ATTACKER6) for port in (53, 443)])
        stack.callback(echo.close)
        for address in (RESOLVER, RESOLVER6):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            bound = far.run(socket.socket, family, socket.SOCK_DGRAM)
            bound.bind((address, 53))
            stack.callback(NameServer(bound, {"api.openai.com": PROVIDER}).close)
        servers = [
            StandIn(key=REAL_KEY, host=host, port=443) for host in (PROVIDER, ATTACKER, ATTACKER6)
        ]
        for server in servers:
            far.run(server.start)
            stack.callback(server.stop)
        settings: dict[str, dict[str, Any]] = {
            "listen": {
                "proxy": f"*:{PROXY_PORT}",
                "unsafe_plaintext_listen": True,
                "base_url": "off",
                "transparent": f"*:{TRANSPARENT_PORT}",
                "admin": f"{GATEWAY}:9090",
            },
            "policy": {
                "gateway": [GATEWAY, GATEWAY6],
                "workload_devices": [GUESTS],
                "workload_resolvers": [RESOLVER, RESOLVER6],
            },
            "upstream": {"idle_s": 0.001},
            "providers.openai": {
                "allow_private": True,
                "ca_file": servers[0].write_ca(directory / "provider-ca.pem").name,
                "attempts": 1,
                "connect_timeout_s": 1.0,
            },
        }
        config = write_config(directory, None, settings)
        (directory / "state").mkdir(mode=0o700)
        os.chown(directory / "state", GATEWAY_UID, GATEWAY_UID)
        write_etc(directory / "workload-etc", "", RESOLVER)
        etc = with_etc(write_etc(directory / "gateway-etc", "", RESOLVER))
        gateway = GatewayProcess(config, prefix=(*gates.enter, *etc, *as_user(GATEWAY_UID)))
        stack.push(gateway)
        [text] = nftables.router(load_config(config)).files.values()
        made = Network(workload, router, directory, gateway, ears, text)
        made.load(text)
        gateway.tollhouse("key", "set", "openai", stdin=REAL_KEY)
        gateway.start()
        gateway.make_project("proj_123", "10 usd/day")
        made.token = gateway.make_token("proj_123")
        yield made


@pytest.fixture
def loaded(network: Network) -> Iterator[Network]:
    network.ears.heard()
    yield network
    network.load(network.rules)


def test_all_is_green_with_the_rules(loaded: Network) -> None:
    """The gateway sees the workload's own address, and nothing of the workload's arrives in the world."""
    before = len(loaded.gateway.lines())
    assert loaded.doctor() == []
    assert loaded.doctor(RESOLVER6) == []
    assert loaded.ears.heard() == set()
    right = [line for line in loaded.gateway.lines()[before:] if line["status"] == 200]
    assert {line["client_ip"] for line in right} == {WORKLOAD, WORKLOAD6}
    assert {line["listener"] for line in right} == {"proxy", "transparent"}


def test_all_is_red_without_the_rules(loaded: Network) -> None:
    loaded.router.do(program("nft"), "delete", "table", "inet", "tollhouse")
    assert {"direct-ipv4", "udp-443-ipv6", "dns-tls-ipv4", "metadata", *STORES} <= set(
        loaded.doctor()
    )


RED: dict[tuple[str, str], tuple[str, ...]] = {
    ("redirect_workloads", "iifname $workload_devices meta nfproto ipv4"): ("right-ipv4",),
    ("redirect_workloads", "iifname $workload_devices meta nfproto ipv6"): ("right-ipv6",),
    ("input", "icmpv6 type { nd-"): ("right-ipv6",),
    ("forward", "iifname != $workload_devices"): RIGHT,
    ("forward", "ct state established"): (*RIGHT, "right-dns"),
    ("forward", "iifname $workload_devices ip daddr $gateway"): ("right-proxy", "right-ipv4"),
    ("forward", "iifname $workload_devices ip6 daddr $gateway"): ("right-ipv6",),
    ("forward", "iifname $workload_devices ip daddr @"): ("right-dns",),
    ("forward", "iifname $workload_devices ip6 daddr @"): ("right-dns",),
    ("forward", "policy drop"): ("ping-ipv4", "ping-ipv6"),
    ("forward", "meta l4proto tcp reject"): ("other-port-ipv4", "other-port-ipv6", "metadata"),
    ("forward", "meta l4proto udp reject"): ("udp-443-ipv4", "udp-443-ipv6"),
}
OF_THE_OTHER_ROUTER = set(rules(ROUTER.read_text("utf-8")))
"""Each of these is taken out in test_router.py."""


def test_the_rules_that_are_taken_out(loaded: Network) -> None:
    """One after the other: without it rows turn red, or it is word for word one of the other router's. No rule is left out."""
    failed, seen = {}, set()
    for rule in rules(loaded.rules):
        found = [one for one in RED if one[0] == rule.chain and rule.text.startswith(one[1])]
        if not found:
            assert rule in OF_THE_OTHER_ROUTER
            continue
        [key] = found
        seen.add(key)
        wrong = after(loaded, rule)
        if not set(RED[key]) <= set(wrong):
            failed[str(rule)] = wrong
    assert failed == {}
    assert seen == set(RED)


def after(network: Network, taken: Rule) -> list[str]:
    network.load(without(network.rules, taken))
    for where in (network.workload, network.router):
        where.ip("-6", "neigh", "flush", "all")
    return network.doctor(RESOLVER6 if "ip6 daddr @" in taken.text else RESOLVER, timeout_s=0.5)


def test_the_forward_chain_is_the_wall(loaded: Network) -> None:
    """Without its end everything is open."""
    ends = [
        rule
        for rule in rules(loaded.rules)
        if rule.chain == "forward" and (rule.text == "policy drop" or "reject with" in rule.text)
    ]
    loaded.load(without(loaded.rules, *ends))
    wrong = set(loaded.doctor())
    assert {
        "udp-443-ipv4",
        "udp-443-ipv6",
        "other-port-ipv4",
        "other-port-ipv6",
        "metadata",
    } <= wrong
    assert set(STORES) <= wrong
