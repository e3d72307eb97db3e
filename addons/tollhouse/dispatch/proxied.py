"""Tunnels through a corporate proxy for connections that are no provider's: those that are passed on, and to who gives tokens."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Protocol

import aiohttp
from aiohttp.abc import AbstractResolver

from tollhouse.credential.lease import CredentialUnavailable, StoreAway
from tollhouse.credential.secret import Secret
from tollhouse.dispatch.guard import refused_address
from tollhouse.dispatch.pool import ProxyConnector
from tollhouse.dispatch.proxy import ProxyFailed, Via, authorization, open_tunnel
from tollhouse.dispatch.resolve import AddressRefused, guarded, is_address
from tollhouse.dispatch.upstream_tls import tls_context
from tollhouse.providers import UpstreamProxy


class StoreSecrets(Protocol):
    """Gives fields of a secret of the store. Raises `CredentialUnavailable`."""

    async def get(self, path: str, *names: str) -> tuple[Secret, ...]: ...


class ProxyTunnels:
    """``secrets`` gives the passwords of proxies. ``resolver_factory`` is as in `Upstream`."""

    def __init__(
        self,
        secrets: StoreSecrets,
        resolver_factory: Callable[[], AbstractResolver] | None = None,
    ) -> None:
        self._secrets = secrets
        self._factory = resolver_factory or aiohttp.ThreadedResolver
        self._resolver: AbstractResolver | None = None
        self._tls: dict[str | None, ssl.SSLContext] = {}

    async def open(
        self, proxy: UpstreamProxy, host: str, port: int, *, allow_private: bool = False
    ) -> asyncio.Transport:
        """A transport whose other side is ``host``. It is paused. The proxy looks the name up; an address is judged here. Raises
        `ProxyFailed`, `AddressRefused` and `CredentialUnavailable`. The caller bounds the time."""
        if is_address(host):
            rule = refused_address(host, allow_private=allow_private)
            if rule is not None:
                raise AddressRefused(f"{host} is {rule}.")
        via = Via(proxy, await self._context(proxy) if proxy.tls else None, host, port)
        if proxy.secret is not None:
            login = await self._secrets.get(proxy.secret, "username", "password")
            given = authorization(*(one.reveal() for one in login))
            via = Via(proxy, via.tls, host, port, given)
        self._resolver = self._resolver or self._factory()
        try:
            found = await guarded(
                self._resolver, proxy.host, proxy.host, proxy.port, allow_private=True
            )
        except OSError:
            why = f"The name of {via.where} could not be resolved."
            raise ProxyFailed("upstream_unreachable", why) from None
        return await open_tunnel(via, found)

    def connector(
        self, proxy: UpstreamProxy, to: tuple[str, int] | None = None
    ) -> Callable[[ssl.SSLContext, int], aiohttp.TCPConnector]:
        """Makes the connector of a session that is for the store of keys: it fails by `StoreAway`. ``to`` is asked for in place
        of the session's host, and may be private."""

        async def tunnel(host: str, port: int) -> asyncio.Transport:
            try:
                if to is not None:
                    return await self.open(proxy, *to, allow_private=True)
                return await self.open(proxy, host, port)
            except (ProxyFailed, AddressRefused, CredentialUnavailable) as error:
                why = error.why
            raise StoreAway(why)

        return lambda tls, limit: ProxyConnector(tls, tunnel, limit)

    async def _context(self, proxy: UpstreamProxy) -> ssl.SSLContext:
        made = self._tls.get(proxy.ca_file)
        if made is None:
            try:
                made = await asyncio.to_thread(tls_context, proxy.ca_file)
            except OSError as error:
                why = f"The ca_file of the proxy {proxy.host} can't be used ({error.strerror})."
                raise ProxyFailed("upstream_tls", why) from None
            self._tls[proxy.ca_file] = made
        return made

    async def close(self) -> None:
        if self._resolver is not None:
            await self._resolver.close()
