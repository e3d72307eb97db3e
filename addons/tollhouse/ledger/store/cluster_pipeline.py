"""The pipeline of a Cluster. The scripts of one tick go to each owner together, as `Pipeline` sends
them to a single server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio import Redis

from tollhouse.ledger.store.client import LedgerUnavailable, translated, unavailable
from tollhouse.ledger.store.cluster import COPY_WITHIN_MS, ClusterRedis, Node, ask, not_copied
from tollhouse.ledger.store.pipeline import Entry, Pipeline, Prefix, Told

COPIED: Final = frozenset({"alert_fire", "change_token", "limits", "rotate", "settle"})
"""Scripts that count as done when one replica has them, if there is a replica. Their writes must
survive the failover of their master. A hold need not: if it is lost, more calls may leave than the
limit allows, and the settle charges the call all the same. Each of these scripts bears being done
twice. It writes something the second time too, so that WAIT waits."""


def open_pipeline(redis: Redis) -> Pipeline | ClusterPipeline:
    """The object that runs scripts on ``redis``."""
    return ClusterPipeline(redis) if isinstance(redis, ClusterRedis) else Pipeline(redis)


class Lane(Pipeline):
    """The pipeline to one master."""

    def __init__(self, node: Node) -> None:
        super().__init__(node.client)
        self._node = node

    async def drained(self) -> None:
        """Closes the lane when the commands under way have ended."""
        while self._under_way:
            await asyncio.wait(tuple(self._under_way))
        await self.close()

    async def _round(self, connection: Any, batch: list[Entry]) -> list[Entry]:
        if self._node.replicas == 0 or not any(entry[1].name in COPIED for entry in batch):
            return await super()._round(connection, batch)
        # A command of `COPIED` gets a future of its own, which waits for the replica. All others
        # are answered at once.
        waiting = {entry[2]: _quiet_future() for entry in batch if entry[1].name in COPIED}
        outer = {inner: future for future, inner in waiting.items()}
        inside = [
            (command, script, waiting.get(future, future), told)
            for command, script, future, told in batch
        ]
        unknown = await super()._round(connection, inside)
        await connection.send_command("WAIT", 1, COPY_WITHIN_MS)
        copied = int(await connection.read_response())
        for future, inner in waiting.items():
            if future.done() or not inner.done():
                continue
            if (
                error := inner.exception()
                or (None if copied else unavailable(not_copied(self._node)))
            ) is not None:
                future.set_exception(error)
            else:
                future.set_result(inner.result())
        return [
            (command, script, outer.get(future, future), told)
            for command, script, future, told in unknown
        ]


def _quiet_future() -> asyncio.Future[Any]:
    """A future whose failure need not be looked at."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future


class ClusterPipeline:
    """`Pipeline`'s `run` and `close` for all masters. A script whose slot is away fails. Others go
    on."""

    def __init__(self, redis: ClusterRedis) -> None:
        self._redis = redis
        self._lanes: dict[Node, Lane] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def run(self, prefix: Prefix, arguments: Sequence[str], told: Told | None = None) -> Any:
        """The script's reply. Raises `LedgerUnavailable` within the client's ``timeout_s``. If the
        caller is cancelled, a command that was sent still takes effect."""
        command = prefix.command(arguments)

        async def send(node: Node, asking: bool) -> Any:
            if asking:
                # EVAL sends the text of the script: the node may not have it, and ASKING holds for
                # one command.
                return await ask(
                    node, "EVAL", prefix.script.text, len(prefix.keys), *prefix.keys, *arguments
                )
            try:
                return await self._lane(node).submit(command, prefix.script, told)
            except LedgerUnavailable as error:
                # Redis's own answer names the node to go to.
                raise (
                    error.__cause__ if isinstance(error.__cause__, Exception) else error
                ) from None

        with translated():
            return await self._redis.routed(prefix.slot, send)

    async def close(self) -> None:
        lanes, self._lanes = self._lanes, {}
        await asyncio.gather(*(lane.close() for lane in lanes.values()), *self._closing)

    def _lane(self, node: Node) -> Lane:
        lane = self._lanes.get(node)
        if lane is None:
            self._retire()
            lane = self._lanes[node] = Lane(node)
        return lane

    def _retire(self) -> None:
        """Closes the lanes of nodes that have left. It is called when there is a new node."""
        for node in self._lanes.keys() - set(self._redis.nodes.values()):
            task = asyncio.get_running_loop().create_task(self._lanes.pop(node).drained())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
