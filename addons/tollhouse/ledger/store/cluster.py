"""A Redis Cluster as one client: who owns which slot, and where a command goes.

redis-py's ``RedisCluster`` is not used, for these reasons. It has no EVALSHA in a pipeline. It may
send ASKING over another connection than the command. It closes the connections to every node when
one slot is away (CLUSTERDOWN). It asks unreachable nodes one after the other without a bound in
time. It forgets the nodes of the URL when it has seen others. The connections and commands here are
redis-py's. The map of slots is our own, after
https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from itertools import batched, groupby
from typing import Any, Final

from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    NoPermissionError,
    ReadOnlyError,
    RedisError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tollhouse.ledger.store.sentinel import tls_options
from tollhouse.ledger.store.urls import Servers

SLOTS: Final = 16384
ASKED_AT_ONCE: Final = 3
"""Nodes that are asked for the map at the same time. The first answer counts."""
NODE_ANSWERS_S: Final = 0.7
"""How long a node may take to say what it knows of the Cluster."""
READ_APART_S: Final = 0.2
"""The shortest time between two reads of the map, however many calls find it wrong."""
READ_EVERY_S: Final = 10.0
TRY_AGAIN_S: Final = 0.05
COPY_WITHIN_MS: Final = 500
"""A write that must survive its master's failover has to reach one replica within this time."""
_COPIED: Final = frozenset({"HDEL", "HSET", "HSETNX"})
"""The commands that write, beside scripts. They have to reach a replica: else a revoked token could
come back when the replica becomes the master."""
_MAX_HOPS: Final = 5

_Address = tuple[str, int]


