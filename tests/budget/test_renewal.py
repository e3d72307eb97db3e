"""Holds are renewed while the event loop stands still, really, and swept when the process is dead,
really; Redis's clock is moved by the tests."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis as blocking
from tests.budget.priced import under_way
from tests.ledger.clock import RedisClock
from tests.support.redis_server import RedisServer

from tollhouse.budget.hold import CallHold
from tollhouse.budget.keeper import RENEW_LATE_S, Keeper
from tollhouse.budget.purse import Purse
from tollhouse.budget.renewal import RENEW_EVERY_S, STANDSTILL_S, Holds, Renewer
from tollhouse.call import Amount
from tollhouse.ledger.ledger import RENEW_AT_ONCE, Ledger, Scope
from tollhouse.ledger.limits import parse_limits
from tollhouse.ledger.spool import Spool
from tollhouse.ledger.store.client import connect

PROJECT = Scope("project", "acme", "proj_123")
SCOPES = (PROJECT,)
WITHIN_S = 60.0
"""How long a test waits for what happens at once."""


class Rounds:
    """Stands in for the thread's wait: each round of it is begun, and waited for, by the test."""

    def __init__(self) -> None:
        self._begin, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self.fails = False

    def wait(self, stopping: threading.Event, seconds: float) -> bool:
        assert seconds == RENEW_EVERY_S
        self._done.release()
        assert self._begin.acquire(timeout=WITHIN_S)
        if self.fails:
            self.fails = False
            raise OSError("injected")
        return stopping.is_set()

    def first(self) -> None:
        """Blocks until the thread waits for the first time."""
        assert self._done.acquire(timeout=WITHIN_S)

    def next(self) -> None:
        """Lets the thread do one round, and blocks until it has."""
        self._begin.release()
        self.first()

    def last(self) -> None:
        """Lets the thread see that it is to end."""
        self._begin.release()


class Gateway:
    """A purse on a real Redis, its renewer, and a second gateway in a thread of its own. ``now`` is
    the monotonic clock."""

    def __init__(self, url: str, directory: Path) -> None:
        self.url, self.directory = url, directory
        self.rounds = Rounds()
        self.now = 1_000.0
        self.ledger = self.another()
        prices: Any = None
        self.purse = Purse(self.ledger, prices, Spool(directory))
        self.renewer = Renewer(
            self.another, self.purse.held, clock=lambda: self.now, wait=self.rounds.wait
        )
        self.keeper = Keeper(self.ledger, self.purse, self._tenants, lambda: self.now, self.renewer)
        self._second = ThreadPoolExecutor(1)

    def another(self) -> Ledger:
        return Ledger(
            connect(f"{self.url}?socket_timeout=60", self.directory), clock=RedisClock.LUA
        )

    async def _tenants(self) -> list[str]:
        return []

    async def hold(self, call_id: str) -> None:
        await self.ledger.hold(call_id, SCOPES, Amount(5))

    def swept_by_another(self) -> int:
        """How many holds a second gateway sweeps now. Blocks."""

        async def sweep() -> int:
            ledger = self.another()
            try:
                return await ledger.sweep("acme")
            finally:
                await ledger.close()

        return self._second.submit(asyncio.run, sweep()).result(WITHIN_S)

    def later(self, seconds: float) -> None:
        """Moves Redis's clock and ours. Blocks."""
        self.now += seconds
        with blocking.Redis.from_url(self.url) as client:
            before: Any = client.get("test:{acme}")
            client.set("test:{acme}", f"{float(before) + seconds:.3f}")

    async def close(self) -> None:
        self.rounds.last()
        await self.renewer.stop()
        await self.ledger.close()
        self._second.shutdown()


@pytest.fixture
async def gateway(redis_url: str, tmp_path: Path) -> Any:
    gateway = Gateway(redis_url, tmp_path)
    with blocking.Redis.from_url(redis_url) as client:
        client.set("test:{acme}", f"{RedisClock.START:.3f}")
    await gateway.ledger.set_limits(PROJECT, parse_limits(["10 usd/day", "500 concurrent"]))
    yield gateway
    await gateway.close()


async def test_a_loop_that_stands_still_keeps_its_holds(gateway: Gateway) -> None:
    """Two minutes long nothing of the loop runs: a second gateway sweeps what is not under way any
    more, and nothing else."""
    await gateway.hold("alive")
    gateway.purse.held["alive"] = under_way("alive")
    await gateway.hold("forgotten")
    assert gateway.renewer.turn() == []

    def stand_still() -> list[int]:
        """Called by the loop's own thread, and blocks it."""
        gateway.rounds.first()
        swept = []
        for _ in range(6):
            gateway.later(20.0)
            gateway.rounds.next()
            swept.append(gateway.swept_by_another())
        return swept

    assert stand_still() == [0, 0, 0, 1, 0, 0]
    [shown] = await gateway.ledger.show(SCOPES)
    assert {limit.limit.text: (limit.used, limit.held) for limit in shown.limits} == {
        "10 usd/day": (5, 5),
        "500 concurrent": (0, 1),
    }
    assert await gateway.ledger.settle("alive", SCOPES, Amount(3), record={}) == "hold"


async def test_every_hold_of_every_tenant_is_renewed(gateway: Gateway) -> None:
    """More than go into one script."""
    for number in range(3 * RENEW_AT_ONCE + 1):
        await gateway.hold(f"c{number}")
        gateway.purse.held[f"c{number}"] = under_way(f"c{number}")
    gateway.renewer.turn()
    gateway.rounds.first()
    for _ in range(4):
        gateway.later(20.0)
        gateway.rounds.next()
        assert gateway.swept_by_another() == 0


