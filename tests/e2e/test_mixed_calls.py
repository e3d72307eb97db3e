"""Calls of all families at once, some of which end in the middle: the lines are the provider's own book.

There are 1,000 calls; ``MIXED_CALLS=100`` in the environment makes as many of them.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple

import httpx2
import pytest
from aiohttp import web
from tests.families.samples import anthropic, cohere, google, mistral
from tests.families.samples.kit import sse
from tests.support import standin_bedrock as bedrock
from tests.support.gateway import REAL_KEY, Road, open_road

from tollhouse.demo.standin import StandIn
from tollhouse.demo.standin_script import Behaviour, reply

CALLS = int(os.environ.get("MIXED_CALLS", "1000"))
AT_ONCE = 8
RUNTIME = "bedrock-runtime.us-east-1.amazonaws.com"
JSON = [("content-type", "application/json")]
EVENTS = [("content-type", "text/event-stream; charset=utf-8")]
ARRAY = [("content-type", "application/json; charset=UTF-8")]
SAID: list[Any] = [{"role": "user", "content": "Who pays at the tollhouse?"}]
PARTS: list[Any] = [{"role": "user", "parts": [{"text": "Who pays?"}]}]
WORDS = ["The", " traveller", " pays."]
NUMBER = "x-number"


class Api(NamedTuple):
    """One way to call a model. Prices are nano-dollars a token. ``answer`` gets the counts of input
    and output."""

    url: str
    body: dict[str, Any]
    prices: tuple[int, int]
    answer: Callable[[int, int], Behaviour]


def _openai(document: dict[str, Any], tokens_in: int, output: int) -> str:
    usage = {"prompt_tokens": tokens_in, "completion_tokens": output}
    return json.dumps({"id": "1", "model": "gpt-4o", "choices": [], **document, "usage": usage})


def _openai_stream(tokens_in: int, output: int) -> Behaviour:
    words = [
        json.dumps({"model": "gpt-4o", "choices": [{"index": 0, "delta": {"content": word}}]})
        for word in WORDS
    ]
    frames = [sse(one) for one in (*words, _openai({}, tokens_in, output), "[DONE]")]
    return reply(200, frames, EVENTS)


def _openai_whole(tokens_in: int, output: int) -> Behaviour:
    return reply(200, _openai({}, tokens_in, output).encode(), JSON)


def _anthropic_stream(tokens_in: int, output: int) -> Behaviour:
    frames = [
        anthropic.start({"input_tokens": tokens_in, "output_tokens": 1}),
        *map(anthropic.text, WORDS),
        anthropic.delta({"output_tokens": output}),
        anthropic.STOP,
    ]
    return reply(200, frames, EVENTS)


def _gemini_array(tokens_in: int, output: int) -> Behaviour:
    *first, last = [google.answer(word) for word in WORDS]
    ended = {**json.loads(last), **google.counts(tokens_in, output)}
    frames = [f"[{first[0]}", *(f",\r\n{one}" for one in (*first[1:], json.dumps(ended))), "]"]
    return reply(200, [one.encode() for one in frames], ARRAY)


def _gemini_events(tokens_in: int, output: int) -> Behaviour:
    ended = google.answer(WORDS[-1], **google.counts(tokens_in, output))
    return reply(200, [sse(one) for one in (*map(google.answer, WORDS[:-1]), ended)], EVENTS)


def _mistral_stream(tokens_in: int, output: int) -> Behaviour:
    usage = {"prompt_tokens": tokens_in, "completion_tokens": output}
    usage["total_tokens"] = tokens_in + output
    pieces = [*map(mistral.chunk, WORDS), mistral.chunk("", "stop", usage), "[DONE]"]
    return reply(200, [sse(one) for one in pieces], EVENTS)


def _cohere(tokens_in: int, output: int) -> dict[str, Any]:
    return {"billed_units": {"input_tokens": tokens_in, "output_tokens": output}}


def _cohere_stream(tokens_in: int, output: int) -> Behaviour:
    last = cohere.end(finish_reason="COMPLETE", usage=_cohere(tokens_in, output))
    return reply(200, [cohere.START, *map(cohere.said, WORDS), last], EVENTS)


def _cohere_whole(tokens_in: int, output: int) -> Behaviour:
    return reply(200, cohere.whole("You.", _cohere(tokens_in, output)), JSON)


def _bedrock_stream(tokens_in: int, output: int) -> Behaviour:
    return bedrock.streamed(bedrock.converse_frames(WORDS, bedrock.usage(tokens_in, output)))


_CHAT = {"messages": SAID, "max_tokens": 99}
_GEMINI = "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:"
_CONVERSE = f"https://{RUNTIME}/model/us.amazon.nova-lite-v1:0/converse-stream"
_SPOKEN = {"inferenceConfig": {"maxTokens": 99}}
_STREAMED = {**_CHAT, "stream": True}
APIS = {
    "openai": Api(
        "https://api.openai.com/v1/chat/completions",
        {**_CHAT, "model": "gpt-4o"},
        (2_500, 10_000),
        _openai_whole,
    ),
    "openai stream": Api(
        "https://api.openai.com/v1/chat/completions",
        {**_STREAMED, "model": "gpt-4o"},
        (2_500, 10_000),
        _openai_stream,
    ),
    "anthropic stream": Api(
        "https://api.anthropic.com/v1/messages",
        {**_STREAMED, "model": "claude-sonnet-5"},
        (2_000, 10_000),
        _anthropic_stream,
    ),
    "gemini array": Api(
        f"{_GEMINI}streamGenerateContent", {"contents": PARTS}, (300, 2_500), _gemini_array
    ),
    "gemini events": Api(
        f"{_GEMINI}streamGenerateContent?alt=sse",
        {"contents": PARTS},
        (300, 2_500),
        _gemini_events,
    ),
    "mistral stream": Api(
        "https://api.mistral.ai/v1/chat/completions",
        {**_STREAMED, "model": "mistral-small-2603"},
        (150, 600),
        _mistral_stream,
    ),
    "cohere": Api(
        "https://api.cohere.com/v2/chat",
        {**_CHAT, "model": "command-a-03-2025"},
        (2_500, 10_000),
        _cohere_whole,
    ),
    "cohere stream": Api(
        "https://api.cohere.com/v2/chat",
        {**_STREAMED, "model": "command-a-03-2025"},
        (2_500, 10_000),
        _cohere_stream,
    ),
    "bedrock stream": Api(
        _CONVERSE,
        {"messages": [{"role": "user", "content": [{"text": "Who pays?"}]}], **_SPOKEN},
        (60, 240),
        _bedrock_stream,
    ),
}


class Plan(NamedTuple):
    """One call. ``cut``: the provider breaks off after so many pieces. ``leaves``: the client goes
    after the first bytes."""

    number: int
    api: Api
    tokens_in: int
    output: int
    cut: int | None
    leaves: bool

    @property
    def cost(self) -> Decimal:
        price_in, price_out = self.api.prices
        return Decimal(self.tokens_in * price_in + self.output * price_out) / 10**9

    @property
    def behaviour(self) -> Behaviour:
        made = self.api.answer(self.tokens_in, self.output)
        return Behaviour(reply=made.reply, cut_after=self.cut)


def plans() -> list[Plan]:
    """The same each time. Of five calls one is cut and one is left."""
    chance = random.Random(5)
    apis = list(APIS.values())
    made = []
    for number in range(CALLS):
        end = chance.randrange(5)
        made.append(
            Plan(
                number,
                apis[number % len(apis)],
                chance.randrange(1, 5_000),
                chance.randrange(1, 900),
                chance.randrange(3) if end == 0 else None,
                end == 1,
            )
        )
    return made


class Mixed(StandIn):
    """Each request says which answer is for it."""

    planned: list[Plan]

    def behaviour(self, request: web.BaseRequest) -> Behaviour:
        return self.planned[int(request.headers[NUMBER])].behaviour


@pytest.fixture
def road(tmp_path: Any) -> Iterator[Road]:
    own = {
        "anthropic": "api.anthropic.com",
        "gemini": "generativelanguage.googleapis.com",
        "mistral": "api.mistral.ai",
        "cohere": "api.cohere.com",
        "bedrock": RUNTIME,
    }
    hosts = ("localhost", "api.openai.com", *own.values())
    with Mixed(key=REAL_KEY, hosts=hosts) as standin:
        entry = {"connect_to": standin.address, "allow_private": True, "ca_file": "provider-ca.pem"}
        settings: Any = {f"providers.{name}": {**entry, "hosts": [own[name]]} for name in own}
        limits = ("1000 usd/day",)
        with open_road(tmp_path / "road", settings, standin=standin, limits=limits) as road:
            for name in own:
                road.gateway.tollhouse("key", "set", name, stdin=REAL_KEY)
            yield road


async def _call(client: httpx2.AsyncClient, plan: Plan) -> bool:
    """Whether the answer came whole."""
    headers = {NUMBER: str(plan.number), "x-coreason-trace-id": f"call-{plan.number}"}
    try:
        async with client.stream("POST", plan.api.url, json=plan.api.body, headers=headers) as got:
            async for _ in got.aiter_raw():
                if plan.leaves:
                    return False
            return got.status_code == 200
    except httpx2.HTTPError:
        return False


async def _all(road: Road, planned: list[Plan]) -> dict[int, bool]:
    waiting = iter(planned)
    whole: dict[int, bool] = {}

    async def worker() -> None:
        async with httpx2.AsyncClient(
            proxy=road.proxy_url, verify=road.context, trust_env=False, timeout=30
        ) as client:
            for plan in waiting:
                whole[plan.number] = await _call(client, plan)

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    return whole


async def test_the_lines_are_the_providers_book(road: Road) -> None:
    """What was served in full costs what the provider counts, to the nano-dollar. The budget is the
    sum of the lines, and nothing is held."""
    planned = plans()
    standin = road.standin
    assert isinstance(standin, Mixed)
    standin.planned = planned
    whole = await _all(road, planned)
    lines = {line["trace_id"]: line for line in road.wait_lines(CALLS, 60.0)}
    assert len(lines) == CALLS
    for plan in planned:
        line = lines[f"call-{plan.number}"]
        if whole[plan.number]:
            assert line["charged_by"] == "usage", (plan, line)
        if line["charged_by"] == "usage" and (plan.cut is None or whole[plan.number]):
            assert Decimal(line["cost_usd"]) == plan.cost, (plan, line)
    served = {int(one.get(NUMBER)) for one in standin.snapshot() if one.outcome == "answered"}
    came = {number for number, all_of_it in whole.items() if all_of_it}
    assert came <= served
    assert len(came) > CALLS // 2
    book = sum((planned[number].cost for number in came), Decimal(0))
    told = sum((Decimal(lines[f"call-{number}"]["cost_usd"]) for number in came), Decimal(0))
    assert told == book
    [state] = road.budget().values()
    assert Decimal(state["used"]) == sum(
        (Decimal(line["cost_usd"]) for line in lines.values()), Decimal(0)
    )
    assert Decimal(state["held"]) == 0