class Node:
    """One server. ``replicas`` is the number of its replicas that are not known to have failed."""

    __slots__ = ("address", "client", "replicas")

    def __init__(self, address: _Address, client: Redis) -> None:
        self.address = address
        self.client = client
        self.replicas = 0

    async def execute(self, *args: Any, **options: Any) -> Any:
        # redis-py has no types for it.
        client: Any = self.client
        return await client.execute_command(*args, **options)

    def __str__(self) -> str:
        host, port = self.address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class ClusterRedis(Redis):
    """A client whose commands go to the owner of a slot. The slot is that of the command's first
    argument, its key. There are no pipelines, transactions or subscriptions. The client connects
    when it is first used. Every command and script ends within ``timeout_s``. If the owner of the
    slot is gone and another node has become the owner, the command is sent once more. So a command
    must bear being done twice.
    """

    def __init__(self, servers: Servers, *, timeout_s: float, **options: Any) -> None:
        """``options`` are redis-py's, for each node's own client."""
        options |= {
            "username": servers.username,
            "password": servers.password,
            **tls_options(servers),
        }
        first = servers.places[0]
        super().__init__(host=first[0], port=first[1], **options)
        self._options = options
        self._seeds = servers.places
        self.timeout_s = timeout_s
        self.nodes: dict[_Address, Node] = {}
        """The nodes of the map, and those that redirections named."""
        self._owners: list[Node | None] = [None] * SLOTS
        self._problem: Exception | None = None
        self._reading: asyncio.Task[None] | None = None
        self._read_at = float("-inf")
        self._turn = 0
        self._closing: set[asyncio.Task[Any]] = set()

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Raises `RedisError`, `OSError` or `TimeoutError`."""
        if len(args) < 2:
            raise RedisError(f"{args[0]} has no key, and a Cluster has many servers")
        key = args[1]
        slot = key_slot(key if isinstance(key, bytes) else str(key).encode())

        async def send(node: Node, asking: bool) -> Any:
            if asking:
                return await ask(node, *args)
            if node.replicas and args[0] in _COPIED:
                answer, copied = await together(node, args, ("WAIT", 1, COPY_WITHIN_MS))
                if not copied:
                    raise not_copied(node)
                return answer
            return await node.execute(*args, **options)

        return await self.routed(slot, send)

    async def routed[T](self, slot: int, send: Callable[[Node, bool], Awaitable[T]]) -> T:
        """Calls ``send(node, asking)`` with the owner of ``slot``. If the answer is a redirection,
        it is called again with the named node. With ``asking``, ASKING has to go before the command
        on the same connection. Raises the last exception of ``send``, and `TimeoutError` after
        ``timeout_s``."""
        node: Node | None = None
        try:
            async with asyncio.timeout(self.timeout_s):
                node, asking, hops, again = await self._owner(slot), False, 0, False
                while True:
                    try:
                        return await send(node, asking)
                    except AskError as error:
                        # MovedError is an AskError too.
                        hops += 1
                        if hops > _MAX_HOPS:
                            raise
                        asking = not isinstance(error, MovedError)
                        node = self._node((error.host.strip("?") or node.address[0], error.port))
                        if not asking:
                            self._owners[slot] = node
                            self._read_soon()
                    except TryAgainError:
                        # The slot is being moved to another node, and each of the two has some of
                        # the script's keys.
                        await asyncio.sleep(TRY_AGAIN_S)
                        node, asking, hops = await self._owner(slot), False, 0
                    except (RedisTimeoutError, TimeoutError):
                        raise
                    except (RedisConnectionError, ClusterDownError, ReadOnlyError, OSError):
                        await self.read_map(avoid=node)
                        owner = self._owners[slot]
                        if again or owner is None or owner is node:
                            raise
                        node, asking, again = owner, False, True
        except (RedisTimeoutError, TimeoutError):
            # A node that hangs names no successor. Other nodes do.
            self._read_soon(node)
            raise

    async def ping(self, **options: Any) -> bool:
        """Raises `RedisError`, `OSError` or `TimeoutError` unless every slot has an owner that
        answers and says that the Cluster is well. With one owner away, the calls of some tenants
        are refused. All nodes are asked at the same time, and each has ``NODE_ANSWERS_S``."""
        loop = asyncio.get_running_loop()
        if self._problem is not None or loop.time() - self._read_at > READ_EVERY_S:
            await self.read_map()
        ranges = dict(self.ranges())
        lost = sum(end - start + 1 for start, end in ranges.pop(None, []))
        if lost == SLOTS and self._problem is not None:
            raise self._problem
        results = await asyncio.gather(
            *(healthy(node) for node in ranges if node), return_exceptions=True
        )
        for node, result in zip(ranges, results, strict=True):
            if isinstance(result, BaseException):
                self._read_soon(node)
                raise result
        if lost:
            self._read_soon()
            raise ClusterDownError(f"{lost} of the {SLOTS} slots have no master")
        return True

    def ranges(self) -> Iterator[tuple[Node | None, list[tuple[int, int]]]]:
        """Each owner with the first and the last slot of each of its ranges. The owner None stands
        for slots of nobody."""
        found: dict[Node | None, list[tuple[int, int]]] = {}
        for node, slots in groupby(range(SLOTS), key=self._owners.__getitem__):
            numbers = list(slots)
            found.setdefault(node, []).append((numbers[0], numbers[-1]))
        yield from found.items()

    async def read_map(self, avoid: Node | None = None) -> None:
        """Reads the map of slots from the Cluster. The node ``avoid`` is asked last. Callers at the
        same time share one read, and nothing is read if that was done less than `READ_APART_S` ago.
        Raises nothing: if nobody answers, the old map stays."""
        loop = asyncio.get_running_loop()
        if self._reading is None or self._reading.done():
            if loop.time() - self._read_at < READ_APART_S:
                return
            self._reading = loop.create_task(self._read(avoid))
        await asyncio.shield(self._reading)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        nodes, self.nodes = self.nodes, {}
        self._owners = [None] * SLOTS
        await asyncio.gather(
            *(node.client.aclose() for node in nodes.values()),
            *self._closing,
            return_exceptions=True,
        )
        await super().aclose(close_connection_pool)

    async def _owner(self, slot: int) -> Node:
        owner = self._owners[slot]
        if owner is None:
            await self.read_map()
            owner = self._owners[slot]
        if owner is None:
            raise self._problem or ClusterDownError(f"no master has the slot {slot}")
        return owner

    def _node(self, address: _Address) -> Node:
        node = self.nodes.get(address)
        if node is None:
            client = Redis(host=address[0], port=address[1], **self._options)
            node = self.nodes[address] = Node(address, client)
        return node

    def _read_soon(self, avoid: Node | None = None) -> None:
        task = asyncio.get_running_loop().create_task(self.read_map(avoid))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _read(self, avoid: Node | None) -> None:
        loop = asyncio.get_running_loop()
        known = [
            address
            for address in dict.fromkeys((*self.nodes, *self._seeds))
            if not avoid or address != avoid.address
        ]
        # The nodes take turns, so that a node that hangs or has an old map is not asked first each
        # time.
        self._turn += ASKED_AT_ONCE
        at = self._turn % len(known) if known else 0
        places = [*known[at:], *known[:at], *([avoid.address] if avoid else [])]
        problem: Exception = RedisConnectionError("no node of the Cluster is known")
        for group in batched(places, ASKED_AT_ONCE):
            asking = [loop.create_task(read_slots(self._node(address))) for address in group]
            try:
                for answer in asyncio.as_completed(asking):
                    try:
                        self._accept(await answer)
                    except (
                        RedisError,
                        OSError,
                        TimeoutError,
                        ValueError,
                        IndexError,
                        TypeError,
                    ) as error:
                        problem = error
                    else:
                        self._problem, self._read_at = None, loop.time()
                        return
            finally:
                for task in asking:
                    task.cancel()
                await asyncio.gather(*asking, return_exceptions=True)
        self._problem, self._read_at = problem, loop.time()

    def _accept(self, found: Sequence[tuple[int, int, Sequence[_Address]]]) -> None:
        if not found:
            raise ClusterDownError("the Cluster has no slots yet")
        owners: list[Node | None] = [None] * SLOTS
        kept: set[_Address] = set()
        for first, last, places in found:
            nodes = [self._node(place) for place in places]
            kept.update(places)
            nodes[0].replicas = len(nodes) - 1
            owners[first : last + 1] = [nodes[0]] * (last + 1 - first)
        self._owners = owners
        for address in self.nodes.keys() - kept:
            task = asyncio.get_running_loop().create_task(self.nodes.pop(address).client.aclose())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


async def together(node: Node, *commands: Sequence[Any]) -> list[Any]:
    """Sends ``commands`` on one connection and gives their answers. If one is an error, the first
    error is raised."""
    async with node.client.pipeline(transaction=False) as pipe:
        for words in commands:
            pipe.execute_command(*words)
        # An error that the pipeline itself raises would quote the command.
        answers: list[Any] = await pipe.execute(raise_on_error=False)
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


async def ask(node: Node, *args: Any) -> Any:
    """Sends a command behind ASKING. A node to which a slot is being moved takes commands only so
    until it has the whole slot."""
    return (await together(node, ("ASKING",), args))[1]


def not_copied(node: Node) -> RedisError:
    return RedisError(f"{node} could not copy it to a replica in time")


async def read_slots(node: Node) -> list[tuple[int, int, list[_Address]]]:
    """CLUSTER SLOTS as one node knows it: first slot, last slot, the master and its replicas."""
    async with asyncio.timeout(NODE_ANSWERS_S):
        # The command is sent as two words: redis-py does not change the answer then.
        answer: Any = await node.execute("CLUSTER", "SLOTS")
    return [
        (int(first), int(last), [_address(one, node) for one in nodes])
        for first, last, *nodes in answer
    ]


async def healthy(node: Node) -> None:
    """Raises `RedisError`, `OSError` or `TimeoutError` unless the node answers and says that its
    Cluster is well."""
    try:
        async with asyncio.timeout(NODE_ANSWERS_S):
            try:
                answer: Any = await node.execute("CLUSTER", "INFO")
            except NoPermissionError:
                await node.client.ping()
                return
    except (RedisTimeoutError, TimeoutError) as error:
        raise RedisTimeoutError(f"{node} does not answer in time") from error
    except (RedisError, OSError) as error:
        raise RedisConnectionError(f"{node}: {error}") from error
    lines = (line.partition(":") for line in _text(answer).splitlines())
    said = {name: value for name, _, value in lines}
    if said.get("cluster_state") != "ok" or said.get("cluster_slots_ok") != str(SLOTS):
        raise ClusterDownError(
            f"{node} sees {said.get('cluster_slots_ok')} of the {SLOTS} slots served"
        )


def _address(entry: Sequence[Any], asked: Node) -> _Address:
    """The endpoint of a node, from an answer of the node ``asked``. An empty endpoint means the
    host that was asked. "?" means that the node has no name; its address stands in the fields that
    follow."""
    text = _text(entry[0])
    if text == "?":
        more: Iterable[Any] = entry[3] if len(entry) > 3 else ()
        pairs: dict[str, str] = dict(zip(*[map(_text, more)] * 2, strict=True))
        text = pairs.get("ip", "")
    return text or asked.address[0], int(entry[1])


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")
