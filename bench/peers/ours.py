"""Tollhouse itself, once as a proxy and once by base URL, and bare mitmdump."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib.metadata import version
from typing import Final

from bench import servers
from bench.load import Api, BaseUrl, Proxy, Way
from bench.peers.peer import GPT_4O, Peer, Place, Race, Running
from bench.peers.stores import redis

_TABLES: Final = f"""
[projects.race]
tenant = "race"
limits = ["{GPT_4O.race_usd()} usd/day"]
"""


@contextmanager
def _tollhouse(place: Place, *, proxied: bool) -> Iterator[Running]:
    with (
        redis(place.directory) as store,
        servers.tollhouse(place.directory, place.provider_port, store.url, tables=_TABLES) as side,
    ):
        token = servers.project_token(side, "race")
        way: Way
        racing: Way
        if proxied:
            way, racing = side.proxy, Proxy.basic(side.proxy.port, "race", token)
        else:
            way = _base_url(side.base_port, servers.project_token(side, "bench"))
            racing = _base_url(side.base_port, token)
        yield Running(side, way, (Race("", lambda: nullcontext(racing)),), store.pid)


def _base_url(port: int, token: str) -> BaseUrl:
    return BaseUrl(port, Api(f"127.0.0.1:{port}", "/openai/v1/chat/completions", token))


@contextmanager
def _mitmdump(place: Place) -> Iterator[Running]:
    with servers.mitmdump(place.directory, place.provider_port) as side:
        yield Running(side, side.proxy)


_ALL_ON: Final = (
    "Its whole road: identity, four limits, hold and settle in Redis, the key from a store, metering, redaction, the line. "
    "One worker."
)

TOLLHOUSE: Final = Peer(
    "tollhouse",
    f"Tollhouse {version('tollhouse')}",
    "proxy, TLS",
    _ALL_ON,
    partial(_tollhouse, proxied=True),
    "tollhouse",
)
TOLLHOUSE_BASE_URL: Final = Peer(
    "tollhouse-base-url",
    f"Tollhouse {version('tollhouse')}",
    "base URL",
    _ALL_ON,
    partial(_tollhouse, proxied=False),
)
MITMDUMP: Final = Peer(
    "mitmdump",
    f"bare mitmdump {version('mitmproxy')}",
    "proxy, TLS",
    "`-q`, `connection_strategy=lazy`, `upstream_cert=false`, and one addon that sends calls to the stand-in and streams. "
    "It has no identities, no keys and no budgets.",
    _mitmdump,
    "tollhouse",
)
