"""The spool on a real file: what is written is told once, in order, whatever the file and its
processes went through.

It is long because each way to die and each kind of damage is walked through.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
import stat
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.ledger.spool_worker import begun, ending, scopes
from tests.support.values import replace

from tollhouse.ledger.ledger import LedgerUnavailable, Scope
from tollhouse.ledger.spool import Spool, SpoolDamaged, SpoolRecord
from tollhouse.ledger.spool_file import CLAIM_ROWS, SpoolFile, Step, Tally
from tollhouse.ledger.spool_record import MAX_RECORD, encode


def held(number: int) -> SpoolRecord:
    return replace(begun(number), kind="held")


class Teller:
    """The ledger's end: keeps what it is told. The master of a tenant in ``away`` answers nothing,
    and a call in ``refused`` can never be told."""

    def __init__(self, at_most: int = 1000) -> None:
        self.told: list[SpoolRecord] = []
        self.asked: Counter[str] = Counter()
        self.at_most = at_most
        self.away: set[str] = set()
        self.refused: set[str] = set()

    async def __call__(self, record: SpoolRecord) -> Exception | None:
        tenant = record.scopes[0].tenant
        self.asked[tenant] += 1
        if tenant in self.away or len(self.told) >= self.at_most:
            raise LedgerUnavailable("away")
        if record.call_id in self.refused:
            return ValueError("no amount")
        self.told.append(record)
        return None

    @property
    def calls(self) -> list[str]:
        return [record.call_id for record in self.told]


async def opened(directory: Path, waiting: int = 0) -> Spool:
    spool = Spool(directory)
    assert await spool.open() == waiting
    return spool


async def filled(directory: Path, count: int) -> Spool:
    spool = await opened(directory)
    await asyncio.gather(*(spool.put(ending(number, text="ü\ud800\n")) for number in range(count)))
    return spool


def rows(
    directory: Path, sql: str = "SELECT call_id, state FROM records ORDER BY seq"
) -> list[Any]:
    """What another program sees in the file."""
    with closing(sqlite3.connect(directory / "spool.sqlite3")) as connection:
        found = connection.execute(sql).fetchall()
        connection.commit()
    return found


def files(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.iterdir())


async def test_what_is_put_is_told_once_and_in_order(tmp_path: Path) -> None:
    """More than one claim's worth; nothing of it is left on disk afterwards."""
    spool = await filled(tmp_path, 150)
    assert spool.waiting == 150
    database, log, _ = paths = [tmp_path / f"spool.sqlite3{end}" for end in ("", "-wal", "-shm")]
    assert [stat.S_IMODE(file.stat().st_mode) for file in paths] == [0o600] * 3
    large = database.stat().st_size + log.stat().st_size
    teller = Teller()
    replayed = await spool.replay(teller)
    assert (replayed.told, replayed.lost) == (150, {})
    assert teller.told == [ending(number, text="ü\ud800\n") for number in range(150)]
    assert (spool.waiting, spool.size, spool.calls, rows(tmp_path)) == (0, 0, 0, [])
    assert log.stat().st_size == 0
    assert database.stat().st_size < large
    assert (await spool.replay(teller)).told == 0
    await spool.put(ending(200))
    await spool.replay(teller)
    assert teller.told[-1] == ending(200)
    await spool.close()


async def test_when_it_was_first_tried_is_kept(tmp_path: Path) -> None:
    """The ledger has to know after days how old a record is; one without a time has none."""
    spool = Spool(tmp_path)
    old = replace(ending(1), tried_at=1_788_091_200.25)
    await asyncio.gather(spool.put(old), spool.put(ending(2)))
    teller = Teller()
    await spool.replay(teller)
    assert teller.told == [old, ending(2)]
    await spool.close()


async def test_nothing_is_made_without_need(tmp_path: Path) -> None:
    """An empty spool is no file."""
    spool = await opened(tmp_path)
    assert (await spool.replay(Teller())).told == 0
    spool.done("call_1")
    await spool.close()
    assert files(tmp_path) == []


