"""Every sample answer of every family through a running gateway, plain and gzipped, at its provider's own host: the client gets
its bytes, and the line its units and its price, worked out here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.families.samples import Exchange
from tests.support.sampled import (
    CASES,
    Case,
    Gateways,
    asked_of,
    coded,
    cost,
    cut,
    open_gateways,
    operation_of,
    usd,
)


@pytest.fixture(scope="module")
def gateways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateways]:
    with open_gateways(tmp_path_factory.mktemp("samples")) as opened:
        yield opened


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
    operation = operation_of(samples, exchange)
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
        named = asked_of(samples, exchange).model or exchange.charges[0].model
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
    answer, headers = coded(exchange.answer, exchange.headers, coding)
    got, line = gateways.call((samples, exchange), cut(answer, len(answer) // 3 + 1), headers)
    assert got.status_code == 200, got.text
    assert got.content == (exchange.answer if exchange.passed is None else exchange.passed)
    rule, nano_usd = expected(case)
    assert (line["charged_by"], Decimal(line["cost_usd"])) == (rule, usd(nano_usd)), line
    assert line["reason"] == ("upstream_error" if exchange.error else "")
    if rule == "later":
        held = OF_JOB if operation_of(*case).cost == "job" else HELD["response in the background"]
        assert Decimal(line["held_usd"]) == usd(held)
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
    answer, headers = coded(exchange.answer, exchange.headers, coding)
    got, line = gateways.call((samples, exchange), cut(answer, 1), headers)
    assert got.content == (exchange.answer if exchange.passed is None else exchange.passed)
    assert Decimal(line["cost_usd"]) == usd(sum(map(cost, exchange.charges)))
    assert line["tokens"] == exchange.charges[0].units.token_counts()


PRICED = [case for case in CASES if expected(case)[0] == "usage"]


@settings(max_examples=100, deadline=None)
@given(
    case=st.sampled_from(PRICED),
    coding=st.sampled_from(["plain", "gzip"]),
    cuts=st.sets(st.floats(0, 1), max_size=12),
)
def test_cut_anywhere(gateways: Gateways, case: Case, coding: str, cuts: set[float]) -> None:
    """The price does not depend on where an answer is cut, nor do the client's bytes."""
    samples, exchange = case
    answer, headers = coded(exchange.answer, exchange.headers, coding)
    edges = sorted({0, len(answer), *(int(part * len(answer)) for part in cuts)})
    pieces = [answer[start:end] for start, end in pairwise(edges)]
    got, line = gateways.call((samples, exchange), pieces, headers)
    assert got.content == (exchange.answer if exchange.passed is None else exchange.passed)
    assert Decimal(line["cost_usd"]) == usd(expected(case)[1])
