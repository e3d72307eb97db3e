"""Settles that Redis could not be told: one file in the state directory, written and fsynced before anybody relies on it.

``STATE/settles.spool`` (0600) has one record a line: the length and the CRC-32 of the JSON that follows, eight hexadecimal
digits each. A line that is whole and passes its checksum was written whole; a last one that is not was cut by a crash and
is dropped, with a warning. Records are replayed from the front, in order; what has been replayed is known in memory only,
so a crash in between replays some again, and the ledger does each once, by its call id, which it remembers for 24 h. One that is
told later than that may have been told before, or been swept: it is charged only if Redis still knows its call.
When all are replayed the file is emptied. Memory holds none of them but those being written or replayed.

A call that leaves without a hold (``[redis] unsafe_fail_open``) has a record before anything of it leaves, of kind ``begun``: the
charge if nothing else is heard of it. What counts is the last record of a call; one that is ``begun`` is replayed only after its
process has died, and a ``held`` one, whose hold Redis has by now, not at all. The ids of these are in memory.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from tollhouse.call import Amount
from tollhouse.files import sync_directory
from tollhouse.ledger.names import Scope, parse_scopes

log = logging.getLogger(__name__)

FILE_NAME: Final = "settles.spool"
MAX_LINE: Final = 1 << 20
"""Bytes of a record; the path and the trace id of a call are far below it, bounded as its head is."""
_AT_ONCE: Final = 64
_HEAD: Final = 18
_FORM: Final = re.compile(rb"([0-9a-f]{8}) ([0-9a-f]{8}) (.*)\n", re.DOTALL)


@dataclass(frozen=True, slots=True)
class SpoolRecord:
    """What the ledger has to be told of a call (see ``kind``); an amount of no request gives all back."""

    call_id: str
    scopes: tuple[Scope, ...]
    charged: Amount
    record: Mapping[str, str]
    kind: Literal["ended", "begun", "held"] = "ended"
    """``begun``: not ended yet, and charged so if nothing else is heard of it. ``held``: not ended, and nothing to be told."""
    tried_at: float | None = None
    """When the ledger was to be told first, in seconds since the epoch. None: just now; or there was no hold, so that nobody else
    can have ended the call, and it is charged however late it is told."""


class Spool:
    """One a state directory, whose lock its process holds. All methods are for one event loop; the file is touched in
    threads."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE_NAME
        self.waiting = 0
        """Records that are not replayed yet."""
        self.live: set[str] = set()
        """Calls of this process that have begun without a hold, and of which no later record is on disk."""
        self.shares: Counter[Scope] = Counter()
        """Bytes that this process wrote for each token (the last of the scopes) since the file was empty."""
        self._lost: dict[str, int] = {}
        """Calls of a former process that had begun and not ended: where the last record of each ends."""
        self._descriptor = -1
        self._size = 0
        """Where the last whole record ends: what lies behind it is never read."""
        self._unclean = False
        """Something may lie behind it."""
        self._replayed = 0
        """What lies before it has been replayed."""
        self._damaged = 0
        self._pending: list[tuple[SpoolRecord, bytes, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self._replaying = asyncio.Lock()

    def open(self) -> int:
        """Reads what a former process left: how many records wait. Raises `OSError`."""
        if not self.path.exists():
            return 0
        self._open()
        end = 0
        with self.path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            while line := file.readline(MAX_LINE):
                if not line.endswith(b"\n") and end + len(line) == size:
                    break
                end += len(line)
                found = _decode(line)
                if found is None:
                    self._damaged += 1
                elif found.kind == "begun":
                    self._lost[found.call_id] = end
                else:
                    self._lost.pop(found.call_id, None)
                    self.waiting += found.kind == "ended"
            self.waiting += len(self._lost)
            torn = size - end
        if torn:
            log.warning("%s: the last record was cut off by a crash and is dropped (%d bytes)", self.path, torn)
            os.ftruncate(self._descriptor, end)
            os.fsync(self._descriptor)
        if self._damaged:
            log.error("%s: %d records are damaged; they are left aside", self.path, self._damaged)
        self._size = end
        if end and not self.waiting:
            self._compact()
        return self.waiting

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._size

    @property
    def spent(self) -> bool:
        """There is something in the file, and none of it is needed any more."""
        return self._size > 0 and not self.waiting and not self.live

    def done(self, call_id: str) -> None:
        """The ledger was told of a call's end: what was written when it began is of no account."""
        self.live.discard(call_id)

    def put(self, ending: SpoolRecord) -> asyncio.Future[None]:
        """Begins to write a record. Done once it is on disk; the future fails with `OSError` if it could not be written.
        Records that come while one is written share the next fsync, and records of one call stay in order."""
        if ending.kind == "begun":
            self.live.add(ending.call_id)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Looked at here, so that a failure that nobody waits for is not reported as lost.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        line = _encode(ending)
        self.shares[ending.scopes[-1]] += len(line)
        self._pending.append((ending, line, future))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write_pending())
        return future

    async def replay(self, tell: Callable[[SpoolRecord], Awaitable[object]]) -> int:
        """Gives the records to ``tell``, in order, one after the other; how many. What ``tell`` raises ends it, and that
        record is the next one to be replayed. Also raises `OSError`."""
        told = 0
        async with self._replaying:
            while self.waiting:
                found = await asyncio.to_thread(self._read)
                if not found and self._replayed >= self._size:
                    log.error(
                        "%s: %d records were damaged since they were written; they are left aside",
                        self.path,
                        self.waiting,
                    )
                    self._damaged += self.waiting
                    self.waiting = 0
                    self._lost.clear()
                for end, ending in found:
                    if ending is not None and self._counts(ending, end):
                        await tell(ending)
                        told += 1
                        self.waiting -= 1
                        self._lost.pop(ending.call_id, None)
                    self._replayed = end
            async with self._writing:
                if self.spent:
                    await asyncio.to_thread(self._compact)
        return told

    async def close(self) -> None:
        """Waits for what is being written."""
        if self._writer is not None:
            await asyncio.gather(self._writer, return_exceptions=True)
        if self.waiting:
            log.warning("%d settles stay in %s and are told to Redis at the next start", self.waiting, self.path)
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _counts(self, ending: SpoolRecord, end: int) -> bool:
        """Whether the record that ends at ``end`` is to be told."""
        return ending.kind == "ended" or (ending.kind == "begun" and self._lost.get(ending.call_id) == end)

    async def _write_pending(self) -> None:
        async with self._writing:
            while self._pending:
                batch, self._pending = self._pending, []
                try:
                    await asyncio.to_thread(self._write, b"".join(line for _, line, _ in batch))
                except Exception as error:
                    failure = error if isinstance(error, OSError) else OSError(0, repr(error), str(self.path))
                    for _, _, future in batch:
                        if not future.done():
                            future.set_exception(failure)
                    continue
                for ending, _, future in batch:
                    if ending.kind != "begun":
                        self.live.discard(ending.call_id)
                        self.waiting += ending.kind == "ended"
                    if not future.done():
                        future.set_result(None)

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        new = not self.path.exists()
        self._descriptor = os.open(self.path, flags, 0o600)
        os.fchmod(self._descriptor, 0o600)
        if new:
            sync_directory(self.path.parent)

    def _write(self, data: bytes) -> None:
        if self._descriptor < 0:
            self._open()
        if self._unclean:
            os.ftruncate(self._descriptor, self._size)
            self._unclean = False
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fsync(self._descriptor)
        except OSError:
            # A half of a record must not stand before the next one, nor a whole one whose writer was told that it is not there.
            self._unclean = True
            os.ftruncate(self._descriptor, self._size)
            self._unclean = False
            raise
        self._size += len(data)

    def _read(self) -> list[tuple[int, SpoolRecord | None]]:
        """The next records, each with where it ends; None for one that is damaged."""
        found: list[tuple[int, SpoolRecord | None]] = []
        with self.path.open("rb") as file:
            at = file.seek(self._replayed)
            while at < self._size and len(found) < _AT_ONCE:
                line = file.readline(MAX_LINE)
                if not line:
                    raise OSError(0, "it is shorter than what was written", str(self.path))
                at += len(line)
                found.append((at, _decode(line)))
        return found

    def _compact(self) -> None:
        if self._damaged:
            # For a person to look at; it says so in the log at the start.
            self.path.rename(self.path.with_suffix(".damaged"))
            os.close(self._descriptor)
            self._descriptor = -1
            sync_directory(self.path.parent)
        else:
            os.ftruncate(self._descriptor, 0)
            os.fsync(self._descriptor)
        self._size = self._replayed = self._damaged = 0
        self.shares.clear()


def _encode(ending: SpoolRecord) -> bytes:
    body = _body(ending, ending.record)
    if _HEAD + len(body) >= MAX_LINE:
        kept = ("call_id", "project", "identity", "provider", "model", "ts")
        body = _body(ending, {key: ending.record[key][:256] for key in kept if key in ending.record})
    return b"%08x %08x %b\n" % (len(body), zlib.crc32(body), body)


def _body(ending: SpoolRecord, record: Mapping[str, str]) -> bytes:
    document: dict[str, Any] = {
        **({"kind": ending.kind} if ending.kind != "ended" else {}),
        **({"tried_at": ending.tried_at} if ending.tried_at is not None else {}),
        "call_id": ending.call_id,
        "tenant": ending.scopes[0].tenant,
        "scopes": " ".join(scope.name for scope in ending.scopes),
        "charged": [ending.charged.nano_usd, ending.charged.tokens, ending.charged.requests],
        "record": dict(record),
    }
    # ASCII: a lone surrogate of a header is written as well.
    return json.dumps(document, separators=(",", ":")).encode()


def _decode(line: bytes) -> SpoolRecord | None:
    found = _FORM.fullmatch(line)
    if found is None or int(found[1], 16) != len(found[3]) or int(found[2], 16) != zlib.crc32(found[3]):
        return None
    try:
        document = json.loads(found[3])
        scopes = parse_scopes(document["tenant"], document["scopes"])
        kind = document.get("kind", "ended")
        if kind not in ("ended", "begun", "held"):
            return None
        tried_at = document.get("tried_at")
        if not isinstance(tried_at, int | float | None):
            return None
        return SpoolRecord(
            document["call_id"], scopes, Amount(*document["charged"]), document["record"], kind, tried_at
        )
    except (ValueError, KeyError, TypeError):
        return None
