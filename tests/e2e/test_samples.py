"""Every sample answer of every family through a running gateway, plain and gzipped, at its provider's own host: the client gets
its bytes, and the line its units and its price, worked out here."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.families.samples import SAMPLES, Exchange, Samples
from tests.families.samples.kit import JSON
from tests.support.all_providers import (
    UNPRICED,
    credential_problem,
    host_of,
    open_all,
)
from tests.support.inproc import PROJECT, Inside, open_inside

from tollhouse.demo.standin_book import Received
from tollhouse.demo.standin_script import Steps, reply
from tollhouse.families.base import Asked, Operation, Request
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


def _operation(samples: Samples, exchange: Exchange) -> Operation:
    found = samples.family.operation(exchange.method, exchange.path, exchange.query, samples.host)
    assert found is not None
    return found


def _asked(samples: Samples, exchange: Exchange) -> Asked:
    request = Request(
        _operation(samples, exchange),
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
                if of.provider and _operation(of, exchange).cost == "job":
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
        named = bool(_asked(samples, exchange).model) or not _operation(samples, exchange).metered
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


@pytest.fixture(scope="module")
def gateways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateways]:
    with ExitStack() as stack:
        yield Gateways(stack, tmp_path_factory.mktemp("samples"))


def cost(charge: Charge) -> int:
    if charge.paid is not None:
        return charge.paid
    return sum(rate * getattr(charge.units, unit) for unit, rate in NANO_USD.items())


def _usd(nano_usd: int) -> Decimal:
    return Decimal(nano_usd).scaleb(-9)


def _coded(
    answer: bytes, headers: Sequence[tuple[str, str]], coding: str
) -> tuple[bytes, list[tuple[str, str]]]:
    if coding == "plain":
        return answer, list(headers)
    return gzip.compress(answer), [*headers, ("content-encoding", "gzip")]


def _cut(answer: bytes, size: int) -> list[bytes]:
    return [answer[start : start + size] for start in range(0, len(answer), size)]


SEEN = {
    ("openai", "error in a stream"): (10, 1),
    # It names a response that is not in it: all of gpt-5's context.
    ("openai", "failed response"): (400_000, 2),
    ("openai", "error in a response"): (400_000, 2),
    ("groq", "an error of its own frame"): (10, 1),
    ("openrouter", "an error in a stream"): (10, 1),
    ("", "error"): (5, 1),
    # The provider has counted this input.
    ("anthropic", "error in a stream"): (10, 2),
    ("gemini", "error in a stream"): (7, 1),
    ("bedrock", "an exception in a stream"): (11, 1),
    ("cohere", "an error at the end of a stream"): (10, 1),
    ("cohere", "an error at the end of lines"): (6, 2),
    ("mistral", "an error in a stream"): (10, 1),
}
"""Tokens of the input, as estimated, and of the text before the error. "Say hello." has 10 bytes, so 2.5 tokens. OpenAI's formats
add 4 a message and 3 a request, Gemini's 4 a message, Bedrock's 4 and 4, Cohere's v1 3; the sum is rounded up. "Hel" has 3/4 of
a token and "Hello." 6/4, of Claude's 1.55 times as many."""
HELD = {
    # 10 tokens in, and the cap, or the longest answer; 3 tokens and 18 of speech, two a character.
    "no usage": 60_000 + 10 * 1_000 + 20 * 10_000,
    "response in the background": 60_000 + 10 * 1_000 + 128_000 * 10_000,
    "speech by tokens, untold": 60_000 + 3 * 1_000 + 18 * 10_000,
}
"""Nano-dollars that are held. A job's are set."""
OF_JOB = 2 * 10**9
NEVER_TOLD = {"an upload to a store, in one request"}
"""Jobs whose use is told nowhere."""


