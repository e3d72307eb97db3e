"""What is to be sent, in Redis: it outlives every gateway. Each event is put there once for each receiver.

What a sender has claimed is due again after `CLAIM_S`, so that the death of a sender loses nothing. A receiver may then be told
twice, with the same id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis

from tollhouse.alerts.event import AlertEvent
from tollhouse.ledger import names
from tollhouse.ledger.names import OutboxKeys
from tollhouse.ledger.store.client import translated

RunScript = Callable[[str, Sequence[str], Sequence[str]], Awaitable[Any]]

MOST_WAITING: Final = 1000
"""For each receiver. What is more is not sent, and is counted."""
CLAIM_S: Final = 20.0
"""Longer than an attempt takes (`receiver.BOUND_S`)."""
_KEPT_MS: Final = str(48 * 3_600_000)
"""Of what waits for a receiver that no gateway knows any more."""
_SHOWN: Final = 100

PUT, BEFORE, NO_ROOM = 1, 0, -1


class OutboxEntry(NamedTuple):
    """What one receiver is to be told. ``attempts`` counts the one that is made now."""

    id: str
    attempts: int
    body: str


class OutboxRow(NamedTuple):
    """An entry as an operator may see it. ``due`` is seconds since the epoch."""

    receiver: str
    id: str
    body: str
    attempts: int
    due: float
    why: str


@dataclass(frozen=True, slots=True)
class Outbox:
    """Every method raises `LedgerUnavailable`. ``run_script`` is `Ledger.run_script`."""

    redis: Redis
    run_script: RunScript

    async def fire(self, event: AlertEvent, receivers: Sequence[str]) -> list[int]:
        """Puts ``event`` there for each of ``receivers``: `PUT`, `BEFORE` or `NO_ROOM`."""
        keys = [names.NO_CLOCK, names.FIRED, names.ALERT_COUNTS]
        for receiver in receivers:
            own = OutboxKeys.of(receiver)
            keys += [own.due, own.bodies]
        head = [event.id, f"{event.until * 1000:.0f}", str(MOST_WAITING), _KEPT_MS, event.body]
        answer: list[int] = await self.run_script("alert_fire", keys, [*head, *receivers])
        return answer

    async def claim(self, receiver: str, most: int) -> tuple[int, list[OutboxEntry]]:
        """How many wait for ``receiver``, and at most ``most`` of those that are due. Nobody else gets these for `CLAIM_S`."""
        own = OutboxKeys.of(receiver)
        keys = [names.NO_CLOCK, own.due, own.bodies, own.tried]
        count, *found = await self.run_script(
            "alert_claim", keys, [str(most), f"{CLAIM_S * 1000:.0f}"]
        )
        rows = zip(found[::3], found[1::3], found[2::3], strict=True)
        return count, [OutboxEntry(key.decode(), int(n), body.decode()) for key, n, body in rows]

    async def over(self, receiver: str, entry: OutboxEntry, outcome: str) -> bool:
        """It waits no more, and is counted as ``outcome``. False if it did not wait."""
        keys = [*OutboxKeys.of(receiver), names.ALERT_COUNTS]
        return bool(await self.run_script("alert_over", keys, [entry.id, f"{receiver} {outcome}"]))

    async def again(self, receiver: str, entry: OutboxEntry, wait_s: float, why: str) -> None:
        """It is due in ``wait_s`` seconds."""
        own = OutboxKeys.of(receiver)
        keys = [names.NO_CLOCK, own.due, own.bodies, own.why]
        arguments = [entry.id, f"{wait_s * 1000:.0f}", why[:200], _KEPT_MS]
        await self.run_script("alert_again", keys, arguments)

    async def counts(self) -> Counter[tuple[str, str]]:
        """How many events were ``fired``, ``delivered``, ``given_up`` and ``dropped``, by receiver and that word, over all
        gateways."""
        with translated():
            found: Any = await self.redis.hgetall(names.ALERT_COUNTS)
        counted: Counter[tuple[str, str]] = Counter()
        for name, count in found.items():
            receiver, _, outcome = name.decode().rpartition(" ")
            counted[receiver, outcome] = int(count)
        return counted

    async def count(self, receiver: str) -> int:
        """How many wait for ``receiver``."""
        with translated():
            count: int = await self.redis.zcard(OutboxKeys.of(receiver).due)
        return count

    async def waiting(self, receiver: str) -> list[OutboxRow]:
        """The first 100 that wait for ``receiver``, what is due first at the front."""
        own = OutboxKeys.of(receiver)
        with translated():
            due: Any = await self.redis.zrange(own.due, 0, _SHOWN - 1, withscores=True)
            if not due:
                return []
            ids = [key for key, _ in due]
            bodies: Any = await self.redis.hmget(own.bodies, ids)
            tried: Any = await self.redis.hmget(own.tried, ids)
            whys: Any = await self.redis.hmget(own.why, ids)
        return [
            OutboxRow(
                receiver,
                key.decode(),
                body.decode(),
                int(attempts or 0),
                at / 1000,
                (why or b"").decode(),
            )
            for (key, at), body, attempts, why in zip(due, bodies, tried, whys, strict=True)
            if body is not None
        ]
