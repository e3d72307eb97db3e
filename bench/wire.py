"""A relay of TCP that can delay, and that says when bytes passed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

Passed = Callable[[str, float, int], None]
"""``"out"`` (away from the client) or ``"back"``, the moment by `time.perf_counter`, and how many bytes."""
_READ: Final = 65_536


class Wire:
    """Listens on ``port``, a free one of loopback, and passes each connection on to ``target``, another port there.

    Bytes arrive half of ``round_trip_s`` later. The first ones of a client arrive a whole one later still, because a relay cannot
    delay TCP's own handshake: a client that connects, says something and hears something has waited for two round trips, as on a
    real line. It is for the event loop that `open` runs on.
    """

    def __init__(
        self, target: int, *, round_trip_s: float = 0.0, passed: Passed | None = None
    ) -> None:
        self.port = 0
        self.connections = 0
        """Connections that were made since the start."""
        self._target = target
        self._round_trip_s = round_trip_s
        self._passed = passed
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0, backlog=4096)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        await self.drop()

    async def drop(self) -> None:
        """Ends all connections; returns once both sides have been told."""
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        self.connections += 1
        writers = [writer]
        try:
            there, onward = await asyncio.open_connection("127.0.0.1", self._target)
            writers.append(onward)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass(reader, onward, "out", self._round_trip_s))
                both.create_task(self._pass(there, writer, "back", 0.0))
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            for one in writers:
                one.close()
            self._open.discard(task)

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        direction: str,
        first_s: float,
    ) -> None:
        """Until the end of ``reader``, which is passed on after its last bytes."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        behind: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                due, data = await behind.get()
                if (early := due - loop.time()) > 0:
                    await asyncio.sleep(early)
                if not data:
                    writer.write_eof()
                    return
                writer.write(data)
                await writer.drain()

        delivery = loop.create_task(deliver()) if self._round_trip_s else None
        try:
            while data := await reader.read(_READ):
                if self._passed is not None:
                    self._passed(direction, time.perf_counter(), len(data))
                if delivery is None:
                    writer.write(data)
                    await writer.drain()
                else:
                    due = max(loop.time(), began + first_s) + self._round_trip_s / 2
                    behind.put_nowait((due, data))
            if delivery is None:
                writer.write_eof()
            else:
                behind.put_nowait((loop.time() + self._round_trip_s / 2, b""))
                await delivery
        finally:
            if delivery is not None:
                delivery.cancel()
