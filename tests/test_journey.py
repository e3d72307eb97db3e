"""The coroutine that owns a call: each way it can end is settled once, written once and answered at most once.

It is long because each ending is walked through to its line. Dispatch is the real one; only the wire to the provider is played.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.calls import CHAT, admitted, head, lease, requested
from tests.support.clock import Clock
from tests.support.lines import lines_of
from tests.support.values import replace
from tests.support.wire import FakeWire, an_exchange
from tollhouse.accounts.objects import KeptObjects
from tollhouse.book import FIELDS, Book, Entry
from tollhouse.budget.purse import Purse
from tollhouse.call import Admitted, Arrival, Covered, Requested
from tollhouse.credential.lease import CredentialUnavailable, Lease, NoKey
from tollhouse.credential.secret import Secret
from tollhouse.denial import Denial, Refused
from tollhouse.dispatch.answer import Answer, AnswerCut, UpstreamError
from tollhouse.dispatch.attempts import Timing
from tollhouse.dispatch.breaker import Breakers
from tollhouse.dispatch.relay import Relay
from tollhouse.families.meters import PassThrough
from tollhouse.families.units import Estimate, Units
from tollhouse.journey import Journey
from tollhouse.ledger import names
from tollhouse.ledger.hold_reply import Held
from tollhouse.ledger.ledger import Ledger, LedgerUnavailable, Scope
from tollhouse.ledger.limits import parse_limit
from tollhouse.ledger.spool import Spool
from tollhouse.ledger.store.client import connect
from tollhouse.ledger.transitions import Answer as LedgerAnswer
from tollhouse.listen.exchange import Exchange
from tollhouse.outcome import End
from tollhouse.parties import Project
from tollhouse.prices.table import PriceTable, Quote
from tollhouse.providers.openai import OPENAI

SCOPE = Scope("project", "acme", "proj_1")
PRICES = PriceTable({}, {"openai/priced": {"input": "1", "output": "10"}})
HELD, USED = 600_000, 160_000
"""Nano-dollars: 100 tokens in and 50 out, 90 in and 7 out."""
INPUT, SEEN = 100_000, 150_000
"""The estimate of the input, alone and with the 5 tokens of output in `TEXT`."""

MESSAGES = [{"role": "user", "content": "hi"}]
PLAIN: dict[str, Any] = {"model": "priced", "messages": MESSAGES, "max_tokens": 50}
STREAM = {**PLAIN, "stream": True, "stream_options": {"include_usage": True}}
UNCAPPED = {
    "model": "priced",
    "messages": MESSAGES,
    "stream": True,
    "stream_options": {"include_usage": True},
}

COUNTED = b'{"model":"priced","choices":[],"usage":{"prompt_tokens":90,"completion_tokens":7}}'
UNCOUNTED = b'{"model":"priced","choices":[]}'
ERROR = b'{"error":{"message":"no","type":"server_error","code":"server_error"}}'


def event(data: str) -> bytes:
    return f"data: {data}\n\n".encode()


TEXT = event('{"choices":[{"index":0,"delta":{"content":"five tokens of text!"}}]}')
USAGE = event('{"choices":[],"usage":{"prompt_tokens":90,"completion_tokens":7}}')
DONE = event("[DONE]")
ERROR_EVENT = event(ERROR.decode())


async def forever() -> bytes:
    """The provider says nothing more."""
    return await asyncio.get_running_loop().create_future()


Part = bytes | Exception | Callable[[], Awaitable[bytes]]
"""Of an answer's body: bytes, what ends it, or a wait."""
Script = Callable[[Callable[[], None]], Awaitable[Answer]]
"""What the provider does with a request. It is given what is to be called when the request leaves."""


def answered(
    *parts: Part, status: int = 200, kind: str = "application/json", length: int | None = None
) -> Script:
    headers = [
        ("content-type", kind),
        *([("content-length", str(length))] if length is not None else []),
    ]

    async def send(on_leaving: Callable[[], None]) -> Answer:
        on_leaving()
        left = list(parts)

        async def read() -> bytes:
            part = left[0] if left else b""
            data = (
                b""
                if isinstance(part, Exception)
                else part
                if isinstance(part, bytes)
                else await part()
            )
            # A wait that was interrupted goes on when the body is read on.
            del left[:1]
            if isinstance(part, Exception):
                raise part
            return data

        return Answer(status, list(headers), read, lambda: None)

    return send


def streamed(*parts: Part) -> Script:
    return answered(*parts, kind="text/event-stream")


def plain(body: bytes, status: int = 200) -> Script:
    return answered(body, status=status, length=len(body))


def failing(error: Exception, *, leaves: bool = True) -> Script:
    async def send(on_leaving: Callable[[], None]) -> Answer:
        if leaves:
            on_leaving()
        raise error

    return send


async def silent(on_leaving: Callable[[], None]) -> Answer:
    on_leaving()
    await forever()
    raise AssertionError


TIMEOUT = UpstreamError("upstream_timeout", "", "maybe")
LOST = UpstreamError("upstream_bad_answer", "", "maybe")
UNREACHABLE = UpstreamError("upstream_unreachable", "", "no")
CUT = AnswerCut("upstream_bad_answer", "It was cut.")


@dataclass
class Provider:
    """The wire to the provider: what `Relay` is given in place of `Upstream`."""

    script: Script = field(default_factory=lambda: plain(COUNTED))
    received: int = 0

    async def send(
        self,
        outgoing: Any,
        *,
        budget_s: float,
        on_leaving: Callable[[], None],
        minted: Any,
        upgrade: Any,
        fresh: bool = False,
        creates: bool = False,
    ) -> Answer:
        def leaving() -> None:
            self.received += 1
            on_leaving()

        return await self.script(leaving)

    def token_refused(self, lease: Lease, token: Secret) -> bool:
        return False


