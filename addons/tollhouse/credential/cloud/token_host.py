"""The way to an endpoint that gives tokens for something secret, or the keys of such tokens: requests
to one URL, and to nothing else.

It has an aiohttp session of its own. These defaults of aiohttp are switched off, as in
`dispatch.upstream`: cookies, redirects, proxies of the environment (perhaps this gateway),
decompression, headers of its own. Foreign exceptions end here: the frames of aiohttp's exceptions
hold the request.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import certifi
from aiohttp.abc import AbstractResolver
from aiohttp.client_proto import ResponseHandler

from tollhouse.credential.lease import StoreAway
from tollhouse.dialled_socket import dialled_socket

Connector = Callable[[ssl.SSLContext, int], aiohttp.TCPConnector]
"""Makes the way there, by TLS and the most connections at once. It may raise `StoreAway`."""
_MAX_ANSWER: Final = 65_536
_AT_ONCE: Final = 4
_MOST_HEADS: Final = 8
"""Of one answer, with the informational ones before it."""


@dataclass(frozen=True, slots=True)
class HostAnswer:
    """The names in ``headers`` are lower case."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    data: bytes = field(repr=False)


class _Bounded(ResponseHandler):
    """aiohttp reads informational answers (RFC 9110, section 15.2) without end: a host that sends nothing else fills the memory,
    and holds the loop for seconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._heads = 0

    def data_received(self, data: bytes) -> None:
        if self._payload is None:
            # No body is being read.
            self._heads += data.count(b"HTTP/1.")
        if self._heads > _MOST_HEADS:
            self.abort()
        else:
            super().data_received(data)


class TokenHost:
    """``url`` is https. TLS is verified for its host, whatever address the resolver of ``resolver_factory`` gives. ``ca_file``
    (PEM) replaces the public roots, and ``tls`` what is made of that. ``connector`` is there where the way is none of its own.
    At most 4 requests run at once. One request takes at most ``bound_s``, and the wait for its turn counts in that. With
    ``reads_body`` false the head of an answer is all of it."""

    def __init__(
        self,
        url: str,
        *,
        ca_file: Path | None = None,
        resolver_factory: Callable[[], AbstractResolver] = aiohttp.ThreadedResolver,
        connector: Connector | None = None,
        tls: ssl.SSLContext | None = None,
        bound_s: float = 8.0,
        reads_body: bool = True,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" or parts.hostname is None:
            raise ValueError(f"{url} is not an https URL")
        self.host = parts.hostname
        self._url = url
        self._ca_file = ca_file
        self._resolver_factory = resolver_factory
        self._connector = connector
        self._tls = tls
        self._bound_s = bound_s
        self._reads_body = reads_body
        self._session: aiohttp.ClientSession | None = None

    async def post(self, body: bytes, headers: Mapping[str, str]) -> HostAnswer:
        """The answer. A redirect is an answer too: it is not followed. Raises `StoreAway`, which
        holds nothing that was sent or received."""
        return await self._asked("POST", body, headers)

    async def get(self, headers: Mapping[str, str]) -> HostAnswer:
        """As `post`."""
        return await self._asked("GET", None, headers)

    async def _asked(
        self, method: str, body: bytes | None, headers: Mapping[str, str]
    ) -> HostAnswer:
        outcome = await self._outcome(method, body, headers)
        if isinstance(outcome, StoreAway):
            raise outcome
        return outcome

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _outcome(
        self, method: str, body: bytes | None, headers: Mapping[str, str]
    ) -> HostAnswer | StoreAway:
        try:
            async with asyncio.timeout(self._bound_s):
                session = await self._open()
                async with session.request(
                    method, self._url, data=body, headers=headers, allow_redirects=False
                ) as response:
                    data = await _read(response.content) if self._reads_body else b""
                    if not self._reads_body or len(data) > _MAX_ANSWER:
                        # The rest of the answer is not read, and the connection is given up.
                        response.close()
                    if len(data) > _MAX_ANSWER:
                        return StoreAway(f"What {self.host} answers is too long.")
                    given = {name.lower(): value for name, value in response.headers.items()}
                    return HostAnswer(response.status, given, data)
        except StoreAway as error:
            # It is made anew: its frames hold the request.
            return StoreAway(error.why)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return _unreachable(self.host, error)

    async def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            tls = self._tls
            if tls is None:
                tls = await asyncio.to_thread(_tls, self._ca_file)
            # Another request may have opened the session meanwhile.
            self._session = self._session or self._made(tls)
        return self._session

    def _made(self, tls: ssl.SSLContext) -> aiohttp.ClientSession:
        if self._connector is not None:
            connector = self._connector(tls, _AT_ONCE)
        else:
            connector = aiohttp.TCPConnector(
                ssl=tls,
                resolver=self._resolver_factory(),
                use_dns_cache=False,
                force_close=True,
                limit=_AT_ONCE,
                socket_factory=dialled_socket,
            )
        # There is no public way to a protocol of one's own. Neither connector uses a connection twice.
        bounded: type[ResponseHandler] = _Bounded
        connector._factory = functools.partial(bounded, loop=asyncio.get_running_loop())
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            raise_for_status=False,
            headers={"Accept-Encoding": "identity"},
            skip_auto_headers=("Accept", "User-Agent"),
            timeout=aiohttp.ClientTimeout(total=None, connect=self._bound_s),
        )


async def _read(content: aiohttp.StreamReader) -> bytes:
    """Reads the body up to `_MAX_ANSWER`, and at most one piece beyond it."""
    data = b""
    try:
        while len(data) <= _MAX_ANSWER and (piece := await content.readany()):
            data += piece
    except aiohttp.ClientPayloadError:
        pass  # The answer was broken off. The part that came is judged: half a document is no JSON.
    return data


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    # ssl.create_default_context is not used: it reads SSL_CERT_FILE, and writes keys to
    # SSLKEYLOGFILE if the environment says so.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cafile=str(ca_file or certifi.where()))
    context.set_alpn_protocols(["http/1.1"])
    return context


def _unreachable(host: str, error: Exception) -> StoreAway:
    """The error in words of ours; its own text is not used. The order of the cases matters:
    aiohttp's classes inherit from each other and from OSError."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return StoreAway(f"TLS with {host} fails: its certificate can't be verified.")
        case aiohttp.ClientConnectorSSLError() | ssl.SSLError():
            return StoreAway(f"TLS with {host} fails.")
        case aiohttp.ClientConnectorDNSError():
            return StoreAway(f"The name {host} can't be resolved.")
        case TimeoutError():
            return StoreAway(f"{host} does not answer in time.")
        case aiohttp.ClientResponseError() | ValueError():
            return StoreAway(f"What {host} answers is no HTTP.")
        case aiohttp.ClientConnectorError():
            name = type(error.os_error).__name__
        case _:
            name = type(error).__name__
    return StoreAway(f"{host} can't be reached, or broke off ({name}).")
