"""Projects and tokens on both stores, with a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from redis.asyncio import Redis
from tests.support.redis_server import RedisServer

from tollhouse.admit.directory import Directory
from tollhouse.admit.token import digest, mint
from tollhouse.budget.ledger import Ledger, Scope
from tollhouse.budget.limits import LimitError
from tollhouse.budget.store import LedgerUnavailable, connect
from tollhouse.call import Identity, Project

PROJECT = Project("proj_123", "acme", ("10 usd/day",), "clamp", ("gpt-4o*",), "dearest")
SECRET = mint(bytes(range(32)))
DIGEST = digest(SECRET)


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["embedded", "redis"])
async def redis(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Redis]:
    url = "embedded" if request.param == "embedded" else request.getfixturevalue("redis_url")
    client = connect(url, tmp_path)
    yield client
    await client.aclose()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def directory(redis: Redis, time: Time) -> Directory:
    return Directory(redis, clock=time, now=time)


@pytest.fixture
def elsewhere(redis: Redis, time: Time) -> Directory:
    """Another gateway, or the command line, on the same store."""
    return Directory(redis, clock=time, now=time)


async def test_a_project_comes_back_as_it_was(directory: Directory, elsewhere: Directory, redis: Redis) -> None:
    """Every field is kept, and the limits are in the ledger."""
    await directory.set_project(PROJECT)
    assert await elsewhere.get_project("proj_123") == PROJECT
    assert await elsewhere.projects() == [PROJECT]
    [shown] = await Ledger(redis).show([Scope("project", "acme", "proj_123")])
    assert [row.limit.text for row in shown.limits] == ["10 usd/day"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"id": "proj 123"}, "proj 123"),
        ({"id": ""}, "''"),
        ({"id": "a}b"}, "a}b"),
        ({"id": "x" * 129}, "xxx"),
        ({"tenant": "a:b"}, "a:b"),
        ({"tenant": "../acme"}, "acme"),
        ({"limits": ("10 usd/fortnight",)}, "fortnight"),
        ({"limits": ("-1 usd/day",)}, "-1"),
    ],
)
async def test_a_bad_project_changes_nothing(directory: Directory, change: dict[str, str], why: str) -> None:
    """Odd characters and limits that can't be read are named, and the old project stays."""
    await directory.set_project(PROJECT)
    with pytest.raises(ValueError, match=why):
        await directory.set_project(replace(PROJECT, **change))  # type: ignore[arg-type]
    assert await directory.projects() == [PROJECT]


async def test_a_bad_limit_is_a_limit_error(directory: Directory) -> None:
    """The caller can tell a limit's error from an id's."""
    with pytest.raises(LimitError):
        await directory.set_project(replace(PROJECT, limits=("much",)))


async def test_a_removed_project_is_gone(directory: Directory) -> None:
    """Removing tells whether there was anything, and is seen at once where it was done."""
    await directory.set_project(PROJECT)
    assert await directory.get_project("proj_123")
    assert await directory.remove_project("proj_123")
    assert not await directory.remove_project("proj_123")
    assert await directory.get_project("proj_123") is None


async def test_a_token_is_found_by_its_digest(directory: Directory, redis: Redis) -> None:
    """A token leads to who holds it; the token itself is nowhere in Redis."""
    await directory.set_project(PROJECT)
    info = await directory.add_token(SECRET, ["proj_123"], "acme", 2000.0, "ci")
    assert await directory.find(DIGEST) == info
    assert info.identity() == Identity(info.id, "acme", ("proj_123",), "ci")
    assert (info.created_at, info.expires_at, info.revoked_at) == (1000.0, 2000.0, None)
    assert await directory.tokens() == await directory.tokens("proj_123") == [info]
    assert await directory.tokens("other") == []
    assert await directory.find(digest("gate_other")) is None
    for key in await redis.keys("*"):
        if await redis.type(key) == b"hash":
            assert SECRET not in str(await redis.hgetall(key))


@pytest.mark.parametrize(
    ("token", "projects", "tenant", "why"),
    [
        (SECRET[:-1] + "0", ["proj_123"], "acme", "checksum"),
        ("sk-live", ["proj_123"], "acme", "checksum"),
        (SECRET, [], "acme", "at least one project"),
        (SECRET, ["nobody"], "acme", "no project 'nobody'"),
        (SECRET, ["proj_123"], "other", "another tenant"),
    ],
    ids=["mistyped", "a-key", "no-project", "unknown-project", "other-tenant"],
)
async def test_a_bad_token_is_refused(
    directory: Directory, token: str, projects: list[str], tenant: str, why: str
) -> None:
    """Each mistake has its own sentence, and nothing is stored."""
    await directory.set_project(PROJECT)
    with pytest.raises(ValueError, match=why):
        await directory.add_token(token, projects, tenant)
    assert await directory.tokens() == []


