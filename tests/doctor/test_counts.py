"""No row of the probe sends more than one packet or opens more than one connection, whether nobody answers or all hang up."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.apart import CONFIG

from tollhouse.config.load import load_config
from tollhouse.doctor import plan
from tollhouse.trust.ca import CertificateAuthority

PROVIDER, RESOLVER = ("127.0.0.2", "fd00::2"), ("127.0.0.3", "fd00::3")
Place = tuple[str, str, int]


def name_servers() -> list[str]:
    """The one that the probe asks, unless the machine has none."""
    found = re.search(
        r"(?m)^\s*nameserver\s+([0-9a-fA-F.:]+)", Path("/etc/resolv.conf").read_text("utf-8")
    )
    return [found.group(1)] if found else []


def rows(language: str) -> Counter[Place]:
    """How many rows try each place. Without a gate token three try the proxy, and none the right ways."""
    expected: Counter[Place] = Counter()
    for host in PROVIDER:
        expected["tcp", host, 443] += 2
        expected["tcp", host, 8443] += 1
        expected["udp", host, 443] += 1
        expected["icmp", host, 0] += 1
    for host in RESOLVER:
        for port in (53, 443, 853):
            expected["tcp", host, port] += 1
        expected["udp", host, 53] += 1
    for host in name_servers():
        expected["udp", host, 53] += 2
    expected["tcp", "169.254.169.254", 80] += 1
    for port in (6390, 8200, 9090):
        expected["tcp", "127.0.0.4", port] += 1
    expected["tcp", "127.0.0.4", 8080] += 3
    expected["udp", "127.0.0.4", 53] += 1
    if language == "sh":
        return Counter({place: n if place[0] == "tcp" else 0 for place, n in expected.items()})
    return expected


@pytest.mark.requires("netns", "curl")
@pytest.mark.parametrize("how", ["silent", "closing"])
@pytest.mark.parametrize("language", ["python", "sh"])
def test_one_a_row(tmp_path: Path, language: plan.Language, how: str) -> None:
    (tmp_path / "tollhouse.toml").write_text(CONFIG)
    made = plan.plan(
        load_config(tmp_path / "tollhouse.toml"),
        ca=CertificateAuthority.create(["api.openai.com"]).cert_pem,
        gateway="127.0.0.4",
        transparent=True,
        addresses=PROVIDER,
        resolvers=RESOLVER,
        timeout_s=0.3,
    )
    made = replace(made, redis=("127.0.0.4", 6390), vault=("127.0.0.4", 8200))
    command = {"python": [sys.executable, "-I", "-"], "sh": ["sh", "-s", "--"]}[language]
    expected = rows(language)
    ran = subprocess.run(
        [
            *("unshare", "--net", sys.executable, "-I", "-S"),
            str(Path(__file__).with_name("counting.py")),
            *(json.dumps(list(expected)), how, *command),
        ],
        input=plan.printed(made, language),
        env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    counted = dict(zip(expected, json.loads(ran.stdout), strict=True))
    assert counted == dict(expected)
