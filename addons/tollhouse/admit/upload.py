"""The body of an upload, which is sent as it comes and is never in memory as a whole.

It is pulled: whoever sends it takes the next bytes, and only then more of them are taken from the
client. With a spool each byte is on the disk before it is sent, so that it can be sent again. An
upload that costs nothing goes on without the disk where that has no room any more.

The last bytes do not leave before the whole body was judged. Without them no provider has a request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Protocol

from tollhouse.admit.upload_spool import SpooledFile
from tollhouse.denial import Refused
from tollhouse.families.asked import Asked
from tollhouse.families.formats.multipart import Form, FormReader

PIECE: Final = 256 << 10
"""Bytes that are sent, written and read at once, at most."""
MEMORY: Final = 3 << 20
"""Bytes that an upload has in memory, at most: what the client may send ahead, a piece on its way,
and what is kept of a form."""
_HELD_BACK: Final = 1024
"""More than the end of a form has."""

Check = Callable[[Asked], Awaitable[None]]


class Coming(Protocol):
    """Where the body comes from."""

    async def read_beside(self, most: int, idle_s: float) -> bytes: ...


class Upload:
    """`call.StreamedBody`. It is for one event loop.

    ``length`` is what the client says of it, None for a body in chunks. ``read`` makes what the
    request asks of its form; None: nothing of the body is judged.
    """

    def __init__(
        self,
        coming: Coming,
        *,
        length: int | None,
        largest: int,
        idle_s: float,
        form: FormReader | None,
        file: SpooledFile | None,
        read: Callable[[Form], Asked] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.length = length
        self.form: Form | None = None
        """Once the body has come whole."""
        self.sending_s = 0.0
        """Seconds in which it was sent, or waited for the client."""
        self._coming = coming
        self._largest = largest
        self._idle_s = idle_s
        self._reader = form
        self._file = file
        self._read = read
        self._clock = clock
        self._checks: list[Check] = []
        self._window = bytearray()
        """What has come and was not sent. It is empty while the body is only taken to the disk."""
        self._start = 0
        """Where in the body the window begins."""
        self._came = 0
        self._needs_file = False
        """Nothing leaves before all of it has come."""
        self._whole = False
        self._pulling: asyncio.Task[None] | None = None
        self._failure: Exception | None = None

    @property
    def repeatable(self) -> bool:
        """It can be sent, and was not sent without a file."""
        return self._file is not None or self._start == 0

    def before_end(self, check: Check) -> None:
        """``check`` is awaited when the body has come whole, before its last bytes leave. What it
        raises ends the upload."""
        self._checks.append(check)

    async def whole(self) -> None:
        """Takes all of it to the disk. Raises `Refused`."""
        assert self._file is not None
        self._needs_file = True
        while not self._whole:
            await self._pull()
            self._start = self._came
            self._window.clear()

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body from its beginning. Raises `Refused`, and what the exchange raises."""
        at = 0
        since = self._clock()
        try:
            while True:
                ready = self._came if self._whole else self._came - _HELD_BACK
                if at < ready:
                    data = await self._take(at, ready)
                    at += len(data)
                    yield data
                elif self._whole:
                    return
                else:
                    await self._pull()
        finally:
            self.sending_s += self._clock() - since

    async def _take(self, at: int, ready: int) -> bytes:
        """Bytes from ``at`` on, up to ``ready`` at most."""
        if at < self._start:
            if self._file is None:
                raise Refused("internal", "The upload is not spooled, and was sent already.")
            return await self._file.read(at, min(PIECE, ready - at))
        begin = at - self._start
        data = bytes(self._window[begin : begin + min(PIECE, ready - at)])
        del self._window[: begin + len(data)]
        self._start = at + len(data)
        return data

    async def _pull(self) -> None:
        """More of the body. Whoever waits may be cancelled: nothing of it is lost."""
        if self._failure is not None:
            raise self._failure
        if self._pulling is None or self._pulling.done():
            self._pulling = asyncio.get_running_loop().create_task(self._pull_once())
        await asyncio.shield(self._pulling)
        if self._failure is not None:
            raise self._failure

    async def _pull_once(self) -> None:
        try:
            await self._take_more()
        except Exception as error:
            self._failure = error

    async def _take_more(self) -> None:
        data = await self._coming.read_beside(PIECE, self._idle_s)
        if not data:
            await self._end()
            return
        if self._came + len(data) > self._largest:
            raise too_large(self._largest)
        if self.length is not None and self._came + len(data) > self.length:
            raise _another_length()
        if self._reader is not None:
            self._reader.feed(data)
        await self._spool(data)
        self._window += data
        self._came += len(data)

    async def _spool(self, data: bytes) -> None:
        if self._file is None:
            return
        try:
            await self._file.append(data, self._came)
        except Refused:
            if self._needs_file:
                raise
            # What was not sent is in the window.
            self._file.close()
            self._file = None

    async def _end(self) -> None:
        if self.length is not None and self._came != self.length:
            raise _another_length()
        if self._reader is not None:
            self.form = self._reader.finish()
            if self._read is not None:
                asked = self._read(self.form)
                for check in self._checks:
                    await check(asked)
        self._whole = True

    def close(self) -> None:
        """Nobody sends it any more. May be called twice."""
        self._failure = self._failure or Refused("internal", "The upload is over.")
        if self._pulling is not None:
            self._pulling.cancel()
        if self._file is not None:
            self._file.close()
        self._window.clear()


def too_large(largest: int) -> Refused:
    return Refused("body_too_large", f"The limit is {largest} bytes ([limits] max_upload_bytes).")


def _another_length() -> Refused:
    return Refused("bad_request", "The body has another length than Content-Length says.")