class Gate:
    """A gate that does what it is told."""

    def __init__(self, name: str, gives: type, act: Callable[..., Any]) -> None:
        self.name = name
        self.gives = gives
        self.act = act
        self.asked = 0

    async def __call__(self, stage: Any, exchange: Exchange) -> Any:
        self.asked += 1
        outcome = self.act(stage)
        return await outcome if asyncio.iscoroutine(outcome) else outcome


class Leases:
    """Brings a key, and has no other."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.lease: Any = None

    async def get(self, provider: str, tenant: str, project: str) -> Any:
        if self.error is not None:
            raise self.error
        return self.lease or lease("sk-a-key-of-this-test", "3")

    async def refused(self, lease: Lease) -> Lease | None:
        return None

    def cooling(self, lease: Lease, seconds: float | None) -> Lease | None:
        return None

    def exhausted(self, lease: Lease) -> Lease | None:
        return None


class GatedLedger(Ledger):
    """A Redis that takes its time, is away, or breaks, at the moment that a test chooses."""

    held: asyncio.Event | None = None
    settled: asyncio.Event | None = None
    fault: Exception | None = None
    asked: int = 0
    near: bool = True
    """Some limit has not much more room than a hold takes."""
    told: Callable[[], object] | None = None

    def tell(self) -> None:
        """The settle is written to Redis."""
        assert self.told is not None
        self.told()

    async def hold(self, *arguments: Any, **options: Any) -> Any:
        if self.held is not None:
            await self.held.wait()
        result = await super().hold(*arguments, **options)
        return Held() if self.near and isinstance(result, Held) else result

    async def settle(self, *arguments: Any, **options: Any) -> LedgerAnswer:
        self.asked += 1
        self.told = options["told"]
        if self.settled is not None:
            await self.settled.wait()
        if self.fault is not None:
            raise self.fault
        return await super().settle(*arguments, **options)


class WatchedWire(FakeWire):
    """Notes of each piece, and of the end, how many lines were written before it went out."""

    def __init__(self, lines: Callable[[], int]) -> None:
        super().__init__()
        self._lines = lines
        self.written: list[int] = []
        self.written_at_end: int | None = None

    def send_head(self, *arguments: Any, end: bool, **options: Any) -> None:
        super().send_head(*arguments, end=end, **options)
        if end:
            self.written_at_end = self._lines()

    def send_data(self, data: bytes) -> None:
        super().send_data(data)
        if data:
            self.written.append(self._lines())

    def send_end(self) -> None:
        super().send_end()
        self.written_at_end = self._lines()

    def abort(self) -> None:
        super().abort()
        self.written_at_end = self._lines()


class World:
    """A journey, its parts, and what can be seen of it from outside."""

    def __init__(self, directory: Path) -> None:
        self.redis = connect("embedded", directory)
        self.ledger = GatedLedger(self.redis)
        self.clock = Clock()
        self.spool = Spool(directory)
        self.file = directory / "calls.jsonl"
        self.book = Book(self.file)
        self.objects = KeptObjects(self.ledger)
        self.body: dict[str, Any] = PLAIN
        self.estimate: Estimate | None = Estimate(Units(input=100, output=50))
        self.provider_entry = OPENAI
        self.admit, self.read = (
            Gate("admit", Admitted, self.admitted),
            Gate("read", Requested, self.requested),
        )
        self.late = Gate("late", Covered, lambda covered: covered)
        self.leases = Leases()
        self.provider = Provider()
        self.prices = PRICES
        self.judged_within_s = 30.0
        self.wire = WatchedWire(lambda: len(self.lines()))
        self.exchange = Exchange(head(), self.wire)
        self.exchange.feed_end()
        self.put_together()

    def put_together(self) -> None:
        """Of the parts as they are now."""
        timing = Timing(self.clock, self.clock, self.clock.sleep, lambda: 0.0)
        self.purse = Purse(self.ledger, self.prices, self.spool, clock=self.clock)
        self.relay = Relay(
            self.provider, Breakers(self.clock), self.leases, abandoned_read_s=0.0, timing=timing
        )  # type: ignore[arg-type]
        gates = (self.admit, self.read, self.purse, self.late)
        self.journey = Journey(
            gates,
            self.leases,
            self.purse,
            self.relay,
            self.book,
            self.objects,
            judged_within_s=self.judged_within_s,
        )
        self.journey.open = True

    def admitted(self, arrival: Arrival) -> Admitted:
        project = Project("proj_1", "acme", ("10 usd/day",))
        return replace(admitted(provider=self.provider_entry, project=project), arrival=arrival)

    def requested(self, call: Admitted) -> Requested:
        return requested(self.body, call, estimate=self.estimate)

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
        if self.exchange.gone:
            assert self.wire.written_at_end is None
        else:
            assert self.wire.written_at_end in ((1,) if self.ledger.near else (0, 1))
        assert not self.journey.under_way
        assert await self.journey.drained(0)
        assert self.purse.held == {}
        [shown] = await self.ledger.show([SCOPE])
        assert [limit.held for limit in shown.limits] == [0, 0]
        [line] = self.lines()
        # Only a call that money was worked out for tells by whose prices, and only a refusal why.
        beside = {"price", "held_for", "why"}
        assert [name for name in line if name not in beside] == FIELDS.split()
        assert ("held_for" in line) == (line["held_usd"] not in ("", "0"))
        assert line.get("price") in (None, "configured")
        assert "price" not in line or line["cost_usd"] != "0"
        assert self.wire.headers.get("x-tollhouse-call-id", line["call_id"]) == line["call_id"]
        return line

    def lines(self) -> list[dict[str, Any]]:
        return lines_of(self.file)

    async def used(self) -> tuple[int, int]:
        """Nano-dollars and requests."""
        [shown] = await self.ledger.show([SCOPE])
        usd, requests = (limit.used for limit in shown.limits)
        return usd, requests

    async def records(self) -> list[str]:
        """Call ids in the tenant's stream."""
        return [
            fields[b"call_id"].decode()
            for _, fields in await self.redis.xrange(names.calls_key("acme"))
        ]

    async def nothing_left(self) -> None:
        """The provider got nothing, and nothing was charged, not even a request."""
        assert self.provider.received == 0
        assert await self.used() == (0, 0)
        assert await self.records() == []


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    await made.ledger.set_limits(
        SCOPE, [parse_limit("10 usd/day"), parse_limit("100 requests/day")]
    )
    yield made
    await made.ledger.close()
    made.book.close()


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# Each way to end, walked through to the line.


