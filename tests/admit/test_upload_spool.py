"""The disk for uploads: its bound, its files, and what is said when it fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from io import FileIO
from pathlib import Path

import pytest

from tollhouse.admit.bodies import BodyBytes, KeptFor
from tollhouse.admit.upload_spool import SpooledFile, UploadSpool
from tollhouse.denial import Refused

WHOSE = KeptFor("token", "address", "acme")
OTHER = KeptFor("other", "elsewhere", "other")


async def opened(spool: UploadSpool) -> SpooledFile:
    return await spool.open(WHOSE)


def names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def modes(directory: Path) -> list[int]:
    """Of the open files of this process that are in ``directory``."""
    opened_files = [fd for fd in Path("/proc/self/fd").iterdir() if leads_to(fd, directory)]
    return [fd.stat().st_mode & 0o777 for fd in opened_files]


def leads_to(fd: Path, directory: Path) -> bool:
    """Of /proc/self/fd. Others of the process may be closed meanwhile."""
    try:
        return str(fd.readlink()).startswith(str(directory))
    except OSError:
        return False


async def refused(work: Awaitable[object]) -> str:
    with pytest.raises(Refused) as refusal:
        await work
    assert refusal.value.denial.code == "upload_spool_full"
    return refusal.value.denial.why


async def test_what_is_written_is_read(tmp_path: Path) -> None:
    """No file has a name, and nobody else may read it; its room is free when it is closed."""
    spool = UploadSpool(tmp_path, 10, largest_bytes=10)
    file = await opened(spool)
    assert modes(tmp_path) == [0o600]
    await file.append(b"toll", 0)
    await file.append(b"house", 4)
    assert await file.read(2, 5) == b"llhou"
    assert names(tmp_path) == []
    assert not spool.has_room(WHOSE, 2)
    assert "half" not in await refused(file.append(b"xx", 9))
    file.close()
    file.close()
    assert spool.has_room(WHOSE, 10)
    with pytest.raises(Refused):
        await file.read(0, 1)
    await spool.close()


async def test_its_bound(tmp_path: Path) -> None:
    """A token has half of it, or one file; all together have no more than the bound. What was not written takes nothing."""
    spool = UploadSpool(tmp_path, 400, largest_bytes=100)
    mine = [await spool.open(KeptFor("a", f"{number}", f"{number}")) for number in range(3)]
    for file in mine[:2]:
        await file.append(b"x" * 100, 0)
    assert "token" in await refused(mine[2].append(b"x", 0))
    others = [
        await spool.open(KeptFor(f"{number}", f"{number}", f"{number}")) for number in range(2)
    ]
    for file in others:
        await file.append(b"x" * 100, 0)
    assert not spool.has_room(OTHER, 1)
    for file in (*mine, *others):
        file.close()
    assert spool.has_room(OTHER, 200)
    await spool.close()


async def test_a_full_disk(tmp_path: Path) -> None:
    """/dev/full refuses each write as a full disk does (full(4)). What charges need of the disk counts as full."""
    spool = UploadSpool(tmp_path, 400, largest_bytes=100)
    file = await opened(spool)
    room = BodyBytes(400).reserve(WHOSE)
    broken = SpooledFile(FileIO("/dev/full", "r+"), room, spool.pool, left_free=-(1 << 62))
    assert await refused(broken.append(b"x", 0)) == "The gateway's disk is full."
    broken.close()
    file.close()
    await spool.close()
    sparing = UploadSpool(tmp_path, 400, largest_bytes=100, left_free=1 << 62)
    file = await opened(sparing)
    assert await refused(file.append(b"x", 0)) == "The gateway's disk is full."
    file.close()
    await sparing.close()


async def test_a_directory_that_is_gone(tmp_path: Path) -> None:
    spool = UploadSpool(tmp_path / "none", 400, largest_bytes=100)
    assert "No such file" in await refused(opened(spool))
    await spool.close()


async def test_a_disk_that_says_nothing(tmp_path: Path) -> None:
    """Whoever waits for it is told so. The file keeps its room until the disk has answered."""
    spool = UploadSpool(tmp_path, 4, largest_bytes=4, patience_s=0.05)
    file = await opened(spool)
    answers = threading.Event()
    hanging = [spool.pool.submit(answers.wait) for _ in range(2)]
    assert "no answer" in await refused(opened(spool))
    assert "no answer" in await refused(file.append(b"toll", 0))
    file.close()
    assert not spool.has_room(WHOSE, 4)
    answers.set()
    await asyncio.gather(*map(asyncio.wrap_future, hanging))
    await spool.close()
    await asyncio.sleep(0)
    assert spool.has_room(WHOSE, 4)
