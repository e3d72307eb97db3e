"""``settles.spool``, the spool of versions before ``spool.sqlite3``: read once at the start, and
removed.

It has one record a line: the length and the CRC-32 of the JSON that follows, eight hexadecimal
digits each. A last line that is not whole was cut off by a crash.
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
    """Iteration gives the whole records in order, and counts what is none."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size = os.fstat(file.fileno()).st_size
        self.read = 0
        """Bytes of whole lines."""
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
    """None if there is no such file. It is removed at the end, or renamed if a person should look
    at it, unless something was raised: a crash before that has the same records taken again, in
    place of themselves. Raises `OSError`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        yield None
        return
    with os.fdopen(descriptor, "rb") as file:
        # Of several processes that start together one takes it.
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
        log.warning("%d records of %s were taken over into the new spool", old.records, path)
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