@dataclass(frozen=True)
class Row:
    """One way in which a call ends that passed every gate, and what comes of it."""

    end: End
    body: dict[str, Any]
    script: Script
    status: int
    """Of the line; 0 for a client that was answered nothing."""
    decision: str
    reason: str
    charged_by: str
    cost: int
    requests: int = 1
    interrupt: str = ""
    cut: bool = False
    """The client sees that its answer is not whole."""
    gate: str = ""


TABLE: dict[str, Row] = {
    "not reached": Row(
        End.NEVER_LEFT, PLAIN, failing(UNREACHABLE, leaves=False),
        502, "fail", "upstream_unreachable", "none", 0, 0, gate="dispatch",
    ),
    "a fault of ours before it leaves": Row(
        End.NEVER_LEFT, PLAIN, failing(RuntimeError("injected"), leaves=False),
        503, "fail", "internal", "none", 0, 0, gate="dispatch",
    ),
    "a fault of ours after it left": Row(
        End.UNKNOWN, PLAIN, failing(RuntimeError("injected")),
        503, "fail", "internal", "hold", HELD, gate="dispatch",
    ),
    "our time-out": Row(
        End.UNKNOWN, PLAIN, failing(TIMEOUT), 504, "fail", "upstream_timeout", "hold", HELD, gate="dispatch",
    ),
    "a lost connection": Row(
        End.UNKNOWN, PLAIN, failing(LOST), 502, "fail", "upstream_bad_answer", "estimate", INPUT, gate="dispatch",
    ),
    "an error status": Row(End.ERROR, PLAIN, plain(ERROR, 400), 400, "allow", "", "none", 0),
    "an error under status 200": Row(End.ERROR, PLAIN, plain(ERROR), 200, "fail", "upstream_error", "none", 0),
    "an error before any text": Row(End.ERROR, STREAM, streamed(ERROR_EVENT), 200, "fail", "upstream_error", "none", 0),
    "whole": Row(End.WHOLE, PLAIN, plain(COUNTED), 200, "allow", "", "usage", USED),
    "whole, of no known length": Row(End.WHOLE, PLAIN, answered(COUNTED), 200, "allow", "", "usage", USED),
    "whole, without a count": Row(End.WHOLE, PLAIN, plain(UNCOUNTED), 200, "allow", "", "hold", HELD),
    "streamed": Row(End.STREAMED, STREAM, streamed(TEXT, USAGE, DONE), 200, "allow", "", "usage", USED),
    "streamed, without a count": Row(End.STREAMED, STREAM, streamed(TEXT, DONE), 200, "allow", "", "hold", HELD),
    "an error after text": Row(
        End.FAILED, STREAM, streamed(TEXT, ERROR_EVENT), 200, "fail", "upstream_error", "estimate", SEEN,
    ),
    "a stream that is cut": Row(
        End.CUT, STREAM, streamed(TEXT, CUT),
        200, "fail", "upstream_bad_answer", "estimate", SEEN, cut=True, gate="dispatch",
    ),
    "a body that is cut before its first piece": Row(
        End.CUT, PLAIN, answered(CUT, length=10),
        502, "fail", "upstream_bad_answer", "estimate", HELD, gate="dispatch",
    ),
    "a fault of ours in a stream": Row(
        End.CUT, STREAM, streamed(TEXT, RuntimeError("injected")),
        200, "fail", "internal", "estimate", SEEN, cut=True, gate="dispatch",
    ),
    "left before the head": Row(
        End.LEFT, PLAIN, silent, 0, "allow", "client_gone", "disconnect", HELD, interrupt="lose",
    ),
    "left in a stream": Row(
        End.LEFT, STREAM, streamed(TEXT, forever), 200, "allow", "client_gone", "disconnect", SEEN, interrupt="lose",
    ),
    "stopped before the head": Row(
        End.STOPPED, PLAIN, silent, 0, "allow", "stopped", "disconnect", HELD, interrupt="stop", cut=True,
    ),
    "stopped in a stream": Row(
        End.STOPPED, STREAM, streamed(TEXT, forever),
        200, "allow", "stopped", "disconnect", SEEN, interrupt="stop",
    ),
    "over budget before the head": Row(
        End.OVER_BUDGET, PLAIN, silent,
        402, "fail", "budget_exceeded", "disconnect", HELD, interrupt="refuse", gate="budget",
    ),
    "over budget in a stream": Row(
        End.OVER_BUDGET, STREAM, streamed(TEXT, forever),
        200, "fail", "budget_exceeded", "estimate", SEEN, interrupt="refuse", gate="budget",
    ),
    "over budget in the middle of an event": Row(
        End.OVER_BUDGET, STREAM, streamed(TEXT + b"data: {", forever),
        200, "fail", "budget_exceeded", "estimate", SEEN, interrupt="refuse", gate="budget", cut=True,
    ),
}  # fmt: skip


def test_the_table_is_whole() -> None:
    """No end is left out."""
    assert {row.end for row in TABLE.values()} == set(End)


