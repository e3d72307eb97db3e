"""The process that answers probes and commands. It makes no call and holds no key.

It is a process of its own, so that a probe is answered whatever the workers do, and so that the supervisor needs no loop.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from tollhouse import loop
from tollhouse.config.load import Config
from tollhouse.control.actor import Actor
from tollhouse.control.refusal import OperationRefused
from tollhouse.control.socket import ControlServer
from tollhouse.site.http import AdminSite
from tollhouse.site.totals import Families
from tollhouse.stores import admin_tls
from tollhouse.workers.channel import ChildChannel, Message

log = logging.getLogger(__name__)

BEAT_S: Final = 1.0
OWN: Final = frozenset({"addresses", "reload", "upgrade", "workers"})
"""Operations of the supervisor itself."""


def attend(config: Config, end: socket.socket, admin: socket.socket | None) -> int:
    """The life of the desk, and its exit code."""
    return loop.run(lambda: _attend(config, end, admin))


async def _attend(config: Config, end: socket.socket, admin: socket.socket | None) -> int:
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    desk = Desk(await ChildChannel.open(end))
    heeding = asyncio.create_task(desk.heed(stopping))
    beating = asyncio.create_task(desk.beat())
    control = ControlServer(config.state.directory, desk)
    site: AdminSite | None = None
    try:
        await control.start()
        if config.listen.admin is not None and admin is not None:
            from tollhouse.site.admin_site import admin_site

            site = admin_site(
                config,
                config.listen.admin,
                desk.perform,
                desk.families,
                desk.reasons,
                desk.warnings,
                admin_tls(config),
                admin,
            )
            await site.start()
        await stopping.wait()
        return 0
    except OSError as error:
        log.error("probes and commands can't be answered (%s)", error)
        return 1
    finally:
        await control.close()
        if site is not None:
            await site.close()
        heeding.cancel()
        beating.cancel()


class Desk:
    """What the supervisor has told last, and what it is asked."""

    def __init__(self, channel: ChildChannel) -> None:
        self._channel = channel
        self._reasons: list[str] = ["starting"]
        self._warnings: list[str] = []
        # No number of an earlier desk, whose answer may still come: of a reload, say.
        self._numbers = itertools.count(time.monotonic_ns())
        self._asked: dict[int, asyncio.Future[Message]] = {}

    async def heed(self, stopping: asyncio.Event) -> None:
        """Until the supervisor is gone."""
        async for message in self._channel.messages():
            if message["kind"] == "status":
                self._reasons, self._warnings = message["reasons"], message["warnings"]
            elif (future := self._asked.pop(message["id"], None)) is not None and not future.done():
                future.set_result(message)
        stopping.set()

    async def beat(self) -> None:
        """The supervisor ends a desk whose loop stands still."""
        while True:
            self._channel.send({"kind": "beat"})
            await asyncio.sleep(BEAT_S)

    def reasons(self) -> Sequence[str]:
        return self._reasons

    def warnings(self) -> Sequence[str]:
        return self._warnings

    async def families(self) -> Families:
        """The metrics of all workers."""
        answer = await self._ask({"what": "report"})
        found: Families = answer["result"]
        return found

    async def perform(
        self, name: str, arguments: Mapping[str, Any], by: Actor | None = None
    ) -> Any:
        """Does an operation for ``by``, in the supervisor or in a worker. Raises `OperationRefused`."""
        if name in OWN:
            if arguments:
                raise OperationRefused(f"{name} takes no arguments: leave them out", 400)
            answer = await self._ask({"what": name})
        else:
            asked = {"what": "operation", "name": name, "arguments": dict(arguments)}
            if by is not None:
                asked["by"] = by.as_json()
            answer = await self._ask(asked)
        if answer["status"] != 200:
            raise OperationRefused(answer["error"], cast(Any, answer["status"]))
        return answer["result"]

    async def _ask(self, message: Message) -> Message:
        number = next(self._numbers)
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._asked[number] = future
        self._channel.send({**message, "kind": "ask", "id": number})
        try:
            return await future
        finally:
            self._asked.pop(number, None)
