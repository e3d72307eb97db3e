"""A place for a call whose body is still coming."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from tests.budget.priced import FREE, HELD, PRICES, PROJECT, a_call
from tests.budget.test_purse import Client, limit_to, state
from tests.ledger.clock import RedisClock

from tollhouse.budget.fail_open import FailOpen
from tollhouse.budget.purse import Purse
from tollhouse.call import NOTHING, Admitted, Amount
from tollhouse.denial import Refused
from tollhouse.ledger import names
from tollhouse.ledger.ledger import Ledger
from tollhouse.ledger.spool import Spool
from tollhouse.ledger.store.client import LedgerUnavailable, connect


class Coming:
    """A request whose body is on its way, or there."""

    def __init__(self, *, there: bool = False) -> None:
        self.body_complete = there


class Counted(Ledger):
    """Writes down what it was asked."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.asked: list[tuple[str, str]] = []

    async def hold(self, call_id: str, *arguments: Any, **options: Any) -> Any:
        self.asked.append(("hold", call_id))
        return await super().hold(call_id, *arguments, **options)

    async def release(self, call_id: str, *arguments: Any, **options: Any) -> bool:
        self.asked.append(("release", call_id))
        return await super().release(call_id, *arguments, **options)


@pytest.fixture
def purse(ledger: Ledger, tmp_path: Path) -> Purse:
    return Purse(ledger, PRICES, Spool(tmp_path))


async def refused(purse: Purse, admitted: Admitted) -> tuple[str, int]:
    with pytest.raises(Refused) as caught:
        await purse.place(admitted, Coming())
    return caught.value.denial.code, caught.value.denial.status


async def test_a_place_is_one_of_the_calls_at_the_same_time(purse: Purse, ledger: Ledger) -> None:
    """And nothing else: it takes no money, no tokens and no request."""
    await limit_to(ledger, "1 concurrent", "10 usd/day", "10 tokens/day", "1 requests/day")
    call = a_call()
    assert await purse.place(call.admitted, Coming()) is call.admitted
    assert await state(ledger) == {
        "1 concurrent": (0, 1),
        "10 usd/day": (0, 0),
        "10 tokens/day": (0, 0),
        "1 requests/day": (0, 0),
    }
    assert await refused(purse, a_call().admitted) == ("concurrency_limited", 429)
    assert list(purse.places) == [f"{call.admitted.id}.place"]


async def test_no_other_limit_is_in_its_way(purse: Purse, ledger: Ledger) -> None:
    """A debt and a spent rate are for the hold to judge."""
    await limit_to(ledger, "0.0001 usd/day", "1 requests/day", "5 concurrent")
    await ledger.settle("call_0", (PROJECT,), Amount(10**9, 10, 1), record={"call_id": "call_0"})
    await purse.place(a_call().admitted, Coming())
    assert (await state(ledger))["5 concurrent"] == (0, 1)


async def test_the_hold_takes_the_places_place(purse: Purse, ledger: Ledger) -> None:
    """Under a limit of one call the call is not in its own way, and what it holds counts once."""
    await limit_to(ledger, "1 concurrent", "10 usd/day")
    call = a_call()
    await purse.place(call.admitted, Coming())
    covered = await purse(call, Client())
    assert await state(ledger) == {"1 concurrent": (0, 1), "10 usd/day": (0, HELD.nano_usd)}
    assert list(purse.places) == []
    await purse.settle(call.admitted.id, FREE, {"call_id": call.admitted.id})
    assert covered.hold.amount == HELD
    assert await state(ledger) == {"1 concurrent": (0, 0), "10 usd/day": (0, 0)}


async def test_a_call_that_ends_before_its_hold_leaves_its_place(
    purse: Purse, ledger: Ledger
) -> None:
    """Whatever ended it; however often it is said."""
    await limit_to(ledger, "1 concurrent")
    call = a_call()
    await purse.place(call.admitted, Coming())
    for _ in range(2):
        await purse.settle(call.admitted.id, NOTHING, {"call_id": call.admitted.id})
    assert await state(ledger) == {"1 concurrent": (0, 0)}
    await purse.place(a_call().admitted, Coming())


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models"])
async def test_what_is_there_needs_no_place(
    redis: Redis, clock: RedisClock, tmp_path: Path, path: str
) -> None:
    """A whole body, and a request without one, cost Redis no question more."""
    ledger = Counted(redis, clock=RedisClock.LUA)
    purse = Purse(ledger, PRICES, Spool(tmp_path))
    await limit_to(ledger, "1 concurrent")
    call = a_call(path)
    await purse.place(call.admitted, Coming(there="models" not in path))
    await purse(call, Client())
    assert ledger.asked == [("hold", call.admitted.id)]
    await ledger.close()