async def test_a_loop_that_stands_still_for_ever_is_taken_for_dead(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    """After ten minutes its holds are left to the sweep, so that its money and its places are not
    held for ever."""
    await gateway.hold("c1")
    gateway.purse.held["c1"] = under_way("c1")
    gateway.renewer.turn()
    gateway.rounds.first()
    swept = []
    while gateway.now <= 1_000.0 + STANDSTILL_S + 80:
        gateway.later(20.0)
        gateway.rounds.next()
        swept.append(gateway.swept_by_another())
    # The last renewal was 600 s after the loop's last turn.
    assert (swept.index(1) + 1) * 20 == STANDSTILL_S + 80
    assert "it is taken for dead" in caplog.text


async def test_a_thread_that_died_is_begun_anew(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    """With the next turn, and the new one renews at once."""
    await gateway.hold("c1")
    gateway.purse.held["c1"] = under_way("c1")
    assert await gateway.keeper.turn() == []
    gateway.rounds.first()
    gateway.rounds.fails = True
    [thread] = [one for one in threading.enumerate() if one.name == "tollhouse-renewer"]
    gateway.rounds.last()
    await asyncio.to_thread(thread.join, WITHIN_S)
    gateway.later(40.0)
    assert await gateway.keeper.turn() == []
    gateway.rounds.first()
    assert "the thread that renews holds has ended: another is begun" in caplog.text
    gateway.later(40.0)
    assert gateway.swept_by_another() == 0
    assert gateway.renewer.renewed_at == 1_040.0


async def test_a_thread_that_can_not_be_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway is not ready, and says why."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    renewer = Renewer(lambda: Ledger(connect("embedded", tmp_path)), Holds())
    [problem] = renewer.turn()
    assert problem.startswith(
        "holds: the thread that renews them can't be started (can't start new thread)"
    )
    await renewer.stop()


async def test_the_loop_renews_what_the_thread_does_not(gateway: Gateway) -> None:
    """A thread that hangs, or that Redis refuses: the loop does it, well before the deadline."""
    await gateway.hold("c1")
    gateway.purse.held["c1"] = under_way("c1")
    await gateway.keeper.turn()
    gateway.rounds.first()
    for _ in range(5):
        gateway.later(RENEW_LATE_S)
        assert await gateway.keeper.turn() == []
        assert gateway.swept_by_another() == 0


async def test_a_thread_without_redis_says_so_and_goes_on(
    redis_server: RedisServer, gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    """What it could not renew it renews when Redis is back."""
    await gateway.hold("c1")
    gateway.purse.held["c1"] = under_way("c1")
    gateway.renewer.turn()
    gateway.rounds.first()
    redis_server.stop()
    gateway.now += 20.0
    gateway.rounds.next()
    assert "1 holds could not be renewed (Redis: ConnectionError" in caplog.text
    assert gateway.renewer.renewed_at == 1_000.0
    redis_server.start()
    with blocking.Redis.from_url(gateway.url) as client:
        client.set("test:{acme}", f"{RedisClock.START:.3f}")
    gateway.now += 20.0
    gateway.rounds.next()
    assert gateway.renewer.renewed_at == 1_040.0


DYING = """
import asyncio, sys
from pathlib import Path
from tests.ledger.clock import RedisClock
from tests.budget.priced import under_way
from tests.budget.test_renewal import SCOPES
from tollhouse.budget.renewal import Holds, Renewer
from tollhouse.call import Amount
from tollhouse.ledger.ledger import Ledger
from tollhouse.ledger.store.client import connect

def a_ledger():
    return Ledger(connect(sys.argv[1], Path(".")), clock=RedisClock.LUA)

async def main():
    holds = Holds()
    await a_ledger().hold("c1", SCOPES, Amount(5))
    holds["c1"] = under_way("c1")
    Renewer(a_ledger, holds).turn()
    print("holding", flush=True)
    sys.stdin.read()

asyncio.run(main())
"""


@pytest.fixture
def dying(gateway: Gateway) -> Iterator[Callable[[], None]]:
    """Another gateway's process, which holds c1 and renews it, and what kills it."""
    command = [sys.executable, "-c", DYING, gateway.url]
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holding\n"

        def kill() -> None:
            process.kill()
            process.wait()

        yield kill
        process.kill()


async def test_a_killed_process_has_its_holds_swept(
    gateway: Gateway, dying: Callable[[], None]
) -> None:
    """A minute after its last renewal, as ever: its thread has died with it."""
    dying()
    swept = []
    for _ in range(4):
        gateway.later(20.0)
        swept.append(gateway.swept_by_another())
    assert swept == [0, 0, 0, 1]
    [shown] = await gateway.ledger.show(SCOPES)
    assert (shown.limits[0].used, shown.limits[0].held) == (5, 0)


async def test_holds_are_a_mapping() -> None:
    """What is under way, by call and by tenant."""
    one, two, three = under_way("c1"), under_way("c2", "other"), under_way("c3")
    holds = Holds[CallHold]()
    holds.update({"c1": one, "c2": two, "c3": three})
    assert (len(holds), list(holds), holds["c2"], "c4" in holds) == (
        3,
        ["c1", "c2", "c3"],
        two,
        False,
    )
    assert holds.by_tenant() == {"acme": ["c1", "c3"], "other": ["c2"]}
    assert (holds.pop("c1"), holds.pop("c1", None)) == (one, None)
    assert holds == {"c2": two, "c3": three}
