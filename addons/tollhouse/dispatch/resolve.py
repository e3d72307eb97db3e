"""Names to addresses, guarded. The addresses that are judged are the ones that are dialled: there
is no second look-up.

If one address of an answer is refused, the whole answer is refused. To dial the others would hide
that somebody answers for the provider's name with an inner address. The outcome would also depend
on the order in which happy eyeballs tries them.
"""

from __future__ import annotations

import socket
from ipaddress import ip_address

from aiohttp.abc import AbstractResolver, ResolveResult

from tollhouse.dispatch.guard import refused_address
from tollhouse.providers import Catalog


class AddressRefused(Exception):
    """A name led to an address that may not be dialled. ``why`` names the name, the address and the rule."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class GuardedResolver(AbstractResolver):
    """aiohttp's connector asks it before it dials.

    The provider's ``connect_to`` replaces name and port; its address is judged like any other.
    aiohttp's DNS cache keeps an answer for some seconds; it was judged when it came.
    """

    def __init__(self, catalog: Catalog, inner: AbstractResolver) -> None:
        self._catalog = catalog
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """All addresses of ``host``, judged. Raises AddressRefused, and OSError when there is none."""
        provider = self._catalog.by_host(host)
        if provider is None:
            raise AddressRefused(f"{host} is not a configured provider's.")
        name, port = provider.connect_to or (host, port)
        return await guarded(
            self._inner, host, name, port, allow_private=provider.allow_private, family=family
        )

    async def resolve_proxy(self, name: str, port: int) -> list[ResolveResult]:
        """All addresses of a proxy, which may be private. Raises AddressRefused and OSError."""
        return await guarded(self._inner, name, name, port, allow_private=True)

    async def close(self) -> None:
        await self._inner.close()


async def guarded(
    inner: AbstractResolver,
    host: str,
    name: str,
    port: int,
    *,
    allow_private: bool,
    family: socket.AddressFamily = socket.AF_UNSPEC,
) -> list[ResolveResult]:
    """All addresses of ``name``, which is dialled for ``host``, judged. Raises as `GuardedResolver.resolve` does."""
    if is_address(name):
        found = [_literal(host, name, port)]
    else:
        found = await inner.resolve(name, port, family)
    if not found:
        raise OSError(f"{name} has no address")
    for result in found:
        rule = refused_address(result["host"], allow_private=allow_private)
        if rule is not None:
            raise AddressRefused(f"{name} leads to {result['host']}, {rule}.")
    return found


def is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _literal(host: str, address: str, port: int) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return ResolveResult(
        hostname=host,
        host=address,
        port=port,
        family=family,
        proto=socket.IPPROTO_TCP,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )
