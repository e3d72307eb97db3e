"""A client's connection as the HTTP/1 that is spoken over it uses it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tollhouse.admit.connection_limits import Occupant
from tollhouse.call import ListenerKind, RequestHead
from tollhouse.listen.doors import Bounds, ConnectRequest
from tollhouse.listen.exchange import Exchange
from tollhouse.listen.request_head import Http1Head


class Http1Connection(Protocol):
    """The client's connection as its HTTP/1 uses it."""

    clock: Callable[[], float]
    bounds: Bounds
    listener: ListenerKind
    client_ip: str
    client_certificate: bytes | None
    occupant: Occupant

    @property
    def retiring(self) -> bool: ...
    def write(self, data: bytes) -> None: ...
    def close(self) -> None: ...
    def linger(self) -> None: ...
    def watch(self) -> None: ...
    def congested(self) -> bool: ...
    async def drained(self) -> None: ...
    def pause(self, exchange: Exchange) -> None: ...
    def soon(self, begin: Callable[[], None]) -> None: ...
    def own(self, exchange: Exchange) -> None: ...
    def tunnel(self, head: Http1Head) -> ConnectRequest: ...
    def enter(self, connect: ConnectRequest, rest: bytes) -> None: ...
    def pass_on(self, connect: ConnectRequest, rest: bytes) -> None: ...


class HeadMaker:
    """Makes the heads of a connection's requests as the road gets them. ``connect`` is the tunnel that they are in."""

    def __init__(
        self,
        connection: Http1Connection,
        scheme: str,
        sni: str | None,
        connect: ConnectRequest | None,
    ) -> None:
        self._connection = connection
        self._scheme = scheme
        self._sni = sni
        self._host = connect.host if connect is not None else None
        self._authorization = (
            next((value for name, value in connect.headers if name == "proxy-authorization"), None)
            if connect is not None
            else None
        )

    def head(self, head: Http1Head) -> RequestHead:
        """That of one request."""
        connection = self._connection
        return RequestHead(
            listener=connection.listener,
            http_version="1.0" if head.version == "1.0" else "1.1",
            method=head.method,
            target=head.target,
            scheme=head.scheme or self._scheme,
            absolute_authority=head.authority or None,
            authority=None,
            headers=head.headers,
            connect_host=self._host,
            connect_proxy_authorization=self._authorization,
            sni=self._sni,
            client_ip=connection.client_ip,
            client_certificate=connection.client_certificate,
        )
