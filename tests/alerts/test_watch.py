"""The task of a process: one of all sends, and what was seen while Redis was away is told when it is back."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from redis.asyncio import Redis
from tests.alerts.test_conditions import Seen
from tests.ledger.clock import RedisClock
from tests.support.clock import Clock

from tollhouse.alerts.outbox import Outbox
from tollhouse.alerts.receiver import AlertAttempt, Interest, Receiver
from tollhouse.alerts.watch import Watch
from tollhouse.call import Amount
from tollhouse.ledger.ledger import Ledger, LedgerUnavailable, Scope
from tollhouse.ledger.limits import parse_limits
from tollhouse.parties import Project
from tollhouse.site.metrics import of_alerts

P1 = Project("p1", "acme")
EVERYTHING = Interest(at=(50, 100), kinds=frozenset({"spool.waiting"}))


@dataclass
class Hears:
    name: str
    interest: Interest = EVERYTHING
    heard: list[str] = field(default_factory=list)

    async def tell(self, message_id: str, body: str) -> AlertAttempt:
        self.heard.append(json.loads(body)["type"])
        return AlertAttempt(204)

    async def close(self) -> None: ...


@dataclass
class Process:
    ledger: Ledger
    redis: Redis
    clock: RedisClock
    seen: Seen = field(default_factory=Seen)
    own_clock: Clock = field(default_factory=Clock)
    hears: Hears = field(default_factory=lambda: Hears("a"))
    away: bool = False

    def watch(self) -> Watch:
        async def run(name: str, keys: Sequence[str], arguments: Sequence[str]) -> Any:
            if self.away:
                raise LedgerUnavailable("Redis: away")
            return await self.ledger.run_script(name, keys, arguments)

        async def projects() -> list[Project]:
            return [P1]

        return Watch(
            self.ledger,
            Outbox(self.redis, run),
            cast(list[Receiver], [self.hears]),
            self.seen.conditions(),
            projects,
            clock=self.own_clock,
            wall_clock=lambda: self.clock.now,
        )


async def test_one_of_all_sends(
    redis: Redis, new_ledger: Callable[[], Ledger], clock: RedisClock
) -> None:
    """The others send nothing, and one of them goes on as soon as it stops. What is known is not told again."""
    ledger, scope = new_ledger(), Scope("project", "acme", "p1")
    await ledger.set_limits(scope, parse_limits(["2 requests/day"]))
    await ledger.settle("call_1", (scope,), Amount(1, 1, 1), record={})
    one, two = (Process(new_ledger(), redis, clock) for _ in range(2))
    first, second = one.watch(), two.watch()
    for _ in range(3):
        await first.turn()
        await second.turn()
        one.own_clock.now += 2
        two.own_clock.now += 2
    await first.stop()
    assert (one.hears.heard, two.hears.heard) == (["budget.threshold"], [])
    await ledger.settle("call_2", (scope,), Amount(1, 1, 1), record={})
    await second.turn()
    await second.stop()
    assert two.hears.heard == ["budget.threshold"]
    assert await Outbox(redis, ledger.run_script).counts() == {
        ("a", "fired"): 2,
        ("a", "delivered"): 2,
    }
    counted = {
        tuple(sample.labels.values()): sample.value
        for family in of_alerts(second)
        for sample in family.samples
    }
    assert counted[("a", "delivered")] == 1
    assert counted[("a",)] == 0


async def test_redis_is_away(
    redis: Redis, new_ledger: Callable[[], Ledger], clock: RedisClock
) -> None:
    """It is said once, and what was seen meanwhile is told later, though it is over."""
    process = Process(new_ledger(), redis, clock, away=True)
    watch = process.watch()
    process.seen.waiting = 3
    for _ in range(3):
        await watch.turn()
        process.own_clock.now += 5
    process.seen.waiting = 0
    process.away = False
    await watch.turn()
    await watch.stop()
    assert process.hears.heard == ["spool.waiting"]
    assert watch.conditions.noted == {}
