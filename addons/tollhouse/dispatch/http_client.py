"""One request and its answer, on a connection of aiohttp's connector but below its ClientSession, which costs more than the
rest of an attempt.

aiohttp dials (our resolver, all addresses, TLS), keeps the connections and parses the answers. The request's bytes are
written here. This is the only file of `dispatch` that uses names of aiohttp which are not public; `tests/dispatch/
test_http_client.py` holds each of them. Nothing here sends a request twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from tollhouse.dispatch.eyeballs import probed_socket
from tollhouse.dispatch.proxy import ProxyFailed, Via, open_tunnel
from tollhouse.dispatch.resolve import GuardedResolver

if TYPE_CHECKING:
    from aiohttp.connector import Connection as Lent
    from multidict import CIMultiDictProxy

WRITE_SLICE: Final = 65_536
"""A larger body goes to the socket in slices, so that it is neither copied nor encrypted in one go."""
_READ_BUFFER: Final = 65_536
"""If the client does not read, twice as many bytes of the answer are kept. Then the provider has to wait."""
_MAX_FIELD: Final = 32_768
"""Bytes of one header of an answer."""
_MAX_INTERIM: Final = 16
"""The most 1xx answers before the real one. A provider that follows RFC 9110 sends one or two."""

_TARGET: Final = re.compile(r"/[^\x00-\x1f\x7f#?]*(\?[^\x00-\x1f\x7f#]+)?")
_METHOD: Final = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_FORBIDDEN: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_NO_LENGTH: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Without a body these requests have no Content-Length: RFC 9110 8.6."""


class DialTarget:
    """What aiohttp's connector asks of a request: where to dial. It is made once for a host."""

    __slots__ = ("connection_key", "host", "port", "ssl", "url", "via")

    server_hostname: Final = None
    proxy: Final = None
    proxy_headers: Final = None

    def __init__(self, origin: str, tls: ssl.SSLContext | None, via: Via | None = None) -> None:
        self.via = via
        """The way through a proxy. aiohttp's own knows no TLS to the proxy's CA, and no secret that changes."""
        self.url = URL(origin, encoded=True)
        self.host = self.url.raw_host or ""
        self.port = self.url.port
        self.ssl: ssl.SSLContext | bool = True if tls is None else tls
        through = None
        if via is not None:
            through = URL.build(scheme="http", host=via.proxy.host, port=via.proxy.port)
        self.connection_key = ConnectionKey(
            self.host, self.port, self.is_ssl(), self.ssl, through, None, None
        )

    def is_ssl(self) -> bool:
        return self.url.scheme == "https"


@dataclass(frozen=True, slots=True)
class PoolBounds:
    """``per_host`` 0 is no bound. A connection is closed when nobody has used it for ``idle_s``, and is used no more when
    it is ``age_s`` old."""

    per_host: int = 0
    idle_s: float = 50.0
    age_s: float = 3600.0


class Pool(aiohttp.TCPConnector):
    """All connections, on the running loop."""

    def __init__(self, resolver: GuardedResolver, bounds: PoolBounds) -> None:
        super().__init__(
            resolver=resolver,
            limit=0,
            limit_per_host=bounds.per_host,
            ttl_dns_cache=10,
            keepalive_timeout=bounds.idle_s,
            socket_factory=probed_socket,
        )
        self.bounds = bounds
        self._guard = resolver
        self._factory = cast(Any, functools.partial(Connection, loop=asyncio.get_running_loop()))

    async def _create_connection(
        self,
        req: Any,
        traces: Any,
        timeout: Any,  # noqa: ASYNC109 - aiohttp's signature
    ) -> ResponseHandler:
        via: Via | None = req.via
        if via is None:
            return await super()._create_connection(req, traces, timeout)
        try:
            addresses = await self._guard.resolve_proxy(via.proxy.host, via.proxy.port)
        except OSError:
            why = f"The name of {via.where} could not be resolved."
            raise ProxyFailed("upstream_unreachable", why) from None
        transport = await open_tunnel(via, addresses)
        if req.is_ssl():
            _, protocol = await self._start_tls_connection(transport, req, timeout)
            return protocol
        protocol = self._factory()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        transport.resume_reading()
        return protocol


class ProxyConnector(aiohttp.TCPConnector):
    """For an `aiohttp.ClientSession` whose connections are all tunnels: ``tunnel`` opens one to a host and port. TLS is spoken
    inside each, and none is used twice."""

    def __init__(
        self,
        tls: ssl.SSLContext,
        tunnel: Callable[[str, int], Awaitable[asyncio.Transport]],
        limit: int,
    ) -> None:
        super().__init__(ssl=tls, force_close=True, limit=limit)
        self._tunnel = tunnel

    async def _create_connection(
        self,
        req: Any,
        traces: Any,
        timeout: Any,  # noqa: ASYNC109 - aiohttp's signature
    ) -> ResponseHandler:
        transport = await self._tunnel(req.url.raw_host, req.url.port)
        _, protocol = await self._start_tls_connection(transport, req, timeout)
        return protocol


