"""Operations on an empty store, a real Redis and the embedded one."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.control.operated import NOW

from tollhouse.accounts.directory import Directory
from tollhouse.control.operations import Operations
from tollhouse.ledger.ledger import Ledger
from tollhouse.ledger.store.client import LedgerUnavailable, connect
from tollhouse.parties import Project


class Failing(Directory):
    """The store is away when the project "fails" is written."""

    async def set_project(self, project: Project) -> None:
        if project.id == "fails":
            raise LedgerUnavailable("Redis: away")
        await super().set_project(project)


@pytest.fixture(params=["embedded", "redis"])
async def stores(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[Directory, Ledger]]:
    """A directory and a ledger on an empty store."""
    url = "embedded" if request.param == "embedded" else request.getfixturevalue("redis_url")
    redis = connect(url, tmp_path / "state")
    ledger = Ledger(redis)
    yield Failing(redis, now=lambda: NOW), ledger
    await ledger.close()


@pytest.fixture
def operations(stores: tuple[Directory, Ledger]) -> Operations:
    """Operations whose clock stands still and whose tokens are made of counted bytes."""
    count = itertools.count(1)
    return Operations(
        *stores, clock=lambda: NOW, random_bytes=lambda size: bytes([next(count)]) * size
    )