class Counting(SpoolFile):
    """Counts the steps of each transaction."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.transactions: list[int] = []

    def run(self, steps: Sequence[Step]) -> tuple[list[Any], Tally]:
        self.transactions.append(len(steps))
        return super().run(steps)


@pytest.mark.parametrize("factory", [asyncio.Task, asyncio.eager_task_factory])
async def test_what_comes_in_one_turn_of_the_loop_is_one_transaction(
    tmp_path: Path, factory: Any
) -> None:
    """One fsync for all, also where a task starts at once."""
    asyncio.get_running_loop().set_task_factory(
        factory if factory is asyncio.eager_task_factory else None
    )
    file = Counting(tmp_path)
    spool = Spool(tmp_path, file)
    await asyncio.gather(*(spool.put(ending(number)) for number in range(200)))
    assert file.transactions == [200]
    await spool.close()


async def test_a_restart_finds_all(tmp_path: Path) -> None:
    """The file is what counts, not the process that wrote it: it is not even closed here."""
    first = await filled(tmp_path, 3)
    again = await opened(tmp_path, 3)
    teller = Teller()
    await again.replay(teller)
    assert teller.calls == ["call_0", "call_1", "call_2"]
    await again.close()
    await first.close()


async def test_a_replay_that_breaks_off_goes_on_where_it_was(tmp_path: Path) -> None:
    """Nothing is told twice, and nothing is skipped, after a restart too."""
    spool = await filled(tmp_path, 100)
    teller = Teller(at_most=70)
    replayed = await spool.replay(teller)
    assert (replayed.told, list(replayed.lost)) == (70, ["acme"])
    assert spool.waiting == 30
    await spool.put(ending(100))
    await spool.close()
    restarted = await opened(tmp_path, 31)
    teller.at_most = 1000
    assert (await restarted.replay(teller)).told == 31
    assert teller.calls == [f"call_{number}" for number in range(101)]
    await restarted.close()


async def test_a_record_too_large_keeps_its_charge(tmp_path: Path) -> None:
    """What is kept is bounded; the amount and the names are what must not be lost."""
    spool = Spool(tmp_path)
    huge = ending(7, path="/" * MAX_RECORD, model="gpt-4o")
    await spool.put(huge)
    assert spool.size < 1000
    teller = Teller()
    await spool.replay(teller)
    assert teller.told == [replace(huge, record={"call_id": "call_7", "model": "gpt-4o"})]
    await spool.close()


async def test_large_records_are_told_all_the_same(tmp_path: Path) -> None:
    """A claim is bounded in bytes, and one record may be larger."""
    spool = Spool(tmp_path)
    large = [ending(number, path="/" * (700 << 10)) for number in range(3)]
    await asyncio.gather(*map(spool.put, large))
    teller = Teller()
    await spool.replay(teller)
    assert teller.told == large
    await spool.close()


# Tenants.


async def test_a_tenant_whose_master_is_away_is_not_in_the_way_of_others(tmp_path: Path) -> None:
    """It is asked about once a round, and all of its records stay in their order."""
    spool = Spool(tmp_path)
    tenants = ["lost", "there", "lost", "there", "lost", "third"]
    await asyncio.gather(*(spool.put(ending(n, tenant)) for n, tenant in enumerate(tenants)))
    teller = Teller()
    teller.away = {"lost"}
    for told in (3, 0):
        replayed = await spool.replay(teller)
        assert (replayed.told, list(replayed.lost)) == (told, ["lost"])
        assert str(replayed.lost["lost"]) == "away"
        assert spool.waiting == 3
    assert sorted(teller.calls) == ["call_1", "call_3", "call_5"]
    assert teller.asked["lost"] == 2
    teller.away = set()
    assert (await spool.replay(teller)).told == 3
    assert teller.calls[3:] == ["call_0", "call_2", "call_4"]
    await spool.close()


async def test_a_master_that_hangs_holds_nobody_up(tmp_path: Path) -> None:
    """The others are told while the lost one's answer is waited for."""
    spool = Spool(tmp_path)
    await asyncio.gather(spool.put(ending(0, "hangs")), spool.put(ending(1, "there")))
    there = asyncio.Event()
    told: list[str] = []

    async def tell(record: SpoolRecord) -> Exception | None:
        if record.scopes[0].tenant == "hangs":
            await there.wait()
            raise LedgerUnavailable("no answer in time")
        told.append(record.call_id)
        there.set()
        return None

    replayed = await spool.replay(tell)
    assert (told, list(replayed.lost), spool.waiting) == (["call_1"], ["hangs"], 1)
    await spool.close()


