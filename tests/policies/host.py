"""A host with policies/nftables on it, and an internet with everything that it must not reach.

    near: 10.99.0.1, fd99::1            far: 10.99.0.2  the provider (and fd99::2)
      Tollhouse, uid 64001   --wire--        10.99.0.3  everybody else (fd99::3)
      a workload, uid 64002                  10.99.0.53 the name server
        |
      guest: 10.98.0.2, a container's network, which `near` would route

The workload has no name server: its /etc/hosts gives the providers' names an address of "everybody else". Tollhouse asks
the name server.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.policies.probe import Attempt
from tests.support.gateway import REAL_KEY
from tests.support.nameserver import NameServer
from tests.support.netns import (
    WIRE,
    Ears,
    Namespace,
    Sniffer,
    add_addresses,
    as_user,
    join,
    with_etc,
)
from tests.support.requires import program

from tollhouse.demo import standin_answers as answers
from tollhouse.demo.gateway_config import write_config
from tollhouse.demo.gateway_process import GatewayProcess
from tollhouse.demo.standin import StandIn

POLICY = Path(__file__).parents[2] / "policies" / "nftables" / "tollhouse.nft"
GATEWAY_UID, WORKLOAD_UID, ROOT = 64001, 64002, 0
TRANSPARENT_PORT = 18443
NEAR, NEAR6, GUEST, GUEST6 = "10.99.0.1", "fd99::1", "10.98.0.2", "fd98::2"
PROVIDER, OTHER, RESOLVER = "10.99.0.2", "10.99.0.3", "10.99.0.53"
PROVIDER6, OTHER6 = "fd99::2", "fd99::3"
CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Who pays at the tollhouse?"}]}
TEXT = answers.answer_text(CHAT)
SDK = f"""
import sys
from openai import OpenAI
client, chat = OpenAI(max_retries=0), {CHAT!r}
whole = client.chat.completions.create(**chat).choices[0].message.content
pieces = [chunk.choices[0].delta.content or "" for chunk in client.chat.completions.create(**chat, stream=True)]
sys.stdout.write(whole + "\\n" + "".join(pieces))
"""
HOSTS = "127.0.0.1 localhost\n::1 localhost\n"
ON_443: tuple[Attempt, ...] = (
    ("tcp", OTHER, 443, ""),
    ("tcp", OTHER6, 443, ""),
    ("tcp", PROVIDER6, 443, ""),
)
"""What is led to Tollhouse."""
BOUND: tuple[Attempt, ...] = (("tcp", OTHER, 443, WIRE), ("tcp", OTHER6, 443, WIRE))
"""The same from a socket that insists on the device."""
NAMES: tuple[Attempt, ...] = (("udp", RESOLVER, 53, ""), ("tcp", RESOLVER, 53, ""))
"""What only Tollhouse's user may ask."""
ELSEWHERE: tuple[Attempt, ...] = (
    *(("udp", address, 443, "") for address in (PROVIDER, PROVIDER6, OTHER, OTHER6)),
    *(("tcp", address, port, "") for address in (PROVIDER, PROVIDER6) for port in (22, 80, 8443)),
    *((protocol, address, 53, "") for protocol in ("tcp", "udp") for address in (OTHER, OTHER6)),
    ("tcp", RESOLVER, 853, ""),
    ("icmp", OTHER, 0, ""),
    ("icmp", OTHER6, 0, ""),
)
"""What nobody may do."""


def with_variables(text: str, **variables: object) -> str:
    """The policy with other values at its top, as an administrator would write them."""
    for name, value in variables.items():
        text, count = re.subn(rf"(?m)^define {name} = .*$", f"define {name} = {value}", text)
        assert count == 1, f"the policy defines {name} {count} times"
    return text


