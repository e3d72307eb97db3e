"""Calls whose usage comes later: on each store, with a clock that the test moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from tests.budget.priced import HELD, PRICES, a_call
from tests.ledger.clock import RedisClock
from tests.support.calls import admitted
from tests.support.lines import lines_of
from tests.support.values import replace

from tollhouse.book import Book
from tollhouse.budget.afterwards import KEPT_S, Afterwards, Recall, scopes_of_pending
from tollhouse.budget.charges import Charges
from tollhouse.budget.hold import CallHold
from tollhouse.call import Amount, Pending, Requested
from tollhouse.families.meters import Later
from tollhouse.families.units import Charge, Estimate, Units
from tollhouse.ledger.ledger import Ledger, LedgerUnavailable, Scope
from tollhouse.ledger.limits import parse_limits
from tollhouse.ledger.store.client import connect
from tollhouse.outcome import LateUsage

PROJECT = Scope("project", "acme", "proj_1")
USED = LateUsage((Charge("priced", Units(input=90, output=7, requests=1)),))
"""90,000 and 70,000 nano-dollars."""
NOTHING_BESIDE = Amount()
LATER = Later("resp_1", "/v1/responses/resp_1", '["facts"]')


class World:
    """A tenant with a limit, and what Redis remembers of its calls."""

    def __init__(self, ledger: Ledger, directory: Path, most: int = 10) -> None:
        self.ledger = ledger
        self.file = directory / "calls.jsonl"
        self.now = 1_000.0
        self.book = Book(self.file)
        self.afterwards = Afterwards(
            ledger, Charges(PRICES), self.book, now=lambda: self.now, most=most
        )

    async def held(self, session: str = "") -> CallHold:
        """A call that is held. A ``session`` has a limit of its own."""
        await self.ledger.set_limits(PROJECT, parse_limits(["10 usd/total"]))
        call = a_call()
        if session:
            at = call.admitted
            project = replace(at.project, limits=("10 usd/total", "5 usd/session"))
            arrival = replace(at.arrival, session=session)
            call = replace(call, admitted=replace(at, project=project, arrival=arrival))
        hold = CallHold(call, call.estimate, HELD)
        await self.ledger.hold(hold.id, hold.scopes, hold.amount, carried=hold.carried)
        return hold

    async def waiting(self, extra: Amount = NOTHING_BESIDE, session: str = "") -> Pending:
        """A call that waits for its usage."""
        hold = await self.held(session)
        assert await self.afterwards.keep(hold, LATER, extra)
        pending = await self.afterwards.find("acme", "openai", "resp_1")
        assert pending is not None
        return pending

    async def money(self) -> tuple[int, int]:
        """Used and held."""
        [state] = await self.ledger.show([PROJECT])
        return state.limits[0].used, state.limits[0].held

    def lines(self) -> list[dict[str, Any]]:
        return lines_of(self.file)


@pytest.fixture
def world(ledger: Ledger, tmp_path: Path) -> World:
    return World(ledger, tmp_path)


async def test_what_is_kept_comes_back(world: World) -> None:
    """Of its own tenant and provider alone."""
    pending = await world.waiting(Amount(5, 6, 1))
    assert (pending.held, pending.extra) == (HELD, Amount(5, 6, 1))
    assert (pending.path, pending.facts, pending.model) == (LATER.path, LATER.facts, "priced")
    assert (pending.host, pending.since) == ("api.openai.com", 1_000.0)
    assert [scope.id for scope in scopes_of_pending(pending)] == ["acme", "proj_1", "tok_1"]
    find = world.afterwards.find
    assert await find("other", "openai", "resp_1") is None
    assert await find("acme", "azure", "resp_1") is None
    assert await find("acme", "openai", "resp_2") is None
    assert await world.afterwards.waiting("acme") == ["openai resp_1"]
    assert await world.afterwards.waiting("other") == []


async def test_it_is_charged_once(world: World) -> None:
    """However often its usage is seen, and with one line."""
    pending = await world.waiting()
    assert await world.money() == (0, HELD.nano_usd)
    for _ in range(2):
        await world.afterwards.settle(pending, USED)
        assert await world.money() == (160_000, 0)
    [line] = world.lines()
    assert (line["call_id"], line["reason"]) == (pending.call_id, "later")
    assert (line["cost_usd"], line["charged_by"]) == ("0.00016", "usage")
    assert line["tokens"] == {"input": 90, "output": 7}
    assert await world.afterwards.waiting("acme") == []


async def test_one_of_a_session_is_charged_to_the_session_too(world: World) -> None:
    """What it is settled from are the scopes of its hold, whichever they were."""
    pending = await world.waiting(session="s-1")
    whole, payer, session, token = scopes_of_pending(pending)
    assert [whole.kind, payer.kind, session.kind, token.kind] == [
        *("tenant", "project", "session", "token")
    ]
    await world.afterwards.renew(pending)
    await world.afterwards.settle(pending, USED)
    assert await world.money() == (160_000, 0)
    [state] = await world.ledger.show([session])
    used = {limit.limit.unit: (limit.used, limit.held) for limit in state.limits}
    assert used["usd"] == (160_000, 0)
    [line] = world.lines()
    assert line["session"] == "s-1"


@pytest.mark.parametrize(
    ("seen", "extra", "charged", "by"),
    [
        (LateUsage(), Amount(), HELD.nano_usd, "hold"),
        (LateUsage(error="failed"), Amount(), 0, "none"),
        (LateUsage(error="failed"), Amount(7, 0, 1), 7, "hold"),
        (USED, Amount(7, 0, 1), 160_007, "usage"),
        (LateUsage((Charge("nobody's", Units(input=1)),)), Amount(), 1_000, "usage"),
        (LateUsage((Charge("priced", Units(input=1 << 60)),)), Amount(), HELD.nano_usd, "hold"),
    ],
)
async def test_what_it_is_charged(
    world: World, seen: LateUsage, extra: Amount, charged: int, by: str
) -> None:
    """The usage and what is charged beside it; a model without a price at the one that was asked for; no usage."""
    await world.afterwards.settle(await world.waiting(extra), seen)
    assert await world.money() == (charged, 0)
    assert [line["charged_by"] for line in world.lines()] == [by]


OUTPUT = Later("file-2", "/v1/files/file-2/content", "output")
ELSEWHERE = LateUsage(later=OUTPUT)


async def test_a_call_whose_usage_stands_elsewhere(world: World) -> None:
    """It waits for that from now on, under its own hold, whoever says so and how often. It is charged once."""
    pending = await world.waiting(Amount(5, 0, 1))
    for _ in range(2):
        await world.afterwards.settle(pending, ELSEWHERE)
        assert await world.money() == (0, HELD.nano_usd)
        assert await world.afterwards.waiting("acme") == ["openai file-2"]
    assert await world.afterwards.find("acme", "openai", "resp_1") is None
    assert await world.afterwards.find("other", "openai", "file-2") is None
    moved = await world.afterwards.find("acme", "openai", "file-2")
    assert moved is not None
    assert moved.later == OUTPUT
    assert moved == pending._replace(object=moved.object, path=moved.path, facts=moved.facts)
    for seen in (moved, moved, pending):
        await world.afterwards.settle(seen, USED)
    await world.afterwards.settle(pending, ELSEWHERE)
    assert await world.money() == (160_005, 0)
    assert len(world.lines()) == 1
    assert await world.afterwards.waiting("acme") == []


async def test_a_call_that_was_settled_before_it_was_said_where(world: World) -> None:
    """Nothing waits again."""
    pending = await world.waiting()
    await world.afterwards.settle(pending, USED)
    await world.afterwards.settle(pending, ELSEWHERE)
    assert await world.afterwards.waiting("acme") == []
    assert await world.money() == (160_000, 0)


async def test_two_calls_for_the_same_output(world: World) -> None:
    """One of them waits for it. The other is charged its hold, because nothing shows its usage."""
    first = await world.waiting()
    hold = await world.held()
    second = LATER._replace(id="resp_2")
    assert await world.afterwards.keep(hold, second, Amount())
    await world.afterwards.settle(first, ELSEWHERE)
    pending = await world.afterwards.find("acme", "openai", "resp_2")
    assert pending is not None
    await world.afterwards.settle(pending, ELSEWHERE)
    assert await world.money() == (HELD.nano_usd, HELD.nano_usd)
    assert [line["charged_by"] for line in world.lines()] == ["hold"]
    assert await world.afterwards.waiting("acme") == ["openai file-2"]


async def test_how_long_an_output_is_waited_for(world: World, clock: RedisClock) -> None:
    """As long as the batch would have been: its hold becomes the charge 48 hours after the call."""
    await world.afterwards.settle(await world.waiting(), ELSEWHERE)
    await clock.add(KEPT_S - 1)
    assert await world.ledger.sweep("acme") == 0
    assert await world.afterwards.waiting("acme") == ["openai file-2"]
    await clock.add(2)
    assert await world.ledger.sweep("acme") == 1
    assert await world.money() == (HELD.nano_usd, 0)


async def test_it_becomes_the_charge_after_48_hours(world: World, clock: RedisClock) -> None:
    """Not a second before. What is seen after that corrects it, as a late settle does."""
    pending = await world.waiting()
    await clock.add(KEPT_S - 1)
    assert await world.ledger.sweep("acme") == 0
    await clock.add(2)
    assert await world.ledger.sweep("acme") == 1
    assert await world.money() == (HELD.nano_usd, 0)
    await world.afterwards.settle(pending, USED)
    assert await world.money() == (160_000, 0)


@pytest.mark.parametrize(("hours", "told"), [(1, False), (22, False), (25, True), (47, True)])
async def test_a_call_that_was_charged_is_not_charged_again(
    world: World, clock: RedisClock, caplog: pytest.LogCaptureFixture, hours: int, told: bool
) -> None:
    """Redis had kept it without our hearing of that, so its hold was charged. It forgets ended calls after a day."""
    world.now = clock.now
    pending = await world.waiting()
    await world.ledger.settle(pending.call_id, scopes_of_pending(pending), HELD, record={})
    await clock.add(hours * 3600)
    # Each end of a call makes Redis forget those of more than a day ago.
    another = await world.held()
    await world.ledger.release(another.id, another.scopes)
    await world.afterwards.settle(pending, USED)
    assert await world.money() == (HELD.nano_usd, 0)
    assert (world.lines(), await world.afterwards.waiting("acme")) == ([], [])
    assert (f"call {pending.call_id} is not charged now" in caplog.text) is told


async def test_a_renewal_keeps_the_48_hours(world: World, clock: RedisClock) -> None:
    """The deadline is that of the beginning, whenever it is renewed; a hold that was moved back gets it again."""
    pending = await world.waiting()
    await world.ledger.renew(pending.call_id, scopes_of_pending(pending), 60.0)
    world.now += KEPT_S - 3600
    await world.afterwards.renew(pending)
    for _ in range(2):
        await clock.add(1_700)
        assert await world.ledger.sweep("acme") == 0
    world.now += 3600
    await world.afterwards.renew(pending)
    for _ in range(12):
        await clock.add(20)
        await world.ledger.sweep("acme")
    assert (await world.money())[0] == HELD.nano_usd


async def test_what_can_not_wait(ledger: Ledger, tmp_path: Path) -> None:
    """A hold that is gone; another call for the same answer; one too many."""
    world = World(ledger, tmp_path, most=1)
    gone = await world.held()
    await ledger.release(gone.id, gone.scopes)
    assert not await world.afterwards.keep(gone, LATER, Amount())
    first = await world.waiting()
    second = await world.held()
    assert not await world.afterwards.keep(second, LATER, Amount())
    other = LATER._replace(id="resp_2")
    assert not await world.afterwards.keep(second, other, Amount())
    assert await world.afterwards.find("acme", "openai", "resp_1") == first


async def test_what_another_version_wrote(world: World, redis: Redis) -> None:
    """It is no call that waits, and harms nothing."""
    for text in ("{}", "[]", "no JSON", '{"held":{},"extra":{}}', '{"held":1}'):
        await redis.hset("toll:{acme}:later", "openai resp_1", text)  # type: ignore[misc]
        assert await world.afterwards.find("acme", "openai", "resp_1") is None


def asking(
    method: str = "GET", path: str = "/v1/responses/resp_1", named: str = "resp_1"
) -> Requested:
    at = admitted(path, method=method, objects=(named,))
    return a_call()._replace(admitted=at, estimate=Estimate(Units()))


async def test_the_gate(world: World, tmp_path: Path) -> None:
    """It finds the call for an answer that can show its usage. It lets all pass, also without Redis."""
    pending = await world.waiting()
    gate = Recall(world.afterwards)
    assert (await gate(asking(), None)).pending == pending
    assert (await gate(asking("POST", "/v1/responses/resp_1/cancel"), None)).pending == pending
    assert (await gate(asking("DELETE"), None)).pending is None
    assert (await gate(asking(path="/v1/responses/resp_1/input_items"), None)).pending is None
    await world.afterwards.settle(pending, ELSEWHERE)
    assert (await gate(asking(), None)).pending is None
    file = asking(path="/v1/files/file-2/content", named="file-2")
    found = (await gate(file, None)).pending
    assert found is not None
    assert (found.call_id, found.later) == (pending.call_id, OUTPUT)
    other = asking(path="/v1/files/file-3/content", named="file-3")
    assert (await gate(other, None)).pending is None
    away = Ledger(connect("redis://127.0.0.1:1", tmp_path))
    lost = Afterwards(away, Charges(PRICES), world.book)
    with pytest.raises(LedgerUnavailable):
        await lost.find("acme", "openai", "resp_1")
    assert (await Recall(lost)(asking(), None)).pending is None
    await away.close()