async def test_those_that_were_lost_are_asked_last(tmp_path: Path) -> None:
    """Crowds of them do not take the places of those that answer."""
    spool = Spool(tmp_path)
    names = [f"a{number:03}" for number in range(100)]
    await asyncio.gather(*(spool.put(ending(n, name)) for n, name in enumerate(names)))
    order: list[str] = []

    async def tell(record: SpoolRecord) -> Exception | None:
        order.append(record.scopes[0].tenant)
        if record.scopes[0].tenant in names:
            raise LedgerUnavailable("away")
        return None

    await spool.replay(tell)
    assert sorted(order) == names
    await spool.put(ending(200, "zzz"))
    order.clear()
    await spool.replay(tell)
    assert order[0] == "zzz"
    await spool.close()


async def test_what_can_never_be_told_is_put_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Said once, kept for a person, and not in the way of what comes behind it."""
    spool = await filled(tmp_path, 3)
    teller = Teller()
    teller.refused = {"call_1"}
    assert (await spool.replay(teller)).told == 2
    assert teller.calls == ["call_0", "call_2"]
    assert caplog.text.count("call call_1 is not charged from the spool") == 1
    assert "ValueError: no amount" in caplog.text
    assert (spool.waiting, spool.calls) == (0, 0)
    assert spool.size > 0
    await spool.close()
    again = await opened(tmp_path)
    asked = teller.asked.total()
    assert (await again.replay(teller)).told == 0
    assert teller.asked.total() == asked
    assert caplog.text.count("call call_1 is not charged from the spool") == 1
    [(call_id, why, body)] = rows(tmp_path, "SELECT call_id, why, body FROM aside")
    assert (call_id, why) == ("call_1", "ValueError: no amount")
    assert json.loads(body)["charged"] == [1, 2, 1]
    await again.close()


async def test_a_fault_of_the_teller_loses_nothing(tmp_path: Path) -> None:
    """It is raised, and the records are free for the next round."""
    spool = await filled(tmp_path, 2)

    async def boom(record: SpoolRecord) -> Exception | None:
        raise RuntimeError("injected")

    with pytest.raises(RuntimeError, match="injected"):
        await spool.replay(boom)
    teller = Teller()
    await spool.replay(teller)
    assert teller.calls == ["call_0", "call_1"]
    await spool.close()


@pytest.mark.parametrize("turns", range(12))
async def test_a_replay_that_is_cancelled_loses_nothing(tmp_path: Path, turns: int) -> None:
    """Wherever it was, the next one tells the rest."""
    spool = await filled(tmp_path, 2 * CLAIM_ROWS)
    teller = Teller()
    replay = asyncio.create_task(spool.replay(teller))
    for _ in range(turns):
        await asyncio.sleep(0)
    replay.cancel()
    await asyncio.gather(replay, return_exceptions=True)
    await spool.replay(teller)
    await spool.replay(teller)
    assert set(teller.calls) == {f"call_{number}" for number in range(2 * CLAIM_ROWS)}
    assert spool.waiting == 0
    await spool.close()


# Calls without a hold.


async def test_a_beginning_is_told_by_the_next_process_alone(tmp_path: Path) -> None:
    """The last record of a call counts: the larger beginning, its end, or that it is held."""
    spool = Spool(tmp_path)
    for one in (
        begun(1),
        begun(2),
        begun(1, 50),
        begun(3),
        begun(4),
        ending(2),
        held(3),
        begun(4, 70),
    ):
        await spool.put(one)
    assert (spool.waiting, spool.live, spool.calls) == (1, {"call_1", "call_4"}, 3)
    teller = Teller()
    assert (await spool.replay(teller)).told == 1
    assert teller.told == [ending(2)]
    assert not spool.spent
    await spool.close()
    again = await opened(tmp_path, 2)
    assert (await again.replay(teller)).told == 2
    assert teller.told[1:] == [begun(1, 50), begun(4, 70)]
    assert rows(tmp_path) == []
    await again.close()


async def test_what_ended_is_taken_off(tmp_path: Path) -> None:
    """The ledger was told of it: nothing is left of the call, and the file is emptied with the last
    one."""
    spool = Spool(tmp_path)
    await asyncio.gather(spool.put(begun(1)), spool.put(begun(2)))
    spool.done("call_1")
    await spool.replay(Teller())
    assert (rows(tmp_path), spool.live) == ([("call_2", "begun")], {"call_2"})
    spool.done("call_2")
    spool.done("call_3")
    await spool.replay(Teller())
    assert (rows(tmp_path), spool.calls, spool.spent) == ([], 0, False)
    assert (tmp_path / "spool.sqlite3-wal").stat().st_size == 0
    await spool.close()


async def test_spent_is_what_no_record_needs(tmp_path: Path) -> None:
    """Until a replay gives it back to the disk."""
    spool = Spool(tmp_path)
    assert not spool.spent
    await spool.put(begun(1))
    assert not spool.spent
    await spool.put(held(1))
    assert (spool.spent, spool.waiting, spool.live) == (True, 0, set())
    await spool.replay(Teller())
    assert not spool.spent
    await spool.close()


async def test_the_share_of_a_token(tmp_path: Path) -> None:
    """Counted from the moment in which it is put; what is replaced counts once, what was told no
    more."""
    spool = Spool(tmp_path)
    token, other = scopes()[-1], Scope("token", "acme", "tok_2")
    small, large = (len(encode(begun(1, tokens))) for tokens in (1, 1_000_000))
    writing = spool.put(begun(1))
    assert (spool.share(token), spool.size, spool.calls) == (small, small, 1)
    await writing
    assert (spool.share(token), spool.size, spool.calls) == (small, small, 1)
    await spool.put(begun(1, 1_000_000))
    assert (spool.share(token), spool.share(other), spool.size) == (large, 0, large)
    await spool.put(replace(ending(2), scopes=(*scopes()[:2], other)))
    assert spool.size == spool.share(token) + spool.share(other)
    await spool.replay(Teller())
    assert (spool.share(token), spool.share(other), spool.calls) == (large, 0, 1)
    await spool.close()


# Several processes.


async def test_two_processes_tell_each_record_once(tmp_path: Path) -> None:
    """What one has claimed the other does not see; it is free again when the claim ends."""
    first, second = await filled(tmp_path, 100), Spool(tmp_path)
    inside, teller = Teller(), Teller()
    told: list[str] = []

    async def tell(record: SpoolRecord) -> Exception | None:
        if not told:
            await second.replay(inside)
        told.append(record.call_id)
        return None

    await first.replay(tell)
    assert sorted([*told, *inside.calls]) == sorted(f"call_{number}" for number in range(100))
    assert len(told) == CLAIM_ROWS
    await second.replay(teller)
    assert (teller.told, second.waiting, first.waiting) == ([], 0, 0)
    await asyncio.gather(first.close(), second.close())


async def test_a_process_sees_what_another_put(tmp_path: Path) -> None:
    """What waits, what is under way, and the shares; a call that lives elsewhere is not told."""
    first, second = Spool(tmp_path), await opened(tmp_path)
    await first.put(begun(1))
    await first.put(ending(2))
    teller = Teller()
    await second.replay(teller)
    assert teller.told == [ending(2)]
    assert (second.waiting, second.calls, second.live) == (0, 1, set())
    assert second.share(scopes()[-1]) == first.share(scopes()[-1]) - len(encode(ending(2)))
    second.done("call_1")
    await second.replay(teller)
    assert rows(tmp_path) == [("call_1", "begun")]
    await first.close()
    await second.replay(teller)
    assert teller.told == [ending(2), begun(1)]
    await second.close()


class Worker:
    """`spool_worker` in a process of its own."""

    def __init__(self, job: str, directory: Path, *numbers: int) -> None:
        arguments = [job, str(directory), *map(str, numbers)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.ledger.spool_worker", *arguments],
            cwd=Path(__file__).parents[2],
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def line(self) -> list[str]:
        assert self._process.stdout is not None
        return self._process.stdout.readline().split()

    def rest(self, stdin: str = "") -> list[str]:
        """What it says until its end."""
        return self._process.communicate(stdin)[0].split()

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


def test_processes_that_put_and_tell_at_the_same_time(tmp_path: Path) -> None:
    """Two write, two tell: each record is told once, by one of them, and none is lost."""
    workers = [Worker("put", tmp_path, number * 1000, 200) for number in range(2)]
    workers += [Worker("tell", tmp_path) for _ in range(2)]
    with ThreadPoolExecutor(len(workers)) as pool:
        put, more, told, others = pool.map(lambda one: one.rest("a round\n" * 50), workers)
    told += others + Worker("tell", tmp_path).rest("the last round\n")
    assert len(put + more) == 400
    assert sorted(told) == sorted(put + more)
    assert rows(tmp_path) == []


@pytest.mark.parametrize("lines", [1, 3, 20])
async def test_a_process_that_is_killed_loses_nothing(tmp_path: Path, lines: int) -> None:
    """All that it said is on disk is told by the next one, what had begun as well."""
    dying = Worker("put", tmp_path, 0, 100_000)
    said = [call for _ in range(lines) for call in dying.line()]
    dying.kill()
    spool, teller = Spool(tmp_path), Teller(at_most=100_000)
    waiting = await spool.open()
    assert waiting >= 5 * lines
    await spool.replay(teller)
    assert teller.calls[: 5 * lines] == said == [f"call_{number}" for number in range(5 * lines)]
    assert len(teller.calls) == len(set(teller.calls)) == waiting
    assert teller.told[:2] == [begun(0), ending(1)]
    await spool.close()


async def test_the_claims_of_a_killed_process_are_free(tmp_path: Path) -> None:
    """Not before: it may be telling them."""
    spool, teller = await filled(tmp_path, 3), Teller()
    dying = Worker("hang", tmp_path)
    assert dying.line() == ["call_0"]
    await spool.replay(teller)
    assert (teller.calls, spool.waiting) == ([], 3)
    dying.kill()
    await spool.replay(teller)
    assert (teller.calls, spool.waiting) == (["call_0", "call_1", "call_2"], 0)
    await spool.close()


async def test_a_number_that_is_taken_again_frees_what_the_dead_process_had(tmp_path: Path) -> None:
    """A restart finds the beginnings of the process before it, whose number it has now."""
    first = Spool(tmp_path)
    await first.put(begun(1))
    await first.close()
    with closing(sqlite3.connect(tmp_path / "spool.sqlite3")) as connection:
        connection.execute("UPDATE records SET state = 'begun', owner = 1")
        connection.commit()
    again = await opened(tmp_path, 1)
    teller = Teller()
    await again.replay(teller)
    assert teller.told == [begun(1)]
    await again.close()


# The disk.


async def test_a_disk_that_takes_nothing_is_told_to_whoever_waits(tmp_path: Path) -> None:
    """The state directory is gone: `OSError`, and later records are written when it is back."""
    spool = Spool(tmp_path / "gone")
    with pytest.raises(OSError, match="No such file"):
        await spool.put(ending(1))
    assert (spool.waiting, spool.size, spool.calls) == (0, 0, 0)
    (tmp_path / "gone").mkdir()
    await spool.put(ending(2))
    assert spool.waiting == 1
    await spool.close()


async def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    """The file is ours or none."""
    (tmp_path / "spool.sqlite3").symlink_to(tmp_path / "elsewhere")
    spool = Spool(tmp_path)
    for attempt in (spool.open(), spool.put(ending(1))):
        with pytest.raises(OSError, match="symbolic"):
            await attempt
    assert not (tmp_path / "elsewhere").exists()
    await spool.close()


async def test_a_mode_that_somebody_opened_is_closed(tmp_path: Path) -> None:
    """0600 again, of the files beside it as well."""
    await (await filled(tmp_path, 1)).close()
    (tmp_path / "spool.sqlite3").chmod(0o666)
    spool = await opened(tmp_path, 1)
    paths = [tmp_path / f"spool.sqlite3{end}" for end in ("", "-wal", "-shm")]
    assert [stat.S_IMODE(file.stat().st_mode) for file in paths] == [0o600] * 3
    await spool.close()


class Faulty(SpoolFile):
    """Fails as it is told."""

    fault: Exception | None = None

    def run(self, steps: Sequence[Step]) -> tuple[list[Any], Tally]:
        if self.fault is not None:
            raise self.fault
        return super().run(steps)


async def test_a_fault_while_it_is_written_leaves_nobody_waiting(tmp_path: Path) -> None:
    """Whatever it is, whoever waits is told that nothing is on the disk."""
    file = Faulty(tmp_path)
    spool = Spool(tmp_path, file)
    file.fault = RuntimeError("injected")
    with pytest.raises(OSError, match="injected"):
        await spool.put(ending(1))
    file.fault = None
    await spool.put(ending(2))
    assert spool.waiting == 1
    await spool.close()


async def test_a_record_that_cannot_be_written_fails_alone(tmp_path: Path) -> None:
    """The others of its transaction are on disk."""
    spool = Spool(tmp_path)
    wrong = replace(ending(1), call_id="call_\ud800")
    results = await asyncio.gather(
        *map(spool.put, (ending(0), wrong, ending(2))), return_exceptions=True
    )
    assert (results[0], results[2]) == (None, None)
    assert isinstance(results[1], OSError)
    assert rows(tmp_path) == [("call_0", "ended"), ("call_2", "ended")]
    await spool.close()


async def test_what_the_disk_did_not_take_of_a_told_call_is_made_up_for(tmp_path: Path) -> None:
    """A call that ended, and a record that was told, while the disk failed: both are gone after the
    next replay."""
    file = Faulty(tmp_path)
    spool = Spool(tmp_path, file)
    await asyncio.gather(spool.put(begun(1)), spool.put(ending(2)))
    told: list[str] = []

    async def tell(record: SpoolRecord) -> Exception | None:
        told.append(record.call_id)
        spool.done("call_1")
        file.fault = OSError(5, "Input/output error")
        return None

    with pytest.raises(OSError, match="Input/output"):
        await spool.replay(tell)
    assert len(rows(tmp_path)) == 2
    file.fault = None
    await spool.replay(tell)
    assert (told, rows(tmp_path), spool.waiting) == (["call_2"], [], 0)
    await spool.close()


async def test_a_file_that_another_program_locks(tmp_path: Path) -> None:
    """The put fails after a while, and leaves nothing; later ones are written."""
    await (await filled(tmp_path, 1)).close()
    spool = Spool(tmp_path, SpoolFile(tmp_path, busy_s=0.003))
    assert await spool.open() == 1
    with closing(sqlite3.connect(tmp_path / "spool.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OSError, match="locked"):
            await spool.put(ending(1))
    await spool.put(ending(2))
    assert rows(tmp_path) == [("call_0", "ended"), ("call_2", "ended")]
    await spool.close()


async def test_the_log_beside_the_file_is_bounded(tmp_path: Path) -> None:
    """It is copied into the file when it is larger than 4 MiB."""
    spool = Spool(tmp_path)
    log = tmp_path / "spool.sqlite3-wal"
    sizes = []
    for number in range(12):
        await spool.put(ending(number, path="/" * 1_000_000))
        sizes.append(log.stat().st_size)
    assert max(sizes) <= 4 << 20
    assert sizes.count(0) == 2
    await spool.close()


async def test_a_transaction_that_fails_loses_nothing_that_was_there(tmp_path: Path) -> None:
    """The put fails, what was there before is told, and the next put is written."""
    spool = await filled(tmp_path, 1)
    with closing(sqlite3.connect(tmp_path / "spool.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute(
            "CREATE TRIGGER boom BEFORE INSERT ON records BEGIN SELECT RAISE(FAIL, 'injected'); END"
        )
        other.execute("COMMIT")
    with pytest.raises(OSError, match="injected"):
        await spool.put(ending(2))
    with closing(sqlite3.connect(tmp_path / "spool.sqlite3")) as other:
        other.execute("DROP TRIGGER boom")
        other.commit()
    assert rows(tmp_path) == [("call_0", "ended")]
    await spool.put(ending(3))
    teller = Teller()
    await spool.replay(teller)
    assert teller.calls == ["call_0", "call_3"]
    await spool.close()


# Damage.


async def refused_at_the_start(directory: Path, why: str) -> None:
    """It says what to do, and leaves the file as it is."""
    file = directory / "spool.sqlite3"
    before = file.read_bytes()
    spool = Spool(directory)
    with pytest.raises(SpoolDamaged, match=why) as caught:
        await spool.open()
    text = str(caught.value)
    assert str(file) in text
    assert "Move it to another directory" in text
    assert "start again" in text
    with pytest.raises(OSError, match="cannot be used as the spool"):
        await spool.put(ending(1))
    await spool.close()
    assert file.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"x", b"no database at all\n" * 1000])
async def test_a_file_that_is_no_database(tmp_path: Path, content: bytes) -> None:
    """An error at the start, and nothing is thrown away."""
    (tmp_path / "spool.sqlite3").write_bytes(content)
    await refused_at_the_start(tmp_path, "not a database|another program made it, or it is empty")


async def test_a_database_of_another_program(tmp_path: Path) -> None:
    """It is not written into."""
    with closing(sqlite3.connect(tmp_path / "spool.sqlite3")) as other:
        other.execute("CREATE TABLE records (a)")
        other.commit()
    await refused_at_the_start(tmp_path, "another program made it")


async def test_a_file_of_a_later_version(tmp_path: Path) -> None:
    """What its records mean is not guessed at."""
    await (await filled(tmp_path, 1)).close()
    with closing(sqlite3.connect(tmp_path / "spool.sqlite3")) as other:
        other.execute("PRAGMA user_version = 2")
    await refused_at_the_start(tmp_path, "version 2")


@pytest.mark.parametrize("damage", ["page", "cut"])
async def test_a_damaged_file(tmp_path: Path, damage: str) -> None:
    """A page that is overwritten, and an end that is missing."""
    await (await filled(tmp_path, 100)).close()
    file = tmp_path / "spool.sqlite3"
    data = bytearray(file.read_bytes())
    if damage == "page":
        data[-8192:] = b"\xa5" * 8192
    else:
        del data[-8192:]
    file.write_bytes(data)
    await refused_at_the_start(tmp_path, "it is damaged|malformed")


async def test_a_record_whose_bytes_changed_is_put_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A flipped bit costs that record alone, and it is kept for a person to look at."""
    await (await filled(tmp_path, 3)).close()
    file = tmp_path / "spool.sqlite3"
    data = bytearray(file.read_bytes())
    data[data.index(b'"charged":[1,2,1]') + 11] ^= 1
    file.write_bytes(data)
    spool = await opened(tmp_path, 3)
    teller = Teller()
    await spool.replay(teller)
    assert teller.calls == ["call_0", "call_2"]
    assert "call call_1 is not charged from the spool" in caplog.text
    assert [call for (call,) in rows(tmp_path, "SELECT call_id FROM aside")] == ["call_1"]
    assert spool.waiting == 0
    await spool.close()


