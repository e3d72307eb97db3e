"""One request and its answer, on a connection of aiohttp's connector but below its ClientSession, which costs more than the
rest of an attempt.

aiohttp dials, keeps the connections and parses the answers. The request's bytes are written here. Nothing here sends a
request twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Final, cast

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from tollhouse.dispatch.http_connection import READ_BUFFER, Connection, RawConnection

if TYPE_CHECKING:
    from aiohttp.connector import Connection as Lent
    from multidict import CIMultiDictProxy

WRITE_SLICE: Final = 65_536
"""A larger body goes to the socket in slices, so that it is neither copied nor encrypted in one go."""
_MAX_FIELD: Final = 32_768
"""Bytes of one header of an answer."""

_TARGET: Final = re.compile(r"/[^\x00-\x1f\x7f#?]*(\?[^\x00-\x1f\x7f#]+)?")
_METHOD: Final = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_FORBIDDEN: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_NO_LENGTH: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Without a body these requests have no Content-Length: RFC 9110 8.6."""


def request_head(
    method: str,
    path_and_query: str,
    authority: str,
    headers: Sequence[tuple[str, str]],
    length: int | None,
    *,
    chunked: bool = False,
) -> bytes:
    """The request's bytes up to its body. ``length`` is None for a request without a body, and for one that is ``chunked``.
    Raises ValueError for what can't be sent as it is.

    Bytes of the request that are no UTF-8 are lone surrogates here (see `RequestHead`), and go out as they came.
    """
    if not _METHOD.fullmatch(method):
        raise ValueError("the method cannot be sent as it is")
    text = "".join(chain.from_iterable(headers))
    if not text.isprintable() and _FORBIDDEN.search(text):
        raise ValueError("a header has a control character")
    method = method.upper()
    lines = [f"{method} {path_and_query} HTTP/1.1\r\nHost: {authority}"]
    lines += [f"{name}: {value}" for name, value in headers]
    if chunked:
        lines.append("Transfer-Encoding: chunked")
    elif length is None and method not in _NO_LENGTH:
        length = 0
    if length is not None:
        lines.append(f"Content-Length: {length}")
    lines.append("\r\n")
    return "\r\n".join(lines).encode("utf-8", "surrogateescape")


def is_target(path_and_query: str) -> bool:
    """Whether a request line can carry it byte for byte."""
    return _TARGET.fullmatch(path_and_query) is not None


