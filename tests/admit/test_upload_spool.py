"""The disk for uploads: its bound, its files, and what is said when it fails."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tollhouse.admit.upload_spool import SpooledFile, UploadSpool
from tollhouse.denial import Refused


async def opened(spool: UploadSpool, size: int = 100) -> SpooledFile:
    room = spool.reserve("token", "address", size)
    assert room is not None
    return await spool.open(room)


def names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


async def test_what_is_written_is_read(tmp_path: Path) -> None:
    """No file has a name; its room is free when it is closed."""
    spool = UploadSpool(tmp_path, 1_000, largest_bytes=100)
    file = await opened(spool)
    await file.append(b"toll", 0)
    await file.append(b"house", 4)
    assert await file.read(2, 5) == b"llhou"
    assert names(tmp_path) == []
    assert spool.reserved_bytes == 100
    file.close()
    file.close()
    assert spool.reserved_bytes == 0
    with pytest.raises(Refused):
        await file.read(0, 1)
    await spool.close()


async def test_its_bound(tmp_path: Path) -> None:
    """A token has half of it, or one file; all together have no more than the bound."""
    spool = UploadSpool(tmp_path, 400, largest_bytes=100)
    kept = [spool.reserve("a", f"{number}", 100) for number in range(3)]
    assert [room is not None for room in kept] == [True, True, False]
    others = [spool.reserve(f"{number}", f"{number}", 100) for number in range(3)]
    assert [room is not None for room in others] == [True, True, False]
    await spool.close()


async def test_a_full_disk(tmp_path: Path) -> None:
    """/dev/full refuses each write as a full disk does (full(4))."""
    spool = UploadSpool(tmp_path, 400, largest_bytes=100)
    file = await opened(spool)
    full = os.open("/dev/full", os.O_RDWR)
    room = spool.reserve("token", "address", 1)
    assert room is not None
    broken = SpooledFile(full, room, spool.pool)
    with pytest.raises(Refused) as refused:
        await broken.append(b"x", 0)
    denial = refused.value.denial
    assert (denial.code, denial.why) == ("upload_spool_full", "The gateway's disk is full.")
    broken.close()
    file.close()
    await spool.close()


async def test_a_directory_that_is_gone(tmp_path: Path) -> None:
    spool = UploadSpool(tmp_path / "none", 400, largest_bytes=100)
    with pytest.raises(Refused) as refused:
        await opened(spool)
    assert refused.value.denial.code == "upload_spool_full"
    assert spool.reserved_bytes == 0
    await spool.close()
