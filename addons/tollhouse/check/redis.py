"""`tollhouse check`: Redis, each server reached within 2 s and asked whether it can keep a ledger."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    RedisError,
    ResponseError,
)

from tollhouse.check.finding import Clock, Finding
from tollhouse.check.redis_facts import Facts, facts_of, full_coverage, judge, no_replica
from tollhouse.config.addresses import Address
from tollhouse.config.load import Config
from tollhouse.ledger.store.cluster import SLOTS, ClusterRedis, Node, read_slots
from tollhouse.ledger.store.sentinel import sentinel_options, tls_options
from tollhouse.ledger.store.urls import CLUSTER, SENTINEL, Servers, parse_servers

TIMEOUT_S: Final = 2.0
_OPTIONS: Final[dict[str, Any]] = {
    "protocol": 2,
    "decode_responses": True,
    "socket_timeout": TIMEOUT_S,
    "socket_connect_timeout": TIMEOUT_S,
}
_WITHOUT: Final = "Start it, or correct [redis] url; without it every call is refused with 503 ledger_unavailable."
_WITHOUT_OPEN: Final = (
    "Start it, or correct [redis] url; without it unsafe_fail_open lets identities proven in the last 5 minutes call without "
    "any limit, up to 10,000 calls of each gateway, and everything else is refused with 503 ledger_unavailable."
)
_REFUSED: Final = (AuthenticationError, AuthorizationError, NoPermissionError)


async def check_redis(
    config: Config, clock: Clock = time.time, timeout_s: float = TIMEOUT_S
) -> list[Finding]:
    """Whether the server answers, lets us in, runs scripts, writes, keeps what it has, and has the time; of Sentinels the
    master that each names, of a Cluster every master, and whether it is whole."""
    url, place = config.redis.url, config.redis.place
    if config.redis.embedded:
        return [
            *await asyncio.to_thread(_embedded, config),
            Finding(
                "warn",
                "Redis is embedded.",
                "The ledger is in the gateway's memory: one gateway with one worker, and a crash may forget the last second.",
                "For more than a trial, set [redis] url to a Redis or Valkey server.",
            ),
        ]
    options = {**_OPTIONS, "retry": Retry(NoBackoff(), 0)}
    if url.startswith((CLUSTER, SENTINEL)):
        servers = parse_servers(url)
        check = _cluster if url.startswith(CLUSTER) else _sentinels
        found = await check(servers, options, clock, timeout_s)
    else:
        found = await _server(Redis.from_url(url, **options), place, clock, timeout_s, _alone)
    if config.redis.unsafe_fail_open:
        found = [replace(one, todo=_WITHOUT_OPEN) if one.todo == _WITHOUT else one for one in found]
    return [
        *found,
        *(over_the_network(url, place) if any(one.level == "ok" for one in found) else ()),
    ]


def _embedded(config: Config) -> list[Finding]:
    """Opens the embedded store as the gateway will; that reads its file, if there is one, and writes nothing."""
    from tollhouse.ledger.store.embedded_redis import FILE_NAME, open_store

    file = config.state.directory / FILE_NAME
    try:
        open_store(config.state.directory)
    except ValueError as error:
        what = f"The embedded ledger {file} can't be read."
        todo = "Restore it from a copy, or delete it and make the projects and tokens anew."
        return [Finding("error", what, f"{error.__cause__ or error}.", todo)]
    except OSError as error:
        why = f"{error.strerror or type(error).__name__}."
        return [
            Finding(
                "error",
                f"The embedded ledger {file} can't be read.",
                why,
                "Make it a file of this user.",
            )
        ]
    return []


async def _server(
    client: Redis,
    place: str,
    clock: Clock,
    timeout_s: float,
    more: Callable[[Facts, str], Iterator[Finding]] = lambda facts, place: iter(()),
) -> list[Finding]:
    """One server. Closes ``client``."""
    try:
        async with asyncio.timeout(timeout_s), client:
            facts = await facts_of(client, clock)
    except TimeoutError:
        why = f"It did not answer within {timeout_s:g} s."
    except _REFUSED:
        return [_not_let_in(place, "PING, TIME and EVAL")]
    except ResponseError as error:
        why = f"It answers PING, TIME or EVAL with an error ({said_of(error)})."
    except (RedisError, OSError, ValueError) as error:
        why = f"No connection: {_reason(error)}."
    else:
        return [
            Finding("ok", f"Redis at {place} answers."),
            *judge(facts, place),
            *more(facts, place),
        ]
    return [Finding("error", f"Redis at {place} can't be used.", why, _WITHOUT)]


def _alone(facts: Facts, place: str) -> Iterator[Finding]:
    if (facts["cluster"] or {}).get("cluster_enabled") == 1:
        yield Finding(
            "error",
            f"Redis at {place} is a node of a Cluster.",
            "Calls of tenants whose slot another node has would be refused with 503 ledger_unavailable.",
            "Write redis+cluster://HOST:PORT,HOST:PORT into [redis] url.",
        )


async def _sentinels(
    servers: Servers, options: dict[str, Any], clock: Clock, timeout_s: float
) -> list[Finding]:
    found: list[Finding] = []
    asked = {**sentinel_options(servers, options), "decode_responses": True}
    answers = await asyncio.gather(
        *(
            _named(Redis(host=host, port=port, **asked), servers.master, timeout_s)
            for host, port in servers.places
        )
    )
    masters: dict[Address, None] = {}
    for (host, port), answer in zip(servers.places, answers, strict=True):
        if isinstance(answer, Address):
            masters[answer] = None
        else:
            todo = "Start it, or take it out of [redis] url."
            found.append(
                Finding(
                    "warn", f"The Sentinel at {Address(host, port)} names no master.", answer, todo
                )
            )
    if not masters:
        what = f"None of the Sentinels names the master {servers.master}."
        return [
            *found,
            Finding("error", what, "So there is nobody to ask for the ledger.", _WITHOUT),
        ]
    if len(masters) > 1:
        found.append(
            Finding(
                "warn",
                f"The Sentinels name different masters: {', '.join(map(str, masters))}.",
                "A failover is under way, or they do not watch the same servers.",
                "Look again in a minute; then compare `SENTINEL MASTER` on each.",
            )
        )
    own = {
        **options,
        **tls_options(servers),
        "username": servers.username,
        "password": servers.password,
    }
    for each in masters:
        client = Redis(host=each.host, port=each.port, db=servers.db, **own)
        found += await _server(client, str(each), clock, timeout_s, no_replica)
    return found


async def _named(client: Redis, master: str, timeout_s: float) -> Address | str:
    """The address of the master, or why there is none."""
    execute: Any = client.execute_command
    try:
        async with asyncio.timeout(timeout_s), client:
            answer = await execute("SENTINEL", "GET-MASTER-ADDR-BY-NAME", master)
    except TimeoutError:
        return f"It did not answer within {timeout_s:g} s."
    except _REFUSED:
        return "It refuses sentinel_username or sentinel_password."
    except ResponseError as error:
        return f"It answers with an error ({said_of(error)}): it may be no Sentinel."
    except (RedisError, OSError, ValueError) as error:
        return f"No connection: {_reason(error)}."
    return Address(answer[0], int(answer[1])) if answer else f"It knows no {master}."


async def _cluster(
    servers: Servers, options: dict[str, Any], clock: Clock, timeout_s: float
) -> list[Finding]:
    client = ClusterRedis(servers, timeout_s=timeout_s, **options)
    try:
        return await _whole(client, servers, options, clock, timeout_s)
    finally:
        await client.aclose()


async def _whole(
    client: ClusterRedis, servers: Servers, options: dict[str, Any], clock: Clock, timeout_s: float
) -> list[Finding]:
    found: list[Finding] = []
    own = {
        **options,
        **tls_options(servers),
        "username": servers.username,
        "password": servers.password,
    }
    seeds = [Node(place, Redis(host=place[0], port=place[1], **own)) for place in servers.places]
    problems = await asyncio.gather(*(_map_problem(seed, timeout_s) for seed in seeds))
    found += [problem for problem in problems if problem is not None]
    if None not in problems:
        return [Finding("error", one.what, one.why, one.todo) for one in found]
    await client.read_map()
    masters: list[Awaitable[list[Finding]]] = []
    for node, ranges in client.ranges():
        if node is None:
            count = sum(last - first + 1 for first, last in ranges)
            found.append(
                Finding(
                    "error",
                    f"{count} of the {SLOTS} slots of the Cluster have no master.",
                    "Tenants with such a slot are refused with 503 ledger_unavailable, or everybody "
                    "(cluster-require-full-coverage).",
                    "Bring their master back, or `redis-cli --cluster fix`.",
                )
            )
        else:
            host, port = node.address
            place = str(Address(host, port))
            masters.append(
                _server(Redis(host=host, port=port, **own), place, clock, timeout_s, full_coverage)
            )
    for one in await asyncio.gather(*masters):
        found += one
    return found


async def _map_problem(seed: Node, timeout_s: float) -> Finding | None:
    """Why a node of the URL does not say who owns which slot; closes its client."""
    place = str(Address(*seed.address))
    todo = "Start it, or take it out of [redis] url."
    try:
        async with asyncio.timeout(timeout_s), seed.client:
            await read_slots(seed)
    except TimeoutError:
        return Finding(
            "warn", f"Redis at {place} can't be used.", "It did not answer in time.", todo
        )
    except _REFUSED:
        return _not_let_in(place, "CLUSTER SLOTS")
    except ResponseError as error:
        why = f"It answers CLUSTER SLOTS with an error ({said_of(error)})."
        todo = "A server that is no node of a Cluster is redis://HOST:PORT/DB in [redis] url."
        return Finding("error", f"Redis at {place} is no node of a Cluster.", why, todo)
    except (RedisError, OSError, ValueError) as error:
        return Finding(
            "warn", f"Redis at {place} can't be used.", f"No connection: {_reason(error)}.", todo
        )
    return None


def _not_let_in(place: str, commands: str) -> Finding:
    return Finding(
        "error",
        f"Redis at {place} does not let us in.",
        f"It refuses the user or password of [redis] url, or that user may not use {commands}.",
        "Correct the URL (redis://USER:PASSWORD@HOST:PORT/DB), or the user's ACL.",
    )


def over_the_network(url: str, place: str) -> Iterator[Finding]:
    if url.startswith((CLUSTER, SENTINEL)):
        servers = parse_servers(url)
        plain, hosts, todo = (
            not servers.tls,
            [host for host, _ in servers.places],
            "Add ?ssl=true to [redis] url",
        )
    else:
        parts = urlsplit(url)
        plain, hosts, todo = parts.scheme == "redis", [parts.hostname or ""], "Use rediss://"
    if plain and not all(Address(host, 0).is_loopback for host in hosts):
        yield Finding(
            "warn",
            f"Redis at {place} is spoken to without TLS.",
            "Its password and the ledger cross the network readable, and who is on the path can change budgets.",
            f"{todo}, unless the network between them is trusted.",
        )


def said_of(error: ResponseError) -> str:
    """An error in the server's own words, up to where it may quote what was sent: a quote or a colon begins that."""
    return re.split(r"[^ -~]|['\"`:]", str(error), maxsplit=1)[0].rstrip(" ,")[:100] or "ERR"


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error.__context__ or error
    text = getattr(cause, "strerror", None) or getattr(cause, "verify_message", None)
    return text if isinstance(text, str) and text else type(cause).__name__
