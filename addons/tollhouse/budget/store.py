"""The connection to Redis, its scripts, and its errors. Nothing outside this folder sees one of redis's exceptions."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

CONNECT_TIMEOUT_S: Final = 1.0
COMMAND_TIMEOUT_S: Final = 2.0
MAX_CONNECTIONS: Final = 64

_OPTIONS: Final[dict[str, Any]] = {
    "protocol": 2,
    "socket_connect_timeout": CONNECT_TIMEOUT_S,
    "socket_timeout": COMMAND_TIMEOUT_S,
}
_SCRIPTS: Final = Path(__file__).parent / "scripts"
_CLOCK: Final = re.compile(r"--\[\[TIME\]\].*--\[\[/TIME\]\]")


class LedgerUnavailable(Exception):
    """Redis can't be asked, or can't be believed. ``why`` is safe to show: it never holds a password.

    It is not known whether what was asked for has been done: every method of the ledger may be called again.
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
    return LedgerUnavailable(f"Redis: {type(error).__name__}: {str(error)[:200] or 'no answer in time'}")


@dataclass(frozen=True, slots=True)
class Script:
    """One of scripts/*.lua with common.lua before it. ``sha`` is the SHA-1 that EVALSHA wants."""

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
    # Comments are not worth their way to Redis.
    text = "\n".join(line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("-- "))
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def connect(url: str, state_directory: Path) -> Redis:
    """A client of the Redis at ``url`` (``redis://``, ``rediss://``, ``unix://``), of the master that Sentinels name
    (``redis+sentinel://``, see `sentinel`), or of ``"embedded"``: fakeredis in this process, see `embedded`. Connects when
    it is first used, and again after each loss. Raises `ValueError` for a URL that it can't read."""
    if url == "embedded":
        # fakeredis and its Lua cost some 20 MB, which only this mode should pay for.
        from tollhouse.budget.embedded import open_store

        return open_store(state_directory)
    if url.startswith("redis+sentinel://"):
        return sentinel(url, **_OPTIONS, max_connections=MAX_CONNECTIONS, socket_keepalive=True, retry=_retry())
    scheme = urlsplit(url).scheme
    if scheme not in ("redis", "rediss", "unix"):
        raise ValueError(
            f'redis.url must begin with redis://, rediss://, unix:// or redis+sentinel://, or be "embedded"; not {_bare(url)}'
        )
    tcp: dict[str, Any] = {} if scheme == "unix" else {"socket_keepalive": True}
    return Redis.from_url(url, **_OPTIONS, max_connections=MAX_CONNECTIONS, retry=_retry(), **tcp)


def _retry() -> Retry:
    # One more try, for a pooled connection that Redis closed in the meantime: every script may be sent twice.
    return Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))


def sentinel(url: str, **options: Any) -> Redis:
    """A client of the master that Sentinels name: ``redis+sentinel://[USER:PASSWORD@]HOST:PORT[,HOST:PORT...]/MASTER[/DB]``.

    User and password are the Redis's. Behind a ``?``: ``sentinel_username`` and ``sentinel_password`` are the Sentinels' own,
    ``ssl=true`` speaks TLS with all of them, ``ssl_ca_certs`` is a file of roots. A failover is noticed by the next
    connection. Raises `ValueError`.
    """
    parts = urlsplit(url)
    account, _, hosts = parts.netloc.rpartition("@")
    master, _, db = parts.path.strip("/").partition("/")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    tls: dict[str, Any] = {"ssl": query.pop("ssl", "false") == "true"}
    if "ssl_ca_certs" in query:
        tls["ssl_ca_certs"] = query.pop("ssl_ca_certs")
    own = {key: query.pop(f"sentinel_{key}", None) for key in ("username", "password")}
    places = [host.rpartition(":") for host in hosts.split(",")]
    if query or not master or not (db or "0").isdecimal() or not all(h and p.isdecimal() for h, _, p in places):
        raise ValueError(
            "redis.url of Sentinels is redis+sentinel://HOST:PORT,HOST:PORT/MASTER/DB, with sentinel_username, "
            f"sentinel_password, ssl and ssl_ca_certs behind a ?; not {_bare(url.partition('?')[0])}"
        )
    user, _, password = account.partition(":")
    # One try each: redis-py's own waits between tries are longer than a command may take.
    asking = {**_OPTIONS, **tls, **{key: value for key, value in own.items() if value}, "retry": Retry(NoBackoff(), 0)}
    # redis-py has no types for it.
    make: Any = Sentinel
    watchers = make([(host.strip("[]"), int(port)) for host, _, port in places], sentinel_kwargs=asking)
    client: Redis = watchers.master_for(
        master, username=unquote(user) or None, password=unquote(password) or None, db=int(db or 0), **tls, **options
    )
    return client


def persist(redis: Redis) -> None:
    """Called after a change to projects, limits or tokens. Writes the embedded store's file; a real Redis keeps its
    own."""
    save = getattr(redis, "tollhouse_save", None)
    if save is not None:
        save()


def _bare(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if separator else "what is there"
