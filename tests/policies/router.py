"""A router with the rendered rules and Tollhouse on it, a workload behind it, and an internet with everything that the workload
must not reach.

    workload: 10.98.0.2, fd98::2  --guests--  router: 10.98.0.1, fd98::1        far: 10.99.0.2  the provider (and fd99::2)
                                                Tollhouse, uid 64001   --wire--     10.99.0.3  the attacker (fd99::3): TLS, QUIC,
                                                a user, uid 64002                              DNS, all that is dialled
                                                                                    10.99.0.53 Tollhouse's name server
                                                                                    10.99.0.54 the workload's: it knows the
                                                                                               provider alone
                                                                                    10.99.0.60 Tollhouse's Redis
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from tests.policies.host import HOSTS, readable_directory, resolv_conf, write_etc
from tests.policies.probe import Attempt
from tests.support.gateway import REAL_KEY
from tests.support.nameserver import NameServer
from tests.support.netns import (
    Ears,
    Namespace,
    Sniffer,
    add_addresses,
    as_user,
    join,
    with_etc,
)
from tests.support.programs import Program
from tests.support.redis_server import READY
from tests.support.requires import program

from tollhouse.config.load import load_config
from tollhouse.demo.gateway_config import write_config
from tollhouse.demo.gateway_process import GatewayProcess
from tollhouse.demo.standin import StandIn
from tollhouse.doctor.plan import plan, printed
from tollhouse.policies import nftables

GATEWAY_UID, USER_UID = 64001, 64002
GUESTS = "guests"
WORKLOAD, WORKLOAD6, INNER, INNER6 = "10.98.0.2", "fd98::2", "10.98.0.1", "fd98::1"
OUTER, OUTER6 = "10.99.0.1", "fd99::1"
PROVIDER, PROVIDER6, ATTACKER, ATTACKER6 = "10.99.0.2", "fd99::2", "10.99.0.3", "fd99::3"
RESOLVER, RESOLVER6, INSIDE, INSIDE6 = "10.99.0.53", "fd99::53", "10.99.0.54", "fd99::54"
METADATA = "169.254.169.254"
CLOSED = "10.99.0.9"
"""A name server that is away: its machine says so."""
NOBODY = "10.97.0.9"
"""The internet says that there is no way to it."""
STORE, STORE6 = "10.99.0.60", "fd99::60"
TRANSPARENT_PORT, STORE_PORT = 8443, 6379
PROXY_PORT = 443
"""What is for the router itself is not redirected, not on a port of the providers either."""
REDIS = "redis-elsewhere"


class Echo:
    """Answers each datagram with itself."""

    def __init__(self, where: Namespace, places: Sequence[tuple[str, int]]) -> None:
        self._sockets = [self._bound(where, *place) for place in places]
        for one in self._sockets:
            threading.Thread(target=self._serve, args=(one,), daemon=True).start()

    @staticmethod
    def _bound(where: Namespace, address: str, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        made = where.run(socket.socket, family, socket.SOCK_DGRAM)
        made.bind((address, port))
        return made

    @staticmethod
    def _serve(one: socket.socket) -> None:
        while True:
            data, peer = one.recvfrom(4096)
            if not data:
                return
            one.sendto(data, peer)

    def close(self) -> None:
        for one in self._sockets:
            one.sendto(b"", one.getsockname())


@dataclass
class Router:
    workload: Namespace
    router: Namespace
    far: Namespace
    standin: StandIn
    attackers: tuple[StandIn, ...]
    ears: Ears
    services: Ears
    """Of the router's own, which are not for workloads."""
    sniffer: Sniffer
    gateway: GatewayProcess
    directory: Path
    rules: str
    """As rendered."""
    token: str = ""

    def load(self, rules: str) -> None:
        """Put in place of those that are loaded, in one step; what the kernel remembers of connections and neighbours is
        forgotten."""
        file = self.directory / "router.nft"
        file.write_text(rules)
        self.router.do(program("nft"), "-f", str(file))
        for where in (self.workload, self.router, self.far):
            for family in ("-4", "-6"):
                where.ip(family, "neigh", "flush", "all")

    def unload(self) -> None:
        self.router.do(program("nft"), "delete", "table", "inet", "tollhouse")

    def run(
        self,
        *command: str,
        user: bool = False,
        stdin: str | None = None,
        environ: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """A program in the workload's place, or one of a user on the router."""
        etc = with_etc(self.directory / "workload-etc")
        enter = (*(self.router if user else self.workload).enter, *etc, *as_user(USER_UID))
        given = {"SSL_CERT_FILE": str(self.ca_file), "OPENAI_API_KEY": self.token}
        return subprocess.run(
            [*enter, *command],
            input=stdin,
            env={**given, "PATH": "/usr/bin:/bin", **(environ or {})},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @property
    def ca_file(self) -> Path:
        return self.directory / "state" / "ca.pem"

    def probe(self, language: Any, timeout_s: float) -> str:
        made = plan(
            load_config(self.gateway.config),
            ca=self.ca_file.read_text(),
            gateway=INNER,
            addresses=(ATTACKER, ATTACKER6),
            resolvers=(ATTACKER, ATTACKER6),
            at_once=True,
            timeout_s=timeout_s,
        )
        made = dataclasses.replace(made, redis=(INNER, 6379), vault=(INNER, 8200))
        return printed(made, language)

    def doctor(
        self,
        *,
        user: bool = False,
        interpreter: Sequence[str] = (sys.executable, "-I", "-"),
        language: Any = "python",
        timeout_s: float = 2.0,
    ) -> dict[str, Any]:
        done = self.run(*interpreter, "--json", user=user, stdin=self.probe(language, timeout_s))
        assert done.returncode in (0, 1), done.stderr
        said: dict[str, Any] = json.loads(done.stdout)
        assert (done.returncode == 0) is said["ok"] is (not said["wrong"])
        return said

    @contextlib.contextmanager
    def asking(self, address: str) -> Iterator[None]:
        """The workload's name server is another one."""
        file = self.directory / "workload-etc" / "resolv.conf"
        before = file.read_text()
        file.write_text(resolv_conf(address))
        try:
            yield
        finally:
            file.write_text(before)

    def resolve_by(self, address: str) -> None:
        """Tollhouse's name server is this one, and it has not asked it yet."""
        (self.directory / "gateway-etc" / "resolv.conf").write_text(resolv_conf(address))
        self.gateway.stop()
        self.gateway.start()

    def keep_at(self, address: str) -> None:
        """Tollhouse's Redis is at this address, to which it has no connection yet."""
        (self.directory / "gateway-etc" / "hosts").write_text(f"{HOSTS}{address} {REDIS}\n")
        self.far.run(self._disconnect)

    @staticmethod
    def _disconnect() -> None:
        with redis.Redis(STORE, STORE_PORT) as client:
            client.client_kill_filter(_type="normal", skipme=True)

    def attempt(self, attempts: Sequence[Attempt], uid: int) -> list[str]:
        script = Path(__file__).with_name("probe.py")
        command = [sys.executable, "-I", "-S", str(script), json.dumps(attempts)]
        done = subprocess.run(
            [*self.router.enter, *as_user(uid), *command],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        found: list[str] = json.loads(done.stdout)
        return found

    def forget(self) -> None:
        # This closes what was connected, and the other end says so.
        self.ears.heard()
        self.far.run(socket.create_connection, (OUTER, 22), timeout=5).close()
        self.sniffer.take()

    def left(self) -> set[tuple[str, str, int]]:
        """What has come over the wire to the internet: TCP that opens a connection, and all that is not TCP."""
        self.far.run(socket.create_connection, (OUTER, 22), timeout=5).close()
        return {
            (frame.protocol, frame.destination, frame.port)
            for frame in self.sniffer.take()
            if frame.opens or frame.protocol != "tcp"
        }


@contextlib.contextmanager
def open_router(logs: Path) -> Iterator[Router]:
    """All of it, with the rendered rules loaded and Tollhouse running."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(readable_directory(logs))
        workload, router, far = (stack.enter_context(Namespace()) for _ in range(3))
        _connect(workload, router, far)
        ears = Ears(far)
        stack.callback(ears.close)
        for address in (ATTACKER, ATTACKER6):
            for port in (53, 80, 853, 8443):
                ears.listen("tcp", address, port)
        ears.listen("tcp", METADATA, 80)
        listening = ("--port", str(STORE_PORT), "--bind", STORE, STORE6, "--protected-mode", "no")
        kept = ("--save", "", "--dir", str(directory))
        store = stack.enter_context(Program("redis-server"))
        store.start([*far.enter, program("redis"), *listening, *kept], ready=READY)
        services = Ears(router)
        stack.callback(services.close)
        for port in (6379, 8200):
            services.listen("tcp", INNER, port)
            services.listen("tcp", INNER6, port)
        places = [(one, port) for one in (ATTACKER, ATTACKER6) for port in (53, 443)]
        for echo in (Echo(far, places), Echo(router, [(INNER, 53)])):
            stack.callback(echo.close)
        for family, address in ((socket.AF_INET, OUTER), (socket.AF_INET6, OUTER6)):
            stack.enter_context(router.run(socket.create_server, (address, 22), family=family))
        for address in (RESOLVER, RESOLVER6, INSIDE, INSIDE6):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            bound = far.run(socket.socket, family, socket.SOCK_DGRAM)
            bound.bind((address, 53))
            stack.callback(NameServer(bound, {"api.openai.com": PROVIDER}).close)
        attackers = []
        for host in (PROVIDER, ATTACKER, ATTACKER6):
            standin = StandIn(key=REAL_KEY, host=host, port=443)
            far.run(standin.start)
            stack.callback(standin.stop)
            attackers.append(standin)
        standin = attackers.pop(0)
        write_etc(directory / "workload-etc", f"{ATTACKER} api.openai.com\n", INSIDE)
        sniffer = Sniffer(far)
        stack.callback(sniffer.close)
        gateway = _gateway(directory, router, standin)
        stack.push(gateway)
        [rules] = nftables.router(load_config(gateway.config)).files.values()
        made = Router(
            workload,
            router,
            far,
            standin,
            tuple(attackers),
            ears,
            services,
            sniffer,
            gateway,
            directory,
            rules,
        )
        made.load(rules)
        gateway.tollhouse("key", "set", "openai", stdin=REAL_KEY)
        gateway.start()
        gateway.make_project("proj_123", "10 usd/day")
        made.token = gateway.make_token("proj_123")
        yield made


def _connect(workload: Namespace, router: Namespace, far: Namespace) -> None:
    join(router, far)
    join(router, workload, near_device=GUESTS)
    add_addresses(router, f"{OUTER}/24", f"{OUTER6}/64")
    add_addresses(router, f"{INNER}/24", f"{INNER6}/64", device=GUESTS)
    add_addresses(workload, f"{WORKLOAD}/24", f"{WORKLOAD6}/64")
    four, six = (
        (PROVIDER, ATTACKER, RESOLVER, INSIDE, CLOSED, STORE),
        (
            PROVIDER6,
            ATTACKER6,
            RESOLVER6,
            INSIDE6,
            STORE6,
        ),
    )
    add_addresses(far, *(f"{address}/24" for address in four), f"{METADATA}/32")
    add_addresses(far, *(f"{address}/64" for address in six))
    for where, via, via6 in (
        (workload, INNER, INNER6),
        (router, PROVIDER, PROVIDER6),
        (far, OUTER, OUTER6),
    ):
        where.ip("route", "add", "default", "via", via)
        where.ip("-6", "route", "add", "default", "via", via6)
    far.ip("route", "add", "prohibit", NOBODY)
    for where in (router, far):
        where.sysctl("ipv4/ip_forward", "1")
        where.sysctl("ipv6/conf/all/forwarding", "1")
    # Else a ping is refused before it comes to any policy.
    for where in (workload, router):
        where.sysctl("ipv4/ping_group_range", "0 2147483647")
    router.sysctl("ipv4/ip_unprivileged_port_start", str(PROXY_PORT))
    # Six at once to one address and one a second from then on would be enough for one run of doctor, and not for all of these.
    router.sysctl("ipv4/icmp_ratelimit", "0")
    router.sysctl("ipv6/icmp/ratelimit", "0")


def _gateway(directory: Path, router: Namespace, standin: StandIn) -> GatewayProcess:
    """Not started. It keeps no connection to the provider, so that each call shows whether the way is open."""
    provider = {
        "allow_private": True,
        "ca_file": standin.write_ca(directory / "provider-ca.pem").name,
        "attempts": 1,
    }
    settings: dict[str, dict[str, Any]] = {
        "listen": {
            "proxy": f"*:{PROXY_PORT}",
            "unsafe_plaintext_listen": True,
            "base_url": "off",
            "transparent": f"*:{TRANSPARENT_PORT}",
            "admin": f"{INNER}:9090",
        },
        "process": {"user": str(GATEWAY_UID)},
        "policy": {
            "resolvers": [RESOLVER, RESOLVER6],
            "workload_devices": [GUESTS],
            "workload_resolvers": [INSIDE, INSIDE6, CLOSED],
            "addresses": {REDIS: [STORE, STORE6]},
        },
        "redis": {"url": f"redis://{REDIS}:{STORE_PORT}/0"},
        "upstream": {"idle_s": 0.001},
        "providers.openai": provider,
    }
    config = write_config(directory, None, settings)
    (directory / "state").mkdir(mode=0o700)
    os.chown(directory / "state", GATEWAY_UID, GATEWAY_UID)
    etc = write_etc(directory / "gateway-etc", f"{STORE} {REDIS}\n", RESOLVER)
    return GatewayProcess(config, prefix=(*router.enter, *with_etc(etc), *as_user(GATEWAY_UID)))
