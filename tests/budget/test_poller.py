"""Who asks providers for usage that comes later: when, how often, and which of two gateways."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from tests.budget.test_afterwards import HELD, World
from tests.support.calls import lease
from tests.support.clock import Clock

from tollhouse.budget.afterwards import KEPT_S
from tollhouse.budget.poller import FIRST_S, LIST_EVERY_S, LONGEST_S, SHARE, Poller
from tollhouse.call import Amount, Pending
from tollhouse.credential.lease import Lease, NoKey
from tollhouse.dispatch.answer import Answer, AnswerCut, UpstreamError
from tollhouse.dispatch.breaker import Breakers, State
from tollhouse.dispatch.outgoing import Outgoing
from tollhouse.families.meters import Later
from tollhouse.ledger import names
from tollhouse.ledger.ledger import Ledger
from tollhouse.ledger.store.client import connect
from tollhouse.outcome import LateUsage
from tollhouse.providers import Catalog
from tollhouse.providers.openai import OPENAI

RUNS = {"id": "resp_1", "status": "in_progress"}
OVER = {
    **RUNS,
    "status": "completed",
    "model": "priced",
    "usage": {"input_tokens": 90, "output_tokens": 7},
}


LINE = json.dumps(
    {
        "custom_id": "one",
        "response": {
            "status_code": 200,
            "body": {
                "model": "priced",
                "usage": {"prompt_tokens": 90, "completion_tokens": 7},
            },
        },
        "error": None,
    }
).encode()
CUT = b"(the connection is cut here)"


class Provider:
    """Answers as it is told, and writes down what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Outgoing] = []
        self.answer: dict[str, Any] | bytes | int | Exception = RUNS

    async def send(self, outgoing: Outgoing, *, budget_s: float) -> Answer:
        self.asked.append(outgoing)
        if isinstance(self.answer, Exception):
            raise self.answer
        status = self.answer if isinstance(self.answer, int) else 200
        told = LINE if status == 206 else self.answer
        body = told if isinstance(told, bytes) else json.dumps(told).encode()
        parts = [body, b""]

        async def read() -> bytes:
            if parts[0] == CUT:
                raise AnswerCut("upstream_bad_answer", "It ended too early.")
            return parts.pop(0)

        if body.endswith(CUT):
            parts = [body.removesuffix(CUT), CUT]
        return Answer(status, [("content-type", "application/json")], read, lambda: None)


class Keys:
    def __init__(self) -> None:
        self.there = True

    async def get(self, provider: str, tenant: str, project: str) -> Lease:
        if not self.there:
            raise NoKey("There is none.")
        return lease()


class Polled:
    """Two gateways on one Redis, whose time a test moves."""

    def __init__(self, world: World, other: Ledger) -> None:
        self.world = world
        self.clock = Clock()
        self.provider, self.keys = Provider(), Keys()
        self.breakers = Breakers(self.clock)
        self.first = self.poller(world.ledger)
        self.second = self.poller(other)

    def poller(self, ledger: Ledger) -> Poller:
        async def tenants() -> set[str]:
            return {"acme", "other"}

        return Poller(
            self.world.afterwards,
            ledger,
            Catalog((OPENAI,)),
            self.keys,
            self.provider,
            self.breakers,
            tenants,
            clock=self.clock,
            now=lambda: self.world.now,
        )

    async def pass_(self, seconds: float) -> None:
        """Time goes on, and the first takes its turn."""
        self.clock.advance(seconds)
        self.world.now += seconds
        await self.first.turn()


@pytest.fixture
def polled(ledger: Ledger, new_ledger: Callable[[], Ledger], tmp_path: Path) -> Polled:
    return Polled(World(ledger, tmp_path), new_ledger())


async def test_it_asks_until_the_answer_is_over(polled: Polled) -> None:
    """With the path and the key of the call. It charges the usage, and asks no more."""
    await polled.world.waiting()
    await polled.pass_(0)
    assert polled.provider.asked == []
    await polled.pass_(FIRST_S)
    [outgoing] = polled.provider.asked
    assert (outgoing.method, outgoing.host) == ("GET", "api.openai.com")
    assert (outgoing.path_and_query, outgoing.body) == ("/v1/responses/resp_1", None)
    assert outgoing.lease == lease()
    assert await polled.world.money() == (0, HELD.nano_usd)
    polled.provider.answer = OVER
    await polled.pass_(FIRST_S)
    assert await polled.world.money() == (160_000, 0)
    assert [line["charged_by"] for line in polled.world.lines()] == ["usage"]
    await polled.pass_(LONGEST_S)
    assert len(polled.provider.asked) == 2