async def test_the_release_goes_before_the_hold(
    redis: Redis, clock: RedisClock, tmp_path: Path
) -> None:
    """In the order in which Redis is told."""
    ledger = Counted(redis, clock=RedisClock.LUA)
    purse = Purse(ledger, PRICES, Spool(tmp_path))
    await limit_to(ledger, "5 concurrent")
    call = a_call()
    place = f"{call.admitted.id}.place"
    await purse.place(call.admitted, Coming())
    await purse(call, Client())
    assert ledger.asked == [("hold", place), ("release", place), ("hold", call.admitted.id)]
    await ledger.close()


async def test_a_place_is_renewed(purse: Purse, ledger: Ledger, clock: RedisClock) -> None:
    """However long its body takes."""
    await limit_to(ledger, "1 concurrent")
    await purse.place(a_call().admitted, Coming())
    for _ in range(5):
        await clock.add(20)
        await purse.renew()
        assert await ledger.sweep("acme") == 0
    assert await state(ledger) == {"1 concurrent": (0, 1)}


async def test_a_place_whose_gateway_died_is_swept_without_a_trace(
    redis: Redis, clock: RedisClock, tmp_path: Path
) -> None:
    """No line, no record, no charge and no sum; what its gateway says later changes nothing."""
    lines: list[Any] = []
    ledger = Ledger(redis, clock=RedisClock.LUA, on_swept=lines.append)
    purse = Purse(ledger, PRICES, Spool(tmp_path))
    await limit_to(ledger, "1 concurrent", "10 usd/day")
    call = a_call()
    await purse.place(call.admitted, Coming())
    swept = []
    for _ in range(4):
        await clock.add(20)
        swept.append(await ledger.sweep("acme"))
    assert swept == [0, 0, 0, 1]
    await purse.place.leave(call.admitted.id)
    assert await state(ledger) == {"1 concurrent": (0, 0), "10 usd/day": (0, 0)}
    assert (
        lines,
        await redis.xlen(names.calls_key("acme")),
        await ledger.usage("acme", "proj_1"),
    ) == ([], 0, [])
    await ledger.close()


async def test_a_dead_place_is_free_for_the_next_call(
    purse: Purse, ledger: Ledger, clock: RedisClock
) -> None:
    """Its sweep comes with the question that finds no room."""
    await limit_to(ledger, "1 concurrent")
    await purse.place(a_call().admitted, Coming())
    for _ in range(4):
        await clock.add(20)
        await ledger.ping()
        await ledger.show([PROJECT])
        if clock.now < RedisClock.START + 61:
            assert await refused(purse, a_call().admitted) == ("concurrency_limited", 429)
    await purse.place(a_call().admitted, Coming())
    assert await state(ledger) == {"1 concurrent": (0, 1)}


class NoOutage:
    """Nothing is asked of it before the hold."""

    in_force = False
    let_through = 0

    async def explains(self, error: LedgerUnavailable) -> bool:
        return False

    async def confirmed(self) -> bool:
        return False

    def over(self) -> None:
        pass


@pytest.mark.parametrize("fail_open", [False, True])
async def test_redis_away(tmp_path: Path, fail_open: bool) -> None:
    """503 before the body is read; with ``unsafe_fail_open`` the call goes on, without a place, to the hold, which judges."""
    ledger = Ledger(connect(f"unix://{tmp_path}/nobody.sock", tmp_path))
    spool = Spool(tmp_path)

    async def refresh() -> None:
        pass

    switch = (
        FailOpen(ledger, spool, NoOutage(), lambda admitted: False, refresh) if fail_open else None
    )
    purse = Purse(ledger, PRICES, spool, fail_open=switch)
    call = a_call()
    if fail_open:
        assert await purse.place(call.admitted, Coming()) is call.admitted
        with pytest.raises(Refused) as caught:
            await purse(call, Client())
        assert caught.value.denial.code == "ledger_unavailable"
    else:
        assert await refused(purse, call.admitted) == ("ledger_unavailable", 503)
    assert list(purse.places) == []
    await ledger.close()
    await spool.close()
