"""Projects and tokens, all or in pages: each once, in order, however many there are."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tollhouse.accounts.directory import Directory
from tollhouse.accounts.stored import TokenInfo, encode
from tollhouse.ledger import names
from tollhouse.ledger.ledger import Ledger
from tollhouse.ledger.store.client import connect
from tollhouse.parties import Project

MANY = 1_300
"""More than Redis keeps in one piece, and than are looked at by one command."""


@pytest.fixture(params=["embedded", "redis"])
async def directory(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    url = "embedded" if request.param == "embedded" else request.getfixturevalue("redis_url")
    redis = connect(url, tmp_path / "state")
    infos = [
        TokenInfo(
            f"tok_{n * 7919 % 99_991:016x}", "acme", ("even",) if n % 2 == 0 else ("odd",), "", 0
        )
        for n in range(MANY)
    ]
    await redis.hset(names.TOKENS, mapping={f"digest-{i.id}": encode(i) for i in infos})
    await redis.hset(names.TOKEN_IDS, mapping={i.id: f"digest-{i.id}" for i in infos})
    projects = {f"p-{n}": encode(Project(f"p-{n}", "acme")) for n in range(MANY)}
    await redis.hset(names.PROJECTS, mapping=projects)
    ledger = Ledger(redis)
    yield Directory(redis, ledger)
    await ledger.close()


async def test_tokens(directory: Directory) -> None:
    for project, wanted in ((None, MANY), ("odd", MANY // 2)):
        found: list[str] = []
        while page := await directory.pages.tokens(found[-1] if found else "", 200, project):
            assert len(page) <= 200
            assert project is None or all(project in info.projects for info in page)
            found += [info.id for info in page]
        assert found == sorted(set(found))
        assert len(found) == wanted


async def test_projects(directory: Directory) -> None:
    found: list[str] = []
    while page := await directory.pages.projects(found[-1] if found else "", 300):
        found += [project.id for project in page]
    assert found == sorted(f"p-{n}" for n in range(MANY))
    assert await directory.pages.projects("q", 10) == []


async def test_all_of_them(directory: Directory) -> None:
    """Others get their turns while they are read: it takes more turns of the loop than one answer does."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    for read, wanted in (
        (directory.projects, MANY),
        (directory.tokens, MANY),
        (lambda: directory.tokens("odd"), MANY // 2),
    ):
        turns = 0
        running = asyncio.create_task(others())
        found: Any = await read()
        running.cancel()
        ids = [one.id for one in found]
        assert sorted(set(ids)) == ids
        assert len(ids) == wanted
        assert turns >= MANY // 200
