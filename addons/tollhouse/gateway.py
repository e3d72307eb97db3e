"""The gateway, put together: what stands where on the road, what starts before what, and how it stops.

listeners   proxy (CONNECT), base URL, transparent          listen.py, dispatch/layer.py
addons      Tunnel: which host a tunnel may be for          admit/tunnel.py
            Road: one coroutine a call                      journey.py
gates       Admit    authority, path, identity, strip       admit/gate.py
            Reading  the body, where it has to be read      budget/reading.py
            Purse    estimate, hold                         budget/purse.py
            KeyCache the key, leased                        credential/cache.py
dispatch    Relay    breaker, attempts, answer, meter       dispatch/relay.py
settle      Purse, then Book: the line                      budget/purse.py, book.py
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from OpenSSL import SSL

from tollhouse.admin.control import ControlServer
from tollhouse.admin.http import AdminSite
from tollhouse.admin.lock import StateBusy, StateLock
from tollhouse.admin.operations import OperationRefused, Operations
from tollhouse.admit.directory import Directory
from tollhouse.admit.gate import Admit
from tollhouse.admit.tunnel import Tunnel
from tollhouse.book import Book
from tollhouse.budget.ledger import Ledger, LedgerUnavailable
from tollhouse.budget.purse import Purse
from tollhouse.budget.reading import Reading
from tollhouse.budget.store import connect as connect_redis
from tollhouse.call import Call, ListenerKind
from tollhouse.config import Address, Config, catalog
from tollhouse.credential.environment import provider_keys_in
from tollhouse.credential.lease import CredentialUnavailable
from tollhouse.denial import Decision
from tollhouse.dispatch.breaker import Breakers
from tollhouse.dispatch.exchange import Exchange
from tollhouse.dispatch.layer import Bounds, GateMaster
from tollhouse.dispatch.relay import Relay
from tollhouse.dispatch.upstream import Upstream
from tollhouse.journey import Gate, Journey
from tollhouse.listen import ListenerParts, Listeners
from tollhouse.meter.prices import PriceTable
from tollhouse.stores import listener_context, open_ca, open_keys
from tollhouse.trust.leaf import LeafStore

log = logging.getLogger(__name__)

_RENEW_EVERY_S = 20.0
_HEALTH_EVERY_S = 1.0


class GatewayError(Exception):
    """The gateway can't start. The text says what is wrong and what to do."""


class Road:
    """The addon that gives each call its coroutine."""

    def __init__(self, journey: Journey) -> None:
        self._journey = journey

    async def tollhouse_call(self, exchange: Exchange) -> None:
        await self._journey.travel(exchange)


class _AdmitGate:
    """`Admit` does not look at the exchange: nothing of the body has been read when it decides."""

    name = Admit.name

    def __init__(self, admit: Admit) -> None:
        self._admit = admit

    async def __call__(self, call: Call, exchange: Exchange) -> Decision:
        return await self._admit(call)