@pytest.mark.parametrize("near", [True, False], ids=["near a limit", "far from any"])
@pytest.mark.parametrize("name", TABLE)
async def test_each_end(world: World, name: str, near: bool) -> None:
    """It is settled once and written once; near a limit the client has no last byte before."""
    row = TABLE[name]
    world.ledger.near = near
    world.body, world.provider.script = row.body, row.script
    task = world.begin()
    await turns()
    match row.interrupt:
        case "lose":
            world.exchange.lose("reset")
        case "stop":
            world.exchange.stop("stopping")
        case "refuse":
            world.exchange.refuse(Denial("budget_exceeded"))
    await task
    line = await world.ended()
    assert (line["status"], line["decision"], line["reason"], line["gate"]) == (
        row.status,
        row.decision,
        row.reason,
        row.gate,
    )
    assert (line["charged_by"], await world.used()) == (row.charged_by, (row.cost, row.requests))
    assert (world.wire.status, world.wire.cut) == (row.status, row.cut)
    assert await world.records() == ([line["call_id"]] if row.requests else [])
    assert world.ledger.asked == row.requests
    assert line["held_usd"] == "0.0006"


async def test_the_pieces_of_a_stream(world: World) -> None:
    """Each goes out as it comes, and only the one with which the client has its answer waits for the settling."""
    world.body, world.provider.script = STREAM, streamed(TEXT, USAGE, DONE, b"\n")
    await world.travel()
    assert world.wire.pieces == [TEXT, USAGE, DONE, b"\n"]
    assert world.wire.written == [0, 0, 1, 1]


async def test_a_client_that_has_its_answer_finds_its_budget_settled(world: World) -> None:
    """With the last piece of an answer of known length, too."""
    half = len(COUNTED) // 2
    world.provider.script = answered(COUNTED[:half], COUNTED[half:], length=len(COUNTED))
    await world.travel()
    assert world.wire.written == [0, 1]
    assert world.wire.body == COUNTED
    assert world.wire.headers["content-length"] == str(len(COUNTED))


async def test_far_from_any_limit_a_client_does_not_wait_for_redis_to_answer(world: World) -> None:
    """Redis is told before the client has its answer. The call is under way until Redis has answered."""
    world.ledger.near, world.ledger.settled = False, asyncio.Event()
    task = world.begin()
    await turns()
    assert world.ledger.asked == 1
    assert not world.exchange.answered
    world.ledger.tell()
    assert world.exchange.finished
    assert (world.lines(), list(world.journey.under_way)) == ([], [world.exchange])
    assert not await world.journey.drained(0)
    # It had to be told again.
    world.ledger.tell()
    world.ledger.settled.set()
    await task
    await world.ended()
    assert await world.used() == (USED, 1)


async def test_near_a_limit_nobody_asks_when_redis_is_told(world: World) -> None:
    world.ledger.settled = asyncio.Event()
    task = world.begin()
    await turns()
    assert (world.ledger.asked, world.ledger.told) == (1, None)
    world.ledger.settled.set()
    await task
    await world.ended()


@pytest.mark.parametrize("far", [False, True], ids=["near a limit", "far from any"])
async def test_a_hold_that_has_grown_is_settled_before_the_answer(world: World, far: bool) -> None:
    """As one that its fallback or a repeat has made larger: it is not the one that had so much room."""
    world.ledger.near, world.provider.script = not far, silent
    task = world.begin()
    await turns()
    [hold] = world.purse.held.values()
    assert hold.settles_late is far
    hold.amount = replace(hold.amount, nano_usd=hold.amount.nano_usd + 1)
    assert not hold.settles_late
    hold.amount, hold.unheld = hold.first, True
    assert not hold.settles_late
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("told", [False, True], ids=["before it is told", "while it settles"])
async def test_a_second_sigterm_while_redis_settles(world: World, told: bool) -> None:
    """What the call costs is on disk at once, and it has its line."""
    world.ledger.near, world.ledger.settled = False, asyncio.Event()
    task = world.begin()
    await turns()
    if told:
        world.ledger.tell()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.exchange.answered is told
    assert [line["charged_by"] for line in world.lines()] == ["usage"]
    world.ledger.settled.set()
    await world.purse.retry()
    assert await world.used() == (USED, 1)


