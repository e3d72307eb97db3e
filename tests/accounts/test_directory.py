"""Projects and tokens on both stores, with a clock that the test moves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis as blocking
from redis.asyncio import Redis
from tests.support.clock import Clock
from tests.support.redis_cluster import everywhere
from tests.support.redis_server import RedisServer
from tests.support.values import replace

from tollhouse.accounts.directory import Directory
from tollhouse.accounts.remembered import Remembered
from tollhouse.accounts.token import digest, mint, token_id
from tollhouse.ledger import names
from tollhouse.ledger.ledger import Ledger, Scope
from tollhouse.ledger.limits import LimitError
from tollhouse.ledger.store.client import LedgerUnavailable, connect
from tollhouse.parties import Identity, Project

PROJECT = Project("proj_123", "acme", ("10 usd/day",), "clamp", ("gpt-4o*",), "dearest")
SECRET = mint(bytes(range(32)))
DIGEST = digest(SECRET)


@pytest.fixture(params=["embedded", "redis_url", "cluster_url"])
async def redis(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Redis]:
    url = "embedded" if request.param == "embedded" else request.getfixturevalue(request.param)
    client = connect(url, tmp_path)
    yield client
    await client.aclose()


@pytest.fixture
def time() -> Clock:
    return Clock()


@pytest.fixture
def directory(redis: Redis, time: Clock) -> Directory:
    return Directory(redis, clock=time, now=time)


@pytest.fixture
def elsewhere(redis: Redis, time: Clock) -> Directory:
    """Another gateway, or the command line, on the same store."""
    return Directory(redis, clock=time, now=time)


async def test_a_project_comes_back_as_it_was(
    directory: Directory, elsewhere: Directory, redis: Redis
) -> None:
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
async def test_a_bad_project_changes_nothing(
    directory: Directory, change: dict[str, str], why: str
) -> None:
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
    for key in [key for found in await everywhere(redis, "KEYS", "*") for key in found]:
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
    directory: Directory, elsewhere: Directory, time: Clock
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
    moved = replace(info, expires_at=1500.0)
    assert await directory.expire(info.id, 1500.0) == moved
    assert await directory.find(DIGEST) == moved
    assert await directory.expire("tok_nobody", None) is None


async def test_a_revocation_is_kept_whoever_changes_the_token_meanwhile(
    directory: Directory, elsewhere: Directory, time: Clock
) -> None:
    """Its end is moved again and again while its command runs: all three have read it before the first one writes."""
    await directory.set_project(PROJECT)
    info = await directory.add_token(SECRET, ["proj_123"], "acme")
    await asyncio.gather(
        elsewhere.revoke(info.id),
        directory.expire(info.id, 1500.0),
        elsewhere.expire(info.id, 1600.0),
    )
    found = await directory.token(info.id)
    assert found is not None
    assert found.revoked_at == time.now
    assert found.expires_at in (1500.0, 1600.0)


NEXT = mint(bytes(range(1, 33)))


async def test_a_rotation_is_one_step(
    directory: Directory, elsewhere: Directory, time: Clock
) -> None:
    """The new token is there and the old one's end is set, at once; neither if there is a token of
    this text already."""
    await directory.set_project(PROJECT)
    old = await directory.add_token(SECRET, ["proj_123"], "acme", label="ci")
    time.now += 10
    new = await directory.rotate(old.id, NEXT, 5_000.0, 60.0)
    ending = replace(old, expires_at=1_070.0)
    assert new == replace(
        old, id=token_id(NEXT), created_at=1_010.0, expires_at=5_000.0, charged_as=old.id
    )
    assert await elsewhere.tokens() == [ending, new]
    assert (await elsewhere.token(old.id), await elsewhere.token(token_id(NEXT))) == (ending, new)
    with pytest.raises(ValueError, match="exists already"):
        await directory.rotate(old.id, NEXT, None, 20.0)
    assert await elsewhere.tokens() == [ending, new]
    assert await directory.rotate("tok_nobody", mint(bytes(32)), None, 20.0) is None
    with pytest.raises(ValueError, match="checksum"):
        await directory.rotate(old.id, NEXT[:-1], None, 20.0)


async def test_a_rotation_told_twice_is_one(redis: Redis) -> None:
    """An answer that was lost makes the connection send it again: the script says that it is
    done."""
    ledger = Ledger(redis)
    await redis.hset(names.TOKENS, "old", "as it was")
    arguments = ["old", "as it was", "it ends", "new", "tok_new", "the new one"]
    for _ in range(2):
        assert await ledger.run_script("rotate", [names.TOKENS, names.TOKEN_IDS], arguments) == 1
    assert await redis.hgetall(names.TOKENS) == {b"old": b"it ends", b"new": b"the new one"}
    assert await redis.hgetall(names.TOKEN_IDS) == {b"tok_new": b"new"}
    other = [*arguments[:3], "newer", "tok_newer", "another"]
    assert await ledger.run_script("rotate", [names.TOKENS, names.TOKEN_IDS], other) == 0
    assert (
        await ledger.run_script(
            "rotate", [names.TOKENS, names.TOKEN_IDS], [*arguments[:5], "not the same"]
        )
        == -1
    )


async def test_a_revocation_in_the_middle_of_a_rotation_is_kept(
    redis_url: str, tmp_path: Path
) -> None:
    """Somebody revokes the token after its rotation has read it: it stays revoked, and has no
    successor."""
    redis = connect(redis_url, tmp_path)
    made = Directory(redis, now=lambda: 1_000.0)
    await made.set_project(PROJECT)
    old = await made.add_token(SECRET, ["proj_123"], "acme")

    def now() -> float:
        with blocking.Redis.from_url(redis_url) as client:
            record = json.loads(client.hget(names.TOKENS, DIGEST))
            client.hset(names.TOKENS, DIGEST, json.dumps({**record, "revoked_at": 1_001.0}))
        return 1_002.0

    with pytest.raises(ValueError, match="was revoked"):
        await Directory(redis, now=now).rotate(old.id, NEXT, None, 60.0)
    assert await made.tokens() == [replace(old, revoked_at=1_001.0)]
    await redis.aclose()


async def test_that_there_is_nothing_is_remembered_too(
    directory: Directory, elsewhere: Directory, time: Clock
) -> None:
    """An unknown token asks Redis once in a few seconds, and is known soon after it was made elsewhere."""
    assert await elsewhere.find(DIGEST) is None
    await directory.set_project(PROJECT)
    info = await directory.add_token(SECRET, ["proj_123"], "acme")
    assert await elsewhere.find(DIGEST) is None
    time.now += 4.9
    assert await elsewhere.find(DIGEST) == info


async def test_the_cache_serves_a_short_outage_and_no_longer(
    redis_server: RedisServer, redis_url: str, tmp_path: Path, time: Clock
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


async def test_how_a_project_is_estimated_is_kept(
    directory: Directory, elsewhere: Directory, redis: Redis
) -> None:
    """A record without a word of it is one from before, and means typical; one that is typical is written so."""
    await directory.set_project(replace(PROJECT, estimate="worst"))
    assert await elsewhere.get_project("proj_123") == replace(PROJECT, estimate="worst")
    await directory.set_project(PROJECT)
    text = await redis.hget("toll:{directory}:projects", "proj_123")
    assert b"estimate" not in text
    assert await elsewhere.projects() == [PROJECT]
    await redis.hset("toll:{directory}:projects", "old", '{"id": "old", "tenant": "acme"}')
    assert await elsewhere.get_project("old") == Project("old", "acme", estimate="typical")


async def test_what_a_later_version_wrote_is_not_guessed_at(
    directory: Directory, redis: Redis
) -> None:
    """A field that this version does not know may be a restriction: it refuses."""
    await redis.hset(
        "toll:{directory}:projects",
        "proj_123",
        '{"id": "proj_123", "tenant": "acme", "embargo": true}',
    )
    with pytest.raises(LedgerUnavailable, match="embargo"):
        await directory.get_project("proj_123")


# What is remembered of it, for an outage.


@pytest.fixture
def remembered(time: Clock) -> Remembered:
    return Remembered(an_outage, clock=time, now=time)


async def an_outage(_: LedgerUnavailable) -> bool:
    return True


@pytest.fixture
async def proven(redis: Redis, time: Clock, remembered: Remembered) -> Directory:
    """A directory that remembers, with a token and a project that a call has shown it."""
    made = Directory(redis, clock=time, now=time, remembered=remembered)
    await made.set_project(PROJECT)
    await made.add_token(SECRET, ["proj_123"], "acme")
    time.now += 1
    await made.find(DIGEST)
    await made.get_project("proj_123")
    assert remembered.known() == ([DIGEST], ["proj_123"])
    return made


async def test_what_a_call_asked_for_is_remembered(
    proven: Directory, remembered: Remembered, time: Clock
) -> None:
    """And no more than that: neither what is listed nor what is made."""
    await proven.set_project(replace(PROJECT, id="other"))
    await proven.add_token(mint(bytes(32)), ["other"], "acme")
    await proven.tokens()
    await proven.projects()
    time.now += 1
    assert await proven.find(digest("gate_unknown")) is None
    assert remembered.known() == ([DIGEST], ["proj_123"])
    assert (await remembered.find(DIGEST)).projects == ("proj_123",)
    assert await remembered.get_project("proj_123") == PROJECT


@pytest.mark.parametrize("change", ["revoke", "expire", "project", "remove"])
async def test_what_is_changed_here_is_forgotten_at_once(
    proven: Directory, remembered: Remembered, change: str
) -> None:
    """Nobody had to ask for it again."""
    [info] = await proven.tokens()
    await {
        "revoke": lambda: proven.revoke(info.id),
        "expire": lambda: proven.expire(info.id, 2000.0),
        "project": lambda: proven.set_project(replace(PROJECT, models=("gpt-4o",))),
        "remove": lambda: proven.remove_project("proj_123"),
    }[change]()
    assert remembered.known() == (
        ([DIGEST], []) if change in ("project", "remove") else ([], ["proj_123"])
    )


async def test_what_could_not_be_changed_is_forgotten_too(
    redis_server: RedisServer, redis_url: str, tmp_path: Path, time: Clock, remembered: Remembered
) -> None:
    """Redis went before it could be told of the revocation, or after."""
    directory = Directory(connect(redis_url, tmp_path), clock=time, now=time, remembered=remembered)
    await directory.set_project(PROJECT)
    info = await directory.add_token(SECRET, ["proj_123"], "acme")
    time.now += 1
    await directory.find(DIGEST)
    await directory.get_project("proj_123")
    redis_server.stop()
    with pytest.raises(LedgerUnavailable):
        await directory.revoke(info.id)
    with pytest.raises(LedgerUnavailable):
        await directory.remove_project("proj_123")
    assert remembered.known() == ([], [])


@pytest.mark.parametrize("change", ["revoked", "gone", "unreadable"])
async def test_what_is_changed_elsewhere_is_known_after_a_refresh(
    proven: Directory,
    elsewhere: Directory,
    remembered: Remembered,
    redis: Redis,
    time: Clock,
    change: str,
) -> None:
    """Within 5 s, though no call has asked. One that can't be read takes no other along."""
    [info] = await elsewhere.tokens()
    time.now += 1
    second = mint(bytes([1]) * 32)
    await elsewhere.add_token(second, ["proj_123"], "acme")
    await proven.find(digest(second))
    if change == "revoked":
        await elsewhere.revoke(info.id)
    elif change == "gone":
        await redis.hdel("toll:{directory}:tokens", DIGEST)
    else:
        await redis.hset("toll:{directory}:tokens", DIGEST, '{"id": "x", "embargo": true}')
    await elsewhere.set_project(replace(PROJECT, models=("gpt-4o",)))
    await proven.refresh()
    assert remembered.known() == ([digest(second)], ["proj_123"])
    assert (await remembered.get_project("proj_123")).models == ("gpt-4o",)
    await elsewhere.remove_project("proj_123")
    await proven.refresh()
    assert remembered.known()[1] == ["proj_123"], "it is asked every few seconds only"
    time.now += 4
    await proven.refresh()
    assert remembered.known() == ([digest(second)], [])