async def test_a_token_is_added_once(directory: Directory) -> None:
    """Adding it again would give a revoked token its life back."""
    await directory.set_project(PROJECT)
    info = await directory.add_token(SECRET, ["proj_123"], "acme")
    await directory.revoke(info.id)
    with pytest.raises(ValueError, match="exists already"):
        await directory.add_token(SECRET, ["proj_123"], "acme")
    [found] = await directory.tokens()
    assert found.revoked_at == 1000.0


async def test_a_revocation_is_seen_elsewhere_within_five_seconds(
    directory: Directory, elsewhere: Directory, time: Time
) -> None:
    """At once where it was made; in another process when its answer is older than the cache keeps it."""
    await directory.set_project(PROJECT)
    info = await directory.add_token(SECRET, ["proj_123"], "acme")
    assert await elsewhere.find(DIGEST) == info
    assert await directory.find(DIGEST) == info
    time.now += 1
    assert await directory.revoke(info.id)
    revoked = replace(info, revoked_at=1001.0)
    assert await directory.find(DIGEST) == revoked
    assert await elsewhere.find(DIGEST) == info
    time.now = 1004.9
    assert await elsewhere.find(DIGEST) == revoked
    time.now += 100
    assert await directory.revoke(info.id)
    assert await directory.tokens() == [revoked]
    assert not await directory.revoke("tok_nobody")


async def test_an_end_can_be_moved(directory: Directory) -> None:
    """Rotation lets the old token live for a while."""
    await directory.set_project(PROJECT)
    info = await directory.add_token(SECRET, ["proj_123"], "acme")
    assert await directory.expire(info.id, 1500.0)
    assert await directory.find(DIGEST) == replace(info, expires_at=1500.0)
    assert not await directory.expire("tok_nobody", None)


async def test_that_there_is_nothing_is_remembered_too(directory: Directory, elsewhere: Directory, time: Time) -> None:
    """An unknown token asks Redis once in a few seconds, and is known soon after it was made elsewhere."""
    assert await elsewhere.find(DIGEST) is None
    await directory.set_project(PROJECT)
    info = await directory.add_token(SECRET, ["proj_123"], "acme")
    assert await elsewhere.find(DIGEST) is None
    time.now += 4.9
    assert await elsewhere.find(DIGEST) == info


async def test_the_cache_serves_a_short_outage_and_no_longer(
    redis_server: RedisServer, redis_url: str, tmp_path: Path, time: Time
) -> None:
    """Without Redis a known token works until its answer is too old, and an unknown one not at all."""
    directory = Directory(connect(redis_url, tmp_path), clock=time, now=time)
    await directory.set_project(PROJECT)
    info = await directory.add_token(SECRET, ["proj_123"], "acme")
    assert await directory.find(DIGEST) == info
    redis_server.stop()
    time.now += 3
    assert await directory.find(DIGEST) == info
    with pytest.raises(LedgerUnavailable):
        await directory.find(digest("gate_unknown"))
    time.now += 2
    with pytest.raises(LedgerUnavailable):
        await directory.find(DIGEST)


async def test_one_read_serves_all_who_ask_at_once(directory: Directory, redis: Redis) -> None:
    """A burst of calls with one token asks Redis once; one of them leaving does not disturb the others."""
    await directory.set_project(PROJECT)
    info = await directory.add_token(SECRET, ["proj_123"], "acme")
    asks = [asyncio.create_task(directory.find(DIGEST)) for _ in range(20)]
    await asyncio.sleep(0)
    asks[0].cancel()
    assert await asyncio.gather(*asks[1:]) == [info] * 19


async def test_what_a_later_version_wrote_is_not_guessed_at(directory: Directory, redis: Redis) -> None:
    """A field that this version does not know may be a restriction: it refuses."""
    await redis.hset("toll:{directory}:projects", "proj_123", '{"id": "proj_123", "tenant": "acme", "embargo": true}')
    with pytest.raises(LedgerUnavailable, match="embargo"):
        await directory.get_project("proj_123")
