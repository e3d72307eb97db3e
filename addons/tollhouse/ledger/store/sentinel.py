"""The master that Sentinels name."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from tollhouse.ledger.store.urls import Servers


def sentinel(servers: Servers, **options: Any) -> Redis:
    """A client of the master that Sentinels name, with ``options`` of redis-py. User and password
    are those of Redis; the Sentinels have their own. After a failover the next connection goes to
    the new master."""
    tls = tls_options(servers)
    # redis-py has no types for it.
    make: Any = Sentinel
    watchers = make(list(servers.places), sentinel_kwargs=sentinel_options(servers, options))
    client: Redis = watchers.master_for(
        servers.master,
        username=servers.username,
        password=servers.password,
        db=servers.db,
        **tls,
        **options,
    )
    return client


def sentinel_options(servers: Servers, options: dict[str, Any]) -> dict[str, Any]:
    """The options of the connection to a Sentinel itself."""
    own = {"username": servers.sentinel_username, "password": servers.sentinel_password}
    kept: dict[str, Any] = {
        key: options[key]
        for key in ("protocol", "socket_connect_timeout", "socket_timeout")
        if key in options
    }
    # Each Sentinel is tried once: redis-py's own waits between tries are longer than a command may
    # take.
    return {**kept, **tls_options(servers), **own, "retry": Retry(NoBackoff(), 0)}


def tls_options(servers: Servers) -> dict[str, Any]:
    if not servers.tls:
        return {}
    return {"ssl": True, **({"ssl_ca_certs": servers.ca_file} if servers.ca_file else {})}
