"""Settles that Redis could not be told: on disk before anybody relies on them, told again when
Redis is back.

`spool_file` keeps the records, one row for each call id. It says what happens in a crash and with
several processes. This module calls it in a thread. All steps of one turn of the loop are one
transaction.

Records are replayed tenant by tenant, and those of one tenant in their order. The ledger does each
once, by its call id, which it remembers for 24 h. A record that is told later than that may have
been told before, or its call may have been swept. So it is charged only if Redis still knows the
call. Memory holds only the records that are being written or told.

A call that leaves without a hold (``[redis] unsafe_fail_open``) has a record of kind ``begun``
before anything of it leaves. That record is the charge if nothing more is heard of the call. It is
replayed only after its process has died. The ids of such calls are in memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from tollhouse.ledger.names import Scope
from tollhouse.ledger.spool_file import Claimed, SpoolFile, Step, Tally, token_of
from tollhouse.ledger.spool_record import SpoolRecord, encode
from tollhouse.ledger.spool_schema import SpoolDamaged
from tollhouse.ledger.store.client import LedgerUnavailable

__all__ = ["Replayed", "Spool", "SpoolDamaged", "SpoolRecord"]

log = logging.getLogger(__name__)

_STEPS_AT_ONCE: Final = 250
"""The most steps of one transaction."""
_TENANTS_AT_ONCE: Final = 64
"""The most tenants that are told at the same time. Each has a claim in memory."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """How many records a replay has told, and why the records of some tenants stay."""

    told: int
    lost: Mapping[str, LedgerUnavailable]


@dataclass(frozen=True, slots=True)
class _Wanted:
    step: Step
    future: asyncio.Future[Any]
    token: str = ""
    size: int = 0
    begun: bool = False
    ends: str = ""
    """The call that leaves `Spool.live` when this step is on disk."""


class Spool:
    """Each process has one. Several processes may have the same state directory. All methods are
    for one event loop."""

    def __init__(self, directory: Path, file: SpoolFile | None = None) -> None:
        self.file = file or SpoolFile(directory)
        self.path = self.file.path
        self.live: set[str] = set()
        """Calls of this process that have begun without a hold and have no later record on disk."""
        self._tally = Tally()
        self._pending: list[_Wanted] = []
        self._writing: Counter[str] = Counter()
        """Bytes of each token's records that are not on disk yet."""
        self._beginning = 0
        """The number of records of kind ``begun`` that are not on disk yet."""
        self._owed: list[Step] = []
        """Steps that the disk did not take, and for which nobody waits."""
        self._writer: asyncio.Task[None] | None = None
        self._replaying = asyncio.Lock()
        self._last: frozenset[str] = frozenset()
        """Tenants that the last replay could not tell. In the next replay they come last."""
        self._thread: ThreadPoolExecutor | None = None

    async def open(self) -> int:
        """Takes over the records of former processes, and gives the number of those that wait.
        Raises `OSError`. The text of `SpoolDamaged` says what to do."""
        self._tally = await self._in_thread(self.file.open)
        return self.waiting

    @property
    def waiting(self) -> int:
        """The number of records in the file that Redis has to be told."""
        return self._tally.waiting

    @property
    def calls(self) -> int:
        """The number of calls that Redis has not been told of, in all processes: those whose
        records wait, and those under way without a hold."""
        return self._tally.waiting + self._tally.begun + self._beginning

    @property
    def size(self) -> int:
        """Bytes of the records."""
        return self._tally.size + self._writing.total()

    @property
    def spent(self) -> bool:
        """The file has something in it, and none of that is needed any more."""
        tally = self._tally
        return tally.slack and not tally.waiting and not tally.begun and not self.live

    def share(self, token: Scope) -> int:
        """Bytes of the records whose last scope is ``token``."""
        name = token_of(token)
        return self._tally.shares.get(name, 0) + self._writing[name]

    def put(self, record: SpoolRecord) -> asyncio.Future[None]:
        """Begins to write a record. The future is done when the record is on disk, and fails with
        `OSError` if it could not be written. Records of one turn of the loop share an fsync, and so
        do records that come during a write. Of one call the last record counts."""
        begun = record.kind == "begun"
        if begun:
            self.live.add(record.call_id)
        body = encode(record)
        token = token_of(record.scopes[-1])
        self._writing[token] += len(body)
        self._beginning += begun
        step = Step(partial(self.file.put, record, body), makes_file=True)
        return self._submit(step, token, len(body), begun, "" if begun else record.call_id)

    def done(self, call_id: str) -> None:
        """Called when the ledger was told of a call's end. The record of its beginning no longer
        counts."""
        if call_id in self.live:
            self.live.discard(call_id)
            self._owe(Step(partial(self.file.remove, call_id)))

    async def replay(self, tell: Callable[[SpoolRecord], Awaitable[Exception | None]]) -> Replayed:
        """Gives the records to ``tell``: those of one tenant in order, one after the other, and the
        tenants at the same time. If ``tell`` returns an exception, the record can never be told: it
        is put aside, and the log says so. If ``tell`` raises `LedgerUnavailable`, the tenant's
        records stay for the next replay. Raises `OSError` too."""
        async with self._replaying:
            owed, self._owed = self._owed, []
            for step in owed:
                self._owe(step)
            tenants: list[str] = await self._submit(Step(self.file.tenants)) or []
            lost: dict[str, LedgerUnavailable] = {}
            limit = asyncio.Semaphore(_TENANTS_AT_ONCE)
            results = await asyncio.gather(
                *(
                    self._replay_tenant(tenant, tell, limit, lost)
                    for tenant in sorted(tenants, key=self._last.__contains__)
                ),
                return_exceptions=True,
            )
            self._last = frozenset(lost)
            for result in results:
                if isinstance(result, BaseException):
                    raise result
            if self.spent:
                self._tally = await self._in_thread(self.file.compact)
            return Replayed(sum(result for result in results if isinstance(result, int)), lost)

    async def close(self) -> None:
        """Waits for the writes under way."""
        while self._writer is not None and not self._writer.done():
            await asyncio.wait([self._writer])
        if self.waiting:
            log.warning(
                "%d settles stay in %s and are told to Redis at the next start",
                self.waiting,
                self.path,
            )
        if self._thread is not None:
            await self._in_thread(self.file.close)
            self._thread.shutdown(wait=False)
            self._thread = None

    async def _replay_tenant(
        self,
        tenant: str,
        tell: Callable[[SpoolRecord], Awaitable[Exception | None]],
        limit: asyncio.Semaphore,
        lost: dict[str, LedgerUnavailable],
    ) -> int:
        told = 0
        async with limit:
            while tenant not in lost:
                claimed = await self._claimed(tenant)
                if not claimed:
                    break
                done: list[str] = []
                aside: dict[str, str] = {}
                try:
                    for one in claimed:
                        fault = await self._tell(one, tell)
                        if fault is None:
                            done.append(one.call_id)
                        else:
                            aside[one.call_id] = fault
                except LedgerUnavailable as error:
                    lost[tenant] = error
                finally:
                    rest = [one.call_id for one in claimed[len(done) + len(aside) :]]
                    finish = self._owe(Step(partial(self.file.finish, done, aside, rest)))
                    told += len(done)
                await asyncio.shield(finish)
        return told

    async def _claimed(self, tenant: str) -> list[Claimed]:
        claim = self._submit(Step(partial(self.file.claim, tenant)))
        try:
            found: list[Claimed] | None = await asyncio.shield(claim)
        except asyncio.CancelledError:
            # While this process lives, nobody else would tell the claimed records.
            claim.add_done_callback(self._give_back)
            raise
        return found or []

    def _give_back(self, claim: asyncio.Future[Any]) -> None:
        if not claim.cancelled() and claim.exception() is None and claim.result():
            rest = [one.call_id for one in claim.result()]
            self._owe(Step(partial(self.file.finish, (), {}, rest)))

    async def _tell(
        self, one: Claimed, tell: Callable[[SpoolRecord], Awaitable[Exception | None]]
    ) -> str | None:
        """Why the record can never be told. None: it was told."""
        fault: Exception | None = None
        why = "its bytes are not those that were written"
        if one.record is not None:
            fault = await tell(one.record)
            if fault is None:
                return None
            why = f"{type(fault).__name__}: {fault}"
        log.error(
            "call %s is not charged from the spool, now or later (%s): its record is kept in the "
            "table aside of %s; count it by hand",
            one.call_id,
            why,
            self.path,
            exc_info=fault,
        )
        return why

    def _owe(self, step: Step) -> asyncio.Future[Any]:
        """Does a step that has to be done at some time. If the disk does not take it now, the next
        replay does it."""
        future = self._submit(step)

        def look(done: asyncio.Future[Any]) -> None:
            if not done.cancelled() and done.exception() is not None:
                self._owed.append(step)

        future.add_done_callback(look)
        return future

    def _submit(
        self, step: Step, token: str = "", size: int = 0, begun: bool = False, ends: str = ""
    ) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        # The failure is looked at here, so that asyncio does not report it as lost if nobody waits
        # for it.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._pending.append(_Wanted(step, future, token, size, begun, ends))
        if self._writer is None or self._writer.done():
            self._writer = loop.create_task(self._write_pending())
        return future

    async def _write_pending(self) -> None:
        # The other steps of this turn of the loop join the first.
        await asyncio.sleep(0)
        while self._pending:
            batch = self._pending[:_STEPS_AT_ONCE]
            del self._pending[:_STEPS_AT_ONCE]
            try:
                results, self._tally = await self._in_thread(
                    self.file.run, [wanted.step for wanted in batch]
                )
            except Exception as error:
                results = [error] * len(batch)
            for wanted, result in zip(batch, results, strict=True):
                self._written(wanted, result)

    def _written(self, wanted: _Wanted, result: Any) -> None:
        if wanted.token:
            self._writing[wanted.token] -= wanted.size
            if not self._writing[wanted.token]:
                del self._writing[wanted.token]
            self._beginning -= wanted.begun
        if not isinstance(result, BaseException):
            self.live.discard(wanted.ends)
        if wanted.future.done():
            return
        if isinstance(result, OSError):
            wanted.future.set_exception(result)
        elif isinstance(result, BaseException):
            wanted.future.set_exception(OSError(0, repr(result), str(self.path)))
        else:
            wanted.future.set_result(result)

    async def _in_thread[T](self, work: Callable[..., T], *arguments: Any) -> T:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, partial(work, *arguments))
