"""The ledger's rules on both stores. The clock is moved by the test; nothing waits. Past 400 lines because each rule is one
test and all of them share the scopes, the fixtures and `state` below."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot
from tests.ledger.clock import RedisClock
from tests.support.redis_cluster import everywhere
from tests.support.redis_server import RedisServer

from tollhouse.call import Amount
from tollhouse.ledger.hold_reply import Held, Short
from tollhouse.ledger.ledger import Ledger, LedgerUnavailable, Scope
from tollhouse.ledger.limits import MAX_AMOUNT, parse_limits
from tollhouse.ledger.names import script_keys
from tollhouse.ledger.report import budget_json
from tollhouse.ledger.store.client import connect, load_script
from tollhouse.ledger.store.pipeline import MAX_BATCHES, Pipeline, Prefix

TENANT = Scope("tenant", "acme", "acme")
PROJECT = Scope("project", "acme", "proj_123")
TOKEN = Scope("token", "acme", "tok_1")
SCOPES = (TENANT, PROJECT, TOKEN)
USD = 10**9
CARRIED = {"provider": "openai", "model": "gpt-4o", "trace_id": "abc"}


async def limit(ledger: Ledger, *texts: str, scope: Scope = PROJECT) -> None:
    await ledger.set_limits(scope, parse_limits(texts))


async def state(ledger: Ledger, scope: Scope = PROJECT) -> dict[str, tuple[str, str, str]]:
    """Of each limit: used, held, left."""
    shown: dict[str, Any] = (await ledger.show([scope]))[0].as_json()
    return {row["limit"]: (row["used"], row["held"], row["left"]) for row in shown["limits"]}


def record(call_id: str, **more: str) -> dict[str, str]:
    return {"call_id": call_id, "provider": "openai", "model": "gpt-4o", **more}


async def test_a_hold_is_taken_and_settled(ledger: Ledger) -> None:
    """A hold counts until the settle puts the actual amount in its place."""
    await limit(ledger, "10 usd/day", "1000 tokens/minute", "5 requests/hour", "2 concurrent")
    assert isinstance(await ledger.hold("c1", SCOPES, Amount(4 * USD, 100)), Held)
    assert await state(ledger) == {
        "10 usd/day": ("0", "4", "6"),
        "1000 tokens/minute": ("0", "100", "900"),
        "5 requests/hour": ("0", "1", "4"),
        "2 concurrent": ("0", "1", "1"),
    }
    assert await ledger.settle("c1", SCOPES, Amount(1_234_567, 42), record=record("c1")) == "hold"
    assert await state(ledger) == {
        "10 usd/day": ("0.001234567", "0", "9.998765433"),
        "1000 tokens/minute": ("42", "0", "958"),
        "5 requests/hour": ("1", "0", "4"),
        "2 concurrent": ("0", "0", "2"),
    }


async def test_a_hold_fits_to_the_last_nano_dollar(ledger: Ledger) -> None:
    """Used + held + estimate may equal the limit and not pass it by one."""
    await limit(ledger, "1 usd/day")
    assert isinstance(await ledger.hold("c1", SCOPES, Amount(USD - 1)), Held)
    assert isinstance(await ledger.hold("c2", SCOPES, Amount(2)), Short)
    assert isinstance(await ledger.hold("c3", SCOPES, Amount(1)), Held)


async def test_all_or_nothing(ledger: Ledger) -> None:
    """A hold that one scope refuses takes nothing from any other."""
    await limit(ledger, "10 usd/day", "1 concurrent")
    await limit(ledger, "5 usd/month", scope=TENANT)
    await limit(ledger, "100 requests/day", scope=TOKEN)
    short = await ledger.hold("c1", SCOPES, Amount(6 * USD))
    assert isinstance(short, Short)
    assert (short.scope, short.limit_text, short.left) == (TENANT, "5 usd/month", 5 * USD)
    assert await state(ledger) == {"10 usd/day": ("0", "0", "10"), "1 concurrent": ("0", "0", "1")}
    assert await state(ledger, TENANT) == {"5 usd/month": ("0", "0", "5")}
    assert await state(ledger, TOKEN) == {"100 requests/day": ("0", "0", "100")}
    assert isinstance(await ledger.hold("c1", SCOPES, Amount(5 * USD)), Held)


async def test_a_refusal_names_the_limit_that_resets_last(
    ledger: Ledger, clock: RedisClock
) -> None:
    """A caller that waits for what it is told is not refused by another limit that was in the way as well."""
    await limit(ledger, "1 requests/minute", "1 usd/day", "1 concurrent")
    await ledger.hold("c1", SCOPES, Amount(USD))
    short = await ledger.hold("c2", SCOPES, Amount(USD))
    assert isinstance(short, Short)
    midnight = datetime(2026, 8, 31, tzinfo=UTC).timestamp()
    assert (short.limit_text, short.unit, short.left) == ("1 usd/day", "usd", 0)
    assert (short.resets_at, short.retry_after_s) == (midnight, midnight - clock.now)
    assert not short.never_fits
    too_much = await ledger.hold("c3", SCOPES, Amount(2 * USD))
    assert isinstance(too_much, Short)
    assert too_much.never_fits


async def test_concurrency_has_no_reset(ledger: Ledger) -> None:
    """Where only the calls under way are in the way, no time can be told."""
    await limit(ledger, "1 concurrent", "1 usd/total")
    await ledger.hold("c1", SCOPES, Amount(1))
    short = await ledger.hold("c2", SCOPES, Amount(1))
    assert isinstance(short, Short)
    assert (short.unit, short.resets_at, short.retry_after_s, short.left) == (
        "concurrent",
        None,
        None,
        0,
    )
    await ledger.settle("c1", SCOPES, Amount(1), record=record("c1"))
    assert isinstance(await ledger.hold("c2", SCOPES, Amount(1)), Held)


async def test_a_settle_may_pass_a_limit_and_the_next_window_begins_at_zero(
    ledger: Ledger, clock: RedisClock
) -> None:
    """Debt stays until its window ends, and nothing is allowed meanwhile, not even a free call."""
    await limit(ledger, "1 usd/hour")
    await ledger.hold("c1", SCOPES, Amount(USD))
    await ledger.settle("c1", SCOPES, Amount(3 * USD), record=record("c1"))
    assert await state(ledger) == {"1 usd/hour": ("3", "0", "0")}
    assert isinstance(await ledger.hold("c2", SCOPES, Amount(0)), Short)
    await clock.add(3600)
    assert await state(ledger) == {"1 usd/hour": ("0", "0", "1")}
    assert isinstance(await ledger.hold("c2", SCOPES, Amount(USD)), Held)


async def test_a_settle_goes_to_the_windows_of_its_hold(ledger: Ledger, clock: RedisClock) -> None:
    """A call that ends after its minute has ended charges its day, and neither the new minute nor the old one."""
    await limit(ledger, "1 usd/minute", "10 usd/day")
    await ledger.hold("c1", SCOPES, Amount(USD))
    await clock.add(60)
    assert await state(ledger) == {"1 usd/minute": ("0", "0", "1"), "10 usd/day": ("0", "1", "9")}
    await ledger.hold("c2", SCOPES, Amount(USD // 2))
    await ledger.settle("c1", SCOPES, Amount(USD // 4), record=record("c1"))
    assert await state(ledger) == {
        "1 usd/minute": ("0", "0.5", "0.5"),
        "10 usd/day": ("0.25", "0.5", "9.25"),
    }


async def test_repeating_does_nothing(ledger: Ledger) -> None:
    """Hold, settle and release may each be sent twice, as a lost answer makes a client do."""
    await limit(ledger, "10 usd/day", "5 concurrent")
    first = await ledger.hold("c1", SCOPES, Amount(USD))
    assert await ledger.hold("c1", SCOPES, Amount(USD)) == first
    assert await state(ledger) == {"10 usd/day": ("0", "1", "9"), "5 concurrent": ("0", "1", "4")}
    await ledger.settle("c1", SCOPES, Amount(2 * USD), record=record("c1"))
    assert await ledger.settle("c1", SCOPES, Amount(2 * USD), record=record("c1")) == "duplicate"
    assert not await ledger.release("c1", SCOPES)
    assert await state(ledger) == {"10 usd/day": ("2", "0", "8"), "5 concurrent": ("0", "0", "5")}
    with pytest.raises(ValueError, match="has ended"):
        await ledger.hold("c1", SCOPES, Amount(USD))


async def test_a_release_gives_all_back(ledger: Ledger, redis: Redis) -> None:
    """A call that never left is not counted, not even as a request, and leaves no record."""
    await limit(ledger, "10 usd/day", "3 requests/day", "1 concurrent")
    await ledger.hold("c1", SCOPES, Amount(USD, 5))
    assert await ledger.release("c1", SCOPES)
    assert await state(ledger) == {
        "10 usd/day": ("0", "0", "10"),
        "3 requests/day": ("0", "0", "3"),
        "1 concurrent": ("0", "0", "1"),
    }
    assert await ledger.usage("acme", "proj_123") == []
    assert await redis.xlen("toll:{acme}:calls") == 0


async def test_a_hold_that_comes_after_its_release_is_refused(ledger: Ledger) -> None:
    """A hold whose packet was late must not take what its own release has given back."""
    await limit(ledger, "10 usd/day")
    assert await ledger.release("c1", SCOPES)
    with pytest.raises(ValueError, match="has ended"):
        await ledger.hold("c1", SCOPES, Amount(USD))
    assert await state(ledger) == {"10 usd/day": ("0", "0", "10")}


async def test_an_expired_hold_is_charged_in_full_and_a_late_settle_corrects_it(
    ledger: Ledger, clock: RedisClock, redis: Redis
) -> None:
    """A gateway that died pays the whole hold; when it was alive after all, its settle puts that right, once."""
    await limit(ledger, "10 usd/day", "1 concurrent")
    await ledger.hold("c1", SCOPES, Amount(4 * USD, 50), carried=CARRIED)
    await clock.add(25)
    assert await ledger.renew("c1", SCOPES)
    await clock.add(25)
    assert await ledger.renew("c1", SCOPES)
    for _ in range(3):
        assert await ledger.sweep("acme") == 0
        await clock.add(20.001)
    assert await ledger.sweep("acme") == 1
    assert await ledger.sweep("acme") == 0
    assert not await ledger.renew("c1", SCOPES)
    assert await state(ledger) == {"10 usd/day": ("4", "0", "6"), "1 concurrent": ("0", "0", "1")}
    [[_, swept]] = await redis.xrange("toll:{acme}:calls")
    assert {k.decode(): v.decode() for k, v in swept.items()} == {
        **CARRIED,
        "settled_by": "sweep",
        "call_id": "c1",
        "tenant": "acme",
        "project": "proj_123",
        "charged_by": "sweep",
        "cost_usd": "4",
        "held_usd": "4",
    }
    assert [row.nano_usd for row in await ledger.usage("acme", "proj_123", by="model")] == [4 * USD]

    assert await ledger.settle("c1", SCOPES, Amount(USD, 7), record=record("c1")) == "late"
    assert await ledger.settle("c1", SCOPES, Amount(USD, 7), record=record("c1")) == "duplicate"
    assert await state(ledger) == {"10 usd/day": ("1", "0", "9"), "1 concurrent": ("0", "0", "1")}
    [row] = await ledger.usage("acme", "proj_123", by="model")
    assert (row.key, row.nano_usd, row.tokens, row.requests) == ("openai/gpt-4o", USD, 7, 1)


async def test_a_late_settle_corrects_the_day_of_the_sweep(
    ledger: Ledger, clock: RedisClock
) -> None:
    """The sums of a day never go below zero because a correction came after midnight."""
    await limit(ledger)
    await ledger.hold("c1", SCOPES, Amount(4 * USD), deadline_s=1, carried=CARRIED)
    await clock.add(2)
    assert await ledger.sweep("acme") == 1
    await clock.add(86_400)
    await ledger.settle("c1", SCOPES, Amount(USD), record=record("c1"))
    assert [(row.key, row.nano_usd) for row in await ledger.usage("acme", "proj_123")] == [
        ("2026-08-30", USD)
    ]


async def test_a_late_release_takes_the_sweeps_record_back(
    ledger: Ledger, clock: RedisClock, redis: Redis
) -> None:
    """The call never left after all: nothing of it is counted, and whoever adds up the records finds its last one at 0."""
    await limit(ledger, "10 usd/day", "3 requests/day")
    await ledger.hold("c1", SCOPES, Amount(4 * USD), deadline_s=1, carried=CARRIED)
    await clock.add(2)
    assert await ledger.sweep("acme") == 1
    assert await ledger.release("c1", SCOPES)
    assert await state(ledger) == {
        "10 usd/day": ("0", "0", "10"),
        "3 requests/day": ("0", "0", "3"),
    }
    assert (
        sum(
            row.nano_usd + row.requests
            for row in await ledger.usage("acme", "proj_123", by="model")
        )
        == 0
    )
    swept, released = [fields for _, fields in await redis.xrange("toll:{acme}:calls")]
    assert (swept[b"settled_by"], swept[b"cost_usd"]) == (b"sweep", b"4")
    day = released.pop(b"corrects_day")
    assert date(1970, 1, 1).toordinal() + int(day) >= date(2026, 1, 1).toordinal()
    assert released == {
        b"settled_by": b"late",
        b"corrects_nano_usd": b"4000000000",
        b"corrects_model": b"openai/gpt-4o",
        b"call_id": b"c1",
        b"tenant": b"acme",
        b"project": b"proj_123",
        b"charged_by": b"none",
        b"cost_usd": b"0",
    }


async def test_a_settle_told_after_days_is_not_charged_twice(
    ledger: Ledger, clock: RedisClock
) -> None:
    """Redis forgets an ended call after 24 hours: what was first tried longer ago may have been charged, so it is not again,
    unless its hold is still there."""
    await limit(ledger, "10 usd/total")
    began = clock.now
    await ledger.hold("c1", SCOPES, Amount(USD))
    await clock.add(23 * 3600 - 1)
    assert (
        await ledger.settle("c2", SCOPES, Amount(USD), record=record("c2"), tried_at=began)
        == "no_hold"
    )
    await clock.add(1)
    assert (
        await ledger.settle("c3", SCOPES, Amount(USD), record=record("c3"), tried_at=began)
        == "forgotten"
    )
    assert (
        await ledger.settle("c2", SCOPES, Amount(USD), record=record("c2"), tried_at=began)
        == "duplicate"
    )
    assert (
        await ledger.settle("c1", SCOPES, Amount(USD), record=record("c1"), tried_at=began)
        == "hold"
    )
    assert await state(ledger) == {"10 usd/total": ("2", "0", "8")}
    # Nothing was said of it: it may still be charged by who knows better.
    assert await ledger.settle("c3", SCOPES, Amount(USD), record=record("c3")) == "no_hold"


async def test_a_hold_sweeps_what_stands_in_its_way(ledger: Ledger, clock: RedisClock) -> None:
    """The places of a gateway that died are free again for the first call that asks after the deadline."""
    await limit(ledger, "2 concurrent", "10 usd/day")
    other = (TENANT, Scope("project", "acme", "other"), Scope("token", "acme", "tok_2"))
    await limit(ledger, scope=other[1])
    await ledger.hold("c1", SCOPES, Amount(USD), deadline_s=5)
    await ledger.hold("c2", SCOPES, Amount(USD), deadline_s=5)
    await ledger.hold("o1", other, Amount(USD), deadline_s=1)
    assert isinstance(await ledger.hold("c3", SCOPES, Amount(USD)), Short)
    await clock.add(6)
    assert isinstance(await ledger.hold("c3", SCOPES, Amount(USD)), Held)
    assert await state(ledger) == {"2 concurrent": ("0", "1", "1"), "10 usd/day": ("2", "1", "7")}
    assert [row.nano_usd for row in await ledger.usage("acme", "other")] == [USD]


async def test_after_an_outage_live_calls_have_time_to_renew(
    ledger: Ledger, clock: RedisClock
) -> None:
    """A hold whose deadline passed while nobody could reach Redis is not swept at once, but no hold stays for ever."""
    await limit(ledger, "10 usd/day")
    await ledger.hold("alive", SCOPES, Amount(USD))
    await ledger.hold("dead", SCOPES, Amount(USD))
    await clock.add(300)
    assert await ledger.sweep("acme") == 0
    assert await ledger.renew("alive", SCOPES)
    for _ in range(3):
        await clock.add(20)
        await ledger.renew("alive", SCOPES)
    assert await ledger.sweep("acme") == 1
    assert await state(ledger) == {"10 usd/day": ("1", "1", "8")}


async def test_a_quiet_tenant_is_swept_too(ledger: Ledger, clock: RedisClock) -> None:
    """Silence delays a sweep once; the next look at the tenant charges the dead call."""
    await limit(ledger, "10 usd/day")
    await ledger.hold("dead", SCOPES, Amount(USD))
    await clock.add(3600)
    assert await ledger.sweep("acme") == 0
    await clock.add(3600)
    assert await ledger.sweep("acme") == 1


async def test_a_sweep_is_bounded(ledger: Ledger, clock: RedisClock) -> None:
    """One sweep takes as many as it is told, the oldest first."""
    await limit(ledger, "10 concurrent")
    for n in range(5):
        await ledger.hold(f"c{n}", SCOPES, Amount(1), deadline_s=1 + n)
    await clock.add(10)
    assert await ledger.sweep("acme", at_most=3) == 3
    assert await ledger.renew("c3", SCOPES)
    assert await ledger.sweep("acme") == 1
    assert await state(ledger) == {"10 concurrent": ("0", "1", "9")}


async def test_a_settle_without_its_hold_is_charged(ledger: Ledger, redis: Redis) -> None:
    """What a failover lost is charged from what the settle carries, once."""
    await limit(ledger, "10 usd/day", "3 concurrent")
    assert await ledger.settle("c1", SCOPES, Amount(USD, 9), record=record("c1")) == "no_hold"
    assert await ledger.settle("c1", SCOPES, Amount(USD, 9), record=record("c1")) == "duplicate"
    assert await state(ledger) == {"10 usd/day": ("1", "0", "9"), "3 concurrent": ("0", "0", "3")}
    assert await redis.xlen("toll:{acme}:calls") == 1


async def test_an_extension_obeys_the_limits(ledger: Ledger, clock: RedisClock) -> None:
    """More of a hold is taken under the same rule, in the windows that run when it is asked for."""
    await limit(ledger, "10 usd/day", "10 tokens/minute", "1 concurrent")
    await ledger.hold("c1", SCOPES, Amount(4 * USD, 10))
    assert isinstance(await ledger.extend("c1", SCOPES, Amount(0, 1, 0)), Short)
    assert isinstance(await ledger.extend("c1", SCOPES, Amount(5 * USD, 0, 0)), Held)
    assert isinstance(await ledger.extend("c1", SCOPES, Amount(2 * USD, 0, 0)), Short)
    await clock.add(60)
    assert isinstance(await ledger.extend("c1", SCOPES, Amount(0, 11, 0)), Short)
    assert isinstance(await ledger.extend("c1", SCOPES, Amount(0, 8, 0)), Held)
    assert await state(ledger) == {
        "10 usd/day": ("0", "9", "1"),
        "10 tokens/minute": ("0", "8", "2"),
        "1 concurrent": ("0", "1", "0"),
    }
    await ledger.settle("c1", SCOPES, Amount(USD, 15), record=record("c1"))
    assert await state(ledger) == {
        "10 usd/day": ("1", "0", "9"),
        "10 tokens/minute": ("5", "0", "5"),
        "1 concurrent": ("0", "0", "1"),
    }
    with pytest.raises(ValueError, match="holds nothing"):
        await ledger.extend("c1", SCOPES, Amount(1))


@pytest.mark.parametrize(
    ("cost", "now"),
    [(3, "0"), (4, "0"), (6, "2"), (9, "5")],
    ids=["less", "the first", "a part", "more than was held"],
)
async def test_a_settle_fills_the_windows_in_their_order(
    ledger: Ledger, clock: RedisClock, cost: int, now: str
) -> None:
    """Each up to what was held there, and what is more goes to the last; the day has all of it."""
    await limit(ledger, "20 usd/minute", "20 usd/day")
    await ledger.hold("c1", SCOPES, Amount(4 * USD))
    await clock.add(60)
    await ledger.extend("c1", SCOPES, Amount(3 * USD, 0, 0))
    await ledger.settle("c1", SCOPES, Amount(cost * USD), record=record("c1"))
    shown = await state(ledger)
    assert (shown["20 usd/minute"][:2], shown["20 usd/day"][:2]) == ((now, "0"), (str(cost), "0"))


async def test_what_is_given_back_leaves_each_window_what_others_took(
    ledger: Ledger, clock: RedisClock
) -> None:
    """Of the running minute goes what was extended in it, and not what was held before."""
    await limit(ledger, "20 usd/minute", "20 usd/day")
    await ledger.hold("c1", SCOPES, Amount(4 * USD))
    await clock.add(60)
    await ledger.hold("c2", SCOPES, Amount(USD))
    await ledger.extend("c1", SCOPES, Amount(3 * USD, 0, 0))
    await ledger.release("c1", SCOPES)
    assert await state(ledger) == {
        "20 usd/minute": ("0", "1", "19"),
        "20 usd/day": ("0", "1", "19"),
    }


async def test_a_sweep_leaves_each_window_as_it_is(ledger: Ledger, clock: RedisClock) -> None:
    """What was held in the running minute is used there; the late settle still knows which windows
    they were."""
    await limit(ledger, "20 usd/hour", "20 usd/day")
    await clock.add(3_590)
    await ledger.hold("c1", SCOPES, Amount(4 * USD), deadline_s=15, carried=CARRIED)
    await clock.add(10)
    await ledger.extend("c1", SCOPES, Amount(3 * USD, 0, 0))
    await clock.add(10)
    assert await ledger.sweep("acme") == 1
    assert await state(ledger) == {"20 usd/hour": ("3", "0", "17"), "20 usd/day": ("7", "0", "13")}
    await ledger.extend("c1", SCOPES, Amount(2 * USD, 0, 0))
    assert await state(ledger) == {"20 usd/hour": ("5", "0", "15"), "20 usd/day": ("9", "0", "11")}
    assert await ledger.settle("c1", SCOPES, Amount(5 * USD), record=record("c1")) == "late"
    assert await state(ledger) == {"20 usd/hour": ("1", "0", "19"), "20 usd/day": ("5", "0", "15")}
    assert [row.nano_usd for row in await ledger.usage("acme", "proj_123")] == [5 * USD]


async def test_a_hold_of_many_windows_stays_small(
    ledger: Ledger, clock: RedisClock, redis: Redis
) -> None:
    """A stream of a day is extended in each of its minutes; what its hold takes of Redis does not
    grow with them."""
    await limit(ledger, "1000 usd/minute", "1000 usd/hour", "9000 usd/week")
    await ledger.hold("c1", SCOPES, Amount(USD), deadline_s=200_000, carried=CARRIED)
    sizes = set()
    for _ in range(200):
        await clock.add(433)
        assert isinstance(await ledger.extend("c1", SCOPES, Amount(USD, 1, 0)), Held)
        text = await redis.hget("toll:{acme}:holds", "c1")
        assert text is not None
        sizes.add(len(text))
    assert max(sizes) < 400
    # It is 12:03:20 on a Monday: the last extension is this hour's first, and 101 of the 200 came after midnight.
    assert await state(ledger) == {
        "1000 usd/minute": ("0", "1", "999"),
        "1000 usd/hour": ("0", "1", "999"),
        "9000 usd/week": ("0", "101", "8899"),
    }


@pytest.mark.parametrize("name", ["holds", "swept"])
async def test_what_the_version_before_has_stored(
    ledger: Ledger, clock: RedisClock, redis: Redis, name: str
) -> None:
    """A hold and a swept call as it wrote them are extended and settled like any other."""
    await limit(ledger, "20 usd/minute", "20 usd/day")
    rest = (
        "provider\x1fopenai\x1fmodel\x1fgpt-4o"
        if name == "holds"
        else "20695\x1fopenai/gpt-4o\x1ftok_1"
    )
    created = int(clock.now * 1000)
    await ledger.hold("c1", SCOPES, Amount(4 * USD, 50), deadline_s=1, carried=CARRIED)
    await clock.add(2)
    if name == "swept":
        assert await ledger.sweep("acme") == 1
    text = f"{created} {4 * USD} 50 1\ntenant:acme project:proj_123 token:tok_1\n{rest}"
    await redis.hset(f"toll:{{acme}}:{name}", "c1", text)
    await clock.add(60)
    assert isinstance(await ledger.extend("c1", SCOPES, Amount(USD, 5, 0)), Held)
    shown = await state(ledger)
    assert (shown["20 usd/minute"][2], shown["20 usd/day"][2]) == ("19", "15")
    await ledger.settle("c1", SCOPES, Amount(6 * USD, 60), record=record("c1"))
    assert await state(ledger) == {
        "20 usd/minute": ("2", "0", "18"),
        "20 usd/day": ("6", "0", "14"),
    }
    [row] = await ledger.usage("acme", "proj_123", by="model")
    assert (row.key, row.nano_usd, row.tokens, row.requests) == ("openai/gpt-4o", 6 * USD, 60, 1)


async def test_changing_limits_keeps_what_was_used(ledger: Ledger) -> None:
    """An edited limit, and one that was away for a while, go on from what was counted."""
    await limit(ledger, "10 usd/day", "5 concurrent")
    await ledger.hold("c1", SCOPES, Amount(2 * USD))
    await limit(ledger, "20 usd/day")
    assert await state(ledger) == {"20 usd/day": ("0", "2", "18")}
    await limit(ledger)
    await ledger.settle("c1", SCOPES, Amount(3 * USD), record=record("c1"))
    assert await state(ledger) == {}
    await limit(ledger, "3 usd/day", "5 concurrent")
    assert await state(ledger) == {"3 usd/day": ("3", "0", "0"), "5 concurrent": ("0", "0", "5")}
    assert isinstance(await ledger.hold("c2", SCOPES, Amount(1)), Short)


async def test_a_new_limit_counts_what_the_project_used_before(
    ledger: Ledger, clock: RedisClock
) -> None:
    """A limit set in the middle of its window knows the sums of the window's days and the calls under way."""
    await limit(ledger)
    await ledger.settle("c0", SCOPES, Amount(8 * USD, 10), record=record("c0"))
    await clock.add(86_400)
    await ledger.settle("c1", SCOPES, Amount(USD, 10), record=record("c1"))
    await ledger.hold("c2", SCOPES, Amount(2 * USD, 5))
    await limit(
        ledger, "50 usd/month", "50 usd/week", "9 usd/hour", "100 tokens/total", "2 concurrent"
    )
    # The 30th of August 2026 is a Sunday, so the week began anew on the 31st.
    assert await state(ledger) == {
        "50 usd/month": ("9", "2", "39"),
        "50 usd/week": ("1", "2", "47"),
        "9 usd/hour": ("0", "2", "7"),
        "100 tokens/total": ("20", "5", "75"),
        "2 concurrent": ("0", "1", "1"),
    }
    await ledger.settle("c2", SCOPES, Amount(USD, 5), record=record("c2"))
    assert (await state(ledger))["50 usd/week"] == ("2", "0", "48")


