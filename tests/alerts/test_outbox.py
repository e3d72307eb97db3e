"""The outbox: an event is there once for each receiver, whoever sees it, and until it is over. On each kind of Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from redis.asyncio import Redis
from tests.ledger.clock import RedisClock

from tollhouse.alerts.event import AlertEvent
from tollhouse.alerts.outbox import (
    BEFORE,
    CLAIM_S,
    MOST_WAITING,
    NO_ROOM,
    PUT,
    Outbox,
    OutboxEntry,
)
from tollhouse.ledger.ledger import Ledger

NOW = RedisClock.START
EVENT = AlertEvent("key.age", ("a",), NOW, NOW + 3600, {"age_days": 90})


async def claimed(outbox: Outbox, receiver: str, most: int = 10) -> list[OutboxEntry]:
    return (await outbox.claim(receiver, most))[1]


async def test_once_for_each_receiver(
    redis: Redis, new_ledger: Callable[[], Ledger], clock: RedisClock
) -> None:
    """Of ten gateways at a time one puts it there; who is a receiver later is told as well."""
    outboxes = [Outbox(redis, new_ledger().run_script) for _ in range(10)]
    answers = await asyncio.gather(*(one.fire(EVENT, ["a", "b"]) for one in outboxes))
    assert sorted(answers) == [[BEFORE, BEFORE]] * 9 + [[PUT, PUT]]
    assert await outboxes[0].fire(EVENT, ["a", "c"]) == [BEFORE, PUT]
    for receiver in "abc":
        assert await claimed(outboxes[0], receiver) == [OutboxEntry(EVENT.id, 1, EVENT.body)]


async def test_told_again_in_another_window(outbox: Outbox, clock: RedisClock) -> None:
    """Once the event's time is over the same one is a new one, also if it was never told."""
    assert await outbox.fire(EVENT, ["a"]) == [PUT]
    await clock.add(3599)
    assert await outbox.fire(EVENT, ["a"]) == [BEFORE]
    await clock.add(2)
    assert await outbox.fire(replace(EVENT, until=NOW + 7200), ["a"]) == [PUT]


async def test_a_claim_ends_by_itself(outbox: Outbox, clock: RedisClock) -> None:
    """Whoever has claimed it may have died."""
    await outbox.fire(EVENT, ["a"])
    assert [one.attempts for one in await claimed(outbox, "a")] == [1]
    await clock.add(CLAIM_S - 1)
    assert await claimed(outbox, "a") == []
    await clock.add(2)
    assert [one.attempts for one in await claimed(outbox, "a")] == [2]


async def test_again_and_over(outbox: Outbox, clock: RedisClock) -> None:
    """It is due when it was said; once it is over nothing is left of it, and it is not told again."""
    await outbox.fire(EVENT, ["a"])
    [entry] = await claimed(outbox, "a")
    await outbox.again("a", entry, 100.0, "The receiver answered 500.")
    [row] = await outbox.waiting("a")
    assert (row.id, row.attempts, row.due) == (EVENT.id, 1, NOW + 100)
    assert row.why == "The receiver answered 500."
    await clock.add(99)
    assert await claimed(outbox, "a") == []
    await clock.add(2)
    assert [one.attempts for one in await claimed(outbox, "a")] == [2]
    assert await outbox.over("a", entry, "delivered")
    assert not await outbox.over("a", entry, "delivered")
    await outbox.again("a", entry, 1.0, "late")
    assert await outbox.waiting("a") == []
    assert await outbox.count("a") == 0
    assert await outbox.counts() == {("a", "fired"): 1, ("a", "delivered"): 1}
    assert await outbox.fire(EVENT, ["a"]) == [BEFORE]


async def test_what_waits_has_a_bound(outbox: Outbox, clock: RedisClock) -> None:
    """One receiver that takes nothing fills no Redis; the others have room."""
    events = [replace(EVENT, once_for=(str(number),)) for number in range(MOST_WAITING)]
    await asyncio.gather(*(outbox.fire(event, ["a"]) for event in events))
    assert await outbox.fire(EVENT, ["a", "b"]) == [NO_ROOM, PUT]
    assert await outbox.count("a") == MOST_WAITING
    assert (await outbox.counts())["a", "dropped"] == 1
    assert len(await outbox.waiting("a")) == 100


async def test_the_first_is_sent_first(outbox: Outbox, clock: RedisClock) -> None:
    events = [replace(EVENT, once_for=(str(number),)) for number in range(3)]
    for event in events:
        await outbox.fire(event, ["a"])
        await clock.add(1)
    count, found = await outbox.claim("a", 2)
    assert (count, [one.id for one in found]) == (3, [one.id for one in events[:2]])
