"""The connection to Redis, its scripts, and its errors. Nothing outside this folder sees one of redis's exceptions."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from tollhouse.ledger.store.cluster import ClusterRedis
from tollhouse.ledger.store.sentinel import sentinel
from tollhouse.ledger.store.urls import CLUSTER, SENTINEL, parse_servers

CONNECT_TIMEOUT_S: Final = 1.0
COMMAND_TIMEOUT_S: Final = 2.0
MAX_CONNECTIONS: Final = 64

_SCRIPTS: Final = Path(__file__).parents[1] / "scripts"
_CLOCK: Final = re.compile(r"--\[\[TIME\]\].*--\[\[/TIME\]\]")


class LedgerUnavailable(Exception):
    """Redis can't be asked, or its answer can't be believed. ``why`` is safe to show: it never
    holds a password.

    Redis may have done what it was asked for, or not. Every method of the ledger may be called
    again.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@contextmanager
def translated() -> Iterator[None]:
    """Turns every error of redis, and of the socket below it, into `LedgerUnavailable`."""
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise unavailable(error) from error


def unavailable(error: BaseException) -> LedgerUnavailable:
    """A `LedgerUnavailable` with ``error`` as its cause."""
    found = LedgerUnavailable(
        f"Redis: {type(error).__name__}: {str(error)[:200] or 'no answer in time'}"
    )
    found.__cause__ = error
    return found


@dataclass(frozen=True, slots=True)
class Script:
    """One of ledger/scripts/*.lua with common.lua before it. ``sha`` is the SHA-1 for EVALSHA."""

    name: str
    text: str
    sha: str


@cache
def load_script(name: str, clock: str | None = None) -> Script:
    """Reads a script. ``clock`` is a Lua expression in place of ``redis.call('TIME')``, for tests that move the
    time."""
    common = (_SCRIPTS / "common.lua").read_text(encoding="utf-8")
    if clock is not None:
        common = _CLOCK.sub(lambda _: clock, common)
    text = common + (_SCRIPTS / f"{name}.lua").read_text(encoding="utf-8")
    # Comments are not sent to Redis.
    text = "\n".join(
        line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("-- ")
    )
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def connect(url: str, state_directory: Path, timeout_s: float = COMMAND_TIMEOUT_S) -> Redis:
    """A client of Redis. ``url`` is that of one server (``redis://``, ``rediss://``, ``unix://``),
    of the master that Sentinels name (``redis+sentinel://``) or of a Cluster
    (``redis+cluster://``); see `urls`. With ``"embedded"`` it is fakeredis in this process; see
    `embedded_redis`. The client connects when it is first used, and again after a connection is
    lost. A command is waited for ``timeout_s``, and a connection half of that. Raises `ValueError`
    for a URL that it can't read."""
    if url == "embedded":
        # fakeredis and its Lua take some 20 MB. Only this mode loads them.
        from tollhouse.ledger.store.embedded_redis import open_store

        return open_store(state_directory)
    _check_files(url)
    options: dict[str, Any] = {
        "protocol": 2,
        "socket_connect_timeout": timeout_s / 2,
        "socket_timeout": timeout_s,
        "max_connections": MAX_CONNECTIONS,
        "retry": _retry(),
    }
    if url.startswith((CLUSTER, SENTINEL)):
        try:
            servers = parse_servers(url)
        except ValueError as error:
            raise ValueError(f"redis.url {error}; not {_bare(url.partition('?')[0])}") from None
        options["socket_keepalive"] = True
        if url.startswith(SENTINEL):
            return sentinel(servers, **options)
        return ClusterRedis(servers, timeout_s=timeout_s, **options)
    scheme = urlsplit(url).scheme
    if scheme not in ("redis", "rediss", "unix"):
        raise ValueError(
            "redis.url must begin with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://, or be "
            f'"embedded"; not {_bare(url)}'
        )
    if scheme != "unix":
        options["socket_keepalive"] = True
    # Otherwise each connection reads redis-py's version from its METADATA, which holds the loop for milliseconds.
    return Redis.from_url(url, driver_info=DriverInfo(), **options)


def _check_files(url: str) -> None:
    """The client itself does not say which file it misses. Raises `ValueError`."""
    for name, value in parse_qsl(urlsplit(url).query):
        if name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile") and not Path(value).is_file():
            raise ValueError(
                f"redis.url has the option {name}, and {value} is no file; correct the path"
            )


def _retry() -> Retry:
    # Redis may have closed a pooled connection meanwhile, so there is one more try. Every script
    # may be sent twice.
    return Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))


def persist(redis: Redis) -> None:
    """Called after a change to projects, limits or tokens. Writes the embedded store's file; a real Redis keeps its
    own."""
    save = getattr(redis, "tollhouse_save", None)
    if save is not None:
        save()


def spend_writer(redis: Redis) -> Callable[[], None] | None:
    """Of the embedded store: a function, for any thread, that writes what is spent and held now. None if nothing has changed
    since the last call. A real Redis keeps that itself."""
    spend = getattr(redis, "tollhouse_spend", None)
    writer: Callable[[], None] | None = spend() if spend is not None else None
    return writer


def _bare(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if separator else "what is there"