class Gateway:
    """One process: its stores, its road and its listeners. Everything happens on the running loop."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.catalog = catalog(config)
        self.addresses: dict[str, str] = {}
        self.gates: list[Gate] = []
        self.stopping = asyncio.Event()
        self._reasons: list[str] = ["starting"]
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Open the stores, then the listeners; returns when calls are taken. Raises `GatewayError`, `OSError`,
        `ConfigError` and what a store raises for a setting it can't use."""
        config = self.config
        self.ca = open_ca(config, self.catalog)
        self.book = Book(config.log.calls if isinstance(config.log.calls, Path) else None)
        self.redis = connect_redis(config.redis.url, config.state.directory)
        self.ledger = Ledger(self.redis)
        self.directory = Directory(self.redis)
        self.keys = open_keys(config)
        overrides = {name: price.model_dump(exclude_none=True) for name, price in config.prices.items()}
        prices = await asyncio.to_thread(PriceTable.load, config.state.directory, overrides)
        self.purse = Purse(self.ledger, prices)
        self.upstream = Upstream(self.catalog)
        await self.upstream.start()
        breakers = Breakers(time.monotonic)
        relay = Relay(self.upstream, breakers, self.keys, abandoned_read_s=config.limits.abandoned_read_s)
        self.gates = self._gates()
        self.journey = Journey(self.gates, self.keys, self.purse, relay, self.book)
        self.admin = await self._open_admin()
        await self._wait_for_stores()
        if self.stopping.is_set():
            return
        self.operations = Operations(self.directory, self.ledger)
        await self.operations.apply(config)
        self.control = ControlServer(config.state.directory, self.operations)
        await self.control.start()
        await self._open_listeners()
        self._tasks.append(asyncio.create_task(self._keep()))
        self.journey.open = True
        self._reasons = []

    def _gates(self) -> list[Gate]:
        config = self.config
        admit = Admit(
            self.catalog,
            self.directory,
            base_url_hosts=config.listen.base_url_hosts,
            project_header=config.headers.project,
            trace_header=config.headers.trace,
            clock=time.time,
        )
        reading = Reading(max_body_bytes=config.limits.max_body_bytes, idle_s=config.limits.request_timeout_s)
        return [_AdmitGate(admit), reading, self.purse]

    async def _open_admin(self) -> AdminSite | None:
        address = self.config.listen.admin
        if address is None:
            return None
        site = AdminSite(address, self.config.listen.base_url_hosts, self.reasons)
        host, port = await site.start()
        self.addresses["admin"] = f"{host}:{port}"
        return site

    def reasons(self) -> Sequence[str]:
        """Why the gateway is not ready; empty when it is."""
        return self._reasons

    async def _wait_for_stores(self) -> None:
        """Until Redis and Vault have answered once: nothing is listened on before."""
        said = ""
        while not self.stopping.is_set():
            reasons = await self._store_problems()
            if not reasons:
                return
            self._reasons = reasons
            if said != (said := "; ".join(reasons)):
                log.error("not ready: %s", said)
            try:
                await asyncio.wait_for(self.stopping.wait(), 0.5)
            except TimeoutError:
                pass

    async def _store_problems(self) -> list[str]:
        reasons = []
        try:
            await self.ledger.ping()
        except LedgerUnavailable as e:
            reasons.append(f"redis: {e}")
        try:
            await self.keys.connect()
        except CredentialUnavailable as e:
            reasons.append(f"vault: {e.why}")
        return reasons

    async def _open_listeners(self) -> None:
        config = self.config
        own_tls: dict[ListenerKind, SSL.Context] = {}
        if config.listen.tls is not None:
            own_tls = {kind: listener_context(config.listen.tls, kind) for kind in ("proxy", "base_url")}
        self.tunnel = Tunnel(
            self.catalog,
            LeafStore(self.ca),
            self.book,
            proxy_auth=config.listen.proxy_auth,
            listener_tls=own_tls,
        )
        master = GateMaster([self.tunnel, Road(self.journey)])
        limits = config.limits
        bounds = Bounds(limits.max_header_bytes, limits.request_timeout_s, 4 * limits.max_body_bytes)
        self.listeners = Listeners(ListenerParts(master, bounds, limits.max_connections))
        wanted: tuple[tuple[ListenerKind, Address | None], ...] = (
            ("proxy", config.listen.proxy),
            ("base_url", config.listen.base_url),
            ("transparent", config.listen.transparent),
        )
        for kind, address in wanted:
            if address is None:
                self.addresses[kind] = "off"
                continue
            tls = kind in own_tls
            try:
                self.addresses[kind] = str(await self.listeners.open(kind, address, tls=tls))
            except OSError as e:
                raise GatewayError(
                    f"listen.{kind}: {address} cannot be listened on ({e.strerror or e}); free it or choose another."
                ) from None

    async def _keep(self) -> None:
        """Renew holds under way and watch the ledger's health."""
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(_HEALTH_EVERY_S)
            try:
                await self.ledger.ping()
                self._reasons = []
            except LedgerUnavailable as e:
                self._reasons = [f"redis: {e}"]
            if time.monotonic() - renewed >= _RENEW_EVERY_S:
                renewed = time.monotonic()
                await self.purse.renew()

    async def stop(self) -> None:
        """Take nothing more, let what runs end for ``limits.drain_s``, then cut it; everything is settled when this
        returns."""
        self._reasons = ["stopping"]
        if hasattr(self, "listeners"):
            self.listeners.close()
            self.journey.open = False
            await self.journey.drained(self.config.limits.drain_s)
            for exchange in tuple(self.journey.under_way):
                exchange.stop("the gateway is stopping")
            await self.journey.drained(10.0)
            await self.listeners.close_connections()
        for task in self._tasks:
            task.cancel()
        if hasattr(self, "control"):
            await self.control.close()
        if self.admin is not None:
            await self.admin.close()
        await self.upstream.close()
        await self.keys.close()
        await self.ledger.close()
        self.book.close()


async def serve(config: Config) -> int:
    """Run until SIGTERM or SIGINT; the exit code."""
    loop = asyncio.get_running_loop()
    loop.set_task_factory(_eager_task_factory)
    gateway = Gateway(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, gateway.stopping.set)
    try:
        await gateway.start()
    except (GatewayError, OSError, ValueError, CredentialUnavailable, OperationRefused) as e:
        print(f"tollhouse: cannot start: {e}", file=sys.stderr)
        return 1
    loop.add_signal_handler(signal.SIGHUP, gateway.book.reopen)
    if not gateway.stopping.is_set():
        where = " ".join(
            f"{kind}={gateway.addresses.get(kind, 'off')}" for kind in ("proxy", "base_url", "transparent", "admin")
        )
        print(f"tollhouse: ready {where}", file=sys.stderr, flush=True)
    await gateway.stopping.wait()
    await gateway.stop()
    return 0


def _eager_task_factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
    """A task runs at once, up to where it first waits. asyncio's own factory refuses the ``eager_start`` that uvloop 0.23
    passes on Python 3.13.0."""
    options.pop("eager_start", None)
    return asyncio.Task(coro, loop=loop, eager_start=True, **options)


def run(config: Config) -> int:
    """`tollhouse run`: 0 after a clean stop, 1 if the gateway can't start."""
    logging.basicConfig(
        level=logging.WARNING, format="tollhouse: %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    found = provider_keys_in(os.environ, catalog(config))
    if found:
        print(
            f"tollhouse: cannot start: {', '.join(found)} in the gateway's own environment. A provider key belongs into "
            "Vault and nowhere else: take it out of the environment (and renew it, since it has been there).",
            file=sys.stderr,
        )
        return 1
    if "embedded" in (config.redis.url, config.vault.address):
        print(
            "tollhouse: embedded stores are for one machine: projects and tokens survive a restart, spend does not.",
            file=sys.stderr,
        )
    try:
        with StateLock.take(config.state.directory):
            return _run_loop(config)
    except StateBusy:
        print(
            f"tollhouse: cannot start: another gateway uses {config.state.directory}; stop it or name another "
            "[state] directory.",
            file=sys.stderr,
        )
        return 1


def _run_loop(config: Config) -> int:
    try:
        import uvloop
    except ImportError:
        return asyncio.run(serve(config))
    return asyncio.run(serve(config), loop_factory=uvloop.new_event_loop)
