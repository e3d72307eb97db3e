"""Every sample answer of every family through a running gateway, plain and gzipped: the client gets its bytes, and the line its
units and its price, worked out here."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.families.samples import SAMPLES, Exchange, Samples
from tests.support.inproc import PROJECT, Inside, open_inside

from tollhouse.demo.standin_script import reply
from tollhouse.families.base import Request
from tollhouse.families.units import Charge

HOST = "api.openai.com"
NANO_USD = {
    "input": 1_000,
    "output": 10_000,
    "milliseconds": 1_000,
    "characters": 20_000,
    "images": 30_000_000,
    "pages": 40_000_000,
    "searches": 50_000_000,
    "requests": 60_000,
}
"""What a unit costs here; the parts of input and output cost what these do."""
PRICES = {
    **dict.fromkeys(("input", "cached", "cache_write", "input_audio", "cached_audio"), "1"),
    **dict.fromkeys(("output", "reasoning", "output_audio", "output_image"), "10"),
    "input_image": "1",
    "second": "0.001",
    "characters": "20",
    "image": "0.03",
    "page": "0.04",
    "search": "0.05",
    "request": "0.00006",
}
SETTINGS: dict[str, Any] = {
    'prices."openai/*"': PRICES,
    "providers.openai": {"share_objects": True},
    f"projects.{PROJECT}": {"limits": ["100000 usd/day"]},
}


def _metered(samples: Samples, exchange: Exchange) -> bool:
    """It is charged by its answer, and for a model that the request names: an agent's has no price."""
    family = samples.family
    operation = family.operation(exchange.method, exchange.path, exchange.query, HOST)
    if operation is None or operation.cost != "metered" or not exchange.charges:
        return False
    request = Request(operation, exchange.path, exchange.sent, exchange.request, exchange.query)
    return bool(family.read(request, samples.dialect).model)


CASES = [
    (at, exchange)
    for at, samples in enumerate(SAMPLES)
    for exchange in samples.exchanges
    if _metered(samples, exchange) and not exchange.error
]


class Gateways:
    """One for each family, opened when it is first asked for."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        self._stack = stack
        self._directory = directory
        self._open: dict[int, Inside] = {}

    def of(self, at: int) -> Inside:
        if at not in self._open:
            opened = open_inside(
                self._directory / str(at),
                SETTINGS,
                family=SAMPLES[at].family,
                dialect=SAMPLES[at].dialect,
            )
            (self._directory / str(at)).mkdir()
            self._open[at] = self._stack.enter_context(opened)
        return self._open[at]


@pytest.fixture(scope="module")
def gateways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateways]:
    with ExitStack() as stack:
        yield Gateways(stack, tmp_path_factory.mktemp("samples"))


def cost(charge: Charge) -> int:
    if charge.paid is not None:
        return charge.paid
    return sum(rate * getattr(charge.units, unit) for unit, rate in NANO_USD.items())


@pytest.mark.parametrize("coding", ["plain", "gzip"])
@pytest.mark.parametrize(
    ("at", "exchange"), CASES, ids=[f"{SAMPLES[at].family.name}: {e.name}" for at, e in CASES]
)
def test_a_sample(gateways: Gateways, at: int, exchange: Exchange, coding: str) -> None:
    inside = gateways.of(at)
    inside.standin.clear()
    headers = list(exchange.headers)
    answer = exchange.answer
    if coding == "gzip":
        answer = gzip.compress(answer)
        headers.append(("content-encoding", "gzip"))
    third = len(answer) // 3 + 1
    pieces = [answer[start : start + third] for start in range(0, len(answer), third)]
    inside.standin.script(reply(200, pieces, headers))
    seen = len(inside.lines())
    query = f"?{exchange.query}" if exchange.query else ""
    with httpx2.Client(proxy=inside.proxy_url, verify=inside.context, trust_env=False) as client:
        got = client.request(
            exchange.method,
            f"https://{HOST}{exchange.path}{query}",
            headers=list(exchange.sent),
            content=exchange.request,
        )
    assert got.status_code == 200, got.text
    assert got.content == (exchange.answer if exchange.passed is None else exchange.passed)
    inside.until(lambda gateway: not gateway.journey.under_way)
    [line] = inside.lines()[seen:]
    assert line["charged_by"] == "usage", line
    expected = sum(map(cost, exchange.charges))
    assert Decimal(line["cost_usd"]) == Decimal(expected).scaleb(-9)
    if len(exchange.charges) == 1:
        assert line["tokens"] == exchange.charges[0].units.token_counts()
