"""The tables of ``spool.sqlite3``: how the file is made, how it is recognised, and what its errors
mean."""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from tollhouse.files import sync_directory

FILE_NAME: Final = "spool.sqlite3"
_APPLICATION: Final = 0x54_4F_4C_4C
"""``PRAGMA application_id`` of a spool: "TOLL"."""
_VERSION: Final = 1
_SCHEMA: Final = """
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE records (
    seq INTEGER PRIMARY KEY,
    call_id TEXT NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    token TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('ended', 'begun', 'lost')),
    owner INTEGER,
    checksum INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX free ON records (tenant, seq) WHERE owner IS NULL;
CREATE INDEX owned ON records (owner) WHERE owner IS NOT NULL;
CREATE TABLE aside (
    call_id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    why TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE shares (
    token TEXT PRIMARY KEY,
    records INTEGER NOT NULL,
    begun INTEGER NOT NULL,
    bytes INTEGER NOT NULL
);
CREATE TRIGGER added AFTER INSERT ON records BEGIN
    INSERT OR IGNORE INTO shares VALUES (new.token, 0, 0, 0);
    UPDATE shares SET records = records + 1, begun = begun + (new.state = 'begun'),
        bytes = bytes + length(new.body)
        WHERE token = new.token;
END;
CREATE TRIGGER removed AFTER DELETE ON records BEGIN
    UPDATE shares SET records = records - 1, begun = begun - (old.state = 'begun'),
        bytes = bytes - length(old.body)
        WHERE token = old.token;
    DELETE FROM shares WHERE token = old.token AND records = 0;
END;
CREATE TRIGGER moved AFTER UPDATE OF state ON records BEGIN
    UPDATE shares SET begun = begun - (old.state = 'begun') + (new.state = 'begun')
        WHERE token = new.token;
END;
"""


class SpoolDamaged(OSError):
    """The spool's file can't be used. The text says why, and what to do."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"{path} cannot be used as the spool: {why}. It may hold charges that Redis has not "
            f"been told, so it is left as it is. Move it to another directory, together with "
            f"{path.name}-wal and {path.name}-shm if they are there, and start again without it. "
            "`sqlite3 FILE .recover` reads what can be read of it"
        )


def make(path: Path) -> None:
    """Makes the file. Other processes see a whole file or none. A crash may leave a draft, which
    nobody reads."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{FILE_NAME}.")
    os.close(descriptor)
    draft = Path(name)
    try:
        with closing(sqlite3.connect(draft, isolation_level=None)) as made:
            made.executescript(
                f"{_SCHEMA} PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {_VERSION}; COMMIT;"
            )
        path.hardlink_to(draft)
    except FileExistsError:
        # Another process has made it meanwhile.
        pass
    finally:
        draft.unlink(missing_ok=True)
    sync_directory(path.parent)


def recognise(sql: Callable[[str], list[Any]], path: Path) -> None:
    """Raises `SpoolDamaged` unless the file is a spool of this version."""
    [(application,)] = sql("PRAGMA application_id")
    if application != _APPLICATION:
        raise SpoolDamaged(path, "another program made it, or it is empty")
    [(version,)] = sql("PRAGMA user_version")
    if version != _VERSION:
        raise SpoolDamaged(
            path, f"it is of version {version}, and this gateway knows version {_VERSION}"
        )


def code_of(error: sqlite3.Error) -> int:
    """The primary code of an error. 0 for an error of Python's module itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def translated(error: sqlite3.Error, path: Path) -> OSError:
    code = code_of(error)
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return SpoolDamaged(path, str(error))
    numbers = {sqlite3.SQLITE_FULL: errno.ENOSPC, sqlite3.SQLITE_BUSY: errno.EBUSY}
    return OSError(numbers.get(code, errno.EIO), str(error), str(path))
