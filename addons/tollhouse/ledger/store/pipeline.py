"""Sends the scripts of one event-loop tick together, over redis-py's own connections.

redis-py's ``execute_command`` and its pipeline spend most of a call on packing arguments. Here the
part of a command that never changes (the script and its keys) is packed once. All calls of a tick
share one write and one wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError, ResponseError

from tollhouse.ledger.store.client import Script, unavailable
from tollhouse.time_limit import TimeLimit

MAX_BATCHES: Final = 8
"""Batches under way at once. A command that comes meanwhile waits for the next batch."""
MAX_BATCH: Final = 256

Told = Callable[[], object]
"""It is called in the turn of the loop behind that in which a command was written to Redis; twice if it had to be repeated."""
Entry = tuple[bytes, Script, "asyncio.Future[Any]", Told | None]
"""A packed command, its script, the future of its reply, and what is called when it is written."""


_SIZES: Final = tuple(f"\r\n${size}\r\n" for size in range(2048))
"""What stands before a bulk string of so many bytes, with the end of the one before it."""


def pack(arguments: Sequence[str]) -> bytes:
    """Bulk strings of RESP2: https://redis.io/docs/latest/develop/reference/protocol-spec/."""
    # A call has 90 of them. One after the other they take half as long again.
    parts = [""] * (2 * len(arguments))
    parts[1::2] = arguments
    try:
        parts[::2] = map(_SIZES.__getitem__, map(len, arguments))
    except IndexError:
        parts[::2] = [f"\r\n${len(a)}\r\n" for a in arguments]
    text = "".join(parts)
    if text.isascii():
        return (text[2:] + "\r\n").encode() if text else b""
    encoded = [a.encode("utf-8", "replace") for a in arguments]
    return b"".join([b"$%d\r\n%b\r\n" % (len(a), a) for a in encoded])


class Prefix:
    """A script with its keys, packed: all of an EVALSHA but its arguments."""

    __slots__ = ("_count", "_head", "keys", "script", "slot")

    def __init__(self, script: Script, keys: Sequence[str]) -> None:
        """All keys carry the tenant's hash tag, so ``slot`` is the slot of each."""
        self.script = script
        self.keys = tuple(keys)
        self.slot = key_slot(keys[0].encode())
        self._count = 3 + len(keys)
        self._head = pack(["EVALSHA", script.sha, str(len(keys)), *keys])

    def command(self, arguments: Sequence[str]) -> bytes:
        return b"*%d\r\n%b%b" % (self._count + len(arguments), self._head, pack(arguments))


class Pipeline:
    """Runs scripts. Each event loop has a pipeline of its own. It may be made outside of a loop."""

    def __init__(self, redis: Redis) -> None:
        self._waiting: list[Entry] = []
        self._scheduled = False
        self._under_way: set[asyncio.Task[None]] = set()
        self._idle: list[Any] = []
        self._pool: Any = redis.connection_pool
        self._limit = TimeLimit(self._timeout_s)

    @property
    def _timeout_s(self) -> float | None:
        """As the pool's own connections have it."""
        timeout_s: float | None = self._pool.connection_kwargs.get("socket_timeout")
        return timeout_s

    async def run(self, prefix: Prefix, arguments: Sequence[str], told: Told | None = None) -> Any:
        """The script's reply. Raises `LedgerUnavailable`. If the caller is cancelled, a command
        that was sent still takes effect."""
        return await self.submit(prefix.command(arguments), prefix.script, told)

    def submit(
        self, command: bytes, script: Script, told: Told | None = None
    ) -> asyncio.Future[Any]:
        """Sends a packed EVALSHA of ``script`` together with the other commands of this tick."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((command, script, future, told))
        if not self._scheduled and len(self._under_way) < MAX_BATCHES:
            self._scheduled = True
            loop.call_soon(self._flush)
        return future

    async def close(self) -> None:
        for task in tuple(self._under_way):
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        waiting, self._waiting = self._waiting, []
        _fail(waiting, RedisConnectionError("the ledger is closed"))
        await self._drop_idle()

    async def _drop_idle(self) -> None:
        while self._idle:
            connection = self._idle.pop()
            connection.socket_timeout = self._timeout_s
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)

    def _flush(self) -> None:
        self._scheduled = False
        # A done future here was cancelled: its caller has stopped waiting. The caller sends the
        # command again later, or gives the hold back. Such commands are dropped: while a server
        # hangs they would fill the memory.
        self._waiting = [entry for entry in self._waiting if not entry[2].done()]
        while self._waiting and len(self._under_way) < MAX_BATCHES:
            batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
            task = asyncio.get_running_loop().create_task(self._send(batch))
            self._under_way.add(task)
            task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if self._waiting:
            self._flush()

    async def _send(self, batch: list[Entry]) -> None:
        try:
            try:
                await self._round_trip(batch)
            except RedisConnectionError:
                # Redis had closed this kept connection. After a restart of Redis the other kept
                # connections are dead as well. A command may reach Redis twice now. The scripts act
                # once for each call id, so the second time changes nothing.
                await self._drop_idle()
                await self._round_trip([entry for entry in batch if not entry[2].done()])
        except (RedisError, OSError, TimeoutError) as error:
            _fail(batch, error)
        except BaseException as error:
            _fail(batch, error)
            raise

    async def _round_trip(self, batch: list[Entry]) -> None:
        # The whole round trip has one time limit. Connections are kept and not handed back to the
        # pool each time. redis-py's own time limits and its pool cost as much as the round trip
        # itself.
        timeout_s = self._timeout_s
        if self._limit.seconds != timeout_s:
            self._limit = TimeLimit(timeout_s)
        async with self._limit.block():
            connection = self._idle.pop() if self._idle else await self._pool.get_connection()
            try:
                connection.socket_timeout = None
                unknown = await self._round(connection, batch)
                if unknown:
                    # Redis was restarted, or a failover led to a server without these scripts.
                    for script in {entry[1] for entry in unknown}:
                        await connection.send_command("SCRIPT", "LOAD", script.text)
                        await connection.read_response()
                    for _, script, future, _ in await self._round(connection, unknown):
                        _settle(
                            future,
                            unavailable(NoScriptError(f"{script.name} was loaded and is gone")),
                        )
            except BaseException:
                # Replies may still be on their way: the connection must never serve another call.
                connection.socket_timeout = self._timeout_s
                await connection.disconnect(nowait=True)
                await self._pool.release(connection)
                raise
            self._idle.append(connection)

    async def _round(self, connection: Any, batch: list[Entry]) -> list[Entry]:
        """Sends all commands and reads all replies. Gives the entries whose script Redis does not
        know."""
        await connection.send_packed_command([entry[0] for entry in batch], check_health=False)
        for entry in batch:
            if entry[3] is not None:
                asyncio.get_running_loop().call_soon(entry[3])
        unknown: list[Entry] = []
        for entry in batch:
            try:
                reply = await connection.read_response()
            except NoScriptError:
                unknown.append(entry)
            except ReadOnlyError as error:
                # A failover made this server a replica. A new connection may reach the new master.
                raise RedisConnectionError(str(error)) from error
            except ResponseError as error:
                _settle(entry[2], unavailable(error))
            else:
                if not entry[2].done():
                    entry[2].set_result(reply)
        return unknown


def _settle(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def _fail(batch: list[Entry], error: BaseException) -> None:
    for _, _, future, _ in batch:
        _settle(future, unavailable(error))