class RoundTrip:
    """One request on its connection, and the answer's head and body.

    At the body's end the connection goes back to the pool. If the request was not written to its end by then, or if the
    round trip is closed or forgotten before, the connection is closed.
    """

    __slots__ = (
        "_lent",
        "_protocol",
        "_unwritten",
        "_writing",
        "content",
        "headers",
        "refusal",
        "status",
        "written",
    )

    status: int
    headers: CIMultiDictProxy[str]
    content: aiohttp.StreamReader

    def __init__(self, lent: Lent) -> None:
        self._lent: Lent | None = lent
        self._protocol = cast(Connection, lent.protocol)
        self._writing: asyncio.Task[None] | None = None
        self._unwritten = False
        self.content = aiohttp.EMPTY_PAYLOAD
        self.refusal: Exception | None = None
        """Why the body could not be had to its end. The reader of the answer gets an error of aiohttp's then."""
        self.written = False
        """The request was written, or its first slice was."""

    @property
    def stale(self) -> bool:
        """As of `Connection`, once the round trip has failed."""
        return self._protocol.stale

    @property
    def unread(self) -> bool:
        """As of `Connection`, once the round trip has failed."""
        return self._protocol.unread

    def send(
        self,
        head: bytes,
        body: bytes | None,
        *,
        is_head: bool,
        silence_s: float | None,
    ) -> None:
        """Writes the request: at once, or its first slice at once and the others as the socket takes them. ``silence_s`` bounds
        each wait for bytes of the answer, once the request is written."""
        protocol = self._begin(is_head=is_head, silence_s=silence_s)
        if not body:
            protocol.write(head)
        elif len(body) <= WRITE_SLICE:
            protocol.write(head + body)
        else:
            protocol.write(b"".join((head, memoryview(body)[:WRITE_SLICE])))
        self.written = True
        if (body and len(body) > WRITE_SLICE) or protocol.writing_paused:
            self._writing = asyncio.Task(
                _write_rest(protocol, body or b""),
                loop=asyncio.get_running_loop(),
                eager_start=True,
            )
        else:
            protocol.start_timeout()

    def send_upload(
        self,
        head: bytes,
        pieces: AsyncIterator[bytes],
        *,
        chunked: bool,
        silence_s: float | None,
        on_written: Callable[[], None],
    ) -> None:
        """Writes the head at once and the body as it comes and as the socket takes it, which may go on behind the answer's head.
        ``silence_s`` bounds each wait for the socket as well. ``on_written`` is called when all of it is written."""
        protocol = self._begin(is_head=False, silence_s=silence_s)
        protocol.write(head)
        self.written = True
        self._writing = asyncio.get_running_loop().create_task(
            self._write_upload(pieces, chunked, silence_s, on_written)
        )

    def _begin(self, *, is_head: bool, silence_s: float | None) -> Connection:
        self._protocol.set_response_params(
            skip_payload=is_head,
            read_until_eof=True,
            auto_decompress=False,
            read_timeout=silence_s,
            read_bufsize=READ_BUFFER,
            max_field_size=_MAX_FIELD,
        )
        return self._protocol

    async def _write_upload(
        self,
        pieces: AsyncIterator[bytes],
        chunked: bool,
        silence_s: float | None,
        on_written: Callable[[], None],
    ) -> None:
        protocol = self._protocol
        try:
            async with contextlib.aclosing(cast(AsyncGenerator[bytes], pieces)):
                async for piece in pieces:
                    for start in range(0, len(piece), WRITE_SLICE):
                        async with asyncio.timeout(silence_s):
                            await protocol.drained()
                        data = piece[start : start + WRITE_SLICE]
                        protocol.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
            if chunked:
                protocol.write(b"0\r\n\r\n")
            async with asyncio.timeout(silence_s):
                await protocol.drained()
        except Exception as error:
            # The provider must not take what has come for a whole request.
            self._unwritten = True
            if not isinstance(error, TimeoutError | aiohttp.ClientError | OSError):
                self.refusal = error
            protocol.set_exception(aiohttp.ClientOSError("the request's body could not be written"))
            if self.content is aiohttp.EMPTY_PAYLOAD:
                return
        else:
            on_written()
        protocol.start_timeout()

    async def read_head(self) -> None:
        """Waits for the answer's head; interim answers are left out. Raises ClientPayloadError for what is no HTTP answer, and
        OSError."""
        while True:
            try:
                message, content = await self._protocol.read()
            except HttpProcessingError:
                raise aiohttp.ClientPayloadError from None
            if not 100 <= message.code < 200 or message.code == 101:
                break
        self.status = message.code
        self.headers = message.headers
        self.content = content
        content.on_eof(self._ended)

    def bound_silence(self, seconds: float) -> None:
        """From now on each wait for bytes of the answer takes at most so long."""
        if self._lent is not None:
            self._protocol.read_timeout = seconds
            self._protocol.start_timeout()

    def take_over(self) -> RawConnection:
        """The connection behind a 101, whose bytes are the caller's from now on, as they are."""
        lent, self._lent = self._lent, None
        assert lent is not None
        return RawConnection(lent)

    def take_left(self) -> bytes:
        """The bytes of the body that came before the connection broke. aiohttp's reader raises instead of giving them."""
        content = self.content
        return content._read_nowait(-1) if content._buffer else b""

    def close(self) -> None:
        """Lets go of the connection. Whoever reads the body gets an error. May be called twice."""
        content = self.content
        if content.exception() is None:
            content.set_exception(aiohttp.ClientConnectionError("Connection closed"))
        self._let_go(whole=False)

    def _ended(self) -> None:
        # Behind a 101 the connection speaks no HTTP.
        if not self._protocol.upgraded:
            self._let_go(whole=True)

    def _let_go(self, *, whole: bool) -> None:
        lent, self._lent = self._lent, None
        if lent is None:
            return
        writing, self._writing = self._writing, None
        if writing is not None and (not writing.done() or writing.cancelled()):
            writing.cancel()
            whole = False
        if whole and not self._unwritten:
            lent.release()
        else:
            lent.close()

    def __del__(self) -> None:
        if self._lent is not None and not self._lent._loop.is_closed():
            self._let_go(whole=False)


async def _write_rest(protocol: Connection, body: bytes) -> None:
    """The body behind its first slice. A failure goes to the reader of the answer, unless the answer is there already."""
    view = memoryview(body)
    try:
        for start in range(WRITE_SLICE, len(view), WRITE_SLICE):
            await protocol.drained()
            protocol.write(cast(bytes, view[start : start + WRITE_SLICE]))
        await protocol.drained()
    except Exception:
        protocol.set_exception(aiohttp.ClientOSError("the request's body could not be written"))
    else:
        protocol.start_timeout()
