"""What Redis is told again: each tenant for itself where they are at several masters, all or none
where there is one server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import pytest
from tests.budget.test_purse import PRICES

from tollhouse.budget.purse import Purse
from tollhouse.call import Amount
from tollhouse.ledger.ledger import Ledger, LedgerUnavailable, Scope
from tollhouse.ledger.limits import MAX_AMOUNT
from tollhouse.ledger.spool import Spool, SpoolRecord
from tollhouse.ledger.store.client import connect
from tollhouse.ledger.transitions import Answer


def ending(number: int, tenant: str, nano_usd: int = 1) -> SpoolRecord:
    scopes = (Scope("tenant", tenant, tenant), Scope("project", tenant, "proj_1"))
    return SpoolRecord(f"call_{number}", scopes, Amount(nano_usd, 1, 1), {})


class Masters(Ledger):
    """Each tenant at a master of its own; those of ``away`` do not answer, each after
    ``takes_s``."""

    def __init__(self, directory: Path, divided: bool = True) -> None:
        super().__init__(connect("redis://127.0.0.1:1/0", directory))
        self._is_divided = divided
        self.away: set[str] = set()
        self.takes_s = 0.0
        self.seconds = 0.0
        self.asked: list[str] = []
        self.settled: list[str] = []

    @property
    def divided(self) -> bool:
        return self._is_divided

    async def settle(
        self,
        call_id: str,
        scopes: Sequence[Scope],
        amount: Amount,
        *,
        record: Mapping[str, str],
        tried_at: float | None = None,
        told: object = None,
    ) -> Answer:
        self.asked.append(scopes[0].tenant)
        if scopes[0].tenant in self.away:
            self.seconds += self.takes_s
            raise LedgerUnavailable("Redis: no answer in time")
        if amount.nano_usd > MAX_AMOUNT:
            raise ValueError("too much")
        self.settled.append(call_id)
        return "hold"


class World:
    def __init__(self, directory: Path, divided: bool) -> None:
        self.ledger = Masters(directory, divided)
        self.spool = Spool(directory)
        self.purse = Purse(self.ledger, PRICES, self.spool, clock=lambda: self.ledger.seconds)

    async def close(self) -> None:
        await self.spool.close()
        await self.ledger.close()


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path, divided=True)
    yield made
    await made.close()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path, divided=False)
    yield made
    await made.close()


async def test_a_lost_master_keeps_its_own_tenants_alone(
    cluster: World, caplog: pytest.LogCaptureFixture
) -> None:
    """They are asked about once a round, and told when it is back."""
    for number, tenant in enumerate(["lost", "there", "lost", "there"]):
        await cluster.spool.put(ending(number, tenant))
    cluster.ledger.away = {"lost"}
    await cluster.purse.retry()
    assert (cluster.ledger.settled, cluster.ledger.asked.count("lost")) == (["call_1", "call_3"], 1)
    assert cluster.spool.waiting == 2
    assert "spooled settles told to Redis: 2" in caplog.text
    assert "spooled settles of 1 tenants wait on (Redis: no answer in time)" in caplog.text
    cluster.ledger.away = set()
    await cluster.purse.retry()
    assert (cluster.ledger.settled[2:], cluster.spool.waiting) == (["call_0", "call_2"], 0)


async def test_without_masters_the_first_failure_ends_the_round(server: World) -> None:
    """There is one server: what it did not answer for one it does not answer for the others."""
    for number in range(20):
        await server.spool.put(ending(number, f"t{number:02}"))
    server.ledger.away = {"t00"}
    await server.purse.retry()
    assert (server.ledger.asked, server.spool.waiting) == (["t00"], 20)
    server.ledger.away = set()
    await server.purse.retry()
    assert (len(server.ledger.settled), server.spool.waiting) == (20, 0)


async def test_many_lost_tenants_do_not_hold_up_the_turn(cluster: World) -> None:
    """After 10 s no further tenant is begun; the next round begins with those that were not
    lost."""
    for number in range(20):
        await cluster.spool.put(ending(number, f"t{number:02}"))
    cluster.ledger.away = {f"t{number:02}" for number in range(20)}
    cluster.ledger.takes_s = 4.0
    await cluster.purse.retry()
    assert cluster.ledger.asked == ["t00", "t01", "t02"]
    await cluster.spool.put(ending(20, "t99"))
    await cluster.purse.retry()
    assert cluster.ledger.settled == ["call_20"]


async def test_what_is_kept_in_memory_goes_by_tenant_too(cluster: World) -> None:
    """What neither Redis nor the disk took."""
    unsettled = {
        f"call_{number}": ending(number, tenant) for number, tenant in enumerate(["lost", "there"])
    }
    cluster.purse.unsettled.update(unsettled)
    cluster.ledger.away = {"lost"}
    await cluster.purse.retry()
    assert (cluster.ledger.settled, list(cluster.purse.unsettled)) == (["call_1"], ["call_0"])


async def test_what_the_ledger_refuses_for_ever_is_said_once(
    cluster: World, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not in the way, and it is not asked about again."""
    await cluster.spool.put(ending(0, "acme", MAX_AMOUNT + 1))
    await cluster.spool.put(ending(1, "acme"))
    for _ in range(2):
        await cluster.purse.retry()
    assert (cluster.ledger.settled, cluster.spool.waiting) == (["call_1"], 0)
    assert cluster.ledger.asked == ["acme", "acme"]
    assert caplog.text.count("call call_0 is not charged from the spool, now or later") == 1
