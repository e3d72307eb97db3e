"""Receivers, as the configuration names them, and the watch of a gateway."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from aiohttp.abc import AbstractResolver

from tollhouse.alerts.alert_desk import AlertDesk
from tollhouse.alerts.conditions import BreakersSeen, Conditions, KeysSeen
from tollhouse.alerts.outbox import Outbox
from tollhouse.alerts.receiver import Interest, Receiver, WebhookPlace
from tollhouse.alerts.watch import Watch
from tollhouse.config.load import AlertConfig, Config, receiver_proxy
from tollhouse.credential.cloud.token_host import Connector
from tollhouse.dispatch.proxied import ProxyTunnels, StoreSecrets
from tollhouse.ledger.ledger import Ledger
from tollhouse.ledger.store.client import connect
from tollhouse.parties import Project
from tollhouse.providers import UpstreamProxy


def open_receivers(
    config: Config,
    proxies: ProxyTunnels,
    secrets: StoreSecrets,
    resolver_factory: Callable[[], AbstractResolver] | None = None,
) -> list[Receiver]:
    """Nothing is read or dialled yet."""
    found = []
    for entry in config.alerts:
        proxy = receiver_proxy(config, entry)
        connector = None
        if proxy is not None:
            connector = _through(proxies, proxy)
        found.append(
            Receiver(
                entry.called,
                entry.speaks,
                interest_of(entry),
                _place_of(entry),
                secrets,
                connector=connector,
                resolver_factory=resolver_factory,
            )
        )
    return found


def interest_of(entry: AlertConfig) -> Interest:
    named = None if entry.everyone else frozenset(entry.projects)
    tenants = None if entry.tenants is None and entry.everyone else frozenset(entry.tenants or ())
    return Interest(entry.at, entry.tells, named, tenants, entry.key_age_days)


def open_watch(
    config: Config,
    ledger: Ledger,
    outbox: Outbox,
    receivers: Sequence[Receiver],
    keys: KeysSeen,
    breakers: BreakersSeen,
    charges: Callable[[], int],
    projects: Callable[[], Awaitable[Sequence[Project]]],
    *,
    clock: Callable[[], float],
) -> Watch:
    """``keys``, ``breakers`` and ``charges`` are those of this process."""
    ages = [entry.key_age_days for entry in config.alerts if "key.age" in entry.tells]
    conditions = Conditions(keys, breakers, charges, ages)
    return Watch(ledger, outbox, receivers, conditions, projects, clock=clock)


def _through(proxies: ProxyTunnels, proxy: UpstreamProxy) -> Callable[[tuple[str, int]], Connector]:
    return lambda to: proxies.connector(proxy, to)


def _place_of(entry: AlertConfig) -> WebhookPlace:
    return WebhookPlace(
        "" if entry.to is None else entry.to.get_secret_value(),
        entry.to_file,
        entry.signing_secret_file,
        entry.secret or "",
        entry.fields,
        entry.ca_file,
        entry.allow_private,
    )


@contextlib.asynccontextmanager
async def desk_once(config: Config) -> AsyncIterator[AlertDesk]:
    """With connections, and a login if one is needed, for this alone."""
    from tollhouse.stores import ways_once

    redis = connect(config.redis.url, config.state.directory)
    ledger = Ledger(redis)
    try:
        async with ways_once(config) as (proxies, secrets):
            receivers = open_receivers(config, proxies, secrets)
            try:
                yield AlertDesk(receivers, Outbox(redis, ledger.run_script))
            finally:
                for receiver in receivers:
                    await receiver.close()
    finally:
        await ledger.close()
