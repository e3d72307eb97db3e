"""One-time additions, and holds whose cost nobody knows, on both stores."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis.asyncio import Redis
from tests.ledger.clock import RedisClock

from tollhouse.call import Amount
from tollhouse.ledger.hold_reply import GrantedBefore, Held, Short, Unpriced
from tollhouse.ledger.ledger import Ledger, Scope
from tollhouse.ledger.limits import MAX_AMOUNT, parse_limits
from tollhouse.ledger.store.client import connect

TENANT = Scope("tenant", "acme", "acme")
PROJECT = Scope("project", "acme", "proj_123")
SCOPES = (TENANT, PROJECT, Scope("token", "acme", "tok_1"))
USD = 10**9
RECORD = {"amount": "5 usd", "reason": "the fair"}


async def limit(ledger: Ledger, *texts: str, scope: Scope = PROJECT) -> None:
    await ledger.set_limits(scope, parse_limits(texts))


async def left(ledger: Ledger) -> dict[str, tuple[int, int]]:
    [state] = await ledger.show([PROJECT])
    return {row.limit.text: (row.left, row.granted) for row in state.limits}


async def test_a_grant_is_room_in_every_limit_of_its_unit_until_the_window_ends(
    ledger: Ledger, clock: RedisClock
) -> None:
    """The day's is gone with the day, the total's stays; other units have none of it."""
    await limit(ledger, "1 usd/day", "9 usd/total", "100 tokens/day")
    assert isinstance(await ledger.hold("c1", SCOPES, Amount(6 * USD)), Short)
    assert await ledger.grant(PROJECT, "usd", 5 * USD, RECORD) == 2
    assert await left(ledger) == {
        "1 usd/day": (6 * USD, 5 * USD),
        "9 usd/total": (14 * USD, 5 * USD),
        "100 tokens/day": (100, 0),
    }
    assert isinstance(await ledger.hold("c1", SCOPES, Amount(6 * USD)), Held)
    assert isinstance(await ledger.hold("c2", SCOPES, Amount(1)), Short)
    await clock.add(86_400)
    assert await left(ledger) == {
        "1 usd/day": (USD, 0),
        "9 usd/total": (8 * USD, 5 * USD),
        "100 tokens/day": (100, 0),
    }
    assert await ledger.grants(PROJECT) == [RECORD]


async def test_grants_add_up_and_outlive_a_change_of_the_limits(ledger: Ledger) -> None:
    """Removing a limit and adding it again too."""
    await limit(ledger, "1 usd/day")
    for _ in range(2):
        await ledger.grant(PROJECT, "usd", USD, RECORD)
    await limit(ledger, "3 usd/day", "5 tokens/day")
    assert (await left(ledger))["3 usd/day"] == (5 * USD, 2 * USD)
    await limit(ledger)
    await limit(ledger, "1 usd/day")
    assert await left(ledger) == {"1 usd/day": (3 * USD, 2 * USD)}
    assert len(await ledger.grants(PROJECT)) == 2


async def test_a_grant_to_nothing_is_not_kept(ledger: Ledger) -> None:
    """No limit of this unit: nothing is changed and nothing is written down."""
    await limit(ledger, "1 usd/day")
    assert await ledger.grant(PROJECT, "tokens", 5, RECORD) == 0
    assert await ledger.grants(PROJECT) == []
    assert await ledger.grant(TENANT._replace(kind="project", id="nobody"), "usd", 5, RECORD) == 0


async def test_a_grant_with_an_id_is_made_once(ledger: Ledger, clock: RedisClock) -> None:
    """The same id again changes nothing, in a later window neither, and says what was granted;
    another id is another grant. A reason that looks like an id is none."""
    await limit(ledger, "1 usd/day")
    sly = {"reason": '"id": "g1", \\"id\\": \\"g1\\"', "grant_id": "g1"}
    assert await ledger.grant(PROJECT, "usd", USD, sly) == 1
    assert await ledger.grant(PROJECT, "usd", 5 * USD, RECORD, "g1") == 1
    for seconds in (0, 86_400):
        await clock.add(seconds)
        before = await left(ledger)
        again = await ledger.grant(PROJECT, "usd", 5 * USD, {"reason": "another"}, "g1")
        assert again == GrantedBefore({**RECORD, "id": "g1"})
        assert await left(ledger) == before
    assert await ledger.grant(PROJECT, "usd", USD, RECORD, "g") == 1
    assert await ledger.grants(PROJECT) == [sly, {**RECORD, "id": "g1"}, {**RECORD, "id": "g"}]
    assert await left(ledger) == {"1 usd/day": (2 * USD, USD)}


async def test_an_id_of_nothing_is_not_spent(ledger: Ledger) -> None:
    """A grant that found no limit of its unit can be made with the same id when there is one."""
    await limit(ledger, "1 usd/day")
    assert await ledger.grant(PROJECT, "tokens", 5, RECORD, "g1") == 0
    await limit(ledger, "1 tokens/day")
    assert await ledger.grant(PROJECT, "tokens", 5, RECORD, "g1") == 1


@pytest.mark.parametrize("grant_id", ['g"1', "g 1", "x" * 129])
async def test_what_can_be_no_id_of_a_grant(ledger: Ledger, grant_id: str) -> None:
    """It is written down, and looked for."""
    await limit(ledger, "1 usd/day")
    with pytest.raises(ValueError, match="can't be the id of a grant"):
        await ledger.grant(PROJECT, "usd", 5, RECORD, grant_id)


@pytest.mark.parametrize("amount", [0, -1, MAX_AMOUNT + 1])
async def test_what_cannot_be_granted(ledger: Ledger, amount: int) -> None:
    """Nothing, less than nothing, more than can be counted."""
    await limit(ledger, "1 usd/day")
    with pytest.raises(ValueError, match="granted"):
        await ledger.grant(PROJECT, "usd", amount, RECORD)


async def test_a_limit_does_not_grow_beyond_what_can_be_counted(ledger: Ledger) -> None:
    """Neither at once nor grant by grant; nothing is changed."""
    await limit(ledger, "1 usd/day")
    with pytest.raises(ValueError, match="more than the ledger can count"):
        await ledger.grant(PROJECT, "usd", MAX_AMOUNT, RECORD)
    assert (await left(ledger), await ledger.grants(PROJECT)) == ({"1 usd/day": (USD, 0)}, [])


async def test_grants_of_the_embedded_store_survive_a_restart(tmp_path: Path) -> None:
    """With the limits that they belong to."""
    first = Ledger(connect("embedded", tmp_path))
    await first.set_limits(PROJECT, parse_limits(["1 usd/total"]))
    await first.grant(PROJECT, "usd", USD, RECORD)
    second = Ledger(connect("embedded", tmp_path))
    assert await left(second) == {"1 usd/total": (2 * USD, USD)}
    assert await second.grants(PROJECT) == [RECORD]
    await first.close()
    await second.close()


@pytest.mark.parametrize("scope", SCOPES, ids=lambda scope: scope.kind)
async def test_what_has_no_price_is_refused_where_money_is_counted(
    ledger: Ledger, redis: Redis, scope: Scope
) -> None:
    """In any scope of the call; nothing is taken. Limits in other units do not mind, nor one that was taken away."""
    await limit(ledger)
    await limit(ledger, "100 tokens/day", "5 concurrent", scope=scope)
    assert isinstance(await ledger.hold("c1", SCOPES, Amount(0, 1), priced=False), Held)
    await limit(ledger, "1 usd/month", scope=scope)
    assert await ledger.hold("c2", SCOPES, Amount(0, 1), priced=False) == Unpriced(scope)
    assert isinstance(await ledger.hold("c2", SCOPES, Amount(0, 1)), Held)
    await limit(ledger, "100 tokens/day", scope=scope)
    assert isinstance(await ledger.hold("c3", SCOPES, Amount(0, 1), priced=False), Held)
