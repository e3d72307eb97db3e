"""Sending: again and again with growing waits, no longer than a day, and each receiver by itself."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import cast

import pytest

from tollhouse.alerts.event import AlertEvent
from tollhouse.alerts.outbox import Outbox, OutboxEntry
from tollhouse.alerts.receiver import AlertAttempt, Receiver
from tollhouse.alerts.sender import AT_ONCE, GIVEN_UP_S, AlertSender, wait_s
from tollhouse.ledger.ledger import LedgerUnavailable

SEEN = 1_788_091_200.0
BODY = AlertEvent("key.age", ("a",), SEEN, SEEN).body


@dataclass
class Box:
    """An outbox in memory, all of which is due."""

    entries: dict[str, list[OutboxEntry]]
    over_as: dict[str, str] = field(default_factory=dict)
    waits: dict[str, float] = field(default_factory=dict)
    whys: list[str] = field(default_factory=list)
    away: bool = False

    async def claim(self, receiver: str, most: int) -> tuple[int, list[OutboxEntry]]:
        waiting = self.entries[receiver]
        found, self.entries[receiver] = waiting[:most], waiting[most:]
        return len(waiting), found

    async def over(self, receiver: str, entry: OutboxEntry, outcome: str) -> bool:
        if self.away:
            raise LedgerUnavailable("Redis: away")
        self.over_as[entry.id] = outcome
        return True

    async def again(self, receiver: str, entry: OutboxEntry, wait_s: float, why: str) -> None:
        self.waits[entry.id] = wait_s
        self.whys.append(why)


@dataclass
class Hearer:
    name: str
    told: AlertAttempt = AlertAttempt(204)  # noqa: RUF009 - frozen
    going: asyncio.Event = field(default_factory=asyncio.Event)
    heard: list[str] = field(default_factory=list)

    async def tell(self, message_id: str, body: str) -> AlertAttempt:
        self.heard.append(message_id)
        await self.going.wait()
        return self.told


def entries(count: int, attempts: int = 1) -> list[OutboxEntry]:
    return [OutboxEntry(f"msg_{number}", attempts, BODY) for number in range(count)]


def sender(box: Box, *hearers: Hearer, now: float = SEEN) -> AlertSender:
    return AlertSender(cast(Outbox, box), cast(list[Receiver], hearers), wall_clock=lambda: now)


async def all_told(one: AlertSender, hearer: Hearer) -> None:
    await one.turn()
    hearer.going.set()
    await one.stop()


async def test_delivered() -> None:
    box, hearer = Box({"a": entries(1)}), Hearer("a")
    one = sender(box, hearer)
    await all_told(one, hearer)
    assert box.over_as == {"msg_0": "delivered"}
    assert one.attempts == Counter({("a", "delivered"): 1})


async def test_failed_is_sent_again() -> None:
    box, hearer = (
        Box({"a": entries(1, 3)}),
        Hearer("a", AlertAttempt(500, "The receiver answered 500.")),
    )
    one = sender(box, hearer, now=SEEN + GIVEN_UP_S - 1)
    await all_told(one, hearer)
    assert 8 <= box.waits["msg_0"] <= 10
    assert box.whys == ["The receiver answered 500."]
    assert one.attempts == Counter({("a", "failed"): 1})


@pytest.mark.parametrize(
    ("told", "now"),
    [(AlertAttempt(500, "no"), SEEN + GIVEN_UP_S), (AlertAttempt(410, "no", gone=True), SEEN)],
)
async def test_given_up(told: AlertAttempt, now: float, caplog: pytest.LogCaptureFixture) -> None:
    """After a day, or at once if the receiver wants no more of it. The log has the whole message."""
    box, hearer = Box({"a": entries(1, 9)}), Hearer("a", told)
    one = sender(box, hearer, now=now)
    with caplog.at_level(logging.ERROR):
        await all_told(one, hearer)
    assert box.over_as == {"msg_0": "given_up"}
    assert one.attempts == Counter({("a", "given_up"): 1})
    assert "is not sent to a any more, after 9 attempts. no It was: " + BODY in caplog.text


async def test_one_that_hangs_holds_up_nobody() -> None:
    """It has two attempts under way, whatever waits, and another receiver is sent to meanwhile."""
    box = Box({"dead": entries(5), "alive": entries(5)})
    dead, alive = Hearer("dead"), Hearer("alive")
    alive.going.set()
    one = sender(box, dead, alive)
    while len(alive.heard) < 5:
        await one.turn()
        await asyncio.sleep(0)
    assert len(dead.heard) == AT_ONCE
    assert one.waiting["dead"] == 5
    dead.going.set()
    await one.stop()


async def test_redis_goes_away_in_between(caplog: pytest.LogCaptureFixture) -> None:
    """The receiver has it, and nobody could be told: it is sent again, by the same id."""
    box, hearer = Box({"a": entries(1)}, away=True), Hearer("a")
    one = sender(box, hearer)
    await all_told(one, hearer)
    assert "alert msg_0 is sent to a again (Redis: away)" in caplog.text


def test_the_waits_grow() -> None:
    """From 2 s to an hour; the receiver's own word is the least."""
    waits = [wait_s(attempts, AlertAttempt(500, "no")) for attempts in range(1, 40)]
    assert all(2**n <= wait <= 2**n + 2 for n, wait in enumerate(waits[:10], 1))
    assert all(3600 <= wait <= 3602 for wait in waits[12:])
    assert 20 < sum(1 for n in range(1, 60) if sum(waits[:n]) < GIVEN_UP_S) < 40
    assert wait_s(1, AlertAttempt(429, "no", 60.0)) == 60.0
