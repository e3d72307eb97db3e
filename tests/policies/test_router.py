"""policies/nftables-router around a workload that has a network of its own: there is no way out but Tollhouse, over IPv4 and
IPv6; `doctor` says so, and it says so of each rule that is taken out.

router.py draws the networks. What leaves is read off the wire on the internet's side.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest
from click.testing import CliRunner
from tests.policies.host import CHAT, SDK, TEXT
from tests.policies.observers import looked
from tests.policies.router import (
    ATTACKER,
    ATTACKER6,
    CLOSED,
    INNER,
    INSIDE,
    INSIDE6,
    NOBODY,
    OUTER,
    OUTER6,
    PROVIDER,
    PROXY_PORT,
    RESOLVER,
    RESOLVER6,
    STORE,
    STORE6,
    STORE_PORT,
    Router,
    open_router,
)
from tests.policies.rules import ROUTER, Rule, rules, without
from tests.support.gateway import REAL_KEY
from tests.support.requires import program

from tollhouse.cli.main import cli

pytestmark = pytest.mark.requires("netns", "nft", "curl", "redis")

URL = "https://api.openai.com/v1/chat/completions"
RIGHT = ("right-proxy", "right-ipv4", "right-ipv6")
WAYS_OUT = tuple(
    f"{name}-{family}"
    for name in ("udp-443", "other-port", "dns-udp", "dns-tcp", "dns-tls")
    for family in ("ipv4", "ipv6")
)
WAYS_OUT_BY_TCP = tuple(name for name in WAYS_OUT if name.startswith(("other", "dns-t")))
PINGS = ("ping-ipv4", "ping-ipv6")
STORES = ("redis", "vault", "admin")
GATEWAYS = {
    ("tcp", PROVIDER, 443),
    *(("udp", address, 53) for address in (RESOLVER, RESOLVER6)),
    *(("tcp", address, STORE_PORT) for address in (STORE, STORE6)),
}
"""What Tollhouse itself asks and dials."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    with open_router(tmp_path_factory.mktemp("router")) as made:
        yield made


@pytest.fixture
def router(running: Router) -> Iterator[Router]:
    """With all its rules, also for the next test."""
    if not running.gateway.running:
        running.gateway.start()
    running.forget()
    yield running
    running.load(running.rules)


def test_all_is_green_with_the_rules(router: Router) -> None:
    """From the workload's place, by the probe in Python and by the one in sh; nothing but the gateway's call went out."""
    said = router.doctor()
    assert (said["ok"], len(said["rows"])) == (True, 31)
    assert {row["ok"] for row in said["rows"]} == {True}
    shell = router.doctor(interpreter=("sh", "-s", "--"), language="sh")
    assert shell["ok"]
    assert {row["name"] for row in shell["rows"]} == {row["name"] for row in said["rows"]}
    tried = {row["name"]: row["ok"] for row in shell["rows"]}
    assert [name for name, ok in tried.items() if ok is None] == [
        *("udp-443-ipv4", "udp-443-ipv6", "dns-udp-ipv4", "dns-udp-ipv6", "dns-txt"),
        *(*PINGS, "gateway-dns", "right-dns"),
    ]
    assert router.left() <= {*GATEWAYS, ("udp", INSIDE, 53)}
    assert router.ears.heard() == set()
    for text in (json.dumps(said), json.dumps(shell)):
        assert router.token not in text


def test_a_user_of_the_router_has_no_other_way_either(router: Router) -> None:
    """But for what listens on the router's own addresses, which is its loopback to him. He has no name server."""
    assert set(router.doctor(user=True)["wrong"]) == {*STORES, "gateway-dns", "right-dns"}