async def test_a_call_that_is_cut_before_it_is_settled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While Redis is told that its usage comes later: it is charged all the same."""

    async def hang(*_: object) -> bool:
        return bool(await forever())

    monkeypatch.setattr(world.purse, "keep", hang)
    task = world.begin()
    await turns()
    assert world.journey.cut() == 1
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [line["charged_by"] for line in world.lines()] == ["usage"]
    assert (world.purse.held, await world.used()) == ({}, (USED, 1))


async def test_a_call_that_does_not_heed_that_it_is_stopped(world: World) -> None:
    """A gate of it hangs. Once it is cut its hold is given back, and its line says that it was stopped."""

    async def hang(*_: object) -> Covered:
        await forever()
        raise AssertionError

    world.late.act = hang
    task = world.begin()
    await turns()
    world.exchange.stop("the gateway is stopping")
    await turns()
    assert not task.done()
    assert world.journey.cut() == 1
    with pytest.raises(asyncio.CancelledError):
        await task
    line = await world.ended()
    assert (line["reason"], line["charged_by"], line["cost_usd"]) == ("stopped", "none", "0")
    assert await world.used() == (0, 0)
    assert world.journey.cut() == 0


async def test_a_last_write_that_fails_keeps_nothing_from_being_settled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.ledger.near = False

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("injected")

    monkeypatch.setattr(world.wire, "send_head", fail)
    await world.journey.travel(world.exchange)
    [line] = world.lines()
    assert (line["charged_by"], world.purse.held) == ("usage", {})
    assert await world.used() == (USED, 1)


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_an_answer_without_a_body(world: World, method: str, status: int) -> None:
    """It is whole with its head, which waits for the settling."""
    world.exchange.head = head(method, "/v1/models")
    world.provider.script = answered(status=status, length=7)
    await world.travel()
    assert (world.wire.status, world.wire.body) == (status, b"")
    assert world.wire.headers["content-length"] == "7"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Refused("identity_revoked"), "identity_revoked"),
        (Refused("project_not_allowed"), "project_not_allowed"),
        (RuntimeError("injected"), "internal"),
        (None, "internal"),
    ],
)
async def test_an_identity_that_is_not_valid_any_more_ends_a_stream(
    world: World, error: Exception | None, reason: str
) -> None:
    """Nor one that can't be judged again for a fault of ours, or whose gate hangs: nothing more leaves. The client is told by
    an event."""
    world.judged_within_s = 0.0
    world.put_together()
    world.provider.script = streamed(TEXT, forever)
    travelling = world.begin()
    await turns()
    assert world.wire.pieces

    def refuse_it(_: object) -> Any:
        if error is None:
            return forever()
        raise error

    world.admit.act = refuse_it
    await world.journey.end_invalid(0.0)
    await travelling
    line = await world.ended()
    assert (line["status"], line["reason"], line["gate"]) == (200, reason, "identity")
    assert json.loads(world.wire.pieces[-1].removeprefix(b"data: "))["error"]["code"] == reason
    assert line["charged_by"] != "none"


async def test_a_gate_that_hangs_holds_up_no_other_judgement(world: World) -> None:
    """The call that hangs is judged once at a time, and the others in each turn."""
    world.provider.script = streamed(TEXT, forever)
    first = world.begin()
    await turns()
    hangs = asyncio.Event()
    asked: list[str] = []

    async def hang(arrival: Arrival) -> None:
        asked.append(arrival.head.target)
        if arrival.head is world.exchange.head:
            await hangs.wait()
        raise Refused("identity_revoked")

    world.admit.act = hang
    await world.journey.end_invalid(0.0, wait_s=0.0)
    await turns()
    for _ in range(3):
        wire = WatchedWire(lambda: 0)
        exchange = Exchange(head("POST", "/v1/other"), wire)
        exchange.feed_end()
        world.admit.act = world.admitted
        second = asyncio.ensure_future(world.journey.travel(exchange))
        await turns()
        world.admit.act = hang
        await world.journey.end_invalid(0.0, wait_s=0.0)
        await second
        assert (
            json.loads(wire.pieces[-1].removeprefix(b"data: "))["error"]["code"]
            == "identity_revoked"
        )
        assert not first.done()
    assert asked == [world.exchange.head.target, *["/v1/other"] * 3]
    await world.journey.stop_judging()
    assert not first.done()
    first.cancel()
    await asyncio.wait([first])


async def test_a_budget_that_ends_a_stream(world: World) -> None:
    """The client is told in its provider's format, behind a whole event; what it got is charged."""
    world.body, world.estimate = UNCAPPED, Estimate(Units(input=100, output=2_048), grows=True)
    await world.ledger.set_limits(
        SCOPE, [parse_limit("0.021 usd/day"), parse_limit("100 requests/day")]
    )
    long = event(json.dumps({"choices": [{"index": 0, "delta": {"content": "text" * 3_000}}]}))
    world.provider.script = streamed(long, TEXT, USAGE, DONE)
    line = await world.travel()
    assert (line["status"], line["decision"], line["reason"], line["gate"]) == (
        200,
        "fail",
        "budget_exceeded",
        "budget",
    )
    assert line["charged_by"] == "estimate"
    [*before, last] = world.wire.pieces
    assert before == [long]
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "budget_exceeded"
    assert world.wire.written == [0, 1]
    assert not world.wire.cut
    assert await world.used() == (100_000 + 3_000 * 10_000, 1)


class FaultyMeter(PassThrough):
    """One that can't read what it is given."""

    def feed(self, data: bytes) -> bytes:
        raise RuntimeError("injected")


@pytest.mark.parametrize("body", [PLAIN, STREAM])
async def test_a_meter_that_raises_does_not_harm_the_answer(
    world: World, body: dict[str, Any]
) -> None:
    """Every byte goes on, the hold is the charge, and it is counted."""
    family = replace(OPENAI.family, meter=lambda asked, head: FaultyMeter())
    world.provider_entry = replace(OPENAI, family=family)
    world.body = body
    script = plain(COUNTED) if body is PLAIN else streamed(TEXT, USAGE, DONE)
    world.provider.script = script
    line = await world.travel()
    assert world.wire.body == (COUNTED if body is PLAIN else TEXT + USAGE + DONE)
    assert (line["status"], line["decision"], line["reason"]) == (200, "allow", "")
    assert (line["charged_by"], await world.used()) == ("hold", (HELD, 1))
    assert world.relay.meter_faults == {"openai": 1}


async def test_a_count_that_comes_when_the_client_has_gone(world: World) -> None:
    """What is read on counts."""
    gone = asyncio.Event()

    async def later() -> bytes:
        await gone.wait()
        return USAGE + DONE

    world.body, world.provider.script = STREAM, streamed(TEXT, later)
    task = world.begin()
    await turns()
    world.exchange.lose("reset")
    gone.set()
    await task
    line = await world.ended()
    assert (line["charged_by"], line["reason"]) == ("usage", "client_gone")
    assert await world.used() == (USED, 1)


@pytest.mark.parametrize("how", ["lose", "stop", "cut", "fail"])
async def test_what_happens_behind_the_settling_changes_nothing(world: World, how: str) -> None:
    """The answer was whole; what comes behind its last event is lost with the client, or with the provider."""
    tail: dict[str, Part] = {"cut": CUT, "fail": RuntimeError("injected")}
    world.body, world.provider.script = STREAM, streamed(TEXT, USAGE, DONE, tail.get(how, forever))
    task = world.begin()
    await turns()
    if how in ("lose", "stop"):
        assert not task.done()
        getattr(world.exchange, how)("now")
    await task
    line = await world.ended()
    assert (line["charged_by"], line["decision"], line["reason"]) == ("usage", "allow", "")
    assert await world.used() == (USED, 1)


