"""The disk on which bodies of uploads wait until they are sent, and until nobody sends them again.

A file has no name from the moment in which it is open: it is gone with the process, whatever ends it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Concatenate, Final

from tollhouse.admit.bodies import BodyBytes, KeptBody
from tollhouse.denial import Refused

log = logging.getLogger(__name__)

_THREADS: Final = 2
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class UploadSpool:
    """``limit_bytes`` is the bound of all files at one time. A token may have half of it, a source
    address three quarters. Both may have at least ``largest_bytes``."""

    def __init__(self, directory: Path, limit_bytes: int, *, largest_bytes: int) -> None:
        self._directory = directory
        self._bytes = BodyBytes(limit_bytes, largest_bytes=min(largest_bytes, limit_bytes))
        self.pool = ThreadPoolExecutor(_THREADS, "upload-spool")

    @property
    def reserved_bytes(self) -> int:
        return self._bytes.kept_bytes

    def reserve(self, token: str, source: str, count: int) -> KeptBody | None:
        """Room for ``count`` bytes; None if there is none."""
        room = self._bytes.reserve(token, source)
        try:
            room.extend(count)
        except Refused:
            return None
        return room

    async def open(self, room: KeptBody) -> SpooledFile:
        """A file that takes ``room``. Raises `Refused`."""
        try:
            fd = await asyncio.get_running_loop().run_in_executor(self.pool, self._open)
        except BaseException as error:
            room.release()
            if isinstance(error, OSError):
                raise _refused(error) from None
            raise
        return SpooledFile(fd, room, self.pool)

    def _open(self) -> int:
        # 0600 by mkstemp, whatever the umask is.
        fd, name = tempfile.mkstemp(prefix="upload-", dir=self._directory)
        Path(name).unlink()
        return fd

    async def close(self) -> None:
        await asyncio.to_thread(self.pool.shutdown)


class SpooledFile:
    """One file. It is for one event loop, which waits for the disk in a thread."""

    def __init__(self, fd: int, room: KeptBody, pool: ThreadPoolExecutor) -> None:
        self._fd = fd
        self._room = room
        self._pool = pool
        self._busy = 0
        self._closed = False

    async def append(self, data: bytes, at: int) -> None:
        """Writes ``data`` behind the ``at`` bytes that are there. Raises `Refused`."""
        await self._in_thread(_write, data, at)

    async def read(self, at: int, count: int) -> bytes:
        """``count`` bytes that are there. Raises `Refused`."""
        return await self._in_thread(_read, at, count)

    async def _in_thread[**P, R](
        self, work: Callable[Concatenate[int, P], R], *arguments: P.args, **more: P.kwargs
    ) -> R:
        if self._closed:
            raise Refused("internal", "The file of the upload is closed.")
        fd = self._fd
        job = asyncio.get_running_loop().run_in_executor(
            self._pool, lambda: work(fd, *arguments, **more)
        )
        # To its end, also if nobody waits any more: the file is closed behind it.
        self._busy += 1
        job.add_done_callback(self._done)
        try:
            return await asyncio.shield(job)
        except OSError as error:
            raise _refused(error) from None

    def _done(self, job: asyncio.Future[Any]) -> None:
        self._busy -= 1
        if not job.cancelled():
            job.exception()
        self._close_if_free()

    def close(self) -> None:
        """Lets go of the file and of its room. May be called twice."""
        self._closed = True
        self._close_if_free()

    def _close_if_free(self) -> None:
        if self._closed and not self._busy and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._room.release()


def _write(fd: int, data: bytes, at: int) -> None:
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


def _refused(error: OSError) -> Refused:
    log.error("an upload could not be spooled to the state directory: %s", error)
    if error.errno in _FULL:
        return Refused("upload_spool_full", "The gateway's disk is full.", (("retry-after", "5"),))
    return Refused(
        "upload_spool_full",
        f"The gateway's disk can't be used ({error.strerror or 'an error'}).",
        (("retry-after", "5"),),
    )
