"""The gateway, put together: what stands where on the road, what starts before what, and how it stops.

entrances   Entrances: the ways in                          entrances.py
            proxy (CONNECT), base URL, transparent          listen/sockets.py, client_connection.py
            HTTP/1, HTTP/2                                  listen/http1.py, listen/mitm/
            Tunnel: which host a tunnel may be for          listen/tunnel.py
            PassedTunnels: those that are passed on         listen/passed_tunnel.py, admit/passing.py
            Road: one coroutine a call                      journey.py
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
            Telemetry: the collector is told of it          telemetry/telemetry.py
beside      what all of these are opened from               stores.py
            Readiness: why no call is taken                 readiness.py
            PricesInUse: what is charged by                 prices/in_use.py
            Upkeep: what is done again and again            upkeep.py, budget/keeper.py
            Renewer: the thread that renews holds           budget/renewal.py
            Poller: asks for usage that comes later         budget/poller.py
            Watch: who is told of budgets and faults        alerts/
            commands, probes, metrics                       control/, site/

The class opens from the top to the bottom: `_open_stores`, `_open_road`, `_make_entrances`, `open_listeners`. Each thing that
is opened is closed by what `on_stop` was given for it, the last one first.

Past 400 lines because what is opened, in which order, and how it stops stands in one place.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tollhouse.accounts.directory import Directory
from tollhouse.accounts.objects import KeptObjects
from tollhouse.accounts.remembered import Remembered
from tollhouse.admit.bodies import BodyBytes
from tollhouse.admit.identifying import Accounts, Identifier
from tollhouse.admit.upload_spool import UploadSpool
from tollhouse.alerts.alert_desk import AlertDesk
from tollhouse.alerts.from_config import open_receivers, open_watch
from tollhouse.alerts.outbox import Outbox
from tollhouse.alerts.watch import Watch
from tollhouse.book import Book
from tollhouse.budget.afterwards import Afterwards
from tollhouse.budget.charges import Charges
from tollhouse.budget.fail_open import FailOpen
from tollhouse.budget.keeper import Keeper
from tollhouse.budget.poller import Poller
from tollhouse.budget.purse import Purse
from tollhouse.budget.renewal import Renewer
from tollhouse.call_counts import CallCounts
from tollhouse.cannot_start import GatewayError, told
from tollhouse.concluding import Concluding
from tollhouse.config.load import Address, Config, catalog, own_prices
from tollhouse.control.actor import Actor
from tollhouse.control.key_desk import KeyDesk
from tollhouse.control.operations import Operations
from tollhouse.control.overview import Overview
from tollhouse.control.refusal import OperationRefused
from tollhouse.control.socket import ControlServer
from tollhouse.credential.lease import Reader
from tollhouse.dispatch.attempts import Timing
from tollhouse.dispatch.breaker import Breakers
from tollhouse.dispatch.proxied import ProxyTunnels
from tollhouse.dispatch.relay import Relay
from tollhouse.dispatch.upstream import Upstream
from tollhouse.entrances import Entrances
from tollhouse.gates import road_gates
from tollhouse.journey import Journey
from tollhouse.ledger.history import History
from tollhouse.ledger.ledger import Ledger, LedgerUnavailable
from tollhouse.ledger.spool import Spool, SpoolDamaged
from tollhouse.ledger.store.client import connect as connect_redis
from tollhouse.ledger.store.client import persist, spend_writer
from tollhouse.ledger.store.outage import Outage, pinger
from tollhouse.ledger.uncharged import Uncharged
from tollhouse.listen.mitm import GateMaster
from tollhouse.operators.hooks_run import Addons
from tollhouse.operators.loading import Modules
from tollhouse.prices import kept
from tollhouse.prices.in_use import PricesInUse
from tollhouse.providers import Catalog
from tollhouse.readiness import Readiness
from tollhouse.share import ALONE, Share
from tollhouse.stores import (
    admin_tls,
    open_ca,
    open_exchanges,
    open_keys,
    open_platform,
    open_reader,
    open_secrets,
    open_tokens,
    pool_bounds,
)
from tollhouse.trust.leaf import LeafStore
from tollhouse.upkeep import Upkeep

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver

    from tollhouse.control.people_desk import PeopleDesk
    from tollhouse.credential.vault.auth import Unwrapped
    from tollhouse.site.metrics import Metrics
    from tollhouse.site.totals import Families
    from tollhouse.telemetry.telemetry import Telemetry

log = logging.getLogger(__name__)

_CUT_S = 10.0
"""How long calls that were cut may take to end: what is read on of their answers, and the settling."""
_SETTLE_S = 5.0
"""How long the settling may take of calls that hung."""


class Gateway:
    """One process: its stores, its road and its listeners. Everything happens on the running loop."""

    def __init__(
        self,
        config: Config,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        reader: Reader | None = None,
        health_every_s: float = 1.0,
        providers: Catalog | None = None,
        share: Share = ALONE,
        resolver_factory: Callable[[], AbstractResolver] | None = None,
    ) -> None:
        """``clock`` never goes back; streams, breakers and what is done again and again go by it. Identities end by
        ``wall_clock``, in seconds since the epoch. ``reader`` is the store of keys and ``providers`` all providers, by default
        those that ``config`` names. The ledger is looked at every ``health_every_s``. ``resolver_factory`` makes what looks
        names up, by default the system's getaddrinfo."""
        self._resolver_factory = resolver_factory
        self.config = config
        self.share = share
        self._clock = clock
        self._wall_clock = wall_clock
        self._health_every_s = health_every_s
        self._given_reader = reader
        self.catalog = providers or catalog(config)
        self.addresses: dict[str, str] = {}
        self.stopping = asyncio.Event()
        self.hurry = asyncio.Event()
        """Calls under way are not waited for any more."""
        self.readiness = Readiness()
        self.outage: Outage | None = None
        self.remembered: Remembered | None = None
        self.fail_open: FailOpen | None = None
        self._has_road = self._has_listeners = self._stores_seen = False
        self._drained_at: float | None = None
        """When calls under way are cut, once they are drained."""
        self._reopen_book: Callable[[], object] = lambda: None
        self.prices: PricesInUse | None = None
        self.watch: Watch | None = None
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
            self._stores_seen = await self.readiness.stores_answer(
                self.ledger,
                self.keys,
                self.stopping,
                patience_s=self.share.patience_s,
                clock=self._clock,
            )
            if not self.stopping.is_set():
                if self._stores_seen:
                    # Before anything is let in: what the spool holds is spent already.
                    await self.purse.retry()
                await self._make_entrances()

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
            self.upkeep.start()
            self.on_stop(self.upkeep.stop)
            if self.watch is not None:
                self.watch.start()
                self.on_stop(self.watch.stop)
            self.journey.open = True
            await self.open_listeners()
            if self._stores_seen:
                self.readiness.opened()

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
        """The CA, the lines, the ledger, the spool, who there is, and the store of keys. Nothing is asked of Redis or Vault yet."""
        config = self.config
        self.ca = self.share.ca or open_ca(config, self.catalog)
        with told(
            f"log.calls: {config.log.calls} cannot be written", "correct it or its directory"
        ):
            self.book = Book(
                config.log.calls if isinstance(config.log.calls, Path) else None,
                concluding=Concluding(self.share.concluding),
                sums=CallCounts(config.admin.metrics_projects),
            )
        self._reopen_book = self.book.reopen
        self.on_stop(self._close_book)
        self._open_telemetry()
        self.redis = connect_redis(config.redis.url, config.state.directory, config.redis.timeout_s)
        self.ledger = Ledger(self.redis, on_swept=self.book.swept)
        self.uncharged = Uncharged(self.ledger)
        self.book.on_uncharged = self.uncharged.add
        self.history = History(self.redis)
        self.on_stop(self.ledger.close)
        self.on_stop(self._note_refusals)
        self.on_stop(self._write_spend)
        self.spool = Spool(config.state.directory)
        with told(f"{self.spool.path} cannot be used", "correct its owner"):
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
        self.objects = KeptObjects(self.ledger)
        self.on_stop(self._keep_objects)
        self.reader = self._given_reader or open_reader(config, unwrapped=self.share.unwrapped)
        self.keys = open_keys(config, self.reader, self._clock)
        self.on_stop(self.keys.close)
        self.secrets = open_secrets(config, self.keys)
        self.on_stop(self.secrets.close)
        self._proxies = ProxyTunnels(self.secrets, self._resolver_factory)
        self.on_stop(self._proxies.close)
        open_exchanges(config, self.keys, self._proxies, self.secrets)
        platform, issuer_keys = open_platform(config, self.ledger, self._proxies, self._wall_clock)
        self.accounts = Accounts(self.directory, self.remembered)
        self.identifier = Identifier(self.accounts, self._wall_clock, platform)
        for each in issuer_keys:
            self.on_stop(each.close)
        # Nobody waits: a call that comes before they are read waits for the read that is under way.
        self._warming = [asyncio.create_task(each.warm()) for each in issuer_keys]

    def _open_telemetry(self) -> None:
        """Nothing of it is loaded unless the configuration names a collector."""
        self.telemetry: Telemetry | None = None
        if self.config.otel.endpoint is None:
            return
        from tollhouse.telemetry.telemetry import MISSING, Telemetry, installed

        if not installed():
            raise GatewayError(MISSING)
        self.telemetry = Telemetry(self.config.otel)
        self.book.on_line = self.telemetry.hand_over
        self.on_stop(self.telemetry.close)

    async def _open_road(self) -> None:
        """What a call passes, from the prices to the provider; and the admin listener, which is the first that is open."""
        config = self.config
        found = self.share.prices
        if found is None:
            found = await asyncio.to_thread(kept.current, config.state.directory, time.time())
        self.prices = PricesInUse(config.state.directory, found, own_prices(config))
        prices = self.prices.table
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
            clock=self._clock,
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

    async def _make_entrances(self) -> None:
        """The control socket, and what `open` begins: the upkeep and the listeners."""
        config = self.config
        keys = KeyDesk(config, self.keys, self.upstream)
        assert self.prices is not None
        outbox = Outbox(self.redis, self.ledger.run_script)
        receivers = open_receivers(config, self._proxies, self.secrets, self._resolver_factory)
        if receivers:
            self.watch = open_watch(
                config,
                self.ledger,
                outbox,
                receivers,
                self.keys,
                self.breakers,
                lambda: self.spool.waiting + len(self.purse.unsettled),
                self.directory.projects,
                clock=self._clock,
            )
            self.purse.notices = self.watch.conditions
        self.operations = Operations(
            self.directory,
            self.ledger,
            keys=keys,
            overview=Overview(self.directory, self.ledger, self.history),
            people=self._open_people(),
            reload_prices=self.prices.reload,
            alerts=AlertDesk(receivers, outbox),
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
            self.directory.tenants,
            clock=self._clock,
        )
        self.on_stop(self.poller.stop)
        self.upkeep = Upkeep(
            self.journey,
            Keeper(self.ledger, self.purse, self.directory.tenants, self._clock, self.renewer),
            self.poller,
            self.ledger,
            self.objects,
            self.readiness,
            self.fail_open,
            self._write_spend,
            self._note_refusals,
            health_every_s=self._health_every_s,
            call_timeout_s=config.limits.call_timeout_s,
        )
        self.entrances = Entrances(
            config,
            self.share,
            catalog=self.catalog,
            leaves=self.share.leaves or LeafStore(self.ca),
            journey=self.journey,
            master=self.master,
            accounts=self.accounts,
            identifier=self.identifier,
            place=self.purse.place,
            book=self.book,
            proxies=self._proxies,
            resolver_factory=self._resolver_factory,
            clock=self._clock,
        )
        self.on_stop(self.entrances.close)
        if self.addons is not None:
            await self.addons.running()

    def _open_people(self) -> PeopleDesk | None:
        oidc = self.config.admin.oidc
        if oidc is None:
            return None
        # Not every gateway needs its library.
        from tollhouse.control.people_desk import open_people, open_provider

        provider = open_provider(self.config, oidc, self._proxies, self.secrets, self._wall_clock)
        self.on_stop(provider.close)
        return open_people(oidc, provider, self.directory)

    async def _open_control(self) -> None:
        self.control = ControlServer(self.config.state.directory, self.operations)
        with told(
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
        # Its libraries take 6 MB, which a gateway without the listener does not need.
        from tollhouse.site.admin_site import admin_site

        async def families() -> Families:
            # Made at each scrape: the listener is open before all that counts is made.
            return self.metrics().families()

        site = admin_site(
            self.config,
            address,
            self._perform,
            families,
            self.readiness.reasons,
            self.readiness.warnings,
            admin_tls(self.config),
        )
        with told(f"listen.admin: {address} cannot be listened on", "free it or choose another"):
            host, port = await site.start()
        self.on_stop(site.close)
        self.addresses["admin"] = str(Address(host, port))

    async def _perform(
        self, name: str, arguments: Mapping[str, Any], by: Actor | None = None
    ) -> Any:
        """The admin listener is there before the operations are."""
        if not self._has_listeners:
            raise OperationRefused("the gateway is starting: try again in a moment", 503)
        return await self.operations.perform(name, arguments, by)

    def metrics(self) -> Metrics:
        """What this process counts. For a gateway whose road is open."""
        from tollhouse.site.metrics import Metrics, Parts

        return Metrics(
            Parts(
                self.readiness.reasons,
                self.journey,
                self.purse,
                self.spool,
                self.book,
                self.breakers,
                self.relay,
                self.keys,
                self.addons,
                self.watch,
                self.telemetry,
            )
        )

    @property
    def unwrapped(self) -> Unwrapped | None:
        """What the login to Vault has unwrapped, for another process of the gateway."""
        return getattr(self.reader, "unwrapped", None)

    @property
    def calls(self) -> int:
        """How many calls are under way."""
        return len(self.journey.under_way) if self._has_road else 0

    @property
    def connections(self) -> int:
        """How many connections clients have."""
        return self.entrances.listeners.connections if self._has_listeners else 0

    async def open_listeners(self) -> None:
        """The last step of the start."""
        self._has_listeners = True
        self.on_stop(self._drain)
        await self.entrances.open(self.addresses)

    async def _note_refusals(self) -> None:
        """For the status page and for exports. Those that Redis can't be told now wait."""
        with contextlib.suppress(LedgerUnavailable):
            await self.uncharged.flush()

    async def _write_spend(self) -> None:
        """Writes to the disk what the embedded store has counted. Another store does that itself."""
        write = spend_writer(self.redis)
        if write is None:
            return
        try:
            await asyncio.to_thread(write)
        except OSError as e:
            log.error("what was spent could not be written (%s): a crash would forget it", e)

    async def _keep_objects(self) -> None:
        await self.objects.retry()
        persist(self.redis)

    async def stop(self) -> None:
        """Take nothing more, let what runs end for ``limits.drain_s``, then cut it; everything is settled when this
        returns. Closes what `start` opened, however far it came, last things first; called again, it does nothing."""
        self.readiness.stop()
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
            listeners = self.entrances.listeners
            await listeners.retire(self.config.limits.drain_s / 2)
            await self._unless_hurried(listeners.empty(), self.config.limits.drain_s)
        self.stopping.set()

    async def _drain(self) -> None:
        """Listens no more, waits for the calls under way, and ends those that are left."""
        await self.entrances.listeners.close()
        self.journey.open = False
        if self._drained_at is None:
            self._drained_at = self._clock() + self.config.limits.drain_s
        await self._unless_hurried(
            self.journey.drained(None), max(0.0, self._drained_at - self._clock())
        )
        for exchange in tuple(self.journey.under_way):
            exchange.stop("the gateway is stopping")
        await self.journey.drained(_CUT_S)
        await self.entrances.close_connections()

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
        """With the upstream's connections gone they end, and are settled while there is a ledger. One that hangs all the same is
        cut: behind this nobody could settle it."""
        if await self.journey.drained(_CUT_S):
            return
        cut = self.journey.cut()
        log.warning("%d calls did not end when they were told to; they are cut, and settled", cut)
        if not await self.journey.drained(_SETTLE_S):
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
            self._reloading = asyncio.create_task(self.prices.reload_quietly())
