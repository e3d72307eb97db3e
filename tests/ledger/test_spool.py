"""The spool on a real file: what is written is replayed once, in order, whatever the file went through."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from tollhouse.call import Amount
from tollhouse.ledger.ledger import LedgerUnavailable, Scope
from tollhouse.ledger.spool import MAX_LINE, Spool, SpoolRecord

SCOPES = (Scope("tenant", "acme", "acme"), Scope("project", "acme", "proj_123"), Scope("token", "acme", "tok_1"))


def ending(number: int, **record: str) -> SpoolRecord:
    return SpoolRecord(f"call_{number}", SCOPES, Amount(number, 2 * number, 1), {"call_id": f"call_{number}", **record})


class Teller:
    """The ledger's end: keeps what it is told, and is away after ``at_most``."""

    def __init__(self, at_most: int = 1000) -> None:
        self.told: list[SpoolRecord] = []
        self.at_most = at_most

    async def __call__(self, ending: SpoolRecord) -> None:
        if len(self.told) >= self.at_most:
            raise LedgerUnavailable("away")
        self.told.append(ending)


async def filled(directory: Path, count: int) -> Spool:
    spool = Spool(directory)
    assert spool.open() == 0
    await asyncio.gather(*(spool.put(ending(number, text="ü\ud800\n")) for number in range(count)))
    return spool


async def test_what_is_put_is_replayed_once_and_in_order(tmp_path: Path) -> None:
    """More than one read's worth; empty afterwards, on disk too."""
    spool = await filled(tmp_path, 150)
    assert spool.waiting == 150
    assert stat.S_IMODE(spool.path.stat().st_mode) == 0o600
    teller = Teller()
    assert await spool.replay(teller) == 150
    assert teller.told == [ending(number, text="ü\ud800\n") for number in range(150)]
    assert (spool.waiting, spool.path.stat().st_size) == (0, 0)
    assert await spool.replay(teller) == 0
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
    spool = Spool(tmp_path)
    assert spool.open() == 0
    assert await spool.replay(Teller()) == 0
    await spool.close()
    assert not spool.path.exists()


async def test_a_restart_finds_all(tmp_path: Path) -> None:
    """The file is what counts, not the process that wrote it: it is not even closed here."""
    await filled(tmp_path, 3)
    again = Spool(tmp_path)
    assert again.open() == 3
    teller = Teller()
    await again.replay(teller)
    assert [one.call_id for one in teller.told] == ["call_0", "call_1", "call_2"]
    await again.close()


async def test_a_replay_that_breaks_off_goes_on_where_it_was(tmp_path: Path) -> None:
    """Nothing is told twice by one process, and nothing is skipped; a restart tells all that is in the file."""
    spool = await filled(tmp_path, 100)
    teller = Teller(at_most=70)
    with pytest.raises(LedgerUnavailable):
        await spool.replay(teller)
    assert spool.waiting == 30
    await spool.put(ending(100, text="ü\ud800\n"))
    restarted = Spool(tmp_path)
    assert restarted.open() == 101
    teller.at_most = 1000
    assert await spool.replay(teller) == 31
    assert [one.call_id for one in teller.told] == [f"call_{number}" for number in range(101)]
    await spool.close()


