"""A connection to a host that is no provider's, for a tunnel that is passed on. Its addresses are judged as a provider's are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver

from tollhouse.companions import PassableHost
from tollhouse.credential.lease import CredentialUnavailable
from tollhouse.denial import Refused
from tollhouse.dispatch.eyeballs import connected
from tollhouse.dispatch.proxied import ProxyTunnels
from tollhouse.dispatch.proxy import ProxyFailed
from tollhouse.dispatch.resolve import AddressRefused, guarded
from tollhouse.providers import UpstreamProxy

_WITHIN_S: Final = 10.0
_MOST_ADDRESSES: Final = 8


class Dialler:
    """``resolver_factory`` is as in `Upstream`."""

    def __init__(
        self,
        proxies: ProxyTunnels,
        resolver_factory: Callable[[], AbstractResolver] | None = None,
    ) -> None:
        self._proxies = proxies
        self._factory = resolver_factory or aiohttp.ThreadedResolver
        self._resolver: AbstractResolver | None = None

    async def dial(
        self, host: str, entry: PassableHost, protocol: Callable[[], asyncio.Protocol]
    ) -> asyncio.Transport:
        """Connects ``protocol``. Raises `Refused` (``upstream_*``, ``credential_unavailable``)."""
        name, port = entry.connect_to or (host, entry.port)
        try:
            async with asyncio.timeout(_WITHIN_S):
                if entry.upstream_proxy is not None:
                    return await self._through(entry.upstream_proxy, name, port, entry, protocol)
                return await self._directly(host, name, port, entry, protocol)
        except AddressRefused as error:
            raise Refused("upstream_address_refused", error.why) from None
        except ProxyFailed as error:
            raise Refused(error.code, error.why) from None
        except CredentialUnavailable:
            why = "The password of the way to the host is not there."
            raise Refused("credential_unavailable", why, (("retry-after", "5"),)) from None
        except TimeoutError:
            raise Refused("upstream_timeout", f"No connection with {host} in time.") from None
        except OSError as error:
            why = f"{host}: {error.strerror or type(error).__name__}."
            raise Refused("upstream_unreachable", why) from None

    async def _through(
        self,
        proxy: UpstreamProxy,
        name: str,
        port: int,
        entry: PassableHost,
        protocol: Callable[[], asyncio.Protocol],
    ) -> asyncio.Transport:
        transport = await self._proxies.open(proxy, name, port, allow_private=entry.allow_private)
        made = protocol()
        transport.set_protocol(made)
        made.connection_made(transport)
        transport.resume_reading()
        return transport

    async def _directly(
        self,
        host: str,
        name: str,
        port: int,
        entry: PassableHost,
        protocol: Callable[[], asyncio.Protocol],
    ) -> asyncio.Transport:
        self._resolver = self._resolver or self._factory()
        found = await guarded(self._resolver, host, name, port, allow_private=entry.allow_private)
        dialled = await connected(found[:_MOST_ADDRESSES])
        try:
            transport, _ = await asyncio.get_running_loop().create_connection(
                protocol, sock=dialled
            )
        except BaseException:
            dialled.close()
            raise
        return transport

    async def close(self) -> None:
        if self._resolver is not None:
            await self._resolver.close()