async def test_a_project_without_limits_still_records_usage(ledger: Ledger) -> None:
    """No limit means that nothing is refused, and everything is counted."""
    await limit(ledger)
    assert isinstance(await ledger.hold("c1", SCOPES, Amount(10**15, 10**9)), Held)
    await ledger.settle("c1", SCOPES, Amount(10**15, 10**9), record=record("c1"))
    shown = budget_json("proj_123", await ledger.show([PROJECT]))
    assert shown == {"project": "proj_123", "scopes": [{"scope": "project:proj_123", "limits": []}]}
    [row] = await ledger.usage("acme", "proj_123")
    assert row.as_json() == {"key": "2026-08-30", "usd": "1000000", "tokens": 10**9, "requests": 1}


async def test_a_project_unknown_to_the_ledger_may_not_spend(ledger: Ledger) -> None:
    """An emptied Redis has no limits either: that is no leave to spend without any."""
    with pytest.raises(LedgerUnavailable, match="no limits record of project:proj_123"):
        await ledger.hold("c1", SCOPES, Amount(1))


async def test_show_is_the_contract(ledger: Ledger) -> None:
    """`budget show --json`: amounts as decimal strings in the limit's unit, and when each resets."""
    await limit(ledger, "10 usd/day", "100 tokens/total", "8 concurrent")
    await ledger.hold("c1", SCOPES, Amount(USD // 8, 30))
    assert budget_json("proj_123", await ledger.show([TENANT, PROJECT])) == {
        "project": "proj_123",
        "scopes": [
            {"scope": "tenant:acme", "limits": []},
            {
                "scope": "project:proj_123",
                "limits": [
                    {
                        "limit": "10 usd/day",
                        "used": "0",
                        "held": "0.125",
                        "left": "9.875",
                        "resets_at": "2026-08-31T00:00:00Z",
                    },
                    {
                        "limit": "100 tokens/total",
                        "used": "0",
                        "held": "30",
                        "left": "70",
                        "resets_at": None,
                    },
                    {
                        "limit": "8 concurrent",
                        "used": "0",
                        "held": "1",
                        "left": "7",
                        "resets_at": None,
                    },
                ],
            },
        ],
    }


async def test_usage_by_day_model_and_token(ledger: Ledger, clock: RedisClock) -> None:
    """The sums agree with each other, and a model that cost nothing is not named: anybody could invent one."""
    await limit(ledger)
    await ledger.settle("c1", SCOPES, Amount(5, 10), record=record("c1"))
    await ledger.settle("c2", SCOPES, Amount(0, 0), record=record("c2", model="no such model"))
    await clock.add(86_400)
    await ledger.settle("c3", SCOPES, Amount(7, 1), record=record("c3", model="gpt 5 with spaces"))
    day, model, token = [
        [
            (row.key, row.nano_usd, row.tokens, row.requests)
            for row in await ledger.usage("acme", "proj_123", by=by)
        ]
        for by in ("day", "model", "token")
    ]
    assert day == [("2026-08-30", 5, 10, 2), ("2026-08-31", 7, 1, 1)]
    assert model == [
        ("-", 0, 0, 1),
        ("openai/gpt 5 with spaces", 7, 1, 1),
        ("openai/gpt-4o", 5, 10, 1),
    ]
    assert token == [("tok_1", 12, 11, 3)]
    assert [row.key for row in await ledger.usage("acme", "proj_123", date(2026, 8, 31))] == [
        "2026-08-31"
    ]


async def test_old_sums_and_old_ids_are_forgotten(
    ledger: Ledger, clock: RedisClock, redis: Redis
) -> None:
    """Sums go after 400 days, ended calls after 24 hours, records beyond the stream's bound."""
    await limit(ledger)
    for n in range(5):
        await ledger.settle(f"c{n}", SCOPES, Amount(1), record=record(f"c{n}"))
    await ledger.hold("dead", SCOPES, Amount(1), deadline_s=1)
    await clock.add(2)
    assert await ledger.sweep("acme") == 1
    await clock.add(86_401)
    for n in range(5, 12):
        await ledger.settle(f"c{n}", SCOPES, Amount(1), record=record(f"c{n}"))
    assert await redis.zcard("toll:{acme}:settled") == 7
    assert await redis.hlen("toll:{acme}:swept") == 0
    await clock.add(399 * 86_400)
    await ledger.settle("d1", SCOPES, Amount(1), record=record("d1"))
    assert [row.key for row in await ledger.usage("acme", "proj_123")] == [
        "2026-08-31",
        "2027-10-04",
    ]


async def test_keys_do_not_grow_with_calls_and_share_a_slot(ledger: Ledger, redis: Redis) -> None:
    """A tenant is one slot of a Cluster, and has as many keys after many calls as after the first."""
    await limit(ledger, "10 usd/day", "5 concurrent")

    async def call(n: int) -> None:
        await ledger.hold(f"c{n}", SCOPES, Amount(10, 10))
        await ledger.settle(f"c{n}", SCOPES, Amount(5, 5), record=record(f"c{n}"))

    await call(0)

    async def keys() -> set[bytes]:
        return {key for found in await everywhere(redis, "KEYS", "toll:*") for key in found}

    before = await keys()
    for n in range(1, 40):
        await call(n)
    assert await keys() == before
    assert {key_slot(key) for key in before} == {key_slot(b"acme")}


async def test_amounts_are_bounded(ledger: Ledger) -> None:
    """An amount that could not be added exactly, or is below zero, changes nothing."""
    await limit(ledger, f"{MAX_AMOUNT} tokens/day")
    for amount in (Amount(-1), Amount(0, -1), Amount(2**53), Amount(0, 0, -1)):
        with pytest.raises(ValueError, match="an amount is between"):
            await ledger.hold("c1", SCOPES, amount)
    assert isinstance(await ledger.hold("c1", SCOPES, Amount(0, MAX_AMOUNT)), Held)
    for more in (1, 2, MAX_AMOUNT):
        assert isinstance(await ledger.hold("c2", SCOPES, Amount(0, more)), Short)
    await ledger.settle("c1", SCOPES, Amount(0, MAX_AMOUNT - 1), record=record("c1"))
    assert isinstance(await ledger.hold("c3", SCOPES, Amount(0, 2)), Short)
    assert isinstance(await ledger.hold("c4", SCOPES, Amount(0, 1)), Held)


async def test_sums_stay_exact_above_2_to_the_53(ledger: Ledger) -> None:
    """The sums of a day are 64-bit integers: what passes the range of a double is still counted to the unit."""
    await limit(ledger)
    for n in range(3):
        await ledger.settle(f"c{n}", SCOPES, Amount(MAX_AMOUNT), record=record(f"c{n}"))
    [row] = await ledger.usage("acme", "proj_123")
    assert row.nano_usd == 3 * MAX_AMOUNT


async def test_counters_above_2_to_the_53_still_refuse(ledger: Ledger) -> None:
    """Settles may carry a counter past it: each step rounds it by one part in 2^53 at most, nothing fits any more, and what is
    taken off again leaves it where it would be but for that."""
    await limit(ledger, f"{MAX_AMOUNT} tokens/day", f"{MAX_AMOUNT} tokens/total")
    await ledger.hold("c0", SCOPES, Amount(0, 7))
    exact = 0
    for n in range(1, 10):
        amount = MAX_AMOUNT - 1_000 * n - n % 2
        exact += amount
        await ledger.settle(f"c{n}", SCOPES, Amount(0, amount), record=record(f"c{n}"))
    [shown] = await ledger.show([PROJECT])
    for row in shown.limits:
        assert (row.held, row.left) == (7, 0)
        assert 0 < abs(row.used - exact) <= 10 * exact // 2**53
    for more in (1, MAX_AMOUNT):
        assert isinstance(await ledger.hold("d1", SCOPES, Amount(0, more)), Short)
        assert isinstance(await ledger.extend("c0", SCOPES, Amount(0, more, 0)), Short)
    assert await ledger.release("c0", SCOPES)
    [row] = await ledger.usage("acme", "proj_123")
    assert row.tokens == exact


async def test_a_sum_that_would_pass_2_to_the_63_stops_nothing(ledger: Ledger) -> None:
    """Nine thousand million dollars of one project on one day: the sum stays where it is, and calls are settled all the same."""
    await limit(ledger, f"{MAX_AMOUNT} tokens/day")
    for n in range(1026):
        assert (
            await ledger.settle(f"c{n}", SCOPES, Amount(MAX_AMOUNT), record=record(f"c{n}"))
            == "no_hold"
        )
    [row] = await ledger.usage("acme", "proj_123")
    assert (row.nano_usd, row.requests) == (1024 * MAX_AMOUNT, 1026)


@pytest.mark.parametrize(
    "scopes",
    [
        (),
        (PROJECT, PROJECT),
        (PROJECT, Scope("token", "other", "tok_1")),
        (Scope("project", "a}b", "p"),),
        (Scope("project", "acme", "p:q"),),
        (Scope("project", "acme", ""),),
    ],
)
async def test_scopes_that_make_no_key_are_refused(
    ledger: Ledger, scopes: tuple[Scope, ...]
) -> None:
    """Scopes of one tenant, each once, with ids that can't reach into another key."""
    with pytest.raises(ValueError, match=r"scope|can't be the id"):
        await ledger.hold("c1", scopes, Amount(1))


async def test_a_settle_names_the_scopes_of_its_hold(ledger: Ledger) -> None:
    """A settle with other scopes than the hold's would leave something held for ever: it is an error."""
    await limit(ledger)
    await ledger.hold("c1", SCOPES, Amount(1))
    with pytest.raises(LedgerUnavailable, match="SCOPES"):
        await ledger.settle("c1", (PROJECT,), Amount(1), record=record("c1"))
    assert (await ledger.settle("c1", SCOPES, Amount(1), record=record("c1"))) == "hold"


async def test_a_clock_that_goes_back_reopens_no_window(ledger: Ledger, clock: RedisClock) -> None:
    """After a failover to a server that is a little behind, the later window stays in force."""
    await limit(ledger, "1 usd/minute")
    await clock.add(60)
    await ledger.hold("c1", SCOPES, Amount(USD))
    await clock.add(-30)
    assert isinstance(await ledger.hold("c2", SCOPES, Amount(1)), Short)
    await ledger.settle("c1", SCOPES, Amount(USD // 2), record=record("c1"))
    assert await state(ledger) == {"1 usd/minute": ("0.5", "0", "0.5")}


async def test_a_clock_more_than_an_hour_back_is_believed(
    ledger: Ledger, clock: RedisClock
) -> None:
    """It was wrong before. What was counted in the later minute goes with it, and what lasts longer stays counted."""
    await limit(ledger, "1 usd/minute", "10 usd/day")
    await ledger.hold("c1", SCOPES, Amount(USD))
    await clock.add(-3601)
    assert await state(ledger) == {"1 usd/minute": ("0", "0", "1"), "10 usd/day": ("0", "1", "9")}
    assert isinstance(await ledger.hold("c2", SCOPES, Amount(USD)), Held)
    await ledger.settle("c1", SCOPES, Amount(USD // 2), record=record("c1"))
    assert await state(ledger) == {
        "1 usd/minute": ("0", "1", "0"),
        "10 usd/day": ("0.5", "1", "8.5"),
    }


async def test_fifty_calls_at_once_against_money_for_ten(new_ledger: Callable[[], Ledger]) -> None:
    """Exactly what fits is let out, by several gateways on one Redis, and all of it."""
    gateways = [new_ledger() for _ in range(4)]
    await limit(gateways[0], "10 usd/day")
    results = await asyncio.gather(
        *(gateways[n % 4].hold(f"c{n}", SCOPES, Amount(USD)) for n in range(50))
    )
    assert sum(isinstance(result, Held) for result in results) == 10
    assert await state(gateways[0]) == {"10 usd/day": ("0", "10", "0")}


async def test_scripts_that_redis_forgot_are_sent_again(ledger: Ledger, redis: Redis) -> None:
    """A Redis that was restarted knows no script: the calls of one batch go through all the same."""
    await limit(ledger, "100 usd/day")
    await everywhere(redis, "SCRIPT", "FLUSH")
    results = await asyncio.gather(*(ledger.hold(f"c{n}", SCOPES, Amount(USD)) for n in range(5)))
    assert all(isinstance(result, Held) for result in results)


async def test_an_error_in_a_batch_is_one_calls_own(ledger: Ledger) -> None:
    """Calls that share a write share nothing else: one that Redis refuses does not disturb its neighbours."""
    await limit(ledger, "100 usd/day")
    await ledger.hold("c1", SCOPES, Amount(USD))
    first, wrong, last = await asyncio.gather(
        ledger.hold("c2", SCOPES, Amount(USD)),
        ledger.settle("c1", (PROJECT,), Amount(1), record=record("c1")),
        ledger.hold("c3", SCOPES, Amount(USD)),
        return_exceptions=True,
    )
    assert isinstance(first, Held)
    assert isinstance(wrong, LedgerUnavailable)
    assert isinstance(last, Held)


async def test_a_replica_is_left_for_its_master(
    redis_server: RedisServer, redis_url: str, tmp_path: Path
) -> None:
    """A server that a failover made read-only is refused, and used again once it is a master."""
    redis = connect(redis_url, tmp_path)
    ledger = Ledger(redis)
    await limit(ledger, "10 usd/day")
    await redis.replicaof("127.0.0.1", 1)
    try:
        with pytest.raises(LedgerUnavailable, match="read only replica"):
            await ledger.settle("c1", SCOPES, Amount(USD), record=record("c1"))
    finally:
        await redis.replicaof("no", "one")
    assert await ledger.settle("c1", SCOPES, Amount(USD), record=record("c1")) == "no_hold"
    await ledger.close()


async def test_text_of_any_kind_goes_into_the_record(ledger: Ledger, redis: Redis) -> None:
    """Names in any script, line ends and separators in a value do not disturb the record or the hold."""
    await limit(ledger)
    odd = {"model": "модель\r\n$5\x1f", "provider": "öpenai", "lone": "\ud800"}
    await ledger.hold("c1", SCOPES, Amount(1), carried=odd)
    await ledger.settle("c1", SCOPES, Amount(1), record={"call_id": "c1", **odd})
    [[_, fields]] = await redis.xrange("toll:{acme}:calls")
    assert fields[b"model"].decode() == "модель\r\n$5\x1f"
    assert fields[b"lone"] == b"?"


async def test_redis_away_and_back(
    redis_server: RedisServer, redis_url: str, tmp_path: Path
) -> None:
    """Without Redis every method says so at once; when it is back, so is the ledger, without a restart."""
    ledger = Ledger(connect(redis_url, tmp_path))
    await limit(ledger, "10 usd/day")
    await ledger.hold("c1", SCOPES, Amount(1))
    redis_server.stop()
    for work in (
        ledger.settle("c1", SCOPES, Amount(1), record=record("c1")),
        ledger.show([PROJECT]),
        ledger.usage("acme", "proj_123"),
        ledger.sweep("acme"),
        ledger.ping(),
    ):
        with pytest.raises(LedgerUnavailable, match="Redis"):
            await work
    redis_server.start()
    await limit(ledger, "10 usd/day")
    assert isinstance(await ledger.hold("c3", SCOPES, Amount(1)), Held)
    await ledger.close()


async def test_a_hold_without_an_answer_is_given_back(
    redis_server: RedisServer, redis_url: str, tmp_path: Path
) -> None:
    """Redis hangs: the call is refused, and whether or not the hold was taken, it is released when Redis answers."""
    trying = asyncio.Event()

    async def sleep(_: float) -> None:
        trying.set()

    redis = connect(f"{redis_url}?socket_timeout=0.2", tmp_path)
    ledger = Ledger(redis, sleep=sleep)
    await limit(ledger, "10 usd/day", "5 concurrent")
    redis_server.pause()
    with pytest.raises(LedgerUnavailable, match="Timeout"):
        await ledger.hold("c1", SCOPES, Amount(USD))
    redis_server.resume()
    await trying.wait()
    async with asyncio.timeout(10):
        while await redis.zscore("toll:{acme}:settled", "c1") is None:
            pass
    assert await state(ledger) == {"10 usd/day": ("0", "0", "10"), "5 concurrent": ("0", "0", "5")}
    with pytest.raises(ValueError, match="has ended"):
        await ledger.hold("c1", SCOPES, Amount(USD))
    await ledger.close()


async def test_a_tenant_whose_server_fails_does_not_keep_the_holds_of_others(
    redis_url: str, tmp_path: Path
) -> None:
    """Many holds of one tenant can't be given back, as when its master of a Cluster is lost: another's is in the first round."""
    rounds = 0

    async def sleep(_: float) -> None:
        nonlocal rounds
        rounds += 1
        await asyncio.sleep(0)

    redis = connect(redis_url, tmp_path)
    ledger = Ledger(redis, sleep=sleep)
    await limit(ledger, "10 usd/day")
    await ledger.hold("c1", SCOPES, Amount(USD))
    # What fails is that tenant's keys.
    await redis.set("toll:{lost}:holds", "not a hash")
    for number in range(50):
        ledger.give_back(f"lost{number}", (Scope("project", "lost", "proj_lost"),))
    ledger.give_back("c1", SCOPES)
    async with asyncio.timeout(10):
        while await redis.zscore("toll:{acme}:settled", "c1") is None:
            pass
    assert rounds < 10
    await redis.delete("toll:{lost}:holds")
    async with asyncio.timeout(10):
        while await redis.zcard("toll:{lost}:settled") < 50:
            pass
    await ledger.close()


class Pipelined:
    """A pipeline of a script that changes nothing."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.pipeline = Pipeline(redis)
        self.prefix = Prefix(load_script("overdue"), script_keys("acme", ()))

    def submit(self, told: Callable[[], object] | None = None) -> asyncio.Future[Any]:
        return self.pipeline.submit(self.prefix.command(["1"]), self.prefix.script, told)


@pytest.fixture
async def pipelined(redis_url: str, tmp_path: Path) -> AsyncIterator[Pipelined]:
    """Its connection is open, and Redis knows the script."""
    made = Pipelined(connect(redis_url, tmp_path))
    await made.submit()
    yield made
    await made.pipeline.close()
    await made.redis.aclose()


async def test_what_nobody_waits_for_is_not_sent_when_redis_is_back(
    redis_server: RedisServer, pipelined: Pipelined
) -> None:
    """Callers that gave up while Redis hung leave nothing behind them, however many they were."""
    await pipelined.redis.config_resetstat()
    redis_server.pause()
    under_way = []
    for _ in range(MAX_BATCHES):
        under_way.append(pipelined.submit())
        await asyncio.sleep(0)
    for _ in range(1000):
        pipelined.submit().cancel()
    last = pipelined.submit()
    redis_server.resume()
    await asyncio.gather(last, *under_way)
    assert (await pipelined.redis.info("commandstats"))["cmdstat_evalsha"][
        "calls"
    ] == MAX_BATCHES + 1


async def test_it_is_told_that_a_command_is_written_while_redis_hangs(
    redis_server: RedisServer, pipelined: Pipelined
) -> None:
    """A caller need not wait for the reply, and what is not written yet is not told of."""
    redis_server.pause()
    told = asyncio.Event()
    reply = pipelined.submit(told.set)
    assert not told.is_set()
    await asyncio.wait_for(told.wait(), 30)
    assert not reply.done()
    redis_server.resume()
    await reply


async def test_a_cancelled_hold_is_given_back(ledger: Ledger) -> None:
    """The client went away while the hold was on its way: nothing stays held for it."""
    await limit(ledger, "10 usd/day")
    task = asyncio.create_task(ledger.hold("c1", SCOPES, Amount(USD)))
    for _ in range(3):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(10):
        while (await state(ledger)) != {"10 usd/day": ("0", "0", "10")}:
            pass
    assert not await ledger.renew("c1", SCOPES)
