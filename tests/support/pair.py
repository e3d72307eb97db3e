"""A provider and its fallback, each a stand-in of its own, behind a gateway in this process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
from openai import DefaultHttpxClient, OpenAI

from tests.support.gateway import PLACEHOLDER, REAL_KEY
from tests.support.inproc import Inside, open_inside
from tollhouse.credential.vault.embedded_vault import EmbeddedVault
from tollhouse.demo.standin import StandIn
from tollhouse.demo.standin_script import reply

URL = "https://api.openai.com/v1"
CHAT: dict[str, Any] = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "who serves this"}],
    "max_completion_tokens": 50,
}
SECOND_KEY = "sk-the-key-of-the-second-provider-0123456789abcdef"
FAILS = reply(503, b'{"error":{"message":"first is ill"}}', [("x-should-retry", "false")])
LIMITED = reply(429, b'{"error":{"message":"first is busy"}}', [("retry-after", "60")])


class Pair:
    """The gateway, and both providers: ``first`` is openai, ``second`` its fallback at twice the price."""

    def __init__(self, inside: Inside, first: StandIn, second: StandIn) -> None:
        self.inside = inside
        self.first = first
        self.second = second

    def ask(
        self, path: str = "/chat/completions", body: Any = None, **more: Any
    ) -> httpx2.Response:
        with httpx2.Client(
            proxy=self.inside.proxy_url, verify=self.inside.context, trust_env=False, timeout=30
        ) as client:
            return client.post(URL + path, json=CHAT if body is None else body, **more)

    def line(self) -> dict[str, Any]:
        """Of the only call. It is charged what it says, and nothing is held any more."""
        [line] = self.inside.lines()
        limits = self.inside.budget().values()
        usd = next(limit for limit in limits if "usd" in limit["limit"])
        assert Decimal(usd["used"]) == Decimal(line["cost_usd"])
        assert Decimal(line["cost_usd"]) <= Decimal(line["held_usd"])
        assert (usd["held"], self.inside.held()) == ("0", [])
        return line

    @property
    def seen(self) -> tuple[int, int]:
        return len(self.first.snapshot()), len(self.second.snapshot())


@contextlib.contextmanager
def a_pair(
    directory: Path,
    *,
    limit: str = "1 usd/day",
    models: Sequence[str] = (),
    estimate: str = "typical",
    key: bool = True,
    clamp: bool = False,
    first: dict[str, Any] | None = None,
    second: dict[str, Any] | None = None,
    prices: dict[str, dict[str, Any]] | None = None,
) -> Iterator[Pair]:
    with StandIn(key=REAL_KEY) as one, StandIn(key=SECOND_KEY, hosts=("second.test",)) as two:
        two.write_ca(directory / "second-ca.pem")
        settings: dict[str, dict[str, Any]] = {
            "providers.openai": {"fallback": "second", "attempts": 1, **(first or {})},
            "providers.second": {
                "family": "openai",
                "hosts": ["second.test"],
                "connect_to": two.address,
                "allow_private": True,
                "ca_file": "second-ca.pem",
                "attempts": 1,
                **(second or {}),
            },
            'prices."openai/gpt-4o"': {"input": "2.50", "output": "10"},
            **(
                {'prices."second/gpt-4o"': {"input": "5", "output": "20"}}
                if prices is None
                else prices
            ),
            "projects.proj_123": {
                "tenant": "acme",
                "limits": [limit],
                "models": list(models),
                "estimate": estimate,
                "on_shortfall": "clamp" if clamp else "reject",
            },
        }
        with open_inside(directory, settings, standin=one) as inside:
            if key:
                EmbeddedVault(directory / "state").set("second", SECOND_KEY)
            yield Pair(inside, one, two)


@contextlib.contextmanager
def an_sdk(pair: Pair) -> Iterator[OpenAI]:
    """With two retries of its own."""
    client = DefaultHttpxClient(
        proxy=pair.inside.proxy_url, verify=pair.inside.context, trust_env=False
    )
    with OpenAI(api_key=PLACEHOLDER, http_client=client) as sdk:
        yield sdk