def test_all_is_red_without_the_rules(router: Router) -> None:
    """Each row that names a way out finds it open: the internet's side does answer."""
    router.unload()
    with router.asking(ATTACKER):
        rows = router.doctor()["rows"]
        right = {"proxy-no-token", "proxy-wrong-token", "proxy-other-host", "right-proxy"}
        assert {row["name"] for row in rows if row["ok"]} == right
        # curl holds what has connected until the time is up, so that is short; what answers is not asked for.
        shell = router.doctor(interpreter=("sh", "-s", "--"), language="sh", timeout_s=0.3)
        assert {*WAYS_OUT_BY_TCP, "metadata", *STORES} <= set(shell["wrong"])


@pytest.mark.parametrize(
    ("language", "interpreter", "said"),
    [
        ("python", (sys.executable, "-I", "-"), "31 rows, 0 not as they should be"),
        ("sh", ("sh", "-s", "--"), "31 rows, not as they should be: none"),
    ],
)
def test_the_printed_probe(
    router: Router, language: str, interpreter: tuple[str, ...], said: str
) -> None:
    """What the command prints needs nothing but an interpreter: a table for people, and exit 0."""
    options = ("--gateway", INNER, "--at-once", "--timeout", "2")
    for address in (ATTACKER, ATTACKER6):
        options += ("--address", address, "--resolver", address)
    command = ("doctor", "--config", str(router.gateway.config), "--print-probe", language)
    printed = CliRunner().invoke(cli, [*command, *options])
    assert printed.exit_code == 0, printed.stderr
    done = router.run(*interpreter, stdin=printed.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f"\n{said}\n")


RESOLVERS = {
    # The system's own, as every program has it: its name server is that of the place.
    "getent": ("getent", "-s", "dns", "ahosts", "api.openai.com"),
    "dig": ("dig", "+time=1", "+tries=1", "+short", "api.openai.com"),
}


@pytest.mark.parametrize(
    "client", ["getent", pytest.param("dig", marks=pytest.mark.requires("dig"))]
)
def test_real_clients_of_names(router: Router, client: str) -> None:
    """They ask the workload's own name server, and none beyond: without the rules the question leaves."""
    command = RESOLVERS[client]
    environ = {"RES_OPTIONS": "timeout:1 attempts:1"}
    assert PROVIDER in router.run(*command, environ=environ).stdout.split()
    for address in (ATTACKER, ATTACKER6):
        with router.asking(address):
            router.forget()
            assert router.run(*command, environ=environ).returncode != 0
            assert ("udp", address, 53) not in router.left()
            router.unload()
            router.run(*command, environ=environ)
            assert ("udp", address, 53) in router.left()
            router.load(router.rules)


@pytest.mark.parametrize("proxy", [False, True])
def test_real_clients(router: Router, proxy: bool) -> None:
    """The OpenAI SDK and curl, told of nothing but CA and token, or of the proxy as well."""
    before = len(router.gateway.lines())
    router.standin.clear()
    environ = {"HTTPS_PROXY": f"http://{INNER}:{PROXY_PORT}"} if proxy else {}
    done = router.run(sys.executable, "-c", SDK, environ=environ)
    assert (done.stdout, done.stderr) == (f"{TEXT}\n{TEXT}", "")
    key = f"authorization: Bearer {router.token}"
    for address in (ATTACKER, f"[{ATTACKER6}]") if not proxy else (ATTACKER,):
        resolved = ("--resolve", f"api.openai.com:443:{address}")
        done = router.run(
            program("curl"),
            "-sS",
            "-m",
            "20",
            "-H",
            key,
            *resolved,
            "-d",
            json.dumps(CHAT),
            URL,
            environ=environ,
        )
        assert json.loads(done.stdout)["choices"][0]["message"]["content"] == TEXT
    calls = 3 if proxy else 4
    lines = router.gateway.wait_lines(before + calls)[before:]
    assert {line["listener"] for line in lines} == {"proxy" if proxy else "transparent"}
    for received in router.standin.wait_count(calls):
        assert received.get_all("authorization") == [f"Bearer {REAL_KEY}"]
    assert router.left() <= GATEWAYS