@dataclass
class Host:
    """The host, and what its internet has seen since `forget`."""

    near: Namespace
    far: Namespace
    guest: Namespace
    standin: StandIn
    ears: Ears
    names: NameServer
    sniffer: Sniffer
    gateway: GatewayProcess
    directory: Path
    token: str = ""
    _lines: int = 0

    def forget(self) -> None:
        self.left()
        self.ears.heard()
        self.standin.clear()
        self.names.asked.clear()
        self._lines = len(self.gateway.lines())

    def wait_lines(self, count: int) -> list[dict[str, Any]]:
        return self.gateway.wait_lines(self._lines + count)[self._lines :]

    def left(self) -> set[tuple[str, str, int]]:
        """What of the host's own accord has come over the wire: protocol, destination and port (for ICMP its type).

        Answers from its ssh port are not of its own accord, and packets of connections to the provider that are open
        already are not counted. A connection from outside, made at last, pushes everything before it.
        """
        self.far.run(socket.create_connection, (NEAR, 22), timeout=5).close()
        return {
            (frame.protocol, frame.destination, frame.port)
            for frame in self.sniffer.take()
            if not (frame.protocol == "tcp" and frame.source_port == 22)
            and (
                frame.opens
                or (frame.protocol, frame.destination, frame.port) != ("tcp", PROVIDER, 443)
            )
        }

    def probe(
        self, attempts: Sequence[Attempt], uid: int = WORKLOAD_UID, *, guest: bool = False
    ) -> dict[Attempt, str]:
        """What came of each attempt, made by ``uid`` here, or by root inside the guest."""
        enter = (*(self.guest if guest else self.near).enter, *(as_user(uid) if uid else ()))
        script = Path(__file__).with_name("probe.py")
        command = [*enter, sys.executable, "-I", "-S", str(script), json.dumps(attempts)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        return dict(zip(attempts, json.loads(done.stdout), strict=True))

    def workload(self, *command: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """A program of the workload's: its whole environment is the CA and the gate token as its API key."""
        environ = {
            "SSL_CERT_FILE": str(self.directory / "state" / "ca.pem"),
            "OPENAI_API_KEY": self.token,
        }
        enter = (
            *self.near.enter,
            *with_etc(self.directory / "workload-etc"),
            *as_user(WORKLOAD_UID),
        )
        return subprocess.run(
            [*enter, *command],
            env=environ,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def curl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        authorization = f"authorization: Bearer {self.token}"
        return self.workload(
            program("curl"), "-sS", "--max-time", "20", "-H", authorization, *arguments
        )


def resolv_conf(name_server: str) -> str:
    return f"nameserver {name_server}\noptions timeout:1 attempts:1\n"


def write_etc(directory: Path, hosts: str, name_server: str) -> Path:
    directory.mkdir()
    (directory / "hosts").write_text(HOSTS + hosts)
    (directory / "resolv.conf").write_text(resolv_conf(name_server))
    (directory / "nsswitch.conf").write_text("hosts: files dns\n")
    return directory


@contextlib.contextmanager
def readable_directory(logs: Path) -> Iterator[Path]:
    """A directory that every user may enter, unlike pytest's; what was written there is copied to ``logs`` in the end, where
    the search for leaks finds it."""
    with tempfile.TemporaryDirectory(prefix="tollhouse-host-") as made:
        directory = Path(made)
        directory.chmod(0o755)
        try:
            yield directory
        finally:
            shutil.copytree(
                directory, logs, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.sock")
            )


@contextlib.contextmanager
def open_host(logs: Path) -> Iterator[Host]:
    """The two networks, the provider and the listeners; no policy is loaded and Tollhouse is not started."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(readable_directory(logs))
        near, far, guest = (stack.enter_context(Namespace()) for _ in range(3))
        _connect(near, far, guest)
        ears = Ears(far)
        stack.callback(ears.close)
        for protocol, address, port, _ in {*ON_443, *ELSEWHERE, *NAMES}:
            if protocol != "icmp" and (protocol, address) != ("udp", RESOLVER):
                ears.listen(protocol, address, port)
        sniffer = Sniffer(far)
        stack.callback(sniffer.close)
        for family, address in ((socket.AF_INET, NEAR), (socket.AF_INET6, NEAR6)):
            stack.enter_context(near.run(socket.create_server, (address, 22), family=family))
        name_socket = far.run(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
        name_socket.bind((RESOLVER, 53))
        names = NameServer(name_socket, {"api.openai.com": PROVIDER})
        stack.callback(names.close)
        standin = StandIn(key=REAL_KEY, host=PROVIDER, port=443)
        far.run(standin.start)
        stack.callback(standin.stop)
        write_etc(directory / "workload-etc", f"{OTHER} api.openai.com other.example\n", OTHER)
        gateway = _gateway(directory, near, standin)
        stack.push(gateway)
        yield Host(near, far, guest, standin, ears, names, sniffer, gateway, directory)


def _connect(near: Namespace, far: Namespace, guest: Namespace) -> None:
    join(near, far)
    join(near, guest, near_device="guest")
    add_addresses(near, f"{NEAR}/24", f"{NEAR6}/64")
    add_addresses(near, "10.98.0.1/24", "fd98::1/64", device="guest")
    add_addresses(guest, f"{GUEST}/24", f"{GUEST6}/64")
    add_addresses(far, *(f"{address}/24" for address in (PROVIDER, OTHER, RESOLVER)))
    add_addresses(far, *(f"{address}/64" for address in (PROVIDER6, OTHER6)))
    for where, via, via6 in (
        (near, PROVIDER, PROVIDER6),
        (guest, "10.98.0.1", "fd98::1"),
        (far, NEAR, NEAR6),
    ):
        where.ip("route", "add", "default", "via", via)
        where.ip("-6", "route", "add", "default", "via", via6)
    near.sysctl("ipv4/ip_forward", "1")
    near.sysctl("ipv6/conf/all/forwarding", "1")
    # Else an ordinary user's ping is refused before it comes to any policy.
    for where in (near, guest):
        where.sysctl("ipv4/ping_group_range", "0 2147483647")


def _gateway(directory: Path, near: Namespace, standin: StandIn) -> GatewayProcess:
    """Not started. It dials what its own name server says."""
    provider = {
        "allow_private": True,
        "ca_file": standin.write_ca(directory / "provider-ca.pem").name,
    }
    listen = {
        "transparent": f"localhost:{TRANSPARENT_PORT}",
        "proxy": "off",
        "base_url": "off",
        "admin": "off",
    }
    config = write_config(directory, None, {"listen": listen, "providers.openai": provider})
    (directory / "state").mkdir(mode=0o700)
    os.chown(directory / "state", GATEWAY_UID, GATEWAY_UID)
    etc = write_etc(directory / "gateway-etc", "", RESOLVER)
    return GatewayProcess(config, prefix=(*near.enter, *with_etc(etc), *as_user(GATEWAY_UID)))


def start_gateway(host: Host) -> None:
    """With the provider's key, a project and a token."""
    host.gateway.tollhouse("key", "set", "openai", stdin=REAL_KEY)
    host.gateway.start()
    host.gateway.make_project("proj_123", "10 usd/day")
    host.token = host.gateway.make_token("proj_123")