async def test_a_kind_that_nobody_knows_is_put_aside(tmp_path: Path) -> None:
    """What it means is not guessed at."""
    spool = Spool(tmp_path)
    await spool.put(replace(ending(1), kind="half"))  # type: ignore[arg-type]
    await spool.put(ending(2))
    teller = Teller()
    await spool.replay(teller)
    assert teller.told == [ending(2)]
    assert len(rows(tmp_path, "SELECT call_id FROM aside")) == 1
    await spool.close()


async def test_a_torn_log_costs_only_what_nobody_was_promised(tmp_path: Path) -> None:
    """A crash of the machine in the middle of a write: half of a transaction lies behind the whole
    ones."""
    spool = await filled(tmp_path, 3)
    place = tmp_path / "crashed"
    place.mkdir()
    for name in ("spool.sqlite3", "spool.sqlite3-wal"):
        (place / name).write_bytes((tmp_path / name).read_bytes())
    await spool.close()
    log = place / "spool.sqlite3-wal"
    log.write_bytes(log.read_bytes() + log.read_bytes()[:5000])
    again = await opened(place, 3)
    await again.close()


# The file of the version before.


def line(record: SpoolRecord) -> bytes:
    body = encode(record)
    return b"%08x %08x %b\n" % (len(body), zlib.crc32(body), body)