async def connect(
    pool: Pool, target: DialTarget, within: aiohttp.ClientTimeout, *, fresh: bool = False
) -> Lent:
    """A kept connection or a new one. Nothing has been sent on it for the caller. With ``fresh`` it is a new one, and those
    that were kept are closed: what has closed one of them has most likely closed all. Raises ConnectionTimeoutError, and
    what aiohttp's connector raises."""
    while True:
        try:
            lent = await pool.connect(cast(Any, target), [], within)
        except TimeoutError:
            raise aiohttp.ConnectionTimeoutError from None
        connection = cast(Connection, lent.protocol)
        old = connection.age_s() > pool.bounds.age_s or (fresh and connection.used)
        if not old and not connection.has_surplus():
            return lent
        lent.close()


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


class Connection(ResponseHandler):
    """aiohttp's connection, with two more refusals. It refuses an answer that nobody asked for:
    aiohttp would give it to the next caller, who may be of another tenant. It refuses interim
    answers without end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._asked = False
        self._interim = 0
        self._made = loop.time()
        self._requests = 0
        self._begun = False
        """The connection was lost behind the first bytes of a head."""

    def age_s(self) -> float:
        return self._loop.time() - self._made

    @property
    def used(self) -> bool:
        """It has carried a request."""
        return self._requests > 0

    @property
    def stale(self) -> bool:
        """The connection had served a request before, and was closed before any byte of the answer to
        this one. So a server ends a connection that has been idle for too long for it."""
        lost = self._connection_lost_called and not self._begun
        return lost and self._asked and self._requests > 1 and not self._interim

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._asked:
            # There is no body yet whose end the parser could tell.
            self._begun = self.has_surplus()
        super().connection_lost(exc)

    def set_response_params(self, **params: Any) -> None:
        self._asked = True
        self._interim = 0
        self._requests += 1
        super().set_response_params(**params)

    def feed_data(self, data: Any, size: int = 0) -> None:
        interim = 100 <= data[0].code < 200 and data[0].code != 101
        self._interim += interim
        if not self._asked or self._interim > _MAX_INTERIM:
            self.force_close()
            if self._asked:
                self.set_exception(HttpProcessingError(message="interim answers without end"))
            if self.transport is not None:
                self.transport.close()
            return
        if not interim:
            self._asked = False
        super().feed_data(data, size)

    def has_surplus(self) -> bool:
        """Whether the beginning of another head has come behind the last answer. aiohttp gives the next request a parser of
        its own: what comes later would be read as the next answer's beginning. Ends the old parser."""
        parser, self._parser = self._parser, None
        try:
            return parser is not None and parser.feed_eof() is not None
        except HttpProcessingError:
            return True

    def write(self, data: bytes) -> None:
        transport = self.transport
        if transport is None or transport.is_closing():
            raise aiohttp.ClientConnectionResetError("the connection was lost")
        transport.write(data)

    async def drained(self) -> None:
        """Returns when the socket takes more. Raises OSError when it is gone."""
        if self._paused:
            await self._drain_helper()


class RawConnection:
    """A connection that speaks no HTTP any more. It is closed, and never goes back to the pool."""

    def __init__(self, lent: Lent) -> None:
        self._lent: Lent | None = lent
        self._protocol = cast(Connection, lent.protocol)
        self._buffer = bytearray()
        self._ended = False
        self._waiter: asyncio.Future[None] | None = None
        self._paused = False
        self._protocol.read_timeout = None
        self._protocol.set_parser(self, None)

    # What aiohttp's connection calls: bytes that came, and the end.

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._buffer += data
        if len(self._buffer) > _READ_BUFFER and not self._paused:
            self._paused = True
            self._protocol.pause_reading()
        self._wake()
        return False, b""

    def feed_eof(self) -> None:
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def read(self) -> bytes:
        """The next bytes; b"" at the end, also where the connection is lost."""
        while not self._buffer and not self._ended:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        data = bytes(self._buffer)
        self._buffer.clear()
        if self._paused and not self._ended:
            self._paused = False
            self._protocol.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        """Returns when the socket takes more. Raises OSError when it is gone."""
        self._protocol.write(data)
        if self._protocol.writing_paused:
            await self._protocol.drained()

    def close(self) -> None:
        """May be called twice."""
        self.feed_eof()
        lent, self._lent = self._lent, None
        if lent is not None:
            lent.close()

    def __del__(self) -> None:
        if self._lent is not None and not self._lent._loop.is_closed():
            self._lent.close()


class RoundTrip:
    """One request on its connection, and the answer's head and body.

    At the body's end the connection goes back to the pool. If the request was not written to its end by then, or if the
    exchange is closed or forgotten before, the connection is closed.
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
        """As of `Connection`, once the exchange has failed."""
        return self._protocol.stale

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
            read_bufsize=_READ_BUFFER,
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
