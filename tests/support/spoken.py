"""A running gateway whose provider is a stand-in that speaks another API than OpenAI's: its answers are scripted by the test."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2

from tests.support.gateway import REAL_KEY, Road, open_road
from tollhouse.config.load import load_config
from tollhouse.control.client import perform
from tollhouse.demo.gateway_config import Settings
from tollhouse.demo.standin import StandIn
from tollhouse.demo.standin_script import Behaviour, reply

OF_JSON = [("content-type", "application/json")]
OF_EVENTS = [("content-type", "text/event-stream; charset=utf-8")]
OF_LINES = [("content-type", "application/stream+json")]


def says(document: Any, status: int = 200) -> Behaviour:
    """A whole answer of JSON."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return reply(status, body, OF_JSON)


def streams(frames: Sequence[bytes], headers: Sequence[tuple[str, str]] = OF_EVENTS) -> Behaviour:
    """A stream, frame by frame."""
    return reply(200, list(frames), headers)


@dataclass
class Spoken:
    """``through`` is an HTTP client through the proxy listener, ``direct`` one to the stand-in itself at `direct_url`."""

    road: Road
    through: httpx2.Client
    direct: httpx2.Client

    @property
    def standin(self) -> StandIn:
        return self.road.standin

    @property
    def direct_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=self.standin.ca_pem.decode())

    @property
    def direct_url(self) -> str:
        return f"https://localhost:{self.standin.port}"

    def script(self, behaviour: Behaviour, times: int = 1) -> None:
        self.standin.script(*[behaviour] * times)

    def charged(self, count: int = 1) -> list[dict[str, Any]]:
        """The lines, once there are ``count``. Nothing is held any more, and what is used is their sum."""
        lines = self.road.wait_lines(count)
        assert len(lines) == count
        total = sum((Decimal(line["cost_usd"]) for line in lines), Decimal(0))
        for limit, state in self.road.budget().items():
            assert Decimal(state["held"]) == 0
            if " usd/" in limit:
                assert Decimal(state["used"]) == total
        return lines


@contextlib.contextmanager
def open_spoken(directory: Path, provider: str, host: str, settings: Settings) -> Iterator[Road]:
    """``settings`` are added to those of the provider's entry, table by table."""
    with StandIn(key=REAL_KEY, hosts=("localhost", "api.openai.com", host)) as standin:
        tables: dict[str, dict[str, Any]] = {
            f"providers.{provider}": {
                "hosts": [host],
                "connect_to": standin.address,
                "allow_private": True,
                "ca_file": "provider-ca.pem",
            }
        }
        for name, keys in settings.items():
            tables.setdefault(name, {}).update(keys)
        with open_road(directory, tables, standin=standin) as road:
            road.gateway.tollhouse("key", "set", provider, stdin=REAL_KEY)
            yield road


_numbers = itertools.count(1)


@contextlib.contextmanager
def spoken_by(shared: Road, **project: Any) -> Iterator[Spoken]:
    """A project of the test's own on ``shared``, with an empty book and no lines yet. ``project`` are settings of it, as
    `project_set` takes them."""
    gateway, name = shared.gateway, f"proj_{os.getpid()}_{next(_numbers)}"
    shared.standin.clear()
    config = load_config(gateway.config)
    settings = {"limits": ["10 usd/day"], **project}
    perform(config, "project_set", {"project": name, "tenant": "acme", **settings})
    token = str(perform(config, "token_create", {"projects": [name], "label": "test"})["token"])
    seen = len(gateway.lines())
    road = Road(gateway, shared.standin, shared.directory, name, token, _seen=seen)
    context = ssl.create_default_context(cadata=shared.standin.ca_pem.decode())
    with (
        httpx2.Client(proxy=road.proxy_url, verify=road.context, trust_env=False) as through,
        httpx2.Client(verify=context, trust_env=False) as direct,
    ):
        yield Spoken(road, through, direct)