def expected(case: Case) -> tuple[str, int]:
    """The rule and the nano-dollars by the table of `budget.charges`."""
    samples, exchange = case
    operation = _operation(samples, exchange)
    if exchange.error:
        if exchange.text is None:
            return "none", 0
        key = exchange.name.removesuffix(" of a deployment")
        of = {"azure": "openai"}.get(samples.provider, samples.provider)
        if key.startswith("Claude's "):
            of, key = "anthropic", key.removeprefix("Claude's ")
        tokens_in, output = SEEN[of, key]
        return "estimate", 60_000 + tokens_in * 1_000 + output * 10_000
    if operation.cost == "free":
        return "none", 0
    if operation.cost == "job":
        return ("hold", OF_JOB) if exchange.name in NEVER_TOLD else ("later", 0)
    if exchange.charges:
        # Neither the request nor the answer of agents that hand over says which model it was: there is no price.
        named = _asked(samples, exchange).model or exchange.charges[0].model
        return "usage", sum(map(cost, exchange.charges)) if named else 0
    name = exchange.name.removesuffix(" of a deployment")
    return ("later", 0) if name == "response in the background" else ("hold", HELD[name])


def _fresh(exchange: Exchange, number: int) -> Exchange:
    """With ids of its own: a job or a response that is known already is not charged twice."""
    answer = exchange.answer
    for name in exchange.created:
        answer = answer.replace(name.encode(), f"{name}{number}".encode())
    return replace(exchange, answer=answer) if exchange.passed is None else exchange


