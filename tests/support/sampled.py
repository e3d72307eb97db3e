"""Sample answers of every family through a running gateway, at their providers' own hosts and at prices of these tests."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2

from tests.families.samples import SAMPLES, Exchange, Samples
from tests.support.all_providers import UNPRICED, credential_problem, host_of, open_all
from tests.support.inproc import PROJECT, Inside, open_inside
from tollhouse.demo.standin_book import Received
from tollhouse.demo.standin_script import Steps, reply
from tollhouse.families.asked import Asked, Request
from tollhouse.families.operation import Operation
from tollhouse.families.units import Charge

OPENAI = "api.openai.com"
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
OF_TINY: dict[str, Any] = {
    'prices."openai/*"': PRICES,
    "providers.openai": {"share_objects": True},
    f"projects.{PROJECT}": {"limits": ["100000 usd/day"]},
}
Case = tuple[Samples, Exchange]
CASES: list[Case] = [(samples, exchange) for samples in SAMPLES for exchange in samples.exchanges]


def operation_of(samples: Samples, exchange: Exchange) -> Operation:
    found = samples.family.operation(exchange.method, exchange.path, exchange.query, samples.host)
    assert found is not None
    return found


def asked_of(samples: Samples, exchange: Exchange) -> Asked:
    request = Request(
        operation_of(samples, exchange),
        exchange.path,
        exchange.sent,
        exchange.request,
        exchange.query,
    )
    return samples.family.read(request, samples.dialect)


class Gateways:
    """One for all providers, one for the tests' own family, each opened when it is first asked for."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        self._stack = stack
        self._directory = directory
        self._open: dict[str, Inside] = {}
        self._tokens: dict[tuple[int, str], str] = {}

    def of(self, samples: Samples) -> Inside:
        kind = "all" if samples.provider else "tiny"
        if kind not in self._open:
            directory = self._directory / kind
            directory.mkdir()
            allow: dict[str, list[str]] = {}
            for of, exchange in CASES:
                if of.provider and operation_of(of, exchange).cost == "job":
                    allow.setdefault(of.provider, []).append(f"{exchange.method} {exchange.path}")
            opened = (
                open_all(directory, PRICES, allow)
                if samples.provider
                else open_inside(directory, OF_TINY, family=samples.family, dialect=samples.dialect)
            )
            self._open[kind] = self._stack.enter_context(opened)
        return self._open[kind]

    def proxy(self, inside: Inside, project: str) -> str:
        if project == PROJECT:
            return inside.proxy_url
        key = id(inside), project
        if key not in self._tokens:
            made = inside.do(
                inside.gateway.operations.perform("token_create", {"projects": [project]})
            )
            self._tokens[key] = made["token"]
        return f"http://{project}:{self._tokens[key]}@{inside.gateway.addresses['proxy']}"

    def call(
        self,
        case: Case,
        pieces: Sequence[bytes],
        headers: Sequence[tuple[str, str]],
        status: int = 200,
    ) -> tuple[httpx2.Response, dict[str, Any]]:
        """The answer at the client, and the line."""
        samples, exchange = case
        inside = self.of(samples)
        inside.standin.clear()
        steps = Steps()
        inside.standin.script(replace(reply(status, pieces, headers), steps=steps))
        seen = len(inside.lines())
        host = host_of(samples.provider, exchange.path) if samples.provider else OPENAI
        query = f"?{exchange.query}" if exchange.query else ""
        named = (
            bool(asked_of(samples, exchange).model) or not operation_of(samples, exchange).metered
        )
        proxy = self.proxy(inside, PROJECT if named else UNPRICED)
        with (
            httpx2.Client(proxy=proxy, verify=inside.context, trust_env=False) as client,
            ThreadPoolExecutor(1) as thread,
        ):
            answer = thread.submit(
                client.request,
                exchange.method,
                f"https://{host}{exchange.path}{query}",
                headers=list(exchange.sent),
                content=exchange.request,
            )
            _let_out(inside, steps, len(pieces), answer)
            got = answer.result(30)
        inside.until(lambda gateway: not gateway.journey.under_way)
        received = inside.standin.snapshot()
        assert received, got.text
        if samples.provider:
            assert received[0].sni == host
            assert credential_problem(received[0], samples.provider) == ""
        [line] = inside.lines()[seen:]
        return got, line


def _let_out(inside: Inside, steps: Steps, count: int, answer: Future[httpx2.Response]) -> None:
    """Piece by piece. What is written at once arrives as one, so the gateway turns between two pieces."""

    async def turns(most: int) -> None:
        for _ in range(most):
            await asyncio.sleep(0)

    for number in range(count):
        steps.release()

        def sent(book: list[Received], most: int = number) -> bool:
            return answer.done() or bool(book and len(book[0].sent) > most)

        assert inside.standin.wait_for(sent)
        inside.do(turns(6 if number else 100))


@contextmanager
def open_gateways(directory: Path) -> Iterator[Gateways]:
    with ExitStack() as stack:
        yield Gateways(stack, directory)


def cost(charge: Charge) -> int:
    if charge.paid is not None:
        return charge.paid
    return sum(rate * getattr(charge.units, unit) for unit, rate in NANO_USD.items())


def usd(nano_usd: int) -> Decimal:
    return Decimal(nano_usd).scaleb(-9)


def coded(
    answer: bytes, headers: Sequence[tuple[str, str]], coding: str
) -> tuple[bytes, list[tuple[str, str]]]:
    if coding == "plain":
        return answer, list(headers)
    return gzip.compress(answer), [*headers, ("content-encoding", "gzip")]


def cut(answer: bytes, size: int) -> list[bytes]:
    return [answer[start : start + size] for start in range(0, len(answer), size)]