async def test_a_lowered_cap_is_said(world: World) -> None:
    """The client reads in the head which cap was put in place of its own."""
    small = Project("proj_1", "acme", ("10 usd/day",), on_shortfall="clamp")
    world.admit.act = lambda arrival: replace(admitted(project=small), arrival=arrival)
    await world.ledger.set_limits(
        SCOPE, [parse_limit("0.00022 usd/day"), parse_limit("100 requests/day")]
    )
    line = await world.travel()
    assert (line["clamped"], world.wire.headers["x-tollhouse-clamped"]) == (12, "12")


# Objects that the provider keeps.


class Makes(PassThrough):
    """The meter of an answer that says that there is a file now."""

    created = ("file-1",)


class Noting:
    """Whose the objects are. It notes how many lines were written by then."""

    def __init__(self, world: World, refusal: Refused | Exception | None = None) -> None:
        self._world = world
        self._refusal = refusal
        self.checked = 0
        self.noted: list[tuple[str, str, tuple[str, ...], bytes]] = []
        self.fault: Exception | None = None

    async def check(self, requested: Requested) -> None:
        self.checked += 1
        if self._refusal is not None:
            raise self._refusal

    async def note(self, tenant: str, provider: str, ids: Any) -> None:
        self.noted.append((tenant, provider, ids, self._world.wire.body))
        if self.fault is not None:
            raise self.fault


def of_own_key(world: World) -> None:
    world.leases.lease = lease(path="projects/proj_1/openai", shared=False)


def of_sharing_provider(world: World) -> None:
    world.provider_entry = replace(world.provider_entry, share_objects=True)


def making(world: World) -> Noting:
    family = replace(OPENAI.family, meter=lambda asked, head: Makes())
    world.provider_entry = replace(OPENAI, family=family)
    world.objects = noting = Noting(world)  # type: ignore[assignment]
    world.put_together()
    return noting


@pytest.mark.parametrize("near", [True, False])
@pytest.mark.parametrize("fault", [None, RuntimeError("injected")])
async def test_what_a_call_has_made_is_noted_before_its_client_knows(
    world: World, fault: Exception | None, near: bool
) -> None:
    """A client that has its whole answer may use it at once. That it can't be noted harms no call."""
    world.ledger.near = near
    noting = making(world)
    noting.fault = fault
    line = await world.travel()
    assert noting.noted == [("acme", "openai", ("file-1",), b"")]
    assert world.wire.body == COUNTED
    assert (line["status"], line["decision"], line["charged_by"]) == (200, "allow", "hold")


async def test_what_a_stream_has_made_is_noted_before_its_client_knows(world: World) -> None:
    """It may use it while the stream goes on, and when it has left. It is noted once."""
    noting = making(world)
    world.body, world.provider.script = STREAM, streamed(TEXT, TEXT, forever)
    task = world.begin()
    await turns()
    assert noting.noted == [("acme", "openai", ("file-1",), b"")]
    assert world.wire.body == TEXT + TEXT
    world.exchange.lose("reset")
    await task
    await world.ended()
    assert len(noting.noted) == 1


@pytest.mark.parametrize("free", [of_own_key, of_sharing_provider])
async def test_no_object_is_asked_about(world: World, free: Callable[[World], None]) -> None:
    """Where the key is the tenant's own, and where objects are shared."""
    noting = making(world)
    free(world)
    await world.travel()
    assert (noting.checked, noting.noted) == (0, [])


@pytest.mark.parametrize(
    ("fault", "status", "reason", "gate"),
    [
        (Refused("object_not_yours", "Because."), 403, "object_not_yours", "objects"),
        (Refused("ledger_unavailable"), 503, "ledger_unavailable", "objects"),
        (RuntimeError("injected"), 503, "internal", "credential"),
    ],
)
async def test_objects_are_asked_about_before_anything_leaves(
    world: World, fault: Refused | Exception, status: int, reason: str, gate: str
) -> None:
    """All that was held is given back, and nothing is noted."""
    world.objects = noting = Noting(world, fault)  # type: ignore[assignment]
    world.put_together()
    line = await world.travel()
    assert (line["status"], line["reason"], line["gate"]) == (status, reason, gate)
    assert noting.noted == []
    await world.nothing_left()


# Gates.


def refuse(*_: Any) -> None:
    raise Refused("bad_request", "Because.")


def boom(*_: Any) -> None:
    raise RuntimeError("injected")


async def boom_later(*_: Any) -> None:
    await asyncio.sleep(0)
    raise RuntimeError("injected")


@pytest.mark.parametrize(
    ("act", "status", "reason"),
    [
        (refuse, 400, "bad_request"),
        (boom, 503, "internal"),
        (boom_later, 503, "internal"),
        (lambda stage: None, 503, "internal"),
        (lambda stage: "yes", 503, "internal"),
        (lambda stage: True, 503, "internal"),
        (lambda stage: Denial("bad_request"), 503, "internal"),
        (lambda stage: Arrival.begin(head()), 503, "internal"),
    ],
    ids=[
        "refuses",
        "raises",
        "raises later",
        "gives None",
        "a string",
        "True",
        "a denial",
        "another stage",
    ],
)
@pytest.mark.parametrize("which", ["admit", "read", "late"])
async def test_a_gate_that_does_not_allow(
    world: World, which: str, act: Callable[..., Any], status: int, reason: str
) -> None:
    """Nothing leaves, what was held is given back, the client is told in its provider's format."""
    getattr(world, which).act = act
    line = await world.travel()
    assert (line["status"], line["decision"], line["reason"], line["gate"]) == (
        status,
        "deny",
        reason,
        which,
    )
    assert (world.wire.status, world.wire.json()["error"]["code"]) == (status, reason)
    assert line["charged_by"] == "none"
    await world.nothing_left()


async def test_a_refusal_names_the_gate_and_not_what_it_asked(world: World) -> None:
    """A gate may pass on what another part refused."""

    def passed_on(_: Any) -> None:
        raise Refused.of(Denial("bad_request"), "somewhere deep")

    world.read.act = passed_on
    assert (await world.travel())["gate"] == "read"