RULES = tuple(rules(ROUTER.read_text("utf-8")))
RED: dict[tuple[str, str], tuple[str, ...]] = {
    # chain and the beginning of a rule: where doctor stands, and which of its rows turn red.
    ("redirect_output", "fib daddr type local"): ("user", "right-proxy", "proxy-no-token"),
    ("redirect_output", "meta skuid !="): ("user", "right-ipv4", "right-ipv6"),
    ("redirect_workloads", "iifname"): ("workload", "right-ipv4", "right-ipv6"),
    ("may_leave", "ct state established"): ("workload", *RIGHT, "proxy-no-token"),
    ("may_leave", "ct state related meta"): ("workload", "udp-443-ipv4", "udp-443-ipv6"),
    ("may_leave", "ct state related tcp"): (
        *("workload", "other-port-ipv4", "other-port-ipv6", "admin"),
    ),
    ("may_leave", "icmpv6 type { nd-"): ("workload", "right-ipv6"),
    ("may_leave", "meta skuid $dns_users ip "): ("resolver", *RIGHT),
    ("may_leave", "meta skuid $dns_users ip6"): ("resolver6", *RIGHT),
    ("may_leave", "meta skuid $gateway_user tcp"): ("workload", *RIGHT),
    ("may_leave", "meta skuid $gateway_user ip "): ("store", *RIGHT),
    ("may_leave", "meta skuid $gateway_user ip6"): ("store6", *RIGHT),
    ("output", "fib daddr type local"): ("user", *RIGHT),
    ("output", "jump may_leave"): ("workload", *RIGHT),
    ("output", "meta l4proto tcp reject"): ("user", "other-port-ipv4", "other-port-ipv6"),
    ("leave", 'oifname "lo"'): ("user", *RIGHT),
    ("leave", "iifname"): ("workload", "right-dns"),
    ("leave", "jump may_leave"): ("workload", *RIGHT),
    ("input", "policy drop"): ("workload", "gateway-dns"),
    ("input", 'iifname "lo"'): ("user", *RIGHT),
    ("input", "ct state established"): ("workload", *RIGHT),
    ("input", "icmpv6 type { nd-"): ("workload", "right-ipv6"),
    ("input", "iifname $workload_devices tcp"): ("workload", *RIGHT, "proxy-no-token"),
    ("input", "iifname $workload_devices meta"): ("workload", *STORES),
    ("forward", "policy drop"): ("workload", *PINGS),
    ("forward", "ct state established"): ("workload", "right-dns"),
    ("forward", "iifname $workload_devices ip "): ("workload", "right-dns"),
    ("forward", "iifname $workload_devices ip6"): ("workload6", "right-dns"),
    ("forward", "meta l4proto tcp reject"): ("workload", *WAYS_OUT_BY_TCP, "metadata"),
    ("forward", "meta l4proto udp reject"): ("workload", "udp-443-ipv4", "udp-443-ipv6"),
}
SEEN_ELSEWHERE: dict[tuple[str, str], tuple[str, ...]] = {
    # Why no row of doctor's can see it; who sees it, and what changes for him.
    ("output", "policy drop"): (
        "`leave` drops the same behind it: its counter is of packets that `output` did not see",
        *("counted", "leave"),
    ),
    ("may_leave", "icmpv6 type { mld-"): (
        "it tells switches and multicast routers which groups the router listens to",
        *("groups", "joined", "queried"),
    ),
    ("input", "icmpv6 type mld-"): ("it lets them ask", "groups", "queried"),
    ("leave", "policy drop"): (
        "what leaves without it is addressed to loopback, and nobody can answer: the wire shows it",
        *("bound", "left"),
    ),
    ("input", "ip saddr"): ("it lets the administrator in", "far", f"{OUTER} 22"),
    ("input", "ip6 saddr"): ("it lets the administrator in", "far", f"{OUTER6} 22"),
    ("input", "ct state related"): (
        "it tells the gateway at once of a server that is away, and doctor's provider is there",
        *("gateway", f"tcp {NOBODY}"),
    ),
    ("forward", "ct state related"): (
        "it tells a workload at once of a name server that is away: red either way",
        *("asked", CLOSED),
    ),
}
NO_WALL = ("counter", "limit rate")
"""They count and tell."""


