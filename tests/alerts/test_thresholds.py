"""Which shares of limits are told: those that are used, by the ledger and in its windows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.ledger.clock import RedisClock

from tollhouse.alerts.event import AlertEvent
from tollhouse.alerts.receiver import Interest
from tollhouse.alerts.thresholds import MOST_READ, Thresholds
from tollhouse.call import Amount
from tollhouse.ledger.ledger import Ledger, Scope
from tollhouse.ledger.limits import parse_limits
from tollhouse.ledger.store.client import connect
from tollhouse.parties import Project

P1, P2 = (Project(name, "acme", (), "reject", ()) for name in ("p1", "p2"))
TENANT, OF_P1 = Scope("tenant", "acme", "acme"), Scope("project", "acme", "p1")
ALL = Interest(at=(50, 80, 100))
Spend = Callable[..., Awaitable[None]]


@pytest.fixture
def spend(ledger: Ledger) -> Spend:
    numbers = iter(range(1000))

    async def spend(requests: int, *, settle: bool = True) -> None:
        for _ in range(requests):
            call, scopes = f"call_{next(numbers)}", (TENANT, OF_P1)
            await ledger.hold(call, scopes, Amount(10, 1, 1))
            if settle:
                await ledger.settle(call, scopes, Amount(10, 1, 1), record={})

    return spend


def shown(events: list[AlertEvent]) -> list[tuple[str, str, int]]:
    return sorted((str(e.data["scope"]), str(e.data["limit"]), e.threshold) for e in events)


async def test_shares_of_each_limit(ledger: Ledger, clock: RedisClock, spend: Spend) -> None:
    """Of project and tenant, each share once, with what is used; and again in the next window."""
    await ledger.set_limits(OF_P1, parse_limits(["10 requests/day", "4 requests/minute"]))
    await ledger.set_limits(TENANT, parse_limits(["16 requests/month"]))
    thresholds = Thresholds(ledger, {"a": ALL}, wall_clock=lambda: clock.now)
    assert await thresholds.reached([P1]) == []
    await spend(4)
    await clock.add(60)
    await spend(4)
    found = await thresholds.reached([P1, P2])
    day = ("project:p1", "10 requests/day")
    month = ("tenant:acme", "16 requests/month", 50)
    assert shown(found) == [(*day, 50), (*day, 80), month]
    eighty = next(one for one in found if one.threshold == 80)
    assert (eighty.tenant, eighty.project) == ("acme", "p1")
    data = eighty.data
    assert (data["used"], data["percent"], data["left"]) == ("8", "80.0", "2")
    assert data["window_start"] == "2026-08-30T00:00:00Z"
    assert data["resets_at"] == "2026-08-31T00:00:00Z"
    for event in found:
        thresholds.known(event)
    assert await thresholds.reached([P1]) == []
    await clock.add(86_400)
    assert await thresholds.reached([P1]) == []
    await spend(4)
    await clock.add(60)
    await spend(1)
    assert shown(await thresholds.reached([P1])) == [
        (*day, 50),
        ("tenant:acme", "16 requests/month", 80),
    ]


async def test_what_is_held_is_not_used(ledger: Ledger, clock: RedisClock, spend: Spend) -> None:
    """A hold may be given back."""
    await ledger.set_limits(OF_P1, parse_limits(["10 requests/day"]))
    thresholds = Thresholds(ledger, {"a": ALL}, wall_clock=lambda: clock.now)
    await spend(4)
    await spend(6, settle=False)
    assert await thresholds.reached([P1]) == []
    await spend(0)


async def test_a_grant_and_another_limit_arm_it_again(
    ledger: Ledger, clock: RedisClock, spend: Spend
) -> None:
    """A share of another amount is another one. The limit of before tells nothing new."""
    await ledger.set_limits(OF_P1, parse_limits(["10 requests/total"]))
    thresholds = Thresholds(ledger, {"a": Interest(at=(50,))}, wall_clock=lambda: clock.now)
    await spend(5)
    [first] = await thresholds.reached([P1])
    assert first.data["resets_at"] is None
    thresholds.known(first)
    await ledger.grant(OF_P1, "requests", 4, {})
    assert await thresholds.reached([P1]) == []
    await spend(2)
    [second] = await thresholds.reached([P1])
    assert (second.data["granted"], second.data["percent"]) == ("4", "50.0")
    thresholds.known(second)
    await ledger.set_limits(OF_P1, parse_limits(["8 requests/total"]))
    third = await thresholds.reached([P1])
    assert first.id not in {one.id for one in third}


async def test_who_is_interested(ledger: Ledger, clock: RedisClock, spend: Spend) -> None:
    """Named projects, named tenants, and nobody."""
    await ledger.set_limits(OF_P1, parse_limits(["2 requests/day"]))
    await ledger.set_limits(TENANT, parse_limits(["2 requests/day"]))
    await spend(2)

    async def told(**of: Interest) -> list[tuple[str, int]]:
        found = await Thresholds(ledger, of, wall_clock=lambda: clock.now).reached([P1, P2])
        return [(scope, share) for scope, _, share in shown(found)]

    only_p1 = Interest(at=(100,), projects=frozenset({"p1"}), tenants=frozenset())
    only_p2 = Interest(at=(50,), projects=frozenset({"p2"}), tenants=frozenset({"acme"}))
    assert await told(a=only_p1) == [("project:p1", 100)]
    assert await told(a=only_p1, b=only_p2) == [("project:p1", 100), ("tenant:acme", 50)]
    assert await told(a=Interest()) == []


async def test_more_projects_than_one_script_reads(
    ledger: Ledger, clock: RedisClock, spend: Spend
) -> None:
    """The last of many is found."""
    projects = [Project(f"a{n}", "acme", (), "reject", ()) for n in range(60)]
    await ledger.set_limits(OF_P1, parse_limits(["1 requests/day"]))
    await spend(1)
    thresholds = Thresholds(ledger, {"a": Interest(at=(100,))}, wall_clock=lambda: clock.now)
    assert len(await thresholds.reached([*projects, P1])) == 1


async def test_more_tenants_than_one_turn_reads(redis_url: str, tmp_path: Path) -> None:
    """The next turn goes on behind them, and then begins anew."""
    ledger = Ledger(connect(redis_url, tmp_path))
    projects = [Project(f"p{n}", f"t{n}", (), "reject", ()) for n in range(MOST_READ + 2)]
    first, last = projects[0], projects[-1]
    for each in (first, last):
        scope = Scope("project", each.tenant, each.id)
        await ledger.set_limits(scope, parse_limits(["1 requests/total"]))
        await ledger.hold(f"call_{each.id}", (scope,), Amount(10, 1, 1))
        await ledger.settle(f"call_{each.id}", (scope,), Amount(10, 1, 1), record={})
    thresholds = Thresholds(ledger, {"a": Interest(at=(100,))})
    turns = [[one.project for one in await thresholds.reached(projects)] for _ in range(3)]
    await ledger.close()
    assert turns == [[first.id], [last.id], [first.id]]