async def test_without_a_hold_there_is_no_clearance(world: World) -> None:
    """A road whose gates hold nothing lets nothing out."""
    relay = Relay(world.provider, Breakers(world.clock), world.leases, abandoned_read_s=0.0)  # type: ignore[arg-type]
    world.journey = Journey(
        (world.admit, world.read), world.leases, world.purse, relay, world.book, world.objects
    )
    world.journey.open = True
    line = await world.travel()
    assert (line["status"], line["reason"], line["gate"]) == (503, "internal", "credential")
    await world.nothing_left()


@pytest.mark.parametrize(
    ("error", "lease", "reason"),
    [
        (
            CredentialUnavailable("Vault at https://vault.internal is sealed."),
            None,
            "credential_unavailable",
        ),
        (RuntimeError("injected"), None, "internal"),
        (None, "sk-a-key", "internal"),
        (
            None,
            lease("{}", "3", kind="aws"),
            "credential_unavailable",
        ),
    ],
    ids=["none to be had", "a fault", "no lease", "of a kind that the provider does not take"],
)
async def test_no_key(world: World, error: Exception | None, lease: Any, reason: str) -> None:
    """The hold is given back, the request count too; where Vault is stays between us."""
    world.leases.error, world.leases.lease = error, lease
    line = await world.travel()
    assert (world.wire.status, line["decision"], line["reason"], line["gate"]) == (
        503,
        "deny",
        reason,
        "credential",
    )
    assert b"vault" not in world.wire.body.lower().replace(b"look at `tollhouse check`: vault", b"")
    await world.nothing_left()


async def test_no_key_anywhere(world: World) -> None:
    """Asking again does not help and is not asked for; the words name the provider, not where the store is."""
    world.leases.error = NoKey("There is no secret at secret/infrastructure/openai.")
    line = await world.travel()
    assert (world.wire.status, line["reason"], line["gate"]) == (
        503,
        "credential_unavailable",
        "credential",
    )
    assert world.wire.headers["x-should-retry"] == "false"
    assert "retry-after" not in world.wire.headers
    message = world.wire.json()["error"]["message"]
    assert "There is no key for openai." in message
    assert "`tollhouse key test openai`" in message
    assert "infrastructure" not in message
    await world.nothing_left()


async def test_a_client_that_repeats_a_refusal(world: World) -> None:
    """It gets the status that ends its call, which is in the line; code and words stay."""
    world.exchange.head = head("POST", CHAT, ("user-agent", "codex_exec/0.171.0 (Debian)"))
    world.leases.error = NoKey("There is none.")
    line = await world.travel()
    assert (world.wire.status, line["status"], line["reason"]) == (
        400,
        400,
        "credential_unavailable",
    )
    assert "There is no key for openai." in world.wire.json()["error"]["message"]
    await world.nothing_left()


async def test_a_listener_that_could_not_read_the_head(world: World) -> None:
    """Its answer is all there is: no gate is asked."""
    world.exchange.defect = Denial("headers_too_large")
    line = await world.travel()
    assert (world.wire.status, line["gate"], line["reason"]) == (
        431,
        "listener",
        "headers_too_large",
    )
    assert world.admit.asked == 0


async def test_a_gateway_that_takes_no_calls(world: World) -> None:
    """It starts or stops: 503, and to be tried again in a moment."""
    world.journey.open = False
    line = await world.travel()
    assert (world.wire.status, line["reason"]) == (503, "draining")
    assert world.wire.headers["retry-after"] == "1"
    assert world.admit.asked == 0


async def test_the_trace_is_known_of_every_call(world: World) -> None:
    """Of one that no gate was asked about, too."""
    world.exchange.head = head("POST", "/", ("x-trace", "abc"))
    relay = Relay(world.provider, Breakers(world.clock), world.leases, abandoned_read_s=0.0)  # type: ignore[arg-type]
    world.journey = Journey(
        (),
        world.leases,
        world.purse,
        relay,
        world.book,
        world.objects,
        trace_header="X-Trace",
    )
    assert (await world.travel())["trace_id"] == "abc"


# Faults in the end of a call.


class NoPrice(PriceTable):
    def quote(self, *arguments: Any, **options: Any) -> Quote | None:
        raise RuntimeError("injected")


async def test_a_cost_that_cannot_be_worked_out(world: World) -> None:
    """The hold is the charge: it is not left behind, and the line is written."""
    world.prices = NoPrice({}, {"openai/priced": {"input": "1", "output": "10"}})
    world.put_together()
    line = await world.travel()
    assert (line["charged_by"], line["cost_usd"]) == ("hold", "0.0006")
    assert await world.used() == (HELD, 1)
    assert world.wire.body == COUNTED


