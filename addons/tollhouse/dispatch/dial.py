"""A connection to a host that is no provider's, for a tunnel that is passed on. Its addresses are judged as a provider's are."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final, cast

import aiohttp
from aiohttp.abc import AbstractResolver

from tollhouse.companions import PassableHost
from tollhouse.denial import Refused
from tollhouse.dispatch.resolve import AddressRefused, guarded

_WITHIN_S: Final = 10.0
_EACH_S: Final = 3.0
"""For one address, where there are others."""
_MOST_ADDRESSES: Final = 8
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 3}


class Dialler:
    """``resolver_factory`` is as in `Upstream`."""

    def __init__(self, resolver_factory: Callable[[], AbstractResolver] | None = None) -> None:
        self._factory = resolver_factory or aiohttp.ThreadedResolver
        self._resolver: AbstractResolver | None = None

    async def dial(
        self, host: str, entry: PassableHost, protocol: Callable[[], asyncio.Protocol]
    ) -> asyncio.Transport:
        """Connects ``protocol``. Raises `Refused` (``upstream_*``)."""
        if self._resolver is None:
            self._resolver = self._factory()
        name, port = entry.connect_to or (host, entry.port)
        try:
            async with asyncio.timeout(_WITHIN_S):
                found = await guarded(
                    self._resolver, host, name, port, allow_private=entry.allow_private
                )
                return await self._first(
                    [(one["host"], one["port"]) for one in found[:_MOST_ADDRESSES]], protocol
                )
        except AddressRefused as error:
            raise Refused("upstream_address_refused", error.why) from None
        except TimeoutError:
            raise Refused("upstream_timeout", f"No connection with {host} in time.") from None
        except OSError as error:
            why = f"{host}: {error.strerror or type(error).__name__}."
            raise Refused("upstream_unreachable", why) from None

    async def _first(
        self, addresses: list[tuple[str, int]], protocol: Callable[[], asyncio.Protocol]
    ) -> asyncio.Transport:
        loop = asyncio.get_running_loop()
        *others, last = addresses
        for host, port in others:
            try:
                async with asyncio.timeout(_EACH_S):
                    transport, _ = await loop.create_connection(protocol, host, port)
            except OSError:
                continue
            return _kept_alive(transport)
        transport, _ = await loop.create_connection(protocol, *last)
        return _kept_alive(transport)

    async def close(self) -> None:
        if self._resolver is not None:
            await self._resolver.close()


def _kept_alive(transport: asyncio.BaseTransport) -> asyncio.Transport:
    """A far end that is gone without a word is noticed."""
    connection: socket.socket = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    # uvloop's transports are no subclass of asyncio's.
    return cast(asyncio.Transport, transport)