@pytest.mark.parametrize("lost", [1, 10, 60], ids=["newline", "tail", "half"])
async def test_a_torn_last_record_is_dropped_and_said(
    tmp_path: Path, lost: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A crash in the middle of a write: the others are whole, and what comes next stands by itself."""
    spool = await filled(tmp_path, 3)
    spool.path.write_bytes(spool.path.read_bytes()[:-lost])
    again = Spool(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert again.open() == 2
    assert "cut off by a crash" in caplog.text
    await again.put(ending(9))
    teller = Teller()
    await again.replay(teller)
    assert [one.call_id for one in teller.told] == ["call_0", "call_1", "call_9"]
    await again.close()


async def test_a_damaged_record_is_left_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One flipped bit in the middle costs that record alone, and the file is kept for a person to look at."""
    spool = await filled(tmp_path, 3)
    data = bytearray(spool.path.read_bytes())
    data[len(data) // 2] ^= 1
    spool.path.write_bytes(data)
    again = Spool(tmp_path)
    with caplog.at_level(logging.ERROR):
        assert again.open() == 2
    assert "1 records are damaged" in caplog.text
    teller = Teller()
    await again.replay(teller)
    assert [one.call_id for one in teller.told] == ["call_0", "call_2"]
    assert again.path.with_suffix(".damaged").read_bytes() == data
    assert not again.path.exists()
    await again.put(ending(4))
    await again.replay(teller)
    assert teller.told[-1] == ending(4)
    await again.close()


async def test_damage_that_comes_after_the_write_does_not_end_the_replay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The process that wrote a record finds it damaged: that one is left aside, and what comes next is told."""
    spool = await filled(tmp_path, 2)
    data = bytearray(spool.path.read_bytes())
    data[20] ^= 1
    spool.path.write_bytes(data)
    teller = Teller()
    assert await spool.replay(teller) == 1
    assert "1 records were damaged since they were written" in caplog.text
    assert spool.path.with_suffix(".damaged").read_bytes() == data
    await spool.put(ending(2))
    assert await spool.replay(teller) == 1
    assert [one.call_id for one in teller.told] == ["call_1", "call_2"]
    await spool.close()


async def test_a_file_of_nothing_but_damage_is_left_aside_at_once(tmp_path: Path) -> None:
    """It waits for nothing."""
    (tmp_path / "settles.spool").write_bytes(b"not a record\n")
    spool = Spool(tmp_path)
    assert spool.open() == 0
    assert (tmp_path / "settles.damaged").read_bytes() == b"not a record\n"
    await spool.close()


async def test_damage_longer_than_a_record_does_not_hide_what_follows(tmp_path: Path) -> None:
    """A megabyte without a line's end: the record behind it is replayed."""
    (await filled(tmp_path, 1)).path.rename(tmp_path / "one")
    record = (tmp_path / "one").read_bytes()
    (tmp_path / "settles.spool").write_bytes(b"x" * (MAX_LINE + 5) + b"\n" + record)
    spool = Spool(tmp_path)
    assert spool.open() == 1
    teller = Teller()
    assert await spool.replay(teller) == 1
    await spool.close()


async def test_a_record_too_large_keeps_its_charge(tmp_path: Path) -> None:
    """What is read back is bounded; the amount and the names are what must not be lost."""
    spool = Spool(tmp_path)
    huge = ending(7, path="/" * MAX_LINE, model="gpt-4o")
    await spool.put(huge)
    teller = Teller()
    await spool.replay(teller)
    assert teller.told == [replace(huge, record={"call_id": "call_7", "model": "gpt-4o"})]
    await spool.close()


async def test_a_disk_that_takes_nothing_is_told_to_whoever_waits(tmp_path: Path) -> None:
    """The state directory is gone: `OSError`, and later records are written when it is back."""
    spool = Spool(tmp_path / "gone")
    with pytest.raises(OSError, match="No such file"):
        await spool.put(ending(1))
    assert spool.waiting == 0
    (tmp_path / "gone").mkdir()
    await spool.put(ending(2))
    assert spool.waiting == 1
    await spool.close()


async def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    """The file is ours or none."""
    (tmp_path / "settles.spool").symlink_to(tmp_path / "elsewhere")
    spool = Spool(tmp_path)
    with pytest.raises(OSError, match="symbolic"):
        await spool.put(ending(1))
    assert not (tmp_path / "elsewhere").exists()


# Calls without a hold.


def begun(number: int, tokens: int = 1) -> SpoolRecord:
    return replace(ending(number), charged=Amount(number, tokens, 1), kind="begun")


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
        replace(begun(3), kind="held"),
        begun(4, 70),
    ):
        await spool.put(one)
    assert (spool.waiting, spool.live) == (1, {"call_1", "call_4"})
    teller = Teller()
    assert await spool.replay(teller) == 1
    assert teller.told == [ending(2)]
    assert (spool.spent, spool.size) == (False, spool.path.stat().st_size)
    again = Spool(tmp_path)
    assert again.open() == 3
    assert await again.replay(teller) == 3
    assert teller.told[1:] == [begun(1, 50), ending(2), begun(4, 70)]
    assert again.path.stat().st_size == 0
    await again.close()
    await spool.close()


async def test_the_file_is_emptied_when_the_last_has_ended(tmp_path: Path) -> None:
    """Not before: a crash until then would lose what has begun."""
    spool = Spool(tmp_path)
    await asyncio.gather(spool.put(begun(1)), spool.put(begun(2)))
    spool.done("call_1")
    await spool.replay(Teller())
    assert spool.path.stat().st_size > 0
    spool.done("call_2")
    assert spool.spent
    await spool.replay(Teller())
    assert spool.path.stat().st_size == 0
    await spool.close()


async def test_a_kind_of_a_later_version_is_left_aside(tmp_path: Path) -> None:
    """What it means is not guessed at."""
    spool = Spool(tmp_path)
    await spool.put(replace(ending(1), kind="half"))  # type: ignore[arg-type]
    await spool.put(ending(2))
    await spool.close()
    again = Spool(tmp_path)
    assert again.open() == 1
    teller = Teller()
    await again.replay(teller)
    assert teller.told == [ending(2)]
    assert again.path.with_suffix(".damaged").exists()
    await again.close()


async def test_a_fault_while_it_is_written_leaves_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is, whoever waits is told that nothing is on the disk."""
    spool = Spool(tmp_path)

    def boom(data: bytes) -> None:
        raise RuntimeError("injected")

    with monkeypatch.context() as patch:
        patch.setattr(spool, "_write", boom)
        with pytest.raises(OSError, match="injected"):
            await spool.put(ending(1))
    await spool.put(ending(2))
    assert spool.waiting == 1
    await spool.close()


async def test_what_could_not_be_cut_off_is_before_the_next_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk failed in the middle of a record, and once more when the half of it was to be removed."""
    spool = await filled(tmp_path, 1)
    real = os.ftruncate

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        patch.setattr(os, "ftruncate", fail)
        with pytest.raises(OSError, match="Input/output"):
            await spool.put(ending(7))
    assert os.ftruncate is real
    await spool.put(ending(8))
    await spool.close()
    again = Spool(tmp_path)
    assert again.open() == 2
    teller = Teller()
    await again.replay(teller)
    assert [one.call_id for one in teller.told] == ["call_0", "call_8"]
    await again.close()