async def test_it_asks_less_and_less(polled: Polled) -> None:
    """After a fifth of the time that it has waited, and every 10 minutes at least."""
    await polled.world.waiting()
    await polled.pass_(0)
    await polled.pass_(1_000)
    assert len(polled.provider.asked) == 1
    await polled.pass_(SHARE * 1_000 - 1)
    assert len(polled.provider.asked) == 1
    await polled.pass_(1)
    assert len(polled.provider.asked) == 2
    await polled.pass_(100_000)
    await polled.pass_(LONGEST_S)
    assert len(polled.provider.asked) == 4


DONE = {"id": "batch_1", "status": "completed", "output_file_id": "file-2"}


async def batch_waits(polled: Polled) -> None:
    """A batch that shows no usage is over, and its output is what is asked for now."""
    batch = Later("batch_1", "/v1/batches/batch_1", "batch")
    hold = await polled.world.held()
    assert await polled.world.afterwards.keep(hold, batch, Amount())
    await polled.pass_(0)
    polled.provider.answer = DONE
    await polled.pass_(FIRST_S)
    assert await polled.world.money() == (0, HELD.nano_usd)
    await polled.pass_(LIST_EVERY_S)


async def test_it_reads_the_output_of_a_batch(polled: Polled) -> None:
    """With one more request, and charges the sum of its lines."""
    await batch_waits(polled)
    polled.provider.answer = LINE + b"\n" + LINE
    await polled.pass_(FIRST_S)
    assert [one.path_and_query for one in polled.provider.asked] == [
        "/v1/batches/batch_1",
        "/v1/files/file-2/content",
    ]
    assert await polled.world.money() == (320_000, 0)
    [line] = polled.world.lines()
    assert (line["charged_by"], line["tokens"]) == ("usage", {"input": 180, "output": 14})
    await polled.pass_(LONGEST_S)
    assert len(polled.provider.asked) == 2


@pytest.mark.parametrize("answer", [404, 206, b"no JSON", b"", LINE + b"\n" + CUT])
async def test_an_output_that_is_not_to_be_had(polled: Polled, answer: bytes | int) -> None:
    """Nothing is charged by a part of it: the hold stays, and it is asked for again."""
    await batch_waits(polled)
    polled.provider.answer = answer
    await polled.pass_(FIRST_S)
    assert len(polled.provider.asked) == 2
    assert await polled.world.money() == (0, HELD.nano_usd)
    polled.provider.answer = LINE
    await polled.pass_(2 * FIRST_S)
    assert await polled.world.money() == (160_000, 0)


@pytest.mark.parametrize(
    "answer", [404, 429, 500, UpstreamError("upstream_unreachable", "It is away.", "no")]
)
async def test_an_answer_that_is_not_to_be_had(polled: Polled, answer: Any) -> None:
    """It is asked for again, and its hold stays."""
    await polled.world.waiting()
    await polled.pass_(0)
    polled.provider.answer = answer
    await polled.pass_(FIRST_S)
    assert await polled.world.money() == (0, HELD.nano_usd)
    polled.provider.answer = OVER
    await polled.pass_(FIRST_S)
    assert await polled.world.money() == (160_000, 0)


async def test_without_a_key_nothing_leaves(polled: Polled) -> None:
    """Nor while the breaker is open, which its own requests open as well."""
    await polled.world.waiting()
    await polled.pass_(0)
    polled.keys.there = False
    await polled.pass_(FIRST_S)
    assert polled.provider.asked == []
    polled.keys.there = True
    polled.provider.answer = 500
    breaker = polled.breakers.of("api.openai.com", lease().secret.digest, tenant="acme")
    for _ in range(9):
        breaker.failure()
    await polled.pass_(FIRST_S)
    assert breaker.state is State.OPEN
    await polled.pass_(FIRST_S)
    assert len(polled.provider.asked) == 1