async def test_an_answer_from_before_a_change_proves_nothing(
    proven: Directory, remembered: Remembered, redis: Redis, time: Clock
) -> None:
    """It was asked, then the token was revoked here, then the answer came."""
    [info] = await proven.tokens()
    time.now += 10
    asking = asyncio.create_task(proven.find(DIGEST))
    await asyncio.sleep(0)
    assert await proven.revoke(info.id)
    await asking
    assert remembered.known()[0] == []


async def test_a_fault_while_it_is_brought_up_to_date(
    proven: Directory,
    remembered: Remembered,
    monkeypatch: pytest.MonkeyPatch,
    redis: Redis,
    time: Clock,
) -> None:
    """Then nothing is proven; if it is Redis that does not answer, all stays as it was."""

    async def gone(*_: object) -> object:
        raise ConnectionError("gone")

    async def boom(*_: object) -> object:
        raise RuntimeError("injected")

    monkeypatch.setattr(redis, "hmget", gone)
    with pytest.raises(LedgerUnavailable):
        await proven.refresh()
    assert remembered.known() == ([DIGEST], ["proj_123"])
    time.now += 4
    monkeypatch.setattr(redis, "hmget", boom)
    with pytest.raises(RuntimeError):
        await proven.refresh()
    assert remembered.known() == ([], [])


async def test_many_unknown_tokens_at_once_take_no_connection_from_others(
    directory: Directory,
) -> None:
    """A crowd of well-formed tokens that nobody made ends in answers, and so does the question of a project behind it."""
    await directory.set_project(PROJECT)
    crowd = [asyncio.ensure_future(directory.find(f"{number:064x}")) for number in range(300)]
    await asyncio.sleep(0)
    assert await directory.get_project(PROJECT.id) == PROJECT
    assert set(await asyncio.gather(*crowd)) == {None}
