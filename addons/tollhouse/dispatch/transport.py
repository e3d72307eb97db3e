"""aiohttp under our rules: its connection, the body of a request, the answer, and the meaning of
its exceptions."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextvars import ContextVar
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp import client_reqrep
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_writer import StreamWriter
from aiohttp.payload import Payload

from tollhouse.codings import KNOWN
from tollhouse.dispatch.answer import Answer, AnswerCut, UpstreamError
from tollhouse.dispatch.inflating import NOT_OF_PLAIN, Inflating
from tollhouse.dispatch.resolve import AddressRefused
from tollhouse.headers import HOP_BY_HOP

if TYPE_CHECKING:
    from multidict import CIMultiDict

WRITE_SLICE: Final = 65_536
_MAX_ANSWER_HEADERS: Final = 65_536
"""Characters of an answer's header names and values."""
_MAX_INTERIM: Final = 16
"""The most 1xx answers before the real one. A provider that follows RFC 9110 sends one or two."""

_FORBIDDEN: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


leaving: ContextVar[list[Callable[[], None]]] = ContextVar("leaving")
"""These functions are called in the task that sends, when there is a connection and the request's
first byte is about to go. Whoever sets the list empties it afterwards: the event loop keeps a copy
of the context for as long as the connection lives."""


class Connection(ResponseHandler):
    """aiohttp's connection, with two more refusals. It refuses an answer that nobody asked for:
    aiohttp would give it to the next caller, who may be of another tenant. It refuses interim
    answers without end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._asked = False
        self._interim = 0

    def set_response_params(self, **params: Any) -> None:
        self._asked = True
        self._interim = 0
        super().set_response_params(**params)
        for tell in leaving.get(()):
            tell()

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


class HeadWriter(StreamWriter):
    """aiohttp's writer of a request, which also writes header bytes that are no UTF-8. In
    `RequestHead` such a byte is a lone surrogate, and aiohttp's own serialiser leaves surrogates
    out in silence."""

    async def write_headers(self, status_line: str, headers: CIMultiDict[str]) -> None:
        await super().write_headers(status_line, headers)
        if not all(map(str.isascii, headers.values())):
            lines = [status_line, *(f"{name}: {value}" for name, value in headers.items()), "", ""]
            self._headers_buf = "\r\n".join(lines).encode("utf-8", "surrogateescape")


# aiohttp has no public way to bring one's own writer; the tests show that it is the one used.
client_reqrep.StreamWriter = HeadWriter  # type: ignore[attr-defined]


class SlicedBody(Payload):
    """A body that goes to the socket in slices. So a large one is neither copied nor encrypted in
    one go."""

    _autoclose = True

    def __init__(self, value: bytes) -> None:
        super().__init__(value)
        self._size = len(value)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return bytes(self._value).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        view = memoryview(self._value)
        for start in range(0, len(view), WRITE_SLICE):
            await writer.write(view[start : start + WRITE_SLICE])


def as_answer(response: aiohttp.ClientResponse, where: str) -> Answer:
    """The answer. Raises UpstreamError("upstream_bad_answer") for one that can't be passed on, and
    closes its connection."""
    given = response.headers
    text = "".join(chain.from_iterable(given.items()))
    problem = ""
    coding = ",".join(given.getall("content-encoding", ())).strip().lower()
    if coding == "identity":
        coding = ""
    if not 200 <= response.status <= 599:
        problem = f"It answered {response.status}, which was not asked for."
    elif len(text) > _MAX_ANSWER_HEADERS:
        problem = f"The headers of its answer are larger than {_MAX_ANSWER_HEADERS} characters."
    elif not text.isprintable() and _FORBIDDEN.search(text):
        problem = "The headers of its answer contain control characters."
    elif coding and coding not in KNOWN:
        problem = "Its answer has a content coding that was not asked for and is not known."
    if problem:
        response.close()
        raise UpstreamError("upstream_bad_answer", f"{where}: {problem}", "maybe")
    headers = [
        (name, value) for key, value in given.items() if (name := key.lower()) not in HOP_BY_HOP
    ]
    headers = without_named(headers, ",".join(given.getall("connection", ())))
    read = _BodyReader(response, where).read
    if coding:
        headers = [pair for pair in headers if pair[0] not in NOT_OF_PLAIN]
        read = Inflating(read, coding, where).read
    return Answer(response.status, headers, read, response.close)


def without_named(headers: list[tuple[str, str]], connection: str) -> list[tuple[str, str]]:
    """``headers`` without those that ``Connection`` names. These are hop-by-hop as well: RFC 9110
    7.6.1."""
    named = {token.strip().lower() for token in connection.split(",")} - {"", "keep-alive", "close"}
    return [pair for pair in headers if pair[0].lower() not in named] if named else headers


class _BodyReader:
    __slots__ = ("_response", "_where")

    def __init__(self, response: aiohttp.ClientResponse, where: str) -> None:
        self._response = response
        self._where = where

    async def read(self) -> bytes:
        content = self._response.content
        try:
            return await content.readany()
        except TimeoutError:
            cut = AnswerCut(
                "upstream_timeout", f"{self._where} fell silent in the middle of its answer."
            )
        except (aiohttp.ClientError, OSError, RuntimeError, HttpProcessingError):
            cut = AnswerCut("upstream_bad_answer", f"{self._where} broke off its answer.")
        # When the connection breaks, aiohttp throws away the bytes that were not read yet. The
        # count of tokens may be among them.
        left: bytes = content._read_nowait(-1) if content._buffer else b""
        if left:
            return left
        self._response.close()
        raise cut


def translated(error: Exception, where: str) -> UpstreamError:
    """aiohttp's exception as one of ours. The order of the cases matters: aiohttp's classes inherit
    from each other and from OSError."""
    match error:
        case AddressRefused():
            return UpstreamError("upstream_address_refused", error.why, "no")
        case aiohttp.ConnectionTimeoutError():
            return UpstreamError("upstream_timeout", f"No connection with {where} in time.", "no")
        case aiohttp.ClientConnectorCertificateError():
            detail = (
                getattr(error.certificate_error, "verify_message", "")
                or "certificate not valid for this host"
            )
            return UpstreamError("upstream_tls", f"{where}: {detail}.", "no")
        case aiohttp.ClientConnectorSSLError():
            detail = getattr(error.os_error, "reason", None) or "handshake failed"
            return UpstreamError("upstream_tls", f"{where}: {detail}.", "no")
        case aiohttp.ClientConnectorDNSError():
            return UpstreamError(
                "upstream_unreachable", f"The name of {where} could not be resolved.", "no"
            )
        case aiohttp.ClientConnectorError():
            detail = error.os_error.strerror or type(error.os_error).__name__
            return UpstreamError("upstream_unreachable", f"{where}: {detail}.", "no")
        case aiohttp.ClientResponseError() | aiohttp.ClientPayloadError():
            return UpstreamError(
                "upstream_bad_answer", f"{where} sent what is no HTTP answer.", "maybe"
            )
        case TimeoutError():
            return UpstreamError("upstream_timeout", f"{where} sent no answer in time.", "maybe")
        case _:
            return UpstreamError(
                "upstream_unreachable",
                f"{where} closed the connection before it answered.",
                "maybe",
            )
