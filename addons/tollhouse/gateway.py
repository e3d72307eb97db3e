"""The gateway, put together: what stands where on the road, what starts before what, and how it stops.

listeners   proxy (CONNECT), base URL, transparent          listen/sockets.py, client_connection.py
            HTTP/1, HTTP/2                                  listen/http1.py, listen/mitm/
            Tunnel: which host a tunnel may be for          listen/tunnel.py
            Passages: tunnels that are passed on            listen/passage.py, admit/passing.py
addon       Road: one coroutine a call                      journey.py
gates       in their order, which gates.py makes            gates.py
            Locate   which provider is meant                admit/gate.py, authority.py
            Aim      which path and query are sent          admit/gate.py, path.py
            Identify who calls; credentials are stripped    admit/gate.py, identifying.py, strip.py
            Bill     which project pays                     admit/gate.py
            Open     whether method and path are open       admit/gate.py
            CallLimits  how many calls are under way      admit/call_limits.py
            Place    a body that is still coming has one    budget/place.py
            AddonsOnRoad  the operator's own addons         operators/on_road.py
            ReadBody what is asked, and the estimate        admit/reading.py
            ByModel  the provider, at the base URL          admit/by_model.py
            Models   the project's list of models           admit/models.py
            Recall   the earlier call that an answer tells of  budget/afterwards.py
            Purse    the hold                               budget/purse.py, fail_open.py
            KeyCache the key, leased                        credential/cache.py
            KeptObjects  whose the named objects are        accounts/objects.py
dispatch    Relay    breaker, attempts, answer, meter       dispatch/relay.py
            Fallbacks the call as another provider is asked  fallback.py
settle      Purse, then Book: the line                      budget/purse.py, book.py
beside      what they are opened from, and Keeper           stores.py, budget/keeper.py
            the thread that renews holds                    budget/renewal.py
            who asks for usage that comes later             budget/poller.py
            commands, probes, metrics                       control/, site/

Past 400 lines because what is opened, in which order, and how it stops stands in one place.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tollhouse.accounts.directory import Directory
from tollhouse.accounts.objects import KeptObjects
from tollhouse.accounts.remembered import Remembered
from tollhouse.admit.bodies import BodyBytes
from tollhouse.admit.identifying import Accounts, Identifier
from tollhouse.admit.passing import TunnelJudge
from tollhouse.admit.upload_spool import UploadSpool
from tollhouse.book import Book
from tollhouse.budget.afterwards import Afterwards
from tollhouse.budget.charges import Charges
from tollhouse.budget.fail_open import FailOpen
from tollhouse.budget.keeper import Keeper
from tollhouse.budget.poller import Poller
from tollhouse.budget.purse import Purse
from tollhouse.budget.renewal import Renewer
from tollhouse.call import ListenerKind
from tollhouse.concluding import Concluding
from tollhouse.config.load import Address, Config, catalog, own_prices, passable
from tollhouse.control.key_desk import KeyDesk
from tollhouse.control.operations import OperationRefused, Operations
from tollhouse.control.socket import ControlServer
from tollhouse.credential.lease import CredentialUnavailable, Reader
from tollhouse.dispatch.attempts import Timing
from tollhouse.dispatch.breaker import Breakers
from tollhouse.dispatch.dial import Dialler
from tollhouse.dispatch.proxied import ProxyTunnels
from tollhouse.dispatch.relay import Relay
from tollhouse.dispatch.upstream import Upstream
from tollhouse.gates import road_gates
from tollhouse.journey import Journey
from tollhouse.ledger.ledger import Ledger, LedgerUnavailable
from tollhouse.ledger.spool import Spool, SpoolDamaged
from tollhouse.ledger.store.client import connect as connect_redis
from tollhouse.ledger.store.client import persist, spend_writer
from tollhouse.ledger.store.outage import Outage, pinger
from tollhouse.listen.doors import Bounds
from tollhouse.listen.exchange import Exchange
from tollhouse.listen.http1 import READ_AHEAD
from tollhouse.listen.mitm import GateMaster
from tollhouse.listen.passage import PassageBounds, Passages
from tollhouse.listen.sockets import ListenerParts, Listeners
from tollhouse.listen.tunnel import Tunnel
from tollhouse.operators.hooks_run import Addons
from tollhouse.operators.loading import AddonError, Modules
from tollhouse.prices import kept
from tollhouse.prices.source import PriceSourceError
from tollhouse.prices.table import PriceTable
from tollhouse.providers import Catalog
from tollhouse.share import ALONE, Share
from tollhouse.site.http import AdminSite
from tollhouse.stores import (
    asking_context,
    listener_context,
    open_ca,
    open_keys,
    open_platform,
    open_reader,
    open_secrets,
    open_tokens,
    pool_bounds,
)
from tollhouse.trust.leaf import LeafStore

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver

    from tollhouse.credential.vault.auth import Unwrapped
    from tollhouse.site.metrics import Metrics

log = logging.getLogger(__name__)

IDENTITY_AGAIN_S = 3.0
"""How often it is asked whether the identity of a stream is still valid."""
_CUT_S = 10.0
"""How long calls that were cut may take to end: what is read on of their answers, and the settling."""


class GatewayError(Exception):
    """The gateway can't start. The text says what is wrong and what to do."""