async def test_a_charge_that_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for a fault anywhere on the way to it."""
    monkeypatch.setattr(world.purse, "charge", boom)
    line = await world.travel()
    assert (line["charged_by"], line["cost_usd"]) == ("hold", "0.0006")
    assert await world.used() == (HELD, 1)


class BrokenMeter:
    """Passes on what it is given, and cannot say what it counted."""

    output_seen, done, error, edits, boundary = 0, False, "", False, None

    def feed(self, data: bytes) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""

    def finish(self) -> Any:
        raise RuntimeError("injected")


async def test_an_answer_whose_count_fails(world: World) -> None:
    """The client has its answer, and the hold is the charge."""
    world.provider_entry = replace(
        OPENAI, family=replace(OPENAI.family, meter=lambda asked, head: BrokenMeter())
    )
    line = await world.travel()
    assert (line["charged_by"], line["cost_usd"], line["status"]) == ("hold", "0.0006", 200)
    assert await world.used() == (HELD, 1)
    assert world.wire.body == COUNTED


async def test_a_line_that_cannot_be_made(world: World) -> None:
    """It says whose call it was and what it cost, and the call is settled."""

    def no_clock() -> float:
        raise RuntimeError("injected")

    world.book = Book(world.file, no_clock)
    world.put_together()
    line = await world.travel()
    assert (line["decision"], line["reason"], line["status"]) == ("fail", "internal", 200)
    assert (line["tenant"], line["project"], line["identity"]) == ("acme", "proj_1", "tok_1")
    assert (line["charged_by"], line["cost_usd"]) == ("usage", "0.00016")
    assert await world.used() == (USED, 1)
    assert await world.records() == [line["call_id"]]
    assert world.wire.body == COUNTED


class NoBook(Book):
    """It breaks its word that it raises nothing."""

    def end(self, entry: Entry, *, settled: bool = True) -> None:
        super().end(entry, settled=settled)
        raise RuntimeError("injected")


async def test_a_book_that_fails(world: World) -> None:
    """The call is settled, and its client gets no more of the answer."""
    world.book = NoBook(world.file)
    world.put_together()
    with pytest.raises(RuntimeError, match="injected"):
        await world.journey.travel(world.exchange)
    await world.ended()
    assert await world.used() == (USED, 1)
    assert (world.wire.status, world.wire.body, world.wire.cut) == (0, b"", True)


class NoSpool(Spool):
    def done(self, call_id: str) -> None:
        raise RuntimeError("injected")


async def test_a_settling_that_fails(world: World, tmp_path: Path) -> None:
    """The line is written, nothing is held any more, and the client gets no more of the answer."""
    world.spool = NoSpool(tmp_path)
    world.put_together()
    with pytest.raises(RuntimeError, match="injected"):
        await world.journey.travel(world.exchange)
    line = await world.ended()
    assert (line["charged_by"], line["cost_usd"]) == ("usage", "0.00016")
    assert await world.used() == (USED, 1)
    assert (world.wire.body, world.wire.cut) == (b"", True)


async def test_a_ledger_that_breaks_at_the_settling(world: World) -> None:
    """The answer goes out and the line is written; the hold is renewed no more, so that it is charged when it expires."""
    world.ledger.fault = RuntimeError("injected")
    await world.journey.travel(world.exchange)
    [line] = world.lines()
    assert (line["charged_by"], world.wire.status, world.wire.body) == ("usage", 200, COUNTED)
    assert world.purse.held == {}
    assert not world.journey.under_way


@pytest.mark.parametrize("which", ["admit", "read", "late"])
async def test_a_refusal_whose_line_cannot_be_made(world: World, which: str) -> None:
    """Two faults in one call: nothing has left, nothing is held, and the client is told."""

    def no_clock() -> float:
        raise RuntimeError("injected")

    world.book = Book(world.file, no_clock)
    getattr(world, which).act = boom
    world.put_together()
    line = await world.travel()
    assert (line["reason"], world.wire.status) == ("internal", 503)
    await world.nothing_left()


# The client leaves, or the gateway stops.


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
    await world.nothing_left()


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


async def test_a_budget_that_ends_while_it_is_settled(world: World) -> None:
    """The answer is whole and paid: its client gets it."""
    world.ledger.settled = asyncio.Event()
    world.body, world.provider.script = STREAM, streamed(TEXT, USAGE, DONE)
    task = world.begin()
    await turns()
    assert world.ledger.asked == 1
    world.exchange.refuse(Denial("budget_exceeded"))
    world.ledger.settled.set()
    await task
    line = await world.ended()
    assert (world.wire.pieces, world.wire.cut) == ([TEXT, USAGE, DONE], False)
    assert (line["charged_by"], line["decision"]) == ("usage", "allow")


async def test_interrupted_while_the_client_takes_nothing(world: World) -> None:
    """A window that stays closed does not keep a call from being ended."""
    world.wire.full = True
    world.body, world.provider.script = STREAM, streamed(TEXT, forever)
    task = world.begin()
    await turns()
    world.exchange.stop("stopping")
    await task
    assert (await world.ended())["reason"] == "stopped"


async def test_a_task_that_is_cancelled(world: World) -> None:
    """The loop is ending: settled and written all the same."""
    world.body, world.provider.script = STREAM, streamed(TEXT, forever)
    task = world.begin()
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    line = await world.ended()
    assert (line["charged_by"], line["reason"]) == ("disconnect", "stopped")
    assert await world.used() == (SEEN, 1)


async def test_a_ledger_that_goes_away_before_the_settling(world: World) -> None:
    """The answer goes out and the line is written; Redis is told when it is back, once."""
    world.ledger.fault = LedgerUnavailable("away")
    await world.journey.travel(world.exchange)
    [line] = world.lines()
    assert (line["charged_by"], world.wire.status, world.wire.body) == ("usage", 200, COUNTED)
    assert world.purse.held == {}
    world.ledger.fault = None
    for _ in range(2):
        await world.purse.retry()
    assert await world.ended() == line
    assert await world.used() == (USED, 1)
    assert await world.records() == [line["call_id"]]


async def test_drained(world: World) -> None:
    """True once nothing is under way, false when the time is over."""
    world.provider.script = silent
    task = world.begin()
    await turns()
    assert await world.journey.drained(0) is False
    waiting = asyncio.ensure_future(world.journey.drained(60))
    await turns()
    assert not waiting.done()
    world.exchange.stop("stopping")
    assert await waiting is True
    await task


async def test_calls_side_by_side(world: World) -> None:
    """Each its own line and record, and an idle gateway at the end."""
    pairs = [an_exchange() for _ in range(50)]
    await asyncio.gather(*(world.journey.travel(exchange) for exchange, _ in pairs))
    ids = [wire.headers["x-tollhouse-call-id"] for _, wire in pairs]
    assert (
        sorted(line["call_id"] for line in world.lines())
        == sorted(ids)
        == sorted(await world.records())
    )
    assert await world.used() == (50 * USED, 50)
    assert world.purse.held == {}
