"""`tollhouse check`: Redis, reached within 2 s and asked whether it can keep a ledger."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError, RedisError, ResponseError

from tollhouse.admin.finding import Clock, Finding
from tollhouse.budget.store import sentinel
from tollhouse.config import Config
from tollhouse.config_values import Address

TIMEOUT_S: Final = 2.0
CLOCK_APART_S: Final = 5.0
"""Windows and resets follow Redis's clock, tokens' expiry ours: further apart, one of them is visibly wrong."""


async def check_redis(config: Config, clock: Clock = time.time, timeout_s: float = TIMEOUT_S) -> list[Finding]:
    """Whether the server answers, lets us in, runs scripts, writes, keeps what it has, and has the time."""
    place = config.redis.place
    if config.redis.embedded:
        return [
            *await asyncio.to_thread(_embedded, config),
            Finding(
                "warn",
                "Redis is embedded.",
                "The ledger is in the gateway's memory: one gateway alone, and a restart forgets what was spent.",
                "For more than a trial, set [redis] url to a Redis or Valkey server.",
            ),
        ]
    if config.redis.url.startswith("redis+cluster:"):
        return []  # `config.unenforced` has refused it.
    try:
        async with asyncio.timeout(timeout_s):
            facts = await _ask(config.redis.url, clock)
    except TimeoutError:
        why = f"It did not answer within {timeout_s:g} s."
    except (AuthenticationError, AuthorizationError, NoPermissionError):
        return [
            Finding(
                "error",
                f"Redis at {place} does not let us in.",
                "It refuses the user or password of [redis] url, or that user may not use PING, TIME and EVAL.",
                "Correct the URL (redis://USER:PASSWORD@HOST:PORT/DB), or the user's ACL.",
            )
        ]
    except ResponseError as error:
        why = f"It answers PING, TIME or EVAL with an error ({_code(error)})."
    except (RedisError, OSError, ValueError) as error:
        why = f"No connection: {_reason(error)}."
    else:
        return [
            Finding("ok", f"Redis at {place} answers."),
            *_plaintext(config.redis.url, place),
            *_judge(facts, place, clock),
        ]
    todo = "Start it, or correct [redis] url; without it every call is refused with 503 ledger_unavailable."
    return [Finding("error", f"Redis at {place} can't be used.", why, todo)]


def _embedded(config: Config) -> list[Finding]:
    """Opens the embedded store as the gateway will; that reads its file, if there is one, and writes nothing."""
    from tollhouse.budget.embedded import FILE_NAME, open_store

    file = config.state.directory / FILE_NAME
    try:
        open_store(config.state.directory)
    except ValueError as error:
        what = f"The embedded ledger {file} can't be read."
        todo = "Restore it from a copy, or delete it and make the projects and tokens anew."
        return [Finding("error", what, f"{error.__cause__ or error}.", todo)]
    except OSError as error:
        why = f"{error.strerror or type(error).__name__}."
        return [Finding("error", f"The embedded ledger {file} can't be read.", why, "Make it a file of this user.")]
    return []


async def _ask(url: str, clock: Clock) -> dict[str, Any]:
    options: dict[str, Any] = {
        "protocol": 2,
        "decode_responses": True,
        "socket_timeout": TIMEOUT_S,
        "socket_connect_timeout": TIMEOUT_S,
        "retry": Retry(NoBackoff(), 0),
    }
    client = sentinel(url, **options) if url.startswith("redis+sentinel:") else Redis.from_url(url, **options)
    async with client:
        await client.ping()
        before = clock()
        seconds, micros = await client.time()
        facts: dict[str, Any] = {"ahead": seconds + micros / 1e6 - (before + clock()) / 2}
        await client.eval("return 1", 0)
        for section in ("memory", "persistence", "replication"):
            facts[section] = await _optional(client, "INFO", section)
        facts["save"] = await _optional(client, "CONFIG GET", "save")
        return facts


async def _optional(client: Redis, command: str, argument: str) -> dict[str, Any] | None:
    """None where the server doesn't say: managed services close CONFIG, an ACL may close INFO."""
    try:
        answer: Any = await (client.info(argument) if command == "INFO" else client.config_get(argument))
    except ResponseError:
        return None
    return answer if isinstance(answer, dict) else None


def _judge(facts: dict[str, Any], place: str, clock: Clock) -> Iterator[Finding]:
    if (facts["replication"] or {}).get("role") == "slave":
        yield Finding(
            "error",
            f"Redis at {place} is a replica.",
            "A replica refuses writes, so every call would be refused with 503 ledger_unavailable.",
            "Set [redis] url to the primary.",
        )
    policy = (facts["memory"] or {}).get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield Finding(
            "warn",
            f"Redis at {place} evicts keys (maxmemory-policy {policy}).",
            "When its memory is full it would throw away what projects have spent, and their budgets would start anew.",
            "Set maxmemory-policy noeviction.",
        )
    yield from _persistence(facts, place)
    ahead: float = facts["ahead"]
    if abs(ahead) > CLOCK_APART_S:
        way = "ahead of" if ahead > 0 else "behind"
        yield Finding(
            "warn",
            f"The clock of Redis at {place} is {abs(ahead):.0f} s {way} this machine's.",
            "Limits reset by its clock, tokens expire by ours, and the lines of calls carry ours.",
            "Let both machines follow NTP.",
        )


def _persistence(facts: dict[str, Any], place: str) -> Iterator[Finding]:
    persistence = facts["persistence"]
    if persistence is None or persistence.get("aof_enabled"):
        return
    save = (facts["save"] or {}).get("save")
    if save == "":
        yield Finding(
            "warn",
            f"Redis at {place} saves nothing to disk.",
            "Neither AOF nor snapshots are on, so its restart would forget projects, tokens and what was spent.",
            "Set appendonly yes.",
        )
    elif save is not None:
        yield Finding(
            "warn",
            f"Redis at {place} has snapshots only.",
            "AOF is off, so a crash would forget what was spent since the last snapshot.",
            "Set appendonly yes.",
        )
    if persistence.get("rdb_last_bgsave_status", "ok") != "ok" and save:
        yield Finding(
            "warn",
            f"Redis at {place} could not save its last snapshot.",
            "It may refuse writes for that (stop-writes-on-bgsave-error), and calls with them.",
            "Look at its log and its disk.",
        )


def _plaintext(url: str, place: str) -> Iterator[Finding]:
    parts = urlsplit(url)
    if parts.scheme == "redis" and not Address(parts.hostname or "", 0).is_loopback:
        yield Finding(
            "warn",
            f"Redis at {place} is spoken to without TLS.",
            "Its password and the ledger cross the network readable, and who is on the path can change budgets.",
            "Use rediss://, unless the network between them is trusted.",
        )


def _code(error: ResponseError) -> str:
    """The first word of an error, its code: the rest may quote what was sent."""
    return str(error).split(" ", 1)[0][:40] or "ERR"


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error.__context__ or error
    text = getattr(cause, "strerror", None) or getattr(cause, "verify_message", None)
    return text if isinstance(text, str) and text else type(cause).__name__