def named(rule: Rule) -> tuple[str, str] | None:
    found = [
        key
        for key in (*RED, *SEEN_ELSEWHERE)
        if key[0] == rule.chain and rule.text.startswith(key[1])
    ]
    assert len(found) <= 1, rule
    return found[0] if found else None


def test_no_rule_is_left_out() -> None:
    """Each rule of the file is one of those that are taken out below, by a row of doctor's or by somebody else."""
    walls = [rule for rule in RULES if not rule.text.startswith(NO_WALL)]
    assert [rule for rule in walls if named(rule) is None] == []
    assert {named(rule) for rule in walls} == {*RED, *SEEN_ELSEWHERE}


@pytest.mark.parametrize("rule", [rule for rule in RULES if named(rule) in RED], ids=str)
def test_no_rule_is_decoration(router: Router, rule: Rule) -> None:
    """Without it rows of doctor's turn red: a way is open that has to be closed, closed that has to be open, or silent where a
    program has to be told at once."""
    key = named(rule)
    assert key is not None
    place, *red = RED[key]
    router.load(without(router.rules, rule))
    # What is waited for is not there: a short time is no less true.
    now = seen(router, place, timeout_s=0.5)
    assert [name for name in red if not now[name].startswith("WRONG")] == []


def seen(router: Router, place: str, timeout_s: float) -> dict[str, str]:
    """Doctor's rows, from where a rule matters that was taken out."""
    match place:
        case "workload6":
            with router.asking(INSIDE6):
                return looked(router, "workload", timeout_s)
        case "resolver":
            router.resolve_by(RESOLVER)
        case "resolver6":
            router.resolve_by(RESOLVER6)
        case "store":
            router.keep_at(STORE)
        case "store6":
            router.keep_at(STORE6)
        case _:
            return looked(router, place, timeout_s)
    now = looked(router, "workload", timeout_s)
    # That it is the rule: with it all is well from the same place.
    router.load(router.rules)
    assert router.doctor()["wrong"] == []
    return now


@pytest.mark.parametrize("rule", [rule for rule in RULES if named(rule) in SEEN_ELSEWHERE], ids=str)
def test_a_rule_that_doctor_cannot_see(router: Router, rule: Rule) -> None:
    """Another one sees it."""
    key = named(rule)
    assert key is not None
    _, place, *changes = SEEN_ELSEWHERE[key]
    before = looked(router, place, timeout_s=10.0)
    router.load(without(router.rules, rule))
    now = looked(router, place, timeout_s=0.5)
    assert [name for name in changes if now[name] == before[name]] == []


def test_a_user_of_the_router_is_kept_in_by_two_chains(router: Router) -> None:
    """`output` refuses at once what `leave` drops; without the ends of both, doctor's rows turn red."""
    taken = [
        rule
        for rule in RULES
        if rule.chain in ("output", "leave")
        and (rule.text == "policy drop" or "reject with" in rule.text)
    ]
    router.load(without(router.rules, *taken))
    now = looked(router, "user")
    assert [
        name for name in (*WAYS_OUT, *PINGS, "metadata") if not now[name].startswith("WRONG")
    ] == []


def test_with_tollhouse_stopped_nothing_gets_out(router: Router) -> None:
    """Every way out stays closed, the right ones are closed as well, and the wire is silent but for the workload's name server."""
    router.gateway.stop()
    router.forget()
    wrong = router.doctor()["wrong"]
    assert set(wrong) == {"proxy-no-token", "proxy-wrong-token", "proxy-other-host", *RIGHT}
    assert router.run(sys.executable, "-c", SDK).returncode == 1
    assert router.left() <= {("udp", INSIDE, 53)}
    assert router.ears.heard() == set()
