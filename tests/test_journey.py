"""The coroutine that owns a call: each way it can end is settled once, written once and answered at most once.

It is long because each ending is walked through to its line.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.wire import FakeWire, a_head, an_exchange
from tollhouse.book import Book
from tollhouse.budget.purse import Purse
from tollhouse.call import Attempt, Call, Identity, Project, Usage
from tollhouse.clearance import Clearance
from tollhouse.credential.lease import CredentialUnavailable, Lease, NoKey
from tollhouse.credential.secret import Secret
from tollhouse.denial import Decision, Denial, Refused
from tollhouse.journey import Journey
from tollhouse.ledger import names as keys
from tollhouse.ledger.ledger import Ledger, LedgerUnavailable, Scope
from tollhouse.ledger.limits import parse_limit
from tollhouse.ledger.spool import Spool
from tollhouse.ledger.store.client import connect
from tollhouse.ledger.transitions import Answer
from tollhouse.listen.exchange import Exchange
from tollhouse.prices.table import PriceTable
from tollhouse.providers.openai import OPENAI

PROJECT = Scope("project", "acme", "proj_1")
PRICES = PriceTable({}, {"openai/priced": {"input": "1", "output": "10"}})
HELD, USED = 600_000, 160_000
"""Nano-dollars: 100 tokens in and 50 out, 90 in and 7 out."""

Run = Callable[[Call, Exchange, Callable[[], Awaitable[None]]], Awaitable[None]]


class Gate:
    """A gate that does what it is told."""

    def __init__(self, name: str, act: Callable[[Call, Exchange], Any] | None = None) -> None:
        self.name = name
        self.act = act
        self.asked = 0

    async def __call__(self, call: Call, exchange: Exchange) -> Decision:
        self.asked += 1
        outcome = self.act(call, exchange) if self.act else None
        if asyncio.iscoroutine(outcome):
            outcome = await outcome
        return Decision.allow(self.name) if outcome is None else outcome


class Leases:
    def __init__(self) -> None:
        self.error: Exception | None = None

    async def get(self, provider: str, tenant: str, project: str) -> Lease:
        if self.error is not None:
            raise self.error
        secret = Secret("sk-a-key-of-this-test")
        return Lease(secret, "3", secret.fingerprint, "infrastructure/openai")


@dataclass
class FakeDelivery:
    run_it: Run
    call: Call
    exchange: Exchange
    on_read_on: Callable[[Call], None]
    log: list[str]

    async def run(self, conclude: Callable[[], Awaitable[None]]) -> None:
        self.log.append("run")
        await self.run_it(self.call, self.exchange, conclude)

    async def read_on(self) -> None:
        self.log.append("read_on")
        self.on_read_on(self.call)

    async def close(self) -> None:
        self.log.append("close")


@dataclass
class FakeRelay:
    run_it: Run
    on_read_on: Callable[[Call], None] = lambda call: None
    log: list[str] = field(default_factory=list)

    def delivery(self, clearance: Clearance, exchange: Exchange) -> FakeDelivery:
        assert isinstance(clearance, Clearance)
        return FakeDelivery(self.run_it, clearance.call, exchange, self.on_read_on, self.log)


class GatedLedger(Ledger):
    """A Redis that takes its time, or is away, at the moment that a test chooses."""

    held: asyncio.Event | None = None
    settled: asyncio.Event | None = None
    away = False
    asked: int = 0

    async def hold(self, *arguments: Any, **options: Any) -> Any:
        if self.held is not None:
            await self.held.wait()
        return await super().hold(*arguments, **options)

    async def settle(self, *arguments: Any, **options: Any) -> Answer:
        self.asked += 1
        if self.settled is not None:
            await self.settled.wait()
        if self.away:
            raise LedgerUnavailable("away")
        return await super().settle(*arguments, **options)


class World:
    """A journey, its parts, and what can be seen of it from outside."""

    def __init__(self, directory: Path) -> None:
        self.redis = connect("embedded", directory)
        self.ledger = GatedLedger(self.redis)
        self.purse = Purse(self.ledger, PRICES, Spool(directory))
        self.file = directory / "calls.jsonl"
        self.book = Book(self.file)
        self.admit, self.read = Gate("admit", admit), Gate("read")
        self.leases = Leases()
        self.relay = FakeRelay(answer)
        self.journey = Journey((self.admit, self.read, self.purse), self.leases, self.purse, self.relay, self.book)  # type: ignore[arg-type]
        self.journey.open = True
        self.exchange, self.wire = an_exchange()

    async def travel(self) -> dict[str, Any]:
        """The whole journey; the call's line."""
        await self.journey.travel(self.exchange)
        return await self.ended()

    def begin(self) -> asyncio.Task[None]:
        return asyncio.ensure_future(self.journey.travel(self.exchange))  # type: ignore[return-value]

    async def ended(self) -> dict[str, Any]:
        """What is true of every ending; the line."""
        assert self.exchange.finished
        assert self.wire.ends == (0 if self.exchange.gone else 1)
        assert not self.journey.under_way
        assert await self.journey.drained(0)
        assert self.purse.held == {}
        [shown] = await self.ledger.show([PROJECT])
        assert [limit.held for limit in shown.limits] == [0, 0]
        [line] = self.lines()
        assert self.wire.headers.get("x-tollhouse-call-id", line["call_id"]) == line["call_id"]
        return line

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.read_text().splitlines()]

    async def used(self) -> tuple[int, int]:
        """Nano-dollars and requests."""
        [shown] = await self.ledger.show([PROJECT])
        usd, requests = (limit.used for limit in shown.limits)
        return usd, requests

    async def records(self) -> list[str]:
        """Call ids in the tenant's stream."""
        return [fields[b"call_id"].decode() for _, fields in await self.redis.xrange(keys.calls_key("acme"))]


