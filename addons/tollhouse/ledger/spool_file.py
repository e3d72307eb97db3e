"""The spool on disk: ``STATE/spool.sqlite3`` (0600), one row for each call id. It blocks: `spool`
calls it in a thread of its own.

Each `run` is one transaction and one fsync (WAL, ``synchronous=FULL``). When it returns, its
changes are on the disk. A crash leaves the whole transaction or nothing of it.

Several processes may use the file. Each process has a number and holds the lock of that number
(``spool.N.lock``, ``flock``). The kernel drops the lock when the process dies. A process marks rows
as its own by its number. If nobody holds a number, every process may take its rows:

    state     owner
    ended     nobody      the call has ended: Redis has to be told
    ended     a process   this process is telling it
    begun     a process   the call is under way there, and charged so if the process dies
    lost      nobody      the process died: Redis has to be told
    lost      a process   this process is telling it

A record that Redis refuses for ever is moved to the table ``aside``, for a person to look at.

Past 400 lines because the steps of a transaction share one file, its locks, and the order that a crash allows.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import sqlite3
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from tollhouse.ledger.names import Scope
from tollhouse.ledger.spool_old import OLD_NAME, open_old
from tollhouse.ledger.spool_record import SpoolRecord, checksum, decode, encode
from tollhouse.ledger.spool_schema import (
    FILE_NAME,
    SpoolDamaged,
    code_of,
    make,
    recognise,
    translated,
)

log = logging.getLogger(__name__)

BUSY_S: Final = 10.0
"""How long a transaction waits for the transactions of other processes. These take milliseconds."""
CLAIM_ROWS: Final = 64
CLAIM_BYTES: Final = 256 << 10
"""The most bytes of rows that are claimed together. A single row may be larger."""
_MOST_PROCESSES: Final = 1024
_WAL_BYTES: Final = 4 << 20
"""The size of the log beside the file from which on it is copied into the file."""
_INSERT: Final = (
    "INSERT INTO records (call_id, tenant, token, state, owner, checksum, body) "
    "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (call_id) DO NOTHING"
)


@dataclass(frozen=True, slots=True)
class Tally:
    """The content of the file after a transaction, of all processes."""

    waiting: int = 0
    """The number of records that Redis has to be told."""
    begun: int = 0
    """The number of calls under way in any process."""
    size: int = 0
    """Bytes of all records. Those that were put aside count too."""
    shares: Mapping[str, int] = field(default_factory=dict)
    """Bytes of the records of each token (`token_of`)."""
    slack: bool = False
    """The files take more of the disk than the records need."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A row that this process tells. It has no record if its bytes have changed on the disk."""

    call_id: str
    record: SpoolRecord | None


@dataclass(frozen=True, slots=True)
class Step:
    """A part of a transaction. If there is no file and the step does not make one, its result is
    None."""

    do: Callable[[], Any]
    makes_file: bool = False


