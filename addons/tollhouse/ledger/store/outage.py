"""Whether Redis really is away: for ``[redis] unsafe_fail_open``, where a call that Redis could not be asked about is worth money.

A failed question proves no outage. Its connection may be broken, the pool of connections may be
used up, or the event loop may have stood still for longer than the question's time limit. A crowd
of workloads can bring all of this about. So Redis is asked once more, over a new connection, by a
blocking client in a thread. A reply that has arrived is never taken for late, however long the
thread waited for its turn.

Two things are an outage: silence, and a connection that can't be made for a reason outside of this
process. An answer of any kind (no memory left, wrong password, a script that runs for too long) is
none.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import time
from collections.abc import Callable
from typing import Any, Final

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    MaxConnectionsError,
    RedisError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import Sentinel

from tollhouse.ledger.store.client import COMMAND_TIMEOUT_S, CONNECT_TIMEOUT_S, LedgerUnavailable
from tollhouse.ledger.store.sentinel import tls_options
from tollhouse.ledger.store.urls import SENTINEL, parse_servers

log = logging.getLogger(__name__)

BELIEVED_S: Final = 1.0
"""How long the finding that Redis is away is believed. The finding that Redis is there is only for
the callers that wait for it."""
_FAR: Final = frozenset(
    {
        errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.ETIMEDOUT, errno.EHOSTUNREACH,
        errno.EHOSTDOWN, errno.ENETUNREACH, errno.ENETDOWN, errno.ENOENT,
    }
)  # fmt: skip
"""Errors that the other side or the network makes. ENOENT is that of a Unix socket. Other errors
are of this process: no descriptor, no port, no memory, a certificate that is not trusted."""


class Outage:
    """``ping`` blocks and raises the exceptions of redis-py. ``clock`` is monotonic."""

    def __init__(
        self, ping: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.ping = ping
        self._clock = clock
        self._believed_until = float("-inf")
        self._asking: asyncio.Task[bool] | None = None
        self.in_force = False
        """An outage was confirmed, and `over` has not been called since."""
        self.let_through = 0
        """The number of calls that left during this outage."""

    async def explains(self, error: LedgerUnavailable) -> bool:
        """Whether ``error`` comes from an outage: the question had no answer, and Redis is away.
        Raises nothing."""
        return unanswered(error) and await self.confirmed()

    async def confirmed(self) -> bool:
        """Whether Redis is away. It is asked now, unless it was found away a moment ago. Raises
        nothing."""
        if self._clock() < self._believed_until:
            return True
        if self._asking is None or self._asking.done():
            self._asking = asyncio.get_running_loop().create_task(self._ask())
        return await asyncio.shield(self._asking)

    def over(self) -> None:
        """Called when Redis has answered."""
        self._believed_until = float("-inf")
        if self.in_force:
            self.in_force = False
            log.warning(
                "Redis is back; %d calls were let through without a hold, and are charged",
                self.let_through,
            )
            self.let_through = 0

    async def _ask(self) -> bool:
        try:
            away = await asyncio.to_thread(self._is_away)
        except Exception:
            log.exception("it can't be told whether Redis is away: nothing leaves")
            away = False
        if away:
            self._believed_until = self._clock() + BELIEVED_S
            if not self.in_force:
                self.in_force = True
                log.warning(
                    "Redis is away and [redis] unsafe_fail_open is set: calls of identities proven in the last 5 minutes leave "
                    "without regard to any limit, until it is back"
                )
        return away

    def _is_away(self) -> bool:
        try:
            self.ping()
        except (RedisError, OSError) as error:
            return means_away(error) and _descriptor_left()
        return False


def unanswered(error: LedgerUnavailable) -> bool:
    """Whether the question had no answer: the cause is an exception of redis-py then. An error
    without a cause, or with another cause, is about an answer that can't be believed."""
    cause = error.__cause__
    return isinstance(cause, RedisConnectionError | RedisTimeoutError | OSError) and not isinstance(
        cause, AuthenticationError | AuthorizationError
    )


def means_away(error: BaseException) -> bool:
    """Whether the failure means that Redis is not there. Else it is about this process, or about
    Redis's answer."""
    if isinstance(error, AuthenticationError | AuthorizationError | MaxConnectionsError):
        return False
    if isinstance(error, RedisConnectionError) and "max number of clients" in str(error):
        return False
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError):
            # redis-py's own error has the socket's error as its cause:
            # https://github.com/redis/redis-py, connection.py.
            return isinstance(link, TimeoutError | socket.gaierror) or link.errno in _FAR
        link = link.__cause__ or link.__context__
    return isinstance(error, RedisConnectionError | RedisTimeoutError)


def _descriptor_left() -> bool:
    """Whether this process can open one more descriptor. Without one no name can be resolved, and
    the resolver then says that the name does not exist."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def pinger(url: str) -> Callable[[], None]:
    """Asks the Redis at ``url`` (``redis://``, ``rediss://``, ``unix://`` or ``redis+sentinel://``) over a new connection each
    time, within `CONNECT_TIMEOUT_S` and `COMMAND_TIMEOUT_S`."""
    options: dict[str, Any] = {
        "protocol": 2,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": COMMAND_TIMEOUT_S,
        "retry": Retry(NoBackoff(), 0),
    }
    if url.startswith(SENTINEL):
        return _sentinel_pinger(url, options)

    def ping() -> None:
        with Redis.from_url(url, **options) as client:
            client.ping()

    return ping


def _sentinel_pinger(url: str, options: dict[str, Any]) -> Callable[[], None]:
    servers = parse_servers(url)
    tls = tls_options(servers)
    asking = {
        **options,
        **tls,
        "username": servers.sentinel_username,
        "password": servers.sentinel_password,
    }
    # redis-py has no types for it.
    make: Any = Sentinel

    def ping() -> None:
        watchers = make(list(servers.places), sentinel_kwargs=asking)
        try:
            with watchers.master_for(
                servers.master,
                username=servers.username,
                password=servers.password,
                db=servers.db,
                **tls,
                **options,
            ) as client:
                client.ping()
        finally:
            for watcher in watchers.sentinels:
                watcher.close()

    return ping