def admit(call: Call, _: Exchange) -> None:
    call.provider, call.host, call.path = OPENAI, "api.openai.com", "/v1/chat/completions"
    call.endpoint = OPENAI.endpoint("POST", call.path)
    call.identity = Identity("tok_1", "acme", ("proj_1",))
    call.project = Project("proj_1", "acme", ("10 usd/day",))
    call.model, call.input_estimate, call.output_cap, call.capped = "priced", 100, 50, True


def answered(call: Call, usage: bool = True) -> None:
    """The provider's answer has been read to its end."""
    call.attempts.append(Attempt("200", 1.0))
    call.status = call.upstream_status = 200
    call.complete = True
    call.usage = Usage(input=90, output=7) if usage else None


async def answer(call: Call, exchange: Exchange, conclude: Callable[[], Awaitable[None]]) -> None:
    answered(call)
    await conclude()
    exchange.answer(200, [("x-tollhouse-call-id", call.id)], b"{}")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    await made.ledger.set_limits(PROJECT, [parse_limit("10 usd/day"), parse_limit("100 requests/day")])
    yield made
    await made.ledger.close()
    made.book.close()


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# The ordinary end.


async def test_an_answer(world: World) -> None:
    """Settled and written before its last byte goes out, and not again."""

    async def run(call: Call, exchange: Exchange, conclude: Callable[[], Awaitable[None]]) -> None:
        answered(call)
        exchange.start(200, [("x-tollhouse-call-id", call.id)])
        await exchange.send(b"first")
        assert world.lines() == []
        await conclude()
        assert len(world.lines()) == 1
        assert await world.used() == (USED, 1)
        await exchange.send(b"last")
        exchange.end()

    world.relay.run_it = run
    line = await world.travel()
    assert (line["status"], line["decision"], line["reason"], line["charged_by"]) == (200, "allow", "", "usage")
    assert (line["cost_usd"], line["held_usd"]) == ("0.00016", "0.0006")
    assert world.relay.log == ["run", "close"]
    assert world.wire.pieces == [b"first", b"last"]
    assert await world.records() == [line["call_id"]]
    assert world.ledger.asked == 1


# Gates.


def refuse(*_: Any) -> Decision:
    return Decision.refuse("read", Denial("bad_request", "Because."))


def refuse_by_raising(*_: Any) -> None:
    raise Refused("bad_request", "Because.")


def boom(*_: Any) -> None:
    raise RuntimeError("injected")


@pytest.mark.parametrize(
    ("act", "status", "reason"),
    [
        (refuse, 400, "bad_request"),
        (refuse_by_raising, 400, "bad_request"),
        (boom, 503, "internal"),
        (lambda *_: "yes", 503, "internal"),
        (lambda *_: True, 503, "internal"),
    ],
    ids=["refuses", "raises a refusal", "raises", "gives a string", "gives True"],
)
@pytest.mark.parametrize("which", ["read", "after the hold"])
async def test_a_gate_that_does_not_allow(
    world: World, which: str, act: Callable[..., Any], status: int, reason: str
) -> None:
    """Nothing leaves, what was held is given back, the client is told in its provider's format."""
    if which == "read":
        world.read.act = act
    else:
        world.journey._gates = (*world.journey._gates, Gate("late", act))
    line = await world.travel()
    assert (line["status"], line["decision"], line["reason"]) == (status, "deny", reason)
    assert (world.wire.status, world.wire.json()["error"]["code"]) == (status, reason)
    assert line["charged_by"] == "none"
    assert await world.used() == (0, 0)
    assert await world.records() == []
    assert world.relay.log == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (CredentialUnavailable("Vault at https://vault.internal is sealed."), "credential_unavailable"),
        (RuntimeError("injected"), "internal"),
    ],
)
async def test_no_key(world: World, error: Exception, reason: str) -> None:
    """The hold is given back, the request count too; where Vault is stays between us."""
    world.leases.error = error
    line = await world.travel()
    assert (world.wire.status, line["reason"], line["gate"]) == (503, reason, "credential")
    assert b"vault" not in world.wire.body.lower().replace(b"look at `tollhouse check`: vault", b"")
    assert await world.used() == (0, 0)
    assert world.relay.log == []