class SpoolFile:
    """All methods are for one thread. Each raises `OSError` when the disk fails. Nothing of the
    transaction is on the disk then, and the next transaction opens the file anew. Each raises
    `SpoolDamaged` when the file is no spool."""

    def __init__(self, directory: Path, *, busy_s: float = BUSY_S) -> None:
        self._busy_ms = int(busy_s * 1000)
        self.path = directory / FILE_NAME
        self._old = directory / OLD_NAME
        self._connection: sqlite3.Connection | None = None
        self._number = 0
        """The number by which this process marks its rows. 0 before it has one."""
        self._lock = -1

    def open(self) -> Tally:
        """Reads the whole file for damage, takes over a file of a former version, and frees the
        rows of dead processes."""
        self._check()
        with open_old(self._old) as old:
            if old is not None:
                [fault], _ = self.run([Step(partial(self.take, old), makes_file=True)])
                if fault is not None:
                    raise fault
        return self.run([Step(self.tenants)])[1]

    def run(self, steps: Sequence[Step]) -> tuple[list[Any], Tally]:
        """Does the steps in one transaction. Gives the result of each: what it returned, or its
        exception. An error of the disk is raised, and nothing has been done then."""
        try:
            if not self._connect(any(step.makes_file for step in steps)):
                return [None] * len(steps), Tally()
            self._begin()
            results = [_tried(step.do) for step in steps]
            tally = self._tally()
            self._sql("COMMIT")
        except sqlite3.Error as error:
            self._drop(after_error=True)
            raise translated(error, self.path) from error
        except BaseException:
            self._drop(after_error=True)
            raise
        if self._log_bytes() > _WAL_BYTES:
            self._checkpoint()
        return results, tally

    def compact(self) -> Tally:
        """Gives the space that the records do not need back to the disk."""
        try:
            if not self._connect(False):
                return Tally()
            self._sql("PRAGMA incremental_vacuum")
            self._checkpoint()
            return self._tally()
        except sqlite3.Error as error:
            self._drop(after_error=True)
            raise translated(error, self.path) from error

    def close(self) -> None:
        """From now on the calls under way in this process count as lost."""
        try:
            if self._connection is not None:
                self._begin()
                self._free(self._number)
                self._sql("COMMIT")
        except sqlite3.Error as error:
            # The end of the lock tells the other processes the same.
            log.warning("%s could not be closed in good order (%s)", self.path, error)
        finally:
            self._drop()
            if self._lock >= 0:
                os.close(self._lock)
            self._lock, self._number = -1, 0

    # Steps.

    def put(self, record: SpoolRecord, body: bytes) -> None:
        """Writes the record in place of the call's earlier one. For kind ``held`` no record is
        needed."""
        if record.kind == "held":
            self._sql("DELETE FROM records WHERE call_id = ?", record.call_id)
        else:
            begun = record.kind == "begun"
            self._insert(record, body, *(("begun", self._number) if begun else ("ended", None)))

    def take(self, records: Iterable[SpoolRecord]) -> None:
        """Writes the records of a process that died, in their order."""
        for record in records:
            if record.kind == "held":
                self._sql("DELETE FROM records WHERE call_id = ?", record.call_id)
            else:
                state = "lost" if record.kind == "begun" else "ended"
                self._insert(record, encode(record), state, None)

    def remove(self, call_id: str) -> None:
        """Removes the record of the beginning of a call of this process."""
        self._sql(
            "DELETE FROM records WHERE call_id = ? AND state = 'begun' AND owner = ?",
            call_id,
            self._number,
        )

    def tenants(self) -> list[str]:
        """The tenants with records that nobody is telling. Rows of dead processes count."""
        for (number,) in self._sql("SELECT DISTINCT owner FROM records WHERE owner IS NOT NULL"):
            if number == self._number:
                continue
            lock = self._take_lock(number)
            if lock >= 0:
                # While this process holds the lock, no other one can take the number.
                try:
                    self._free(number)
                finally:
                    os.close(lock)
        found = self._sql("SELECT DISTINCT tenant FROM records WHERE owner IS NULL ORDER BY tenant")
        return [tenant for (tenant,) in found]

    def claim(self, tenant: str) -> list[Claimed]:
        """The tenant's next rows, in the order in which they came. They belong to this process
        until `finish`, or until it dies."""
        rows = self._sql(
            "SELECT call_id, state, checksum, body FROM records "
            "WHERE tenant = ? AND owner IS NULL ORDER BY seq LIMIT ?",
            tenant,
            CLAIM_ROWS,
        )
        claimed: list[Claimed] = []
        size = 0
        for call_id, state, expected, body in rows:
            size += len(body)
            if claimed and size > CLAIM_BYTES:
                break
            record = decode(body) if checksum(body) == expected else None
            kind = "ended" if state == "ended" else "begun"
            if record is not None and (record.call_id, record.kind) != (call_id, kind):
                record = None
            claimed.append(Claimed(call_id, record))
        for one in claimed:
            self._sql("UPDATE records SET owner = ? WHERE call_id = ?", self._number, one.call_id)
        return claimed

    def finish(self, told: Sequence[str], aside: Mapping[str, str], rest: Sequence[str]) -> None:
        """Ends a claim. The rows of ``told`` are deleted, those of ``aside`` are put aside with
        their reasons, and those of ``rest`` are free again."""
        for call_id, why in aside.items():
            self._sql(
                "INSERT OR REPLACE INTO aside SELECT call_id, tenant, ?, body FROM records "
                "WHERE call_id = ? AND owner = ?",
                why,
                call_id,
                self._number,
            )
        for call_id in (*told, *aside):
            self._sql("DELETE FROM records WHERE call_id = ? AND owner = ?", call_id, self._number)
        for call_id in rest:
            self._sql(
                "UPDATE records SET owner = NULL WHERE call_id = ? AND owner = ?",
                call_id,
                self._number,
            )

    # The file.

    def _sql(self, text: str, *values: object) -> list[Any]:
        assert self._connection is not None
        return self._connection.execute(text, values).fetchall()

    def _begin(self) -> None:
        """Begins a transaction that writes. SQLite's own waits for other writers grow up to 0.1 s,
        so a process that comes later waits for shorter times and overtakes. Many waits of 1 ms are
        fair."""
        self._sql("PRAGMA busy_timeout = 1")
        for left in reversed(range(self._busy_ms)):
            try:
                self._sql("BEGIN IMMEDIATE")
                break
            except sqlite3.OperationalError as error:
                if code_of(error) != sqlite3.SQLITE_BUSY or not left:
                    raise
        self._sql(f"PRAGMA busy_timeout = {self._busy_ms}")

    def _insert(self, record: SpoolRecord, body: bytes, state: str, owner: int | None) -> None:
        """Inserts the row in place of the call's earlier one, behind all other rows."""
        values = (
            record.call_id,
            record.scopes[0].tenant,
            token_of(record.scopes[-1]),
            state,
            owner,
            checksum(body),
            body,
        )
        assert self._connection is not None
        if not self._connection.execute(_INSERT, values).rowcount:
            self._sql("DELETE FROM records WHERE call_id = ?", record.call_id)
            self._sql(_INSERT, *values)

    def _free(self, number: int) -> None:
        self._sql("UPDATE records SET state = 'lost' WHERE owner = ? AND state = 'begun'", number)
        self._sql("UPDATE records SET owner = NULL WHERE owner = ?", number)

    def _tally(self) -> Tally:
        rows = self._sql("SELECT token, records, begun, bytes FROM shares")
        [(aside,)] = self._sql("SELECT coalesce(sum(length(body)), 0) FROM aside")
        [(unused,)] = self._sql("PRAGMA freelist_count")
        begun = sum(row[2] for row in rows)
        return Tally(
            waiting=sum(row[1] for row in rows) - begun,
            begun=begun,
            size=sum(row[3] for row in rows) + aside,
            shares={row[0]: row[3] for row in rows},
            slack=bool(unused or self._log_bytes()),
        )

    def _connect(self, to_make: bool) -> bool:
        """Opens the file. False if there is none. Raises `sqlite3.Error` as well."""
        if self._connection is not None:
            return True
        try:
            found = self.path.lstat()
        except FileNotFoundError:
            if not to_make:
                return False
            make(self.path)
            found = self.path.lstat()
        if not stat.S_ISREG(found.st_mode):
            what = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "no regular file"
            raise OSError(errno.EINVAL, f"it is {what}", str(self.path))
        if stat.S_IMODE(found.st_mode) != 0o600:
            self.path.chmod(0o600)
        self._connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=self._busy_ms / 1000,
            isolation_level=None,
        )
        try:
            self._set_up()
        except BaseException:
            self._drop(after_error=True)
            raise
        return True

    def _set_up(self) -> None:
        self._sql("PRAGMA trusted_schema = OFF")
        recognise(self._sql, self.path)
        self._sql("PRAGMA synchronous = FULL")
        # Only `_checkpoint` copies the log into the file. Its docstring says why.
        self._sql("PRAGMA wal_autocheckpoint = 0")
        self._own()

    def _own(self) -> None:
        """Takes the first number that nobody holds. Rows with this number are of a dead process."""
        if self._number:
            return
        for number in range(1, _MOST_PROCESSES + 1):
            lock = self._take_lock(number)
            if lock >= 0:
                break
        else:
            raise OSError(
                errno.EMFILE, f"{_MOST_PROCESSES} processes use it already", str(self.path)
            )
        try:
            self._begin()
            self._free(number)
            self._sql("COMMIT")
        except BaseException:
            os.close(lock)
            raise
        self._lock, self._number = lock, number

    def _take_lock(self, number: int) -> int:
        """Takes the lock of a number and gives its descriptor; -1 if a process holds it. The file
        of the lock stays for ever, as that of `StateLock` does."""
        path = self.path.parent / f"spool.{number}.lock"
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return -1
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _check(self) -> None:
        try:
            if self._connect(False):
                [(found,), *_] = self._sql("PRAGMA quick_check(1)")
                if found != "ok":
                    self._drop(after_error=True)
                    raise SpoolDamaged(self.path, f"it is damaged ({found})")
        except sqlite3.Error as error:
            self._drop(after_error=True)
            raise translated(error, self.path) from error

    def _drop(self, *, after_error: bool = False) -> None:
        """Ends the connection. Changes that were not committed are lost. After an error the files
        stay as they are."""
        connection, self._connection = self._connection, None
        if connection is not None:
            if after_error:
                connection.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, True)
            connection.close()

    def _checkpoint(self) -> None:
        """Copies the log into the file and empties it.

        TRUNCATE holds the lock of writers meanwhile. SQLite's own checkpoint after a commit does
        not: before SQLite 3.51.3 it can lose a transaction if there are several processes
        (https://www.sqlite.org/wal.html#walresetbug)."""
        try:
            self._sql("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            # Nothing is lost: the records are in the log.
            log.warning("%s-wal could not be emptied (%s); it is tried again", self.path, error)

    def _log_bytes(self) -> int:
        try:
            return self.path.with_name(f"{FILE_NAME}-wal").stat().st_size
        except FileNotFoundError:
            return 0


def token_of(scope: Scope) -> str:
    """The name of a token's scope in `Tally.shares`."""
    return f"{scope.tenant} {scope.name}"


def _tried(do: Callable[[], Any]) -> Any:
    """The result of ``do``, or its exception. An error of SQLite is raised, because it ends the
    transaction."""
    try:
        return do()
    except sqlite3.Error:
        raise
    except Exception as error:
        return error
