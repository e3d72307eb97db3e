"""The connections with providers, kept for the next request: aiohttp's connector dials (our resolver, all addresses, TLS) and
keeps them. This file, `http_connection` and `http_client` are the only ones of `dispatch` that use names of aiohttp which are not
public; `tests/dispatch/test_pool.py` holds each of them.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from yarl import URL

from tollhouse.dispatch.eyeballs import probed_socket
from tollhouse.dispatch.http_connection import Connection
from tollhouse.dispatch.proxy import ProxyFailed, Via, open_tunnel
from tollhouse.dispatch.resolve import GuardedResolver

if TYPE_CHECKING:
    from aiohttp.connector import Connection as Lent


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
    pool: Pool,
    target: DialTarget,
    within: aiohttp.ClientTimeout,
    *,
    fresh: bool = False,
    creates: bool = False,
) -> Lent:
    """A kept connection or a new one. Nothing has been sent on it for the caller. With ``fresh`` it is a new one, and those
    that were kept are closed: what has closed one of them has most likely closed all. With ``creates`` the kernel is asked
    for the state of a kept one (`Connection.may_be_used_again`). Raises ConnectionTimeoutError, and what aiohttp's connector
    raises."""
    while True:
        try:
            lent = await pool.connect(cast(Any, target), [], within)
        except TimeoutError:
            raise aiohttp.ConnectionTimeoutError from None
        connection = cast(Connection, lent.protocol)
        old = connection.age_s() > pool.bounds.age_s or (fresh and connection.used)
        closed = creates and connection.used and not connection.may_be_used_again()
        if not old and not closed and not connection.has_surplus():
            return lent
        lent.close()