async def test_no_key_anywhere(world: World) -> None:
    """Asking again does not help and is not asked for; the words name the provider, not where the store is."""
    world.leases.error = NoKey("There is no secret at secret/infrastructure/openai.")
    line = await world.travel()
    assert (world.wire.status, line["reason"], line["gate"]) == (503, "credential_unavailable", "credential")
    assert world.wire.headers["x-should-retry"] == "false"
    assert "retry-after" not in world.wire.headers
    message = world.wire.json()["error"]["message"]
    assert "There is no key for openai." in message
    assert "`tollhouse key test openai`" in message
    assert "infrastructure" not in message
    assert await world.used() == (0, 0)
    assert world.relay.log == []


async def test_a_listener_that_could_not_read_the_head(world: World) -> None:
    """Its answer is all there is: no gate is asked."""
    world.exchange.defect = Denial("headers_too_large")
    line = await world.travel()
    assert (world.wire.status, line["gate"], line["reason"]) == (431, "listener", "headers_too_large")
    assert world.admit.asked == 0


async def test_a_gateway_that_takes_no_calls(world: World) -> None:
    """It starts or stops: 503, and to be tried again in a moment."""
    world.journey.open = False
    line = await world.travel()
    assert (world.wire.status, line["reason"]) == (503, "draining")
    assert world.wire.headers["retry-after"] == "1"
    assert world.admit.asked == 0


# Dispatch.


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [(Refused("upstream_timeout"), 504, "upstream_timeout"), (RuntimeError("injected"), 503, "internal")],
)
async def test_no_answer(world: World, error: Exception, status: int, reason: str) -> None:
    """A refusal of ours in its place; an attempt that may have arrived is one request and no money."""

    async def run(call: Call, *_: Any) -> None:
        call.attempts.append(Attempt("upstream_timeout", 1.0, True))
        raise error

    world.relay.run_it = run
    line = await world.travel()
    assert (line["status"], line["decision"], line["reason"], line["gate"]) == (status, "fail", reason, "dispatch")
    assert (world.wire.status, world.wire.cut) == (status, False)
    assert await world.used() == (0, 1)
    assert world.relay.log == ["run", "close"]


@pytest.mark.parametrize("error", [Refused("upstream_bad_answer"), RuntimeError("injected")])
async def test_an_answer_that_breaks_off(world: World, error: Exception) -> None:
    """Behind the head all that can be done is to cut it, and to charge what was seen."""

    async def run(call: Call, exchange: Exchange, _: Any) -> None:
        call.status = call.upstream_status = 200
        call.stream, call.output_seen = True, 5
        exchange.start(200, [])
        raise error

    world.relay.run_it = run
    line = await world.travel()
    assert (line["status"], line["decision"], line["charged_by"]) == (200, "fail", "estimate")
    assert (world.wire.status, world.wire.cut) == (200, True)
    assert await world.used() == (150_000, 1)


async def test_a_fault_after_the_settling(world: World) -> None:
    """The call stays as it was settled and written; its answer is cut."""

    async def run(call: Call, exchange: Exchange, conclude: Callable[[], Awaitable[None]]) -> None:
        answered(call)
        exchange.start(200, [])
        await conclude()
        raise RuntimeError("injected")

    world.relay.run_it = run
    line = await world.travel()
    assert (line["charged_by"], world.wire.cut) == ("usage", True)
    assert await world.used() == (USED, 1)


async def test_a_cost_that_cannot_be_worked_out(world: World) -> None:
    """The hold is the charge: it is not left behind, and the line is written."""
    world.purse.charge = boom  # type: ignore[method-assign]
    line = await world.travel()
    assert (line["charged_by"], line["cost_usd"]) == ("hold", "0.0006")
    assert await world.used() == (HELD, 1)


# The client leaves, or the gateway stops.


async def forever(call: Call, exchange: Exchange, conclude: Any) -> None:
    call.in_flight = True
    await asyncio.get_running_loop().create_future()


