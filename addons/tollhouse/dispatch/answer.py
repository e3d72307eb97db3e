"""The provider's answer as it arrives, and the two errors that come instead of it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tollhouse.dispatch.http_connection import RawConnection

Sent = Literal["no", "unread", "stale", "maybe"]
"""What became of an attempt's request. ``no``: it surely did not leave. ``unread``: it was written to a
connection that had served another request, and that the server had closed before the request reached
it (`Connection.unread`). ``stale``: the same without that proof: the connection was closed before any
byte of an answer. Most likely the server had closed it while it was idle, and has not read the request;
but a server that dies over a request looks the same."""


class UpstreamError(Exception):
    """An attempt that ended without an answer's head.

    ``code`` is a reason of `denial`. ``why`` is a sentence for the denial; it holds no header and
    no key. ``headers`` are for the denial: there `attempts.deliver` tells the SDK when to stop.
    """

    def __init__(self, code: str, why: str, sent: Sent) -> None:
        super().__init__(code, why)
        self.code = code
        self.why = why
        self.sent = sent
        self.headers: tuple[tuple[str, str], ...] = ()

    @property
    def may_be_known(self) -> bool:
        """Whether the provider may have read the request. If not, it can't have charged it either."""
        return self.sent not in ("no", "unread")


class AnswerCut(Exception):
    """The provider cut the body: it ended early, was reset, broke its framing or fell silent.

    ``code`` is ``upstream_timeout`` for silence, else ``upstream_bad_answer``.
    """

    def __init__(self, code: str, why: str) -> None:
        super().__init__(code, why)
        self.code = code
        self.why = why


class Answer:
    """A status, headers, and a body that is read once.

    ``headers`` are in the provider's order. Names are lower case. Values are UTF-8 with
    surrogateescape and have no control characters. Headers that belong to the connection with the
    provider (hop-by-hop, RFC 9110 7.6.1) are gone; ``content-length`` is kept. ``read`` gives the
    next bytes as they arrived and b"" at the end, or raises AnswerCut. ``drop`` lets go of the
    connection: after the body's end it goes back to the pool, before that it is closed. ``connection``
    is that of a WebSocket whose handshake was accepted (101); ``drop`` closes it.
    """

    __slots__ = ("_drop", "_kept", "_read", "connection", "headers", "status")

    def __init__(
        self,
        status: int,
        headers: list[tuple[str, str]],
        read: Callable[[], Awaitable[bytes]],
        drop: Callable[[], None],
        connection: RawConnection | None = None,
    ) -> None:
        self.connection = connection
        self.status = status
        self.headers = headers
        self._read = read
        self._drop = drop
        self._kept: deque[bytes] = deque()

    def get(self, name: str) -> str | None:
        """The first value of header ``name`` (lower case), or None."""
        return next((value for key, value in self.headers if key == name), None)

    async def read(self) -> bytes:
        """The next bytes of the body, as soon as there are some; b"" at its end. Raises AnswerCut."""
        if self._kept:
            return self._kept.popleft()
        return await self._read()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives, nothing held back and nothing joined. Raises AnswerCut."""
        while chunk := await self.read():
            yield chunk

    async def peek(self, limit: int, seconds: float) -> bytes:
        """Waits for the beginning of the body: until its end, until ``limit`` bytes, or for
        ``seconds``. `read` gives these bytes again. It is for error answers only, because it
        waits."""
        seen = list(self._kept)
        try:
            async with asyncio.timeout(seconds):
                while sum(map(len, seen)) < limit and (chunk := await self._read()):
                    seen.append(chunk)
                    self._kept.append(chunk)
        except (TimeoutError, AnswerCut):
            pass  # `read` gives what is kept, and then meets the cut again.
        return b"".join(seen)

    async def close(self) -> None:
        """Drops the connection unless the body was read to its end. May be called twice."""
        self._drop()