async def test_an_old_file_is_taken_over_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The last record of a call counts, and the file is gone."""
    old = tmp_path / "settles.spool"
    timed = replace(ending(5), tried_at=1_788_091_200.25)
    records = (begun(1), begun(2), begun(1, 50), begun(3), ending(2), held(3), timed)
    old.write_bytes(b"".join(map(line, records)))
    with caplog.at_level(logging.WARNING):
        spool = await opened(tmp_path, 3)
    assert "taken over into the new spool: 7" in caplog.text
    assert not old.exists()
    assert rows(tmp_path) == [("call_1", "lost"), ("call_2", "ended"), ("call_5", "ended")]
    teller = Teller()
    await spool.replay(teller)
    assert teller.told == [begun(1, 50), ending(2), timed]
    await spool.close()
    assert (await opened(tmp_path)).waiting == 0


async def test_a_crash_before_the_old_file_is_gone(tmp_path: Path) -> None:
    """It is there again with the same records, beside others: each counts once."""
    old = tmp_path / "settles.spool"
    data = b"".join(line(ending(number)) for number in range(3))
    old.write_bytes(data)
    first = await opened(tmp_path, 3)
    await first.put(ending(9))
    await first.close()
    old.write_bytes(data)
    again = await opened(tmp_path, 4)
    assert not old.exists()
    teller = Teller()
    await again.replay(teller)
    assert sorted(teller.calls) == ["call_0", "call_1", "call_2", "call_9"]
    await again.close()


async def test_a_crash_before_the_old_records_are_written(tmp_path: Path) -> None:
    """The disk fails in the middle: the old file stays whole, and the next start takes it over."""
    old = tmp_path / "settles.spool"
    data = b"".join(line(ending(number)) for number in range(3))
    old.write_bytes(data)
    file = Faulty(tmp_path)
    file.fault = OSError(28, "No space left on device")
    spool = Spool(tmp_path, file)
    with pytest.raises(OSError, match="No space"):
        await spool.open()
    assert old.read_bytes() == data
    file.fault = None
    assert await spool.open() == 3
    assert not old.exists()
    await spool.close()


async def test_processes_that_start_together_take_it_over_once(tmp_path: Path) -> None:
    """Whoever comes later finds it done."""
    (tmp_path / "settles.spool").write_bytes(b"".join(line(ending(n)) for n in range(50)))
    spools = [Spool(tmp_path) for _ in range(4)]
    await asyncio.gather(*(spool.open() for spool in spools))
    tellers = [Teller() for _ in spools]
    await asyncio.gather(*(spool.replay(t) for spool, t in zip(spools, tellers, strict=True)))
    calls = [call for teller in tellers for call in teller.calls]
    assert sorted(calls) == sorted(f"call_{number}" for number in range(50))
    await asyncio.gather(*(spool.close() for spool in spools))


@pytest.mark.parametrize("lost", [1, 10, 60], ids=["newline", "tail", "half"])
async def test_a_torn_last_record_of_it_is_dropped_and_said(
    tmp_path: Path, lost: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A crash in the middle of a write: the others are whole."""
    data = b"".join(line(ending(number)) for number in range(3))
    (tmp_path / "settles.spool").write_bytes(data[:-lost])
    spool = await opened(tmp_path, 2)
    assert "cut off by a crash" in caplog.text
    assert not [name for name in files(tmp_path) if name.startswith("settles")]
    await spool.close()


@pytest.mark.parametrize(
    "damage", [b"not a record\n", b"x" * (MAX_RECORD + 5) + b"\n", b"00000002 00000000 {}\n"]
)
async def test_damage_of_it_is_kept_for_a_person(
    tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """What is whole before and behind it is taken over."""
    data = line(ending(1)) + damage + line(ending(2))
    (tmp_path / "settles.spool").write_bytes(data)
    spool = await opened(tmp_path, 2)
    assert "records are damaged" in caplog.text
    assert (tmp_path / "settles.damaged").read_bytes() == data
    assert not (tmp_path / "settles.spool").exists()
    teller = Teller()
    await spool.replay(teller)
    assert teller.told == [ending(1), ending(2)]
    await spool.close()


async def test_a_symbolic_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    """The file is ours or none."""
    (tmp_path / "elsewhere").write_bytes(line(ending(1)))
    (tmp_path / "settles.spool").symlink_to(tmp_path / "elsewhere")
    spool = Spool(tmp_path)
    with pytest.raises(OSError, match=os.strerror(40)):
        await spool.open()
    assert (tmp_path / "elsewhere").exists()
    await spool.close()
