"""``settles.spool``, the spool of versions before ``spool.sqlite3``: read once at the start, and
removed.

Each line is a record: the length and the CRC-32 of the JSON that follows, each as eight hexadecimal
digits, and that JSON. If the last line is not whole, a crash has cut it off.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from tollhouse.files import sync_directory
from tollhouse.ledger.spool_record import MAX_RECORD, SpoolRecord, checksum, decode

log = logging.getLogger(__name__)

OLD_NAME: Final = "settles.spool"
_FORM: Final = re.compile(rb"([0-9a-f]{8}) ([0-9a-f]{8}) (.*)\n", re.DOTALL)


class OldFile:
    """Iteration gives the whole records in order, and counts the lines that are no record."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size = os.fstat(file.fileno()).st_size
        self.read = 0
        """The bytes of the whole lines so far."""
        self.records = 0
        self.damaged = 0

    def __iter__(self) -> Iterator[SpoolRecord]:
        while line := self._file.readline(MAX_RECORD):
            if not line.endswith(b"\n") and self.read + len(line) == self.size:
                return
            self.read += len(line)
            record = _decode(line)
            if record is None:
                self.damaged += 1
            else:
                self.records += 1
                yield record


@contextmanager
def open_old(path: Path) -> Iterator[OldFile | None]:
    """The old file; None if there is none. At the end of the block the file is removed, or renamed
    if a person should look at it. After an exception it stays. After a crash the same records are
    taken again, and replace themselves. Raises `OSError`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        yield None
        return
    with os.fdopen(descriptor, "rb") as file:
        # If several processes start together, one of them takes the file.
        fcntl.flock(file, fcntl.LOCK_EX)
        if not _is(file, path):
            yield None
            return
        old = OldFile(file)
        yield old
        _remove(old, path)


def _is(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _remove(old: OldFile, path: Path) -> None:
    if old.records:
        log.warning("records of %s taken over into the new spool: %d", path, old.records)
    if old.read < old.size:
        log.warning(
            "%s: the last record was cut off by a crash and is dropped (%d bytes)",
            path,
            old.size - old.read,
        )
    if old.damaged:
        kept = path.with_suffix(".damaged")
        log.error(
            "%s: %d records are damaged and can't be charged; the file is kept as %s for a person to look at",
            path,
            old.damaged,
            kept,
        )
        path.rename(kept)
    else:
        path.unlink()
    sync_directory(path.parent)


def _decode(line: bytes) -> SpoolRecord | None:
    found = _FORM.fullmatch(line)
    if found is None:
        return None
    size, expected, body = int(found[1], 16), int(found[2], 16), found[3]
    return decode(body) if (len(body), checksum(body)) == (size, expected) else None