class Road:
    """The addon that gives each call its coroutine."""

    def __init__(self, journey: Journey) -> None:
        self._journey = journey

    async def tollhouse_call(self, exchange: Exchange) -> None:
        await self._journey.travel(exchange)


class Gateway:
    """One process: its stores, its road and its listeners. Everything happens on the running loop."""

    def __init__(
        self,
        config: Config,
        *,
        clock: Callable[[], float] = time.monotonic,
        reader: Reader | None = None,
        health_every_s: float = 1.0,
        providers: Catalog | None = None,
        share: Share = ALONE,
        resolver_factory: Callable[[], AbstractResolver] | None = None,
    ) -> None:
        """``clock`` never goes back; streams, breakers and what is done again and again go by it. ``reader`` is the store of
        keys and ``providers`` all providers, by default those that ``config`` names. The ledger is looked at every
        ``health_every_s``. ``resolver_factory`` makes what looks names up, by default the system's getaddrinfo."""
        self._resolver_factory = resolver_factory
        self.config = config
        self.share = share
        self._clock = clock
        self._health_every_s = health_every_s
        self._given_reader = reader
        self.catalog = providers or catalog(config)
        self.addresses: dict[str, str] = {}
        self.stopping = asyncio.Event()
        self.hurry = asyncio.Event()
        """Calls under way are not waited for any more."""
        self.changed = asyncio.Event()
        """Set when `reasons` or `warnings` change."""
        self._not_ready: list[str] = ["starting"]
        self._warnings: list[str] = []
        self.outage: Outage | None = None
        self.remembered: Remembered | None = None
        self.fail_open: FailOpen | None = None
        self._stopped = False
        self._has_road = self._has_listeners = self._stores_seen = False
        self._own_tls: dict[ListenerKind, ssl.SSLContext] = {}
        self._drained_at: float | None = None
        """When calls under way are cut, once they are drained."""
        self._reopen_book: Callable[[], object] = lambda: None
        self.prices: PriceTable | None = None
        self._snapshot: kept.Snapshot | None = None
        self._reloading: asyncio.Task[None] | None = None
        self._closers: list[Callable[[], Awaitable[object]]] = []
        """How to close what is open, in the order in which it was opened."""

    async def start(self) -> None:
        """`prepare`, `apply` and `open`, for a gateway of one process. Raises one of `CANNOT_START`."""
        await self.prepare()
        await self.apply()
        await self.open()

    async def prepare(self) -> None:
        """Opens the stores, and makes all that a call needs. Returns when nothing is left that may fail but the file's projects,
        or when `stopping` was set meanwhile. Like `apply` and `open` it raises one of `CANNOT_START`, and everything that had
        been opened is closed again then."""
        async with self._closed_if_it_fails():
            await self._open_stores()
            await self._open_road()
            await self._wait_for_stores()
            if not self.stopping.is_set():
                if self._stores_seen:
                    # Before anything is let in: what the spool holds is spent already.
                    await self.purse.retry()
                await self._make_doors()

    async def apply(self) -> None:
        """Writes the projects and tenants of the configuration into the ledger: all of them, or none."""
        async with self._closed_if_it_fails():
            if not self.stopping.is_set():
                await self.operations.apply(self.config)

    async def open(self) -> None:
        """Workloads can connect from here on."""
        async with self._closed_if_it_fails():
            if self.stopping.is_set():
                return
            keeping = asyncio.create_task(self._keep())
            self.on_stop(lambda: _cancelled(keeping))
            judging = asyncio.create_task(self._judge_again())
            self.on_stop(lambda: _cancelled(judging))
            polling = asyncio.create_task(self._poll())
            self.on_stop(lambda: _cancelled(polling))
            self.journey.open = True
            await self.open_listeners()
            if self._stores_seen:
                self._set_reasons([])

    @contextlib.asynccontextmanager
    async def _closed_if_it_fails(self) -> AsyncIterator[None]:
        try:
            yield
        except BaseException:
            await self.stop()
            raise

    def on_stop(self, close: Callable[[], Awaitable[object]]) -> None:
        """Have `stop` await ``close`` before everything that was given here earlier."""
        self._closers.append(close)

    async def _open_stores(self) -> None:
        config = self.config
        self.ca = self.share.ca or open_ca(config, self.catalog)
        with _said(
            f"log.calls: {config.log.calls} cannot be written", "correct it or its directory"
        ):
            self.book = Book(
                config.log.calls if isinstance(config.log.calls, Path) else None,
                concluding=Concluding(self.share.concluding),
            )
        self._reopen_book = self.book.reopen
        self.on_stop(self._close_book)
        self.redis = connect_redis(config.redis.url, config.state.directory, config.redis.timeout_s)
        self.ledger = Ledger(self.redis, on_swept=self.book.swept)
        self.on_stop(self.ledger.close)
        self.on_stop(self._write_spend)
        self.spool = Spool(config.state.directory)
        with _said(f"{self.spool.path} cannot be used", "correct its owner"):
            try:
                waiting = await self.spool.open()
            except SpoolDamaged as damage:
                raise GatewayError(str(damage)) from None
        if waiting:
            log.warning("settles of a former run wait in %s: %d", self.spool.path, waiting)
        self.on_stop(self.spool.close)
        if config.redis.unsafe_fail_open:
            self.outage = Outage(pinger(config.redis.url))
            self.remembered = Remembered(self.outage.explains)
        self.directory = Directory(
            self.redis,
            self.ledger,
            remembered=self.remembered,
            timeout_s=config.redis.timeout_s,
        )
        if self.remembered is not None and self.outage is not None:
            self.fail_open = FailOpen(
                self.ledger,
                self.spool,
                self.outage,
                self.remembered.vouches,
                self.directory.refresh,
            )
        platform, issuer_keys = open_platform(config, self.ledger)
        self.accounts = Accounts(self.directory, self.remembered)
        self.identifier = Identifier(self.accounts, time.time, platform)
        for each in issuer_keys:
            self.on_stop(each.close)
        # Nobody waits: a call that comes before they are read waits for the read that is under way.
        self._warming = [asyncio.create_task(each.warm()) for each in issuer_keys]
        self.objects = KeptObjects(self.ledger)
        self.on_stop(self._keep_objects)
        self.reader = self._given_reader or open_reader(config, unwrapped=self.share.unwrapped)
        self.keys = open_keys(config, self.reader)
        self.on_stop(self.keys.close)

    async def _open_road(self) -> None:
        config = self.config
        found = self.share.prices
        if found is None:
            found = await asyncio.to_thread(kept.current, config.state.directory, time.time())
        prices = PriceTable(found.providers, own_prices(config), name=found.name)
        self.prices, self._snapshot = prices, found
        self.afterwards = Afterwards(self.ledger, Charges(prices), self.book)
        self.purse = Purse(
            self.ledger,
            prices,
            self.spool,
            fail_open=self.fail_open,
            clock=self._clock,
            afterwards=self.afterwards,
        )
        self.on_stop(self.purse.retry)
        self.renewer: Renewer | None = None
        if config.redis.url != "embedded":
            self.renewer = Renewer(self._another_ledger, self.purse.held)
            self.on_stop(self.renewer.stop)
        self.secrets = open_secrets(config, self.keys)
        self.on_stop(self.secrets.close)
        self._proxies = ProxyTunnels(self.secrets, self._resolver_factory)
        self.on_stop(self._proxies.close)
        self.tokens = open_tokens(config, self._proxies)
        self.on_stop(self.tokens.close)
        self.upstream = Upstream(
            self.catalog,
            tokens=self.tokens,
            secrets=self.secrets,
            bounds=pool_bounds(config),
            resolver_factory=self._resolver_factory,
        )
        self.breakers = Breakers(self._clock)
        self._load_addons()
        abandoned_read_s = config.limits.abandoned_read_s
        self.relay = Relay(
            self.upstream,
            self.breakers,
            self.keys,
            abandoned_read_s=abandoned_read_s,
            retries_a_second=1 / self.share.workers,
            timing=Timing(self._clock),
            priced_as=prices.entry,
        )
        self._open_bodies()
        gates = road_gates(
            config,
            self.share,
            catalog=self.catalog,
            accounts=self.accounts,
            identifier=self.identifier,
            addons=self.addons,
            bodies=self.bodies,
            upload_spool=self.upload_spool,
            prices=prices,
            afterwards=self.afterwards,
            purse=self.purse,
            keys=self.keys,
        )
        self.journey = Journey(
            gates.in_order,
            self.keys,
            self.purse,
            self.relay,
            self.book,
            self.objects,
            trace_header=config.headers.trace,
            session_header=config.headers.session or "",
            addons=gates.on_road,
            fallbacks=gates.fallbacks,
            # What an addon masks in requests would leave unmasked in messages that it does not take.
            sockets=gates.sockets if self.addons is None or self.addons.take_messages else None,
        )
        self._has_road = True
        self.on_stop(self._last_calls)
        self.on_stop(self.upstream.close)
        await self.upstream.start()
        if self.share.alone:
            await self._open_admin()

    def _load_addons(self) -> None:
        """The master, and the operator's addons in it."""
        self.master = GateMaster([])
        self.addons: Addons | None = None
        wanted = self.config.addons
        if not wanted.load:
            return
        modules = Modules()
        loaded = [(str(place), modules.addon(place)) for place in wanted.load]
        self.addons = Addons(loaded, options=wanted.options, timeout_s=wanted.timeout_s)
        self.addons.begin(self.master)
        self.on_stop(self.addons.done)

    def _another_ledger(self) -> Ledger:
        """For another thread: on connections of its own."""
        redis = self.config.redis
        return Ledger(connect_redis(redis.url, self.config.state.directory, redis.timeout_s))

    async def _make_doors(self) -> None:
        config = self.config
        keys = KeyDesk(config, self.keys, self.upstream)
        self.operations = Operations(
            self.directory, self.ledger, keys=keys, reload_prices=self.reload_prices
        )
        if self.share.alone:
            await self._open_control()
        self.poller = Poller(
            self.afterwards,
            self.ledger,
            self.catalog,
            self.keys,
            self.upstream,
            self.breakers,
            self._tenants,
            clock=self._clock,
        )
        self.on_stop(self.poller.stop)
        self._make_listeners()
        if self.addons is not None:
            await self.addons.running()

    async def _open_control(self) -> None:
        self.control = ControlServer(self.config.state.directory, self.operations)
        with _said(
            "the control socket in the state directory cannot be made", "correct [state] directory"
        ):
            await self.control.start()
        self.on_stop(self.control.close)

    def _open_bodies(self) -> None:
        """Where bodies may be kept: memory, and the disk for those that are larger."""
        limits = self.config.limits
        kept_bytes = max(self.share.of(limits.max_bodies_bytes), limits.max_body_bytes)
        self.bodies = BodyBytes(kept_bytes, largest_bytes=limits.max_body_bytes)
        self.upload_spool: UploadSpool | None = None
        if limits.upload_spool_mb:
            room = self.share.of(limits.upload_spool_mb << 20)
            self.upload_spool = UploadSpool(
                self.config.state.directory,
                room,
                largest_bytes=max(limits.max_upload_bytes, limits.max_body_bytes),
            )
            self.on_stop(self.upload_spool.close)

    async def _open_admin(self) -> None:
        address = self.config.listen.admin
        if address is None:
            return
        # Its library takes 3 MB, which a gateway without the listener does not need.
        from tollhouse.site.exposition import exposed

        metrics = self.metrics()

        async def text() -> tuple[str, bytes]:
            return exposed(metrics.families())

        site = AdminSite(
            address, self.config.listen.base_url_hosts, self.reasons, text, self.warnings
        )
        with _said(f"listen.admin: {address} cannot be listened on", "free it or choose another"):
            host, port = await site.start()
        self.on_stop(site.close)
        self.addresses["admin"] = str(Address(host, port))

    def metrics(self) -> Metrics:
        """What this process counts. For a gateway whose road is open."""
        from tollhouse.site.metrics import Metrics, Parts

        return Metrics(
            Parts(
                self.reasons,
                self.journey,
                self.purse,
                self.spool,
                self.book,
                self.breakers,
                self.relay,
                self.keys,
                self.addons,
            )
        )

    async def conclude(self, lines: Sequence[bytes]) -> None:
        """Writes the lines that a worker which was killed was about to write: those of calls that it had settled. The others'
        holds are swept, which gives each a line. Waits while Redis is away."""
        for line in lines:
            record = json.loads(line)
            while True:
                try:
                    ended = await self.ledger.settled(record["tenant"], record["call_id"])
                    break
                except LedgerUnavailable:
                    await asyncio.sleep(1)
            if ended or record["held_usd"] == record["cost_usd"] == "0":
                self.book.write(record)

    @property
    def unwrapped(self) -> Unwrapped | None:
        """What the login to Vault has unwrapped, for another process of the gateway."""
        return getattr(self.reader, "unwrapped", None)

    @property
    def calls(self) -> int:
        """How many are under way."""
        return len(self.journey.under_way) if self._has_road else 0

    @property
    def connections(self) -> int:
        """Of clients."""
        return self.listeners.connections if self._has_listeners else 0

    def reasons(self) -> Sequence[str]:
        """Why the gateway is not ready; empty when it is."""
        return ["stopping"] if self._stopped else self._not_ready

    def _set_reasons(self, reasons: list[str]) -> None:
        if reasons != self._not_ready:
            self._not_ready = reasons
            self.changed.set()

    def warnings(self) -> Sequence[str]:
        """What is wrong while it is ready all the same."""
        return self._warnings

    async def _wait_for_stores(self) -> None:
        """Until Redis and Vault have answered once, or ``share.patience_s`` are over: nothing is listened on before."""
        said, until = "", self._clock() + self.share.patience_s
        while not self.stopping.is_set():
            reasons = await self._store_problems()
            if not reasons:
                self._stores_seen = True
                return
            self._set_reasons(reasons)
            if said != (said := "; ".join(reasons)):
                log.error("not ready: %s", said)
            if self._clock() >= until:
                return
            try:
                await asyncio.wait_for(self.stopping.wait(), 0.5)
            except TimeoutError:
                pass

    async def _store_problems(self) -> list[str]:
        reasons = await self._ledger_problems()
        try:
            await self.keys.connect()
        except CredentialUnavailable as e:
            reasons.append(f"vault: {e.why}")
        return reasons

    async def _ledger_problems(self) -> list[str]:
        try:
            await self.ledger.ping()
        except LedgerUnavailable as e:
            return [f"redis: {e.why.removeprefix('Redis: ')}"]
        return []

    def _make_listeners(self) -> None:
        config = self.config
        clients_ca = config.identity.mtls.ca_file if config.identity.mtls is not None else None
        if config.listen.tls is not None:
            self._own_tls = {
                kind: listener_context(config.listen.tls, kind, clients_ca)
                for kind in ("proxy", "base_url")
            }
        leaves = self.share.leaves or LeafStore(self.ca)
        self.tunnel = Tunnel(
            self.catalog,
            leaves,
            self.book,
            proxy_auth=config.listen.proxy_auth,
            listener_tls=self._own_tls,
            passable=passable(config),
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
        road = Road(self.journey)
        self.master.take(road)
        self.listeners = Listeners(
            ListenerParts(
                self.master,
                self.tunnel,
                road.tollhouse_call,
                bounds,
                self.share.of(limits.max_connections),
                leaves.first,
                own_http1=config.listen.http1 == "own",
                clock=self._clock,
                passages=self._open_passages(),
                asking=None if clients_ca is None else asking_context(clients_ca),
                max_of_source=self.share.of(
                    limits.max_connections_per_source or -(-limits.max_connections * 3 // 4)
                ),
            )
        )

    async def open_listeners(self) -> None:
        """The last step of the start."""
        config, own_tls = self.config, self._own_tls
        self._has_listeners = True
        self.on_stop(self._drain)
        wanted: tuple[tuple[ListenerKind, Address | None], ...] = (
            ("proxy", config.listen.proxy),
            ("base_url", config.listen.base_url),
            ("transparent", config.listen.transparent),
        )
        for kind, address in wanted:
            tls = kind in own_tls
            if sockets := self.share.sockets.get(kind):
                for each in sockets:
                    with _said(f"listen.{kind}: {address} cannot be listened on", "free it"):
                        bound = await self.listeners.open(kind, tls=tls, bound=each)
                self.addresses[kind] = str(Address(*bound))
                continue
            if address is None or self.share.sockets:
                self.addresses[kind] = "off"
                continue
            with _said(
                f"listen.{kind}: {address} cannot be listened on", "free it or choose another"
            ):
                bound = await self.listeners.open(
                    kind, address.bound_to or "", address.port, tls=tls
                )
                self.addresses[kind] = str(Address(*bound))

    def _open_passages(self) -> Passages:
        config = self.config
        limits = config.limits
        judge = TunnelJudge(
            self.accounts, self.identifier, project_header=config.headers.project.lower()
        )
        dialler = Dialler(self._proxies, self._resolver_factory)
        self.on_stop(dialler.close)
        most = self.share.of(limits.max_tunnels)
        bounds = PassageBounds(
            most, max(1, most // 4), limits.tunnel_idle_s, limits.tunnel_s, limits.request_timeout_s
        )
        self.passages = Passages(
            judge, dialler, self.purse.place, self.book, bounds, clock=self._clock
        )
        return self.passages

    async def _write_spend(self) -> None:
        """Of the embedded store."""
        write = spend_writer(self.redis)
        if write is None:
            return
        try:
            await asyncio.to_thread(write)
        except OSError as e:
            log.error("what was spent could not be written (%s): a crash would forget it", e)

    async def _judge_again(self) -> None:
        """Apart from `_keep`: a store or an issuer that hangs holds up no hold."""
        while True:
            await asyncio.sleep(IDENTITY_AGAIN_S)
            await self.journey.end_invalid(IDENTITY_AGAIN_S)

    async def _keep(self) -> None:
        keeper = Keeper(self.ledger, self.purse, self._tenants, self._clock, self.renewer)
        while True:
            await asyncio.sleep(self._health_every_s)
            self.journey.end_overdue(self.config.limits.call_timeout_s)
            problems = await keeper.turn()
            await self._write_spend()
            if not problems or self.ledger.divided:
                await self._tell_objects()
            if self.fail_open is not None:
                self._warnings = await self.fail_open.turn(problems)
            before = self._not_ready
            self._set_reasons([] if self._warnings else problems)
            if self._not_ready and not before:
                log.error("not ready, and every call is refused: %s", "; ".join(self._not_ready))
            elif before and not self._not_ready:
                log.warning("ready again")

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._health_every_s)
            await self.poller.turn()

    async def _keep_objects(self) -> None:
        await self.objects.retry()
        persist(self.redis)

    async def _tell_objects(self) -> None:
        try:
            await self.objects.retry()
        except Exception:
            log.exception("objects that tenants have made could not be noted; it is tried again")

    async def _tenants(self) -> set[str]:
        return {project.tenant for project in await self.directory.projects()}

    async def stop(self) -> None:
        """Take nothing more, let what runs end for ``limits.drain_s``, then cut it; everything is settled when this
        returns. Closes what `start` opened, however far it came, last things first; called again, it does nothing."""
        self._stopped = True
        while self._closers:
            close = self._closers.pop()
            try:
                await close()
            except Exception:
                log.exception("something could not be closed in good order; the rest is")

    async def retire(self) -> None:
        """Another process takes what comes from now on. Each connection ends with the answer that it waits for, and one that
        waits for none when ``limits.drain_s`` are over; then `stopping` is set."""
        if self._has_listeners and not self.stopping.is_set():
            self._drained_at = self._clock() + self.config.limits.drain_s
            await self.listeners.retire(self.config.limits.drain_s / 2)
            await self._unless_hurried(self.listeners.empty(), self.config.limits.drain_s)
        self.stopping.set()

    async def _drain(self) -> None:
        await self.listeners.close()
        self.journey.open = False
        if self._drained_at is None:
            self._drained_at = self._clock() + self.config.limits.drain_s
        await self._unless_hurried(
            self.journey.drained(None), max(0.0, self._drained_at - self._clock())
        )
        for exchange in tuple(self.journey.under_way):
            exchange.stop("the gateway is stopping")
        await self.journey.drained(_CUT_S)
        await self.listeners.close_connections()
        await self.passages.ended()

    async def _unless_hurried(self, work: Coroutine[Any, Any, object], seconds: float) -> None:
        """Awaits ``work``, at most so long, and no longer than until `hurry` is set."""
        tasks = [asyncio.ensure_future(work), asyncio.ensure_future(self.hurry.wait())]
        try:
            await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _last_calls(self) -> None:
        """With the upstream's connections gone they end, and are settled while there is a ledger."""
        if not await self.journey.drained(_CUT_S):
            log.error(
                "%d calls did not end; their holds will be charged when they expire",
                len(self.journey.under_way),
            )

    async def _close_book(self) -> None:
        self.book.close()

    def hang_up(self) -> None:
        """SIGHUP: the file of lines was moved away, and there may be newer prices. It may come before there is either."""
        self._reopen_book()
        if self.prices is not None:
            self._reloading = asyncio.create_task(self._reload_quietly())

    async def reload_prices(self) -> str:
        """Takes newer prices from the state directory, if there are any. The name of those in use then. Raises `OSError`, and
        `kept.PriceFileError`: those in use stay."""
        if self.prices is None or self._snapshot is None:
            raise kept.PriceFileError("the gateway is starting, and has not read its prices yet")
        found = await asyncio.to_thread(
            kept.renewed, self.config.state.directory, self._snapshot, time.time()
        )
        if found.name != self._snapshot.name:
            self._snapshot = found
            self.prices.renew(found.providers, found.name)
            log.warning("prices are those of %s from now on", found.name)
        return found.name

    async def _reload_quietly(self) -> None:
        try:
            await self.reload_prices()
        except (OSError, kept.PriceFileError) as e:
            log.error("%s is not taken, and the prices in use stay: %s", kept.FILE, e)


CANNOT_START = (
    GatewayError,
    AddonError,
    OSError,
    ValueError,
    CredentialUnavailable,
    LedgerUnavailable,
    OperationRefused,
    PriceSourceError,
)
"""What a person can mend; anything else is a fault of ours."""


@contextlib.contextmanager
def _said(what: str, todo: str) -> Iterator[None]:
    """Turns an `OSError` into a `GatewayError` that says what is wrong and what to do."""
    try:
        yield
    except OSError as e:
        raise GatewayError(f"{what} ({e.strerror or e}); {todo}") from None


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
