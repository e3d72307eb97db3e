"""A worker: one gateway, and what it tells the supervisor of it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from tollhouse import loop
from tollhouse.cannot_start import CANNOT_START
from tollhouse.config.load import Config
from tollhouse.control.actor import Actor
from tollhouse.control.refusal import OperationRefused
from tollhouse.gateway import Gateway
from tollhouse.ledger.ledger import LedgerUnavailable
from tollhouse.share import Share
from tollhouse.workers.channel import ChildChannel, Message

if TYPE_CHECKING:
    pass

log = logging.getLogger(__name__)

BEAT_S: Final = 1.0
REPORT_S: Final = 5.0


def work(config: Config, share: Share, end: socket.socket, say: Callable[[str], None]) -> int:
    """The life of a worker: 0 after a stop in order, 1 if it can't start."""
    return loop.run(lambda: Work(config, share, say).run(end))


def one_line(error: BaseException) -> str:
    """What can't be done and why, as a person is told."""
    text = (
        f"{error.strerror}: {error.filename}"
        if isinstance(error, OSError) and error.filename
        else str(error)
    )
    return " ".join(text.split())


class Work:
    """One worker's coroutine and what it needs."""

    def __init__(self, config: Config, share: Share, say: Callable[[str], None]) -> None:
        self._config = config
        self._gateway = Gateway(config, share=share)
        self._share = share
        self._say = say
        self._told_metrics = False
        """Somebody may ask for metrics, and they are told now and then: a worker that is killed has told them before."""
        self._turns: asyncio.Queue[str] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, end: socket.socket) -> int:
        gateway = self._gateway
        running = asyncio.get_running_loop()
        running.add_signal_handler(signal.SIGTERM, self._terminate)
        running.add_signal_handler(signal.SIGHUP, gateway.hang_up)
        running.add_signal_handler(signal.SIGUSR1, self._tell_where)
        channel = await ChildChannel.open(end)
        self._run(self._beat(channel))
        self._run(self._heed(channel))
        try:
            await gateway.prepare()
            await self._take_turns(channel)
        except CANNOT_START as error:
            why = one_line(error)
            self._say(f"cannot start: {why}")
            channel.send({"kind": "status", "status": {"failed": why}})
            await channel.close()
            return 1
        await gateway.stopping.wait()
        await gateway.stop()
        if self._told_metrics:
            channel.send(self._report(None))
        await channel.close()
        return 0

    async def _take_turns(self, channel: ChildChannel) -> None:
        """Nothing of its configuration counts before the whole generation is prepared: the supervisor says when to go on."""
        gateway = self._gateway
        if (unwrapped := gateway.unwrapped) is not None:
            channel.send({"kind": "unwrapped", **dataclasses.asdict(unwrapped)})
        channel.send({"kind": "prepared"})
        while (turn := await self._next_turn()) == "apply":
            await gateway.apply()
            channel.send({"kind": "applied"})
        if turn == "open":
            await gateway.open()
        if not gateway.stopping.is_set():
            channel.send(self._status())
            channel.send({"kind": "ready"})
            self._told_metrics = self._config.listen.admin is not None

    async def _next_turn(self) -> str:
        """Empty when the worker is to stop."""
        turn = asyncio.ensure_future(self._turns.get())
        stopping = asyncio.ensure_future(self._gateway.stopping.wait())
        await asyncio.wait((turn, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        return "" if turn.cancel() else turn.result()

    def _terminate(self) -> None:
        """The second time, calls under way are not waited for."""
        if self._gateway.stopping.is_set():
            self._gateway.hurry.set()
        self._gateway.stopping.set()

    @staticmethod
    def _tell_where() -> None:
        log.warning(
            "where the tasks of this worker (%d) wait:\n%s", os.getpid(), loop.tasks_stand()
        )

    def _run(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _beat(self, channel: ChildChannel) -> None:
        changed = self._gateway.readiness.changed
        told_at = 0.0
        while True:
            channel.send(self._status())
            if self._told_metrics and (now := time.monotonic()) - told_at >= REPORT_S:
                told_at = now
                channel.send(self._report(None))
            changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), BEAT_S)

    async def _heed(self, channel: ChildChannel) -> None:
        async for message in channel.messages():
            match message["kind"]:
                case "retire":
                    self._run(self._gateway.retire())
                case "apply" | "open" as turn:
                    self._turns.put_nowait(turn)
                case "conclude":
                    self._run(self._conclude(message["lines"]))
                case "tell":
                    channel.send(self._report(message["id"]))
                case "operation":
                    self._run(self._operate(channel, message))
        if not self._gateway.stopping.is_set() and not channel.closed:
            log.warning("the supervisor has ended: this worker ends too")
            self._gateway.stopping.set()

    async def _conclude(self, lines: Sequence[str]) -> None:
        """Writes the lines that a worker which was killed was about to write: those of calls that it had settled. The others'
        holds are swept, which gives each a line. Waits while Redis is away."""
        for line in lines:
            record = json.loads(line)
            while True:
                try:
                    ended = await self._gateway.ledger.settled(record["tenant"], record["call_id"])
                    break
                except LedgerUnavailable:
                    await asyncio.sleep(1)
            if ended or record["held_usd"] == record["cost_usd"] == "0":
                self._gateway.book.write(record, settled=ended)

    def _status(self) -> Message:
        gateway = self._gateway
        return {
            "kind": "status",
            "status": {
                "reasons": list(gateway.readiness.reasons()),
                "warnings": list(gateway.readiness.warnings()),
                "calls": gateway.calls,
                "connections": gateway.connections,
            },
        }

    def _report(self, number: int | None) -> Message:
        try:
            families = self._gateway.metrics().families()
        except Exception:
            log.exception("the metrics could not be told")
            families = []
        return {"kind": "report", "id": number, "families": families}

    async def _operate(self, channel: ChildChannel, message: Message) -> None:
        answer: Message
        try:
            result = await self._gateway.operations.perform(
                message["name"], message["arguments"], Actor.of_json(message.get("by"))
            )
            answer = {"status": 200, "result": result}
        except OperationRefused as error:
            answer = {"status": error.status, "error": str(error)}
        except Exception as error:  # the type only: a message could carry an argument
            log.exception("the operation %s failed", message["name"])
            why = f"The gateway failed at this operation ({type(error).__name__})."
            answer = {"status": 500, "error": why}
        channel.send({**answer, "kind": "result", "id": message["id"]})
