"""Several gateways on one redis-server and one stand-in, and the load that goes through them."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import redis

from tests.support.gateway import REAL_KEY
from tests.support.redis_cluster import RedisCluster
from tests.support.redis_server import RedisServer
from tollhouse.demo.gateway_config import write_config
from tollhouse.demo.gateway_process import GatewayProcess
from tollhouse.demo.standin import StandIn

PROJECT = "proj_123"
TENANT = "acme"


@dataclass
class Fleet:
    """The gateways share everything but their state directories (and the keys in them, which are the same)."""

    gateways: list[GatewayProcess]
    standin: StandIn
    redis: RedisServer | RedisCluster
    token: str = field(default="", repr=False)

    def call(
        self, body: Mapping[str, Any], count: int, *, at_once: int = 50
    ) -> list[httpx2.Response]:
        """``count`` calls over the base URL listeners, the gateways in turn, ``at_once`` of them under way. A call whose
        connection broke is missing."""
        return asyncio.run(self._call(body, count, at_once))

    async def _call(
        self, body: Mapping[str, Any], count: int, at_once: int
    ) -> list[httpx2.Response]:
        answers: list[httpx2.Response] = []
        numbers = iter(range(count))
        limits = httpx2.Limits(max_connections=at_once)
        urls = [
            f"http://localhost:{one.base_url.rpartition(':')[2]}/v1/chat/completions"
            for one in self.gateways
        ]
        headers = {"authorization": f"Bearer {self.token}", "x-stainless-retry-count": "2"}
        async with httpx2.AsyncClient(
            headers=headers, trust_env=False, timeout=60, limits=limits
        ) as client:

            async def work() -> None:
                for number in numbers:
                    with contextlib.suppress(httpx2.TransportError):
                        answers.append(await client.post(urls[number % len(urls)], json=dict(body)))

            await asyncio.gather(*(work() for _ in range(at_once)))
        return answers

    def in_background(
        self, body: Mapping[str, Any], count: int, *, at_once: int = 50
    ) -> Background:
        return Background(self, body, count, at_once)

    def connection(self) -> Any:
        """A blocking client that decodes answers."""
        if isinstance(self.redis, RedisCluster):
            return self.redis.connection()
        return redis.Redis.from_url(self.redis.url, decode_responses=True)

    def records(self, tenant: str = TENANT) -> list[dict[str, str]]:
        """The tenant's stream."""
        with self.connection() as client:
            found: Any = client.xrange(f"toll:{{{tenant}}}:calls")
        return [fields for _, fields in found]

    def holds(self, tenant: str = TENANT) -> dict[str, str]:
        with self.connection() as client:
            found: Any = client.hgetall(f"toll:{{{tenant}}}:holds")
        return dict(found)

    def let_deadlines_pass(self) -> None:
        """Every hold that nobody renews any more may be swept from now on."""
        with self.connection() as client:
            key = f"toll:{{{TENANT}}}:deadlines"
            names: Any = client.zrange(key, 0, -1)
            client.zadd(key, dict.fromkeys(names, 1), xx=True)

    def lines(self) -> list[dict[str, Any]]:
        return [line for gateway in self.gateways for line in gateway.lines()]

    def budget(self, number: int = 0, project: str = PROJECT) -> dict[str, dict[str, Decimal]]:
        """Limit text to ``used``, ``held``, ``left``."""
        shown = self.gateways[number].budget(project)
        return {
            limit: {key: Decimal(state[key]) for key in ("used", "held", "left")}
            for limit, state in shown.items()
        }

    def spooled(self, number: int = 0) -> int:
        """Records in the spool of one gateway: calls that Redis has not been told of."""
        file = self.spool(number)
        if not file.exists():
            return 0
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
            [(count,)] = connection.execute("SELECT count(*) FROM records")
        return int(count)

    def spool(self, number: int = 0) -> Path:
        return self.gateways[number].config.parent.absolute() / "state" / "spool.sqlite3"


class Background:
    """Load in a thread; `result` waits for its end."""

    def __init__(self, fleet: Fleet, body: Mapping[str, Any], count: int, at_once: int) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._future = self._pool.submit(fleet.call, body, count, at_once=at_once)

    def result(self) -> list[httpx2.Response]:
        try:
            return self._future.result(120)
        finally:
            self._pool.shutdown()


def served(answers: Sequence[httpx2.Response]) -> Counter[str]:
    """The call ids of the answers that came from the provider."""
    return Counter(
        answer.headers["x-tollhouse-call-id"] for answer in answers if answer.status_code == 200
    )


@contextlib.contextmanager
def open_fleet(
    directory: Path,
    count: int,
    *,
    limits: Sequence[str] = ("10000 usd/day",),
    append_only: bool = False,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    cluster: RedisCluster | None = None,
) -> Iterator[Fleet]:
    """``count`` gateways that are ready, `PROJECT` of `TENANT` and a token; on a redis-server of their own, or on ``cluster``."""
    (directory / "redis").mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        server = cluster or stack.enter_context(
            RedisServer(directory / "redis", append_only=append_only)
        )
        provider = stack.enter_context(StandIn(key=REAL_KEY))

        def start(number: int) -> GatewayProcess:
            place = directory / f"gateway-{number}"
            place.mkdir()
            given = dict(settings or {})
            merged = {**given, "redis": {"url": server.url, **given.get("redis", {})}}
            gateway = GatewayProcess(write_config(place, provider, merged))
            gateway.tollhouse("key", "set", "openai", stdin=provider.key)
            return gateway.start()

        with ThreadPoolExecutor(count) as pool:
            started = [pool.submit(start, number) for number in range(count)]
        gateways = [one.result() for one in started]
        for gateway in gateways:
            stack.push(gateway)
        gateways[0].make_project(PROJECT, *limits)
        yield Fleet(gateways, provider, server, gateways[0].make_token(PROJECT))
