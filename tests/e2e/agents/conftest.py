"""The gateway that all agents call: its three providers are the stand-in, and so are the agents' companions, behind a proxy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.coding_agents import HOSTS
from tests.support.connect_proxy import ConnectProxy
from tests.support.gateway import REAL_KEY, Road, open_road
from tests.support.redis_server import RedisServer

from tollhouse.companions import AGENTS
from tollhouse.demo.standin import StandIn

COMPANIONS = sorted({host for agent in AGENTS for host in agent.of("all")})
OPEN_PROJECT = "proj_companions"
"""The one for which companions pass."""


@pytest.fixture(scope="session")
def agents_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory, agents_redis: RedisServer) -> Iterator[Road]:
    with (
        StandIn(key=REAL_KEY, hosts=("localhost", *COMPANIONS, *HOSTS)) as standin,
        ConnectProxy({f"{host}:443": (standin.host, standin.port) for host in COMPANIONS}) as proxy,
    ):
        own = {
            "connect_to": standin.address,
            "allow_private": True,
            "ca_file": "provider-ca.pem",
            "upstream_proxy": "off",
        }
        settings: Any = {
            "redis": {"url": agents_redis.url},
            "upstream": {"proxy": {"url": proxy.url}},
            **dict.fromkeys(
                [f"providers.{name}" for name in ("openai", "anthropic", "gemini", "chatgpt")], own
            ),
            "companions": {
                agent.agent: {"hosts": "all", "projects": [OPEN_PROJECT]} for agent in AGENTS
            },
        }
        with open_road(tmp_path_factory.mktemp("agents"), settings, standin=standin) as road:
            for name in ("anthropic", "gemini"):
                road.gateway.tollhouse("key", "set", name, stdin=REAL_KEY)
            yield road
