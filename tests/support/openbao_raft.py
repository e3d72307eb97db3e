"""Real OpenBao servers with integrated storage (raft): what seals, stands by, lags behind and is elected."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from tests.support.openbao import ROOT_TOKEN, OpenBao
from tests.support.programs import free_port

_START_S = 60.0


def wait_for(condition: Callable[[], bool], what: str, seconds: float = _START_S) -> None:
    """Until the cluster is so; there is no event for what servers agree on among themselves."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.02)


class Forwarder:
    """A TCP load balancer: each connection goes to the next of ``targets`` (ports of loopback) that takes it.

    While it is ``paused`` bytes wait in it, and new connections too.
    """

    def __init__(self, *targets: int) -> None:
        self.targets = list(targets)
        self._turn = itertools.count()
        self._flow = threading.Event()
        self._flow.set()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def pause(self) -> None:
        self._flow.clear()

    def resume(self) -> None:
        self._flow.set()

    def lead_to(self, *targets: int) -> None:
        """New targets, and no connection that leads elsewhere."""
        self.targets = list(targets)
        for one in tuple(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        self.resume()
        self.lead_to()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        self._flow.wait()
        targets, first = self.targets, next(self._turn)
        for number in range(len(targets)):
            with contextlib.suppress(OSError):
                server = socket.create_connection(
                    ("127.0.0.1", targets[(first + number) % len(targets)])
                )
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=pair, daemon=True).start()
                return
        client.close()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        self._open.add(source)
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                self._flow.wait()
                sink.sendall(data)
        self._open.discard(source)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


class RaftNode(OpenBao):
    """One server of a `RaftCluster`. `stop` and `start` keep what it stored; `pause` and `resume` are there as well.

    What the others replicate to it comes through ``inbound``: paused, it lags behind.
    """

    def __init__(self, directory: Path, name: str) -> None:
        directory.mkdir()
        super().__init__(directory)
        (directory / "raft").mkdir()
        self.name = name
        self.key = ""
        """What unseals it."""
        self._port, cluster_port = free_port(), free_port()
        self.inbound = Forwarder(cluster_port)
        # Its intervals are those of a test; servers wait for 10 s each otherwise until a new one may vote.
        intervals = {"autopilot_reconcile_interval": "200ms", "autopilot_update_interval": "100ms"}
        storage = {
            "path": str(directory / "raft"),
            "node_id": name,
            "performance_multiplier": 1,
            **intervals,
        }
        listener = {
            "address": f"127.0.0.1:{self._port}",
            "cluster_address": f"127.0.0.1:{cluster_port}",
        }
        config = {
            "storage": {"raft": storage},
            "listener": {"tcp": {**listener, "tls_disable": True}},
            "api_addr": self.address,
            "cluster_addr": f"https://127.0.0.1:{self.inbound.port}",
        }
        (directory / "config.json").write_text(json.dumps(config))

    @property
    def port(self) -> int:
        return self._port

    def start(self) -> None:
        """Returns when it answers; unsealed, if it has been before."""
        if not self.running:
            command = [self._binary, "server", f"-config={self._directory / 'config.json'}"]
            self._program.start(
                command, ready="server started!", environ=self._environ(), cwd=self._home()
            )
        wait_for(lambda: self.health() != 0, f"{self.name} answers")
        if self.key and self.health() == 503:
            self.unseal()

    def unseal(self) -> None:
        self.api("PUT", "sys/unseal", {"key": self.key})
        wait_for(lambda: self.health() in (200, 429), f"{self.name} is unsealed")

    def health(self) -> int:
        """200 active, 429 standby, 501 not initialised, 503 sealed; 0 when it does not answer."""
        try:
            return self._session.get(f"{self.address}/v1/sys/health", timeout=5).status_code
        except requests.RequestException:
            return 0


class RaftCluster:
    """Three servers, with the secrets engine, policy and AppRole of `OpenBao`; its files are those of ``nodes[0]``."""

    def __init__(self, directory: Path) -> None:
        self.nodes = [
            RaftNode(directory / f"node-{number}", f"node-{number}") for number in range(3)
        ]
        self.balancer = Forwarder()
        """Leads to all of them."""

    @property
    def address(self) -> str:
        """The balancer's."""
        return f"http://127.0.0.1:{self.balancer.port}"

    @property
    def leader(self) -> RaftNode:
        found: list[RaftNode] = []

        def active() -> bool:
            found[:] = [node for node in self.nodes if node.running and node.health() == 200]
            return len(found) == 1

        wait_for(active, "there is one leader")
        return found[0]

    @property
    def standbys(self) -> list[RaftNode]:
        leader = self.leader
        return [node for node in self.nodes if node is not leader]

    def start(self) -> None:
        for node in self.nodes:
            node.start()
        first = self.nodes[0]
        made = first.api("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1}, token="")
        for node in self.nodes:
            node.key = made["keys"][0]
        first.unseal()
        wait_for(lambda: first.health() == 200, "the first server is active")
        first.api(
            "POST",
            "auth/token/create",
            {"id": ROOT_TOKEN, "no_parent": True},
            token=made["root_token"],
        )
        first.api("POST", "sys/mounts/secret", {"type": "kv", "options": {"version": "2"}})
        first.api(
            "POST",
            "sys/storage/raft/autopilot/configuration",
            {"server_stabilization_time": "100ms"},
        )
        wait_for(self._takes_secrets, "the secrets engine is ready")
        first.set_up()
        for node in self.nodes[1:]:
            node.api("PUT", "sys/storage/raft/join", {"leader_api_addr": first.address})
            node.unseal()
        self.reset()

    def _takes_secrets(self) -> bool:
        try:
            return self.leader.put("ready", {"a": "b"}) > 0
        except requests.HTTPError:  # 400: "Upgrading from non-versioned to versioned data"
            return False

    def reset(self) -> None:
        """All are running, unsealed, voters, up to date and reachable; no logins, the role without limits, a new
        secret_id."""
        for node in self.nodes:
            node.inbound.resume()
            if node.running:
                node.resume()
            node.start()
        leader = self.leader
        self.balancer.lead_to(*(node.port for node in self.nodes))
        wait_for(self._all_vote, "all servers vote")
        leader.revoke_tokens()
        leader.set_role()
        secret_id = leader.new_secret_id()
        self.nodes[0].secret_id_file.write_text(secret_id + "\n")
        self.put("ready", {"a": secret_id})

    def _all_vote(self) -> bool:
        try:
            found = self.leader.api("GET", "sys/storage/raft/configuration")["data"]["config"][
                "servers"
            ]
        except requests.RequestException:
            return False
        return len(found) == len(self.nodes) and all(server["voter"] for server in found)

    def put(self, path: str, data: dict[str, str], *, everywhere: bool = True) -> int:
        """A new version of a secret; returns when all have it, unless not ``everywhere``."""
        version = self.leader.put(path, data)
        if everywhere:
            wait_for(
                lambda: all(
                    self.version(node, path) == version for node in self.nodes if node.running
                ),
                "replicated",
            )
        return version

    @staticmethod
    def version(node: RaftNode, path: str) -> int:
        """That the node itself has; 0 when it can't tell."""
        try:
            return int(node.api("GET", f"secret/data/{path}")["data"]["metadata"]["version"])
        except requests.RequestException:
            return 0

    def stop(self) -> None:
        self.balancer.close()
        for node in self.nodes:
            node.stop()
            node.inbound.close()


@pytest.fixture(scope="session")
def openbao_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RaftCluster]:
    """The process's cluster; a test asks for ``openbao_raft``."""
    cluster = RaftCluster(tmp_path_factory.mktemp("openbao-raft"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def openbao_raft(openbao_servers: RaftCluster) -> RaftCluster:
    """Three real servers, as after a start."""
    openbao_servers.reset()
    return openbao_servers
