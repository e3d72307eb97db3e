"""A Redis Cluster of the tests' own: redis-server processes on loopback, each a master or a replica."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import redis
from redis.asyncio import Redis
from redis.crc import key_slot

from tests.support.programs import Program, free_port
from tests.support.redis_server import READY
from tests.support.requires import program
from tollhouse.ledger.store.client import LedgerUnavailable
from tollhouse.ledger.store.cluster import ClusterRedis

SLOTS = 16384
NODE_TIMEOUT_MS = 2000
"""After how long a silent node is taken for dead. Shorter, a busy machine would make failovers of its own."""


class ClusterNode:
    """One redis-server. `kill` and `start` again keep its port, its id and, with ``appendonly``, what it has."""

    def __init__(self, directory: Path, options: Sequence[str], binary: str) -> None:
        self._directory = directory
        self._options = options
        self._binary = binary
        self.port = 0
        self.bus = 0
        self._program = Program(directory.name)
        directory.mkdir(parents=True)

    @property
    def log(self) -> list[str]:
        return self._program.log

    def start(self) -> None:
        """Returns when it takes connections."""
        if self.running:
            return
        port, bus = self.port, self.bus

        def command() -> list[str]:
            self.port, self.bus = port or free_port(), bus or free_port()
            return self._command()

        self._program.start_on_a_port(command, ready=READY)

    def _command(self) -> list[str]:
        options = {
            "--port": str(self.port),
            "--cluster-port": str(self.bus),
            "--bind": "127.0.0.1",
            "--dir": str(self._directory),
            "--save": "",
            "--rdbcompression": "no",
            "--repl-diskless-sync-delay": "0",
            # A replica is listed by others once it has been sent something.
            "--repl-ping-replica-period": "1",
            "--cluster-enabled": "yes",
            "--cluster-node-timeout": str(NODE_TIMEOUT_MS),
        }
        return [
            self._binary,
            *(word for option in options.items() for word in option),
            *self._options,
        ]

    @property
    def running(self) -> bool:
        return self._program.running

    def kill(self) -> None:
        """SIGKILL; nothing that it has not written yet is written."""
        self._program.kill()

    def pause(self) -> None:
        """It hangs, and closes no connection."""
        self._program.pause()

    def resume(self) -> None:
        self._program.resume()

    def client(self) -> redis.Redis:
        """Of this node alone."""
        return redis.Redis(port=self.port, decode_responses=True)

    def run(self, *words: Any) -> Any:
        """The answer as it came; a ``redis.ResponseError`` is raised."""
        with self.client() as client:
            connection = client.connection_pool.get_connection()
            connection.send_command(*words)
            return connection.read_response()

    def wait_for(self, what: str, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        """Each look is a command, which takes its time: no sleep is needed between them."""
        over = threading.Event()
        timer = threading.Timer(seconds, over.set)
        timer.start()
        try:
            while not condition():
                assert not over.is_set(), (
                    f"not within {seconds:g} s: {what}\n{''.join(self.log[-20:])}"
                )
        finally:
            timer.cancel()

    @property
    def id(self) -> str:
        return str(self.run("CLUSTER", "MYID"))


class RedisCluster:
    """``masters`` nodes with the slots in equal parts, and as many replicas if ``replicas``; whole when it is entered."""

    def __init__(
        self,
        directory: Path,
        *,
        masters: int = 3,
        replicas: bool = False,
        options: Sequence[str] = (),
        server: str = "redis",
    ) -> None:
        """``server`` is "redis" or "valkey"."""
        binary = program(server)
        self.nodes = [
            ClusterNode(directory / f"node-{number}", options, binary)
            for number in range(masters * (1 + replicas))
        ]
        self._masters = masters
        self._directory = directory

    @property
    def url(self) -> str:
        """Names two nodes."""
        return f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in self.nodes[:2])}"

    @property
    def masters(self) -> list[ClusterNode]:
        """Those that are made masters at first."""
        return self.nodes[: self._masters]

    def connection(self) -> redis.RedisCluster:
        """A blocking client of all of it, once every slot has a master that answers."""
        node = next(node for node in self.nodes if node.running)
        return redis.RedisCluster(host="127.0.0.1", port=node.port, decode_responses=True)

    def owner(self, key: str) -> ClusterNode:
        """The master of the key's slot, as a running node says."""
        slot = key_slot(key.encode())
        asked = next(node for node in self.nodes if node.running)
        for first, last, *nodes in asked.run("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == nodes[0][1])
        raise AssertionError(f"nobody has slot {slot}")

    def replica_of(self, master: ClusterNode) -> ClusterNode:
        number = self.nodes.index(master)
        return self.nodes[number + self._masters]

    def wait_whole(self) -> None:
        """Until every running node believes in the Cluster, and every replica follows."""
        for node in self.nodes:
            if node.running:
                node.wait_for(
                    "the Cluster is whole",
                    lambda node=node: "cluster_state:ok" in node.run("CLUSTER", "INFO"),
                )
        for node in self.nodes[self._masters :]:
            if node.running:
                node.wait_for("it follows", lambda node=node: self._follows(node))

    def _follows(self, node: ClusterNode) -> bool:
        with node.client() as client:
            found: Any = client.info("replication")
        return bool(found["role"] == "master" or found["master_link_status"] == "up")

    def promoted(self, replica: ClusterNode) -> None:
        """Returns when it is a master that has slots, and all running nodes know."""
        replica.wait_for("the replica takes over", lambda: replica.run("ROLE")[0] == "master")
        self.wait_whole()

    def begin_move(self, key: str, target: ClusterNode) -> ClusterNode:
        """The slot of ``key`` is about to go to ``target``; whose it is still. From now on scripts whose keys are not all
        there are answered TRYAGAIN, and ASK once none is."""
        slot, source = key_slot(key.encode()), self.owner(key)
        target.run("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.run("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
        return source

    def move_keys(self, key: str, source: ClusterNode, target: ClusterNode) -> None:
        """All keys of the slot of ``key``."""
        while keys := source.run("CLUSTER", "GETKEYSINSLOT", key_slot(key.encode()), 100):
            source.run("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)

    def end_move(self, key: str, source: ClusterNode, target: ClusterNode) -> None:
        for node in (target, source):
            node.run("CLUSTER", "SETSLOT", key_slot(key.encode()), "NODE", target.id)

    def tenants(self, prefix: str) -> list[str]:
        """The name of one tenant on each master."""
        found: dict[int, str] = {}
        number = 0
        while len(found) < self._masters:
            number += 1
            name = f"{prefix}{number}"
            found.setdefault(self.owner(f"{{{name}}}").port, name)
        return [found[node.port] for node in self.masters]

    def flush(self) -> None:
        """Empty, no scripts."""
        for node in self.masters:
            node.run("FLUSHALL")
            node.run("SCRIPT", "FLUSH")

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.callback(self._kill)
            for node in self.nodes:
                node.start()
            for number, node in enumerate(self.nodes, start=1):
                # Before they meet, so that none of them needs an election.
                node.run("CLUSTER", "SET-CONFIG-EPOCH", number)
            each = SLOTS // self._masters
            for number, node in enumerate(self.masters):
                last = SLOTS - 1 if number == self._masters - 1 else (number + 1) * each - 1
                node.run("CLUSTER", "ADDSLOTSRANGE", number * each, last)
            for number, node in enumerate(self.nodes):
                # Each with each: gossip would take seconds.
                for other in self.nodes[:number]:
                    node.run("CLUSTER", "MEET", "127.0.0.1", other.port, other.bus)
            met = f"cluster_known_nodes:{len(self.nodes)}\r\n"
            for node in self.nodes:
                node.wait_for("all have met", lambda node=node: met in node.run("CLUSTER", "INFO"))
            for number, node in enumerate(self.nodes[self._masters :]):
                node.run("CLUSTER", "REPLICATE", self.masters[number].id)
            self.wait_whole()
            if len(self.nodes) > self._masters:
                for node in self.nodes:
                    node.wait_for(
                        "replicas are known", lambda node=node: self._replicas_known(node)
                    )
            stack.pop_all()
        return self

    def _replicas_known(self, node: ClusterNode) -> bool:
        return all(len(nodes) == 2 for _, _, *nodes in node.run("CLUSTER", "SLOTS"))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._kill()
        for number, node in enumerate(self.nodes):
            (self._directory / f"redis-{number}.log").write_text("".join(node.log))

    def _kill(self) -> None:
        for node in self.nodes:
            node.kill()


async def everywhere(client: Redis, *words: Any) -> list[Any]:
    """The answers of every server that ``client`` has to a command without a key."""
    if not isinstance(client, ClusterRedis):
        execute: Any = client.execute_command
        return [await execute(*words)]
    await client.ping()
    return [await node.execute(*words) for node, _ in client.ranges() if node is not None]


async def told(tell: Callable[[], Awaitable[object]]) -> None:
    """Until it counts as done: on a busy machine a replica may be late, and then it is told again, as a gateway does."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(LedgerUnavailable):
                await tell()
                return


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """The process's Cluster of three masters without replicas; a test that writes to it asks for ``cluster_url``."""
    with RedisCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def cluster_url(redis_cluster: RedisCluster) -> str:
    """``redis+cluster://...`` of an empty Cluster."""
    redis_cluster.flush()
    return redis_cluster.url
