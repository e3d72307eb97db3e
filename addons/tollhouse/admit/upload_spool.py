"""The disk on which bodies of uploads wait until they are sent, and until nobody sends them again.

A file has no name: it is gone with the process, whatever ends it. It takes room as it grows, so that the
length that a request names takes nothing.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from pathlib import Path
from typing import Any, Concatenate, Final

from tollhouse.admit.bodies import BodyBytes, KeptBody, KeptFor
from tollhouse.denial import Refused

log = logging.getLogger(__name__)

LEFT_FREE: Final = 128 << 20
"""Bytes of the disk that uploads leave free: charges that Redis can't be told are written to the same one."""
_PATIENCE_S: Final = 30.0
"""For each read and write: a disk of the network may say nothing for ever."""
_THREADS: Final = 2
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class UploadSpool:
    """``limit_bytes`` is the bound of all files at one time. A token may have half of it, a source
    address and a tenant three quarters. Each may have at least ``largest_bytes``."""

    def __init__(
        self,
        directory: Path,
        limit_bytes: int,
        *,
        largest_bytes: int,
        left_free: int = LEFT_FREE,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._directory = directory
        self._bytes = BodyBytes(limit_bytes, largest_bytes=min(largest_bytes, limit_bytes))
        self._left_free = left_free
        self._patience_s = patience_s
        self.pool = ThreadPoolExecutor(_THREADS, "upload-spool")

    def has_room(self, whose: KeptFor, count: int) -> bool:
        """Whether there is room for ``count`` bytes now. It takes none."""
        return self._bytes.fits(whose, count)

    async def open(self, whose: KeptFor) -> SpooledFile:
        """An empty file. Raises `Refused`."""
        opening = asyncio.get_running_loop().run_in_executor(self.pool, self._open)
        file = await _patiently(opening, self._patience_s)
        room = self._bytes.reserve(whose)
        return SpooledFile(file, room, self.pool, self._left_free, self._patience_s)

    def _open(self) -> FileIO:
        # Of the owner alone, whatever the umask is; without a name where the file system can do that.
        return tempfile.TemporaryFile(dir=self._directory, buffering=0)

    async def close(self) -> None:
        await asyncio.to_thread(self.pool.shutdown)


class SpooledFile:
    """One file, whose bytes ``room`` counts. It is for one event loop, which waits for the disk in a thread."""

    def __init__(
        self,
        file: FileIO,
        room: KeptBody,
        pool: ThreadPoolExecutor,
        left_free: int = LEFT_FREE,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._file = file
        self._room = room
        self._pool = pool
        self._left_free = left_free
        self._patience_s = patience_s
        self._busy = 0
        self._closed = False

    async def append(self, data: bytes, at: int) -> None:
        """Writes ``data`` behind the ``at`` bytes that are there. Raises `Refused`."""
        try:
            self._room.extend(len(data))
        except Refused as full:
            raise no_room(full.denial.why) from None
        await self._in_thread(_write, data, at, self._left_free)

    async def read(self, at: int, count: int) -> bytes:
        """``count`` bytes that are there. Raises `Refused`."""
        return await self._in_thread(_read, at, count)

    async def _in_thread[**P, R](
        self, work: Callable[Concatenate[int, P], R], *arguments: P.args, **more: P.kwargs
    ) -> R:
        if self._closed:
            raise Refused("internal", "The file of the upload is closed.")
        fd = self._file.fileno()
        job = asyncio.get_running_loop().run_in_executor(
            self._pool, lambda: work(fd, *arguments, **more)
        )
        # To its end, also if nobody waits any more: the file is closed behind it.
        self._busy += 1
        job.add_done_callback(self._done)
        return await _patiently(job, self._patience_s)

    def _done(self, job: asyncio.Future[Any]) -> None:
        self._busy -= 1
        self._close_if_free()

    def close(self) -> None:
        """Lets go of the file and of its room. May be called twice."""
        self._closed = True
        self._close_if_free()

    def _close_if_free(self) -> None:
        if self._closed and not self._busy and not self._file.closed:
            self._file.close()
            self._room.release()


async def _patiently[R](job: asyncio.Future[R], seconds: float) -> R:
    """What ``job`` gives, which goes on where nobody waits any more. Raises `Refused`."""
    job.add_done_callback(_seen)
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.shield(job)
    except OSError as error:
        raise _refused(error, seconds) from None


def _seen(job: asyncio.Future[Any]) -> None:
    """An error that nobody waits for is no error of the loop."""
    if not job.cancelled():
        job.exception()


def _write(fd: int, data: bytes, at: int, left_free: int) -> None:
    disk = os.fstatvfs(fd)
    if disk.f_bavail * disk.f_frsize < left_free + len(data):
        raise OSError(errno.ENOSPC, "what is left of the disk is for charges")
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, at)
        at += written
        view = view[written:]


def _read(fd: int, at: int, count: int) -> bytes:
    parts: list[bytes] = []
    while count:
        data = os.pread(fd, count, at)
        if not data:
            raise OSError(errno.EIO, "the file is shorter than what was written")
        parts.append(data)
        at += len(data)
        count -= len(data)
    return b"".join(parts)


def no_room(why: str) -> Refused:
    return Refused("upload_spool_full", why, (("retry-after", "1"),))


def _refused(error: OSError, seconds: float) -> Refused:
    if isinstance(error, TimeoutError):
        problem = f"gives no answer within {seconds:g} s"
    elif error.errno in _FULL:
        problem = "is full"
    else:
        problem = f"can't be used ({error.strerror or 'an error'})"
    log.error(
        "an upload could not be spooled: the disk of the state directory %s (%s)", problem, error
    )
    return Refused("upload_spool_full", f"The gateway's disk {problem}.", (("retry-after", "5"),))
