"""The ways in: the listeners of a gateway, the tunnels that it passes on, and the addon that gives each call its coroutine."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tollhouse.admit.identifying import Accounts, Identifier
from tollhouse.admit.passing import TunnelJudge
from tollhouse.book import Book
from tollhouse.budget.place import Place
from tollhouse.call import ListenerKind
from tollhouse.cannot_start import told
from tollhouse.config.load import Address, Config, passable
from tollhouse.dispatch.dial import Dialler
from tollhouse.dispatch.proxied import ProxyTunnels
from tollhouse.journey import Journey
from tollhouse.listen.doors import Bounds
from tollhouse.listen.exchange import Exchange
from tollhouse.listen.http1 import READ_AHEAD
from tollhouse.listen.mitm import GateMaster
from tollhouse.listen.passed_tunnel import PassedTunnels, TunnelBounds
from tollhouse.listen.sockets import ListenerParts, Listeners
from tollhouse.listen.tunnel import Tunnel
from tollhouse.providers import Catalog
from tollhouse.share import Share
from tollhouse.stores import asking_context, listener_context
from tollhouse.trust.leaf import LeafStore

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver


class Road:
    """The addon that gives each call its coroutine."""

    def __init__(self, journey: Journey) -> None:
        self._journey = journey

    async def tollhouse_call(self, exchange: Exchange) -> None:
        """The hook that the listeners call for each request."""
        await self._journey.travel(exchange)


class Entrances:
    """Nothing listens before `open`. Raises `ValueError` for a certificate that can't be used."""

    def __init__(
        self,
        config: Config,
        share: Share,
        *,
        catalog: Catalog,
        leaves: LeafStore,
        journey: Journey,
        master: GateMaster,
        accounts: Accounts,
        identifier: Identifier,
        place: Place,
        book: Book,
        proxies: ProxyTunnels,
        resolver_factory: Callable[[], AbstractResolver] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._share = share
        self._own_tls: dict[ListenerKind, ssl.SSLContext] = {}
        clients_ca = config.identity.mtls.ca_file if config.identity.mtls is not None else None
        if config.listen.tls is not None:
            self._own_tls = {
                kind: listener_context(config.listen.tls, kind, clients_ca)
                for kind in ("proxy", "base_url")
            }
        asking = None if clients_ca is None else asking_context(clients_ca)
        self.tunnel = Tunnel(
            catalog,
            leaves,
            book,
            proxy_auth=config.listen.proxy_auth,
            listener_tls=self._own_tls,
            passable=passable(config),
            refuses_ech=config.listen.refuse_ech,
        )
        limits = config.limits
        bounds = Bounds(
            limits.max_header_bytes,
            limits.request_timeout_s,
            4 * max(limits.max_body_bytes, READ_AHEAD),
            limits.stalled_timeout_s or 10 * limits.request_timeout_s,
            limits.idle_connection_s or 10 * limits.request_timeout_s,
            limits.min_body_bytes_s,
        )
        road = Road(journey)
        master.take(road)
        judge = TunnelJudge(accounts, identifier, project_header=config.headers.project.lower())
        self._dialler = Dialler(proxies, resolver_factory)
        most = share.of(limits.max_tunnels)
        tunnel_bounds = TunnelBounds(
            most, max(1, most // 4), limits.tunnel_idle_s, limits.tunnel_s, limits.request_timeout_s
        )
        self.passed_tunnels = PassedTunnels(
            judge, self._dialler, place, book, tunnel_bounds, clock=clock
        )
        self.listeners = Listeners(
            ListenerParts(
                master,
                self.tunnel,
                road.tollhouse_call,
                bounds,
                share.of(limits.max_connections),
                leaves.first,
                own_http1=config.listen.http1 == "own",
                clock=clock,
                passed_tunnels=self.passed_tunnels,
                asking=asking,
                max_of_source=share.of(
                    limits.max_connections_per_source or -(-limits.max_connections * 3 // 4)
                ),
            )
        )

    async def open(self, addresses: dict[str, str]) -> None:
        """Begins to listen, and writes into ``addresses`` where each kind of listener does, or "off". Raises
        `GatewayError`; what was opened before that is open."""
        listen = self._config.listen
        wanted: tuple[tuple[ListenerKind, Address | None], ...] = (
            ("proxy", listen.proxy),
            ("base_url", listen.base_url),
            ("transparent", listen.transparent),
        )
        for kind, address in wanted:
            tls = kind in self._own_tls
            if sockets := self._share.sockets.get(kind):
                for each in sockets:
                    with told(f"listen.{kind}: {address} cannot be listened on", "free it"):
                        bound = await self.listeners.open(kind, tls=tls, bound=each)
                addresses[kind] = str(Address(*bound))
                continue
            if address is None or self._share.sockets:
                addresses[kind] = "off"
                continue
            with told(
                f"listen.{kind}: {address} cannot be listened on", "free it or choose another"
            ):
                bound = await self.listeners.open(
                    kind, address.bound_to or "", address.port, tls=tls
                )
                addresses[kind] = str(Address(*bound))

    async def close_connections(self) -> None:
        """Ends what is still open behind `Listeners.close`."""
        await self.listeners.close_connections()
        await self.passed_tunnels.ended()

    async def close(self) -> None:
        """The way out of tunnels that are passed on. Called when they have ended."""
        await self._dialler.close()