@pytest.mark.parametrize("coding", ["plain", "gzip"])
@pytest.mark.parametrize(
    ("number", "case"),
    list(enumerate(CASES)),
    ids=[f"{s.provider or s.family.name}: {e.name}" for s, e in CASES],
)
def test_a_sample(gateways: Gateways, number: int, case: Case, coding: str) -> None:
    """In three pieces."""
    samples, exchange = case
    if not exchange.charges:
        exchange = _fresh(exchange, 2 * number + (coding == "gzip"))
    answer, headers = _coded(exchange.answer, exchange.headers, coding)
    got, line = gateways.call((samples, exchange), _cut(answer, len(answer) // 3 + 1), headers)
    assert got.status_code == 200, got.text
    assert got.content == (exchange.answer if exchange.passed is None else exchange.passed)
    rule, nano_usd = expected(case)
    assert (line["charged_by"], Decimal(line["cost_usd"])) == (rule, _usd(nano_usd)), line
    assert line["reason"] == ("upstream_error" if exchange.error else "")
    if rule == "later":
        held = OF_JOB if _operation(*case).cost == "job" else HELD["response in the background"]
        assert Decimal(line["held_usd"]) == _usd(held)
    if rule == "usage" and len(exchange.charges) == 1:
        assert line["tokens"] == exchange.charges[0].units.token_counts()


FRAMINGS = {
    "JSON": ("openai", "chat"),
    "server-sent events": ("openai", "stream"),
    "a line of JSON each": ("cohere", "lines"),
    "an array of JSON": ("gemini", "stream as an array"),
    "AWS's event stream": ("bedrock", "converse stream"),
}


@pytest.mark.parametrize("coding", ["plain", "gzip"])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_byte_by_byte(gateways: Gateways, framing: str, coding: str) -> None:
    """As if it had come at once."""
    [(samples, exchange)] = [
        case for case in CASES if (case[0].provider, case[1].name) == FRAMINGS[framing]
    ]
    answer, headers = _coded(exchange.answer, exchange.headers, coding)
    got, line = gateways.call((samples, exchange), _cut(answer, 1), headers)
    assert got.content == (exchange.answer if exchange.passed is None else exchange.passed)
    assert Decimal(line["cost_usd"]) == _usd(sum(map(cost, exchange.charges)))
    assert line["tokens"] == exchange.charges[0].units.token_counts()


def _error(**fields: Any) -> bytes:
    return json.dumps({"error": fields}).encode()


OF_OPENAI = _error(message="m", type="invalid_request_error", param=None, code=None)
ERRORS: dict[str, list[tuple[int, bytes]]] = {
    "openai": [(400, OF_OPENAI), (500, _error(message="m", type="server_error", code=None))],
    "azure": [
        (400, _error(code="content_filter", message="m", innererror={"code": "Filtered"})),
        (404, _error(code="DeploymentNotFound", message="m")),
    ],
    "anthropic": [
        (
            400,
            b'{"type":"error","error":{"type":"invalid_request_error","message":"m"},"request_id":"r"}',
        ),
        (
            529,
            b'{"type":"error","error":{"type":"overloaded_error","message":"m"},"request_id":"r"}',
        ),
    ],
    "gemini": [
        (400, _error(code=400, message="m", status="INVALID_ARGUMENT")),
        (503, b"[" + _error(code=503, message="m", status="UNAVAILABLE") + b"]"),
    ],
    "vertex": [
        (400, _error(code=400, message="m", status="INVALID_ARGUMENT")),
        (503, b"[" + _error(code=503, message="m", status="UNAVAILABLE") + b"]"),
    ],
    "bedrock": [(400, b'{"message":"m"}'), (424, b'{"message":"m","originalStatusCode":500}')],
    "cohere": [(422, b'{"id":"i","message":"m"}'), (503, b'{"id":"i","message":"m"}')],
    "mistral": [
        (
            422,
            b'{"object":"error","message":{"detail":[]},"type":"invalid_request_error","param":null,"code":null}',
        ),
        (503, b'{"object":"error","message":"m","type":"x","param":null,"code":"3505"}'),
    ],
    "groq": [(413, OF_OPENAI), (498, _error(message="m", type="capacity_exceeded"))],
    "deepseek": [(422, OF_OPENAI), (503, OF_OPENAI)],
    "xai": [(400, b'{"code":"invalid-argument","error":"m"}'), (503, OF_OPENAI)],
    "openrouter": [(400, _error(code=400, message="m")), (502, _error(code=502, message="m"))],
    "together": [
        (400, b'{"id":"i",' + OF_OPENAI[1:]),
        (503, b'{"id":"i",' + OF_OPENAI[1:]),
    ],
    "fireworks": [(400, OF_OPENAI), (503, OF_OPENAI)],
    "perplexity": [(400, _error(message="m", type="bad_request", code=400)), (500, OF_OPENAI)],
    "": [(400, b'{"oops":"internal"}')],
}
"""What each provider sends for an error: PROVIDERS.md. A status that says something of the key is in the tests of keys."""
UNDER_200 = [name for name in ERRORS if name not in ("bedrock", "xai")]
"""Bedrock has no such thing. xAI's field `error` is a text in an error status alone."""


def _asks(provider: str) -> list[Case]:
    """A request for a whole answer, and one for a stream, as far as there are samples of them."""
    found: dict[bool, Case] = {}
    for samples, exchange in CASES:
        if samples.provider == provider and _operation(samples, exchange).metered:
            asked = _asked(samples, exchange)
            if asked.model:
                found.setdefault(asked.stream, (samples, exchange))
    return list(found.values())


@pytest.mark.parametrize("coding", ["plain", "gzip"])
@pytest.mark.parametrize("provider", ERRORS)
def test_an_error_status(gateways: Gateways, provider: str, coding: str) -> None:
    """Costs nothing, whatever was asked; the client has it as the provider sent it."""
    for case in _asks(provider):
        for status, body in ERRORS[provider]:
            answer, headers = _coded(body, JSON, coding)
            got, line = gateways.call(case, _cut(answer, len(answer) // 3 + 1), headers, status)
            assert (got.status_code, got.content) == (status, body)
            assert (line["status"], line["charged_by"], line["cost_usd"]) == (status, "none", "0")
            assert line["tokens"] == {}


@pytest.mark.parametrize("coding", ["plain", "gzip"])
@pytest.mark.parametrize("provider", UNDER_200)
def test_an_error_under_200(gateways: Gateways, provider: str, coding: str) -> None:
    """Before any text, and as JSON where JSON was asked for: the same."""
    samples, exchange = _asks(provider)[0]
    for _, body in ERRORS[provider]:
        answer, headers = _coded(body, JSON, coding)
        got, line = gateways.call((samples, exchange), _cut(answer, len(answer) // 3 + 1), headers)
        assert (got.status_code, got.content) == (200, body)
        assert (line["charged_by"], line["cost_usd"]) == ("none", "0"), line
        assert line["reason"] == "upstream_error"