async def test_one_of_two_asks(polled: Polled) -> None:
    """The other takes over when the first has stopped."""
    await polled.world.waiting()
    await polled.first.turn()
    await polled.second.turn()
    assert polled.first.due
    assert not polled.second.due
    await polled.first.stop()
    await polled.second.turn()
    assert polled.second.due
    await polled.first.turn()
    assert not polled.first.due


async def test_what_somebody_else_has_seen(polled: Polled) -> None:
    """A call that a client's GET has settled is not asked for."""
    pending = await polled.world.waiting()
    await polled.pass_(0)
    await polled.world.afterwards.forget(pending)
    await polled.pass_(LIST_EVERY_S)
    assert not polled.first.due
    await polled.pass_(FIRST_S)
    assert polled.provider.asked == []


async def test_after_48_hours_it_is_left(polled: Polled) -> None:
    """The ledger sweeps the hold."""
    await polled.world.waiting()
    await polled.pass_(0)
    await polled.pass_(KEPT_S)
    assert polled.provider.asked == []
    assert await polled.world.afterwards.waiting("acme") == []
    assert await polled.world.money() == (0, HELD.nano_usd)


async def test_redis_is_away(polled: Polled, tmp_path: Path) -> None:
    """It waits, and raises nothing."""
    away = Ledger(connect("redis://127.0.0.1:1", tmp_path))
    poller = polled.poller(away)
    await poller.turn()
    await poller.stop()
    await away.close()


async def test_a_gateway_that_stops_drops_what_it_asks_for(polled: Polled) -> None:
    """That harms no breaker, and the call waits on."""
    await polled.world.waiting()
    await polled.pass_(0)
    asked = asyncio.Event()

    async def silence(outgoing: Outgoing, *, budget_s: float) -> Answer:
        asked.set()
        return await asyncio.Future()

    polled.provider.send = silence  # type: ignore[method-assign]
    turn = asyncio.create_task(polled.pass_(FIRST_S))
    await asyncio.wait_for(asked.wait(), 30)
    await polled.first.stop()
    await turn
    assert await polled.world.money() == (0, HELD.nano_usd)
    assert (
        polled.breakers.of("api.openai.com", lease().secret.digest, tenant="acme").state
        is State.CLOSED
    )


async def test_a_long_answer_holds_up_no_other(
    polled: Polled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read over many turns, as long as it brings something: the results of a batch have
    gigabytes. It is asked for once."""
    polled.first.turn_s = 0.0
    await polled.world.waiting()
    await polled.pass_(0)
    begun, go_on = asyncio.Event(), asyncio.Event()
    parts = [json.dumps(OVER).encode(), b""]

    async def read() -> bytes:
        await go_on.wait()
        return parts.pop(0)

    asked: list[Outgoing] = []

    async def send(outgoing: Outgoing, *, budget_s: float) -> Answer:
        asked.append(outgoing)
        begun.set()
        return Answer(200, [("content-type", "application/json")], read, lambda: None)

    polled.provider.send = send  # type: ignore[method-assign]
    await polled.pass_(FIRST_S)
    await asyncio.wait_for(begun.wait(), 30)
    await polled.pass_(LONGEST_S)
    assert len(asked) == 1
    assert await polled.world.money() == (0, HELD.nano_usd)
    settle, settled = polled.world.afterwards.settle, asyncio.Event()

    async def settle_and_say(pending: Pending, seen: LateUsage) -> None:
        await settle(pending, seen)
        settled.set()

    monkeypatch.setattr(polled.world.afterwards, "settle", settle_and_say)
    go_on.set()
    await asyncio.wait_for(settled.wait(), 30)
    assert await polled.world.money() == (160_000, 0)


async def test_what_another_version_has_written_is_forgotten_in_the_end(
    polled: Polled, redis: Redis
) -> None:
    """Else it would count as one that waits for as long as its tenant has others."""
    await polled.world.waiting()
    key = names.later_key("acme")
    for field, record in (("openai new", {"since": polled.world.now, "more": 1}), ("x y", [])):
        await redis.hset(key, field, json.dumps(record))  # type: ignore[misc]
    await polled.pass_(0)
    await polled.pass_(FIRST_S)
    waiting = await polled.world.afterwards.waiting("acme")
    assert sorted(waiting) == ["openai new", "openai resp_1", "x y"]
    await polled.pass_(KEPT_S)
    assert await polled.world.afterwards.waiting("acme") == []