async def stream_forever(call: Call, exchange: Exchange, conclude: Any) -> None:
    call.status = call.upstream_status = 200
    exchange.start(200, [])
    await exchange.send(b"data: 1\n\n")
    call.stream, call.output_seen = True, 5
    await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize(
    ("run", "cost"), [(forever, HELD), (stream_forever, 150_000)], ids=["before the head", "in the stream"]
)
@pytest.mark.parametrize("how", ["lost", "stopped"])
async def test_interrupted(world: World, run: Run, cost: int, how: str) -> None:
    """The hold while an attempt was under way, what was seen behind the head."""
    world.relay.run_it = run
    task = world.begin()
    await turns()
    assert world.relay.log == ["run"]
    world.exchange.lose("reset") if how == "lost" else world.exchange.stop("stopping")
    await task
    line = await world.ended()
    assert (line["decision"], line["charged_by"]) == ("allow", "disconnect")
    assert line["reason"] == ("client_gone" if how == "lost" else "stopped")
    assert world.relay.log == ["run", *(["read_on"] if how == "lost" else []), "close"]
    assert await world.used() == (cost, 1)
    assert world.wire.cut is (how == "stopped")


async def test_a_count_that_comes_when_the_client_has_gone(world: World) -> None:
    """What is read on counts."""
    world.relay.run_it = stream_forever
    world.relay.on_read_on = answered
    task = world.begin()
    await turns()
    world.exchange.lose("reset")
    await task
    line = await world.ended()
    assert (line["charged_by"], line["reason"]) == ("usage", "client_gone")
    assert await world.used() == (USED, 1)


@pytest.mark.parametrize("how", ["lost", "stopped"])
async def test_interrupted_while_the_hold_is_taken(world: World, how: str) -> None:
    """The hold is taken to its end, then given back: nothing leaves."""
    world.ledger.held = asyncio.Event()
    task = world.begin()
    await turns()
    world.exchange.lose("reset") if how == "lost" else world.exchange.stop("stopping")
    await turns()
    assert not task.done()
    world.ledger.held.set()
    await task
    line = await world.ended()
    assert (line["charged_by"], line["cost_usd"], line["status"]) == ("none", "0", 0)
    assert "run" not in world.relay.log
    assert await world.used() == (0, 0)
    assert await world.records() == []


@pytest.mark.parametrize("how", ["lost", "stopped"])
async def test_interrupted_while_it_is_settled(world: World, how: str) -> None:
    """The settling ends in its own time and once; a client that has gone has paid by usage."""
    world.ledger.settled = asyncio.Event()
    task = world.begin()
    await turns()
    assert world.ledger.asked == 1
    world.exchange.lose("reset") if how == "lost" else world.exchange.stop("stopping")
    await turns()
    assert not task.done()
    world.ledger.settled.set()
    await task
    line = await world.ended()
    assert line["charged_by"] == "usage"
    assert await world.used() == (USED, 1)
    assert await world.records() == [line["call_id"]]


async def test_interrupted_while_the_client_takes_nothing(world: World) -> None:
    """A window that stays closed does not keep a call from being ended."""
    world.wire.full = True
    world.relay.run_it = stream_forever
    task = world.begin()
    await turns()
    world.exchange.stop("stopping")
    await task
    assert (await world.ended())["reason"] == "stopped"


async def test_a_task_that_is_cancelled(world: World) -> None:
    """The loop is ending: settled and written all the same."""
    world.relay.run_it = stream_forever
    task = world.begin()
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    line = await world.ended()
    assert (line["charged_by"], line["reason"]) == ("disconnect", "stopped")


async def test_a_ledger_that_goes_away_before_the_settling(world: World) -> None:
    """The answer goes out and the line is written; Redis is told when it is back, once."""
    world.ledger.away = True
    await world.journey.travel(world.exchange)
    [line] = world.lines()
    assert (line["charged_by"], world.wire.status, world.wire.body) == ("usage", 200, b"{}")
    assert world.purse.held == {}
    world.ledger.away = False
    for _ in range(2):
        await world.purse.retry()
    assert await world.ended() == line
    assert await world.used() == (USED, 1)
    assert await world.records() == [line["call_id"]]


async def test_drained(world: World) -> None:
    """True once nothing is under way, false when the time is over."""
    world.relay.run_it = forever
    task = world.begin()
    await turns()
    assert await world.journey.drained(0) is False
    waiting = asyncio.ensure_future(world.journey.drained(60))
    await turns()
    world.exchange.stop("stopping")
    began = time.monotonic()
    assert await waiting is True
    assert time.monotonic() - began < 30
    await task


async def test_calls_side_by_side(world: World) -> None:
    """Each its own line and record, and an idle gateway at the end."""
    pairs = [an_exchange(a_head()) for _ in range(50)]
    await asyncio.gather(*(world.journey.travel(exchange) for exchange, _ in pairs))
    ids = [wire.headers["x-tollhouse-call-id"] for _, wire in pairs if isinstance(wire, FakeWire)]
    assert sorted(line["call_id"] for line in world.lines()) == sorted(ids) == sorted(await world.records())
    assert await world.used() == (50 * USED, 50)
    assert world.purse.held == {}
