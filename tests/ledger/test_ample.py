"""Whether a hold was taken far from every limit, so that the next call does not miss what is held."""

from __future__ import annotations

import asyncio

import pytest
from tests.ledger.clock import RedisClock

from tollhouse.call import NOTHING, Amount
from tollhouse.ledger.hold_reply import Held, Short
from tollhouse.ledger.ledger import Ledger, Scope
from tollhouse.ledger.limits import parse_limits, session_record
from tollhouse.ledger.names import session_scope

TENANT = Scope("tenant", "acme", "acme")
PROJECT = Scope("project", "acme", "proj_1")
TOKEN = Scope("token", "acme", "tok_1")
CALL = Amount(nano_usd=10**9, tokens=100)


async def ample(
    ledger: Ledger, name: str, scopes: tuple[Scope, ...], amount: Amount = CALL
) -> bool:
    held = await ledger.hold(name, scopes, amount)
    assert isinstance(held, Held)
    return held.ample


@pytest.mark.parametrize("scope", [TENANT, PROJECT, TOKEN], ids=lambda scope: scope.kind)
@pytest.mark.parametrize("unit", ["usd/day", "tokens/minute", "requests/total", "concurrent"])
async def test_there_is_room_for_eight_in_each_limit(
    ledger: Ledger, scope: Scope, unit: str
) -> None:
    """This one is among the eight. One limit without it is enough, in whichever scope and unit."""
    each = 100 if unit.startswith("tokens") else 1
    scopes = (TENANT, PROJECT, TOKEN)
    await ledger.set_limits(PROJECT, parse_limits(["1000 usd/month"]))
    limits = ["1000 usd/month"] if scope is PROJECT else []
    await ledger.set_limits(scope, parse_limits([*limits, f"{9 * each} {unit}"]))
    # Each call at the same time is one that may be followed by seven more.
    second = unit != "concurrent"
    assert [await ample(ledger, f"c{n}", scopes) for n in range(9)] == [True, second, *[False] * 7]
    assert isinstance(await ledger.hold("c9", scopes, CALL), Short)
    # What was settled for less makes room again.
    await ledger.settle("c0", scopes, NOTHING, record={})
    assert not await ample(ledger, "c0 again", scopes)


async def test_without_limits_there_is_room(ledger: Ledger) -> None:
    await ledger.set_limits(PROJECT, [])
    assert await ample(ledger, "c1", (TENANT, PROJECT, TOKEN))


async def test_the_limit_of_a_session_is_one_of_them(ledger: Ledger) -> None:
    await ledger.set_limits(PROJECT, parse_limits(["1000 usd/month"]))
    session = session_scope(PROJECT, "s-1", session_record(("8 usd/session",)))
    scopes = (TENANT, PROJECT, session, TOKEN)
    assert await ample(ledger, "c1", scopes)
    assert not await ample(ledger, "c2", scopes)


async def test_a_hold_that_was_taken_before_is_not_looked_at_again(ledger: Ledger) -> None:
    """The same call asks twice where the first answer was lost."""
    await ledger.set_limits(PROJECT, parse_limits(["1000 usd/month"]))
    scopes = (TENANT, PROJECT, TOKEN)
    assert await ample(ledger, "c1", scopes)
    assert not await ample(ledger, "c1", scopes)


async def test_an_overdue_hold_is_swept_all_the_same(ledger: Ledger, clock: RedisClock) -> None:
    """Both are said in one number."""
    await ledger.set_limits(PROJECT, parse_limits(["1000 usd/month"]))
    scopes = (TENANT, PROJECT, TOKEN)
    await ledger.hold("dead", scopes, CALL, deadline_s=1.0)
    await clock.add(5.0)
    assert await ample(ledger, "c1", scopes)
    async with asyncio.timeout(30):
        while True:
            [state] = await ledger.show([PROJECT])
            if [(row.used, row.held) for row in state.limits] == [(CALL.nano_usd, CALL.nano_usd)]:
                break
