"""Calls that leave without a hold: on disk before they do, charged once whatever happens between, and refused by default.

Redis is a real one that hangs, so that what it was asked meanwhile reaches it late. It is long because each way to die in the
middle is walked through.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import TimeoutError as RedisTimeoutError
from tests.budget.priced import HELD, PRICES, PROJECT, a_call
from tests.budget.test_purse import state
from tests.ledger.clock import RedisClock
from tests.support.clock import Clock
from tests.support.redis_server import RedisServer
from tests.support.values import replace

from tollhouse.budget.fail_open import MAX_BYTES, MAX_CALLS, FailOpen
from tollhouse.budget.hold import CallHold
from tollhouse.budget.purse import Purse
from tollhouse.call import NOTHING, Amount, Requested
from tollhouse.denial import Refused
from tollhouse.families.openai.estimate import FIRST_SLICE_TOKENS
from tollhouse.families.units import Charge, Units
from tollhouse.ledger import names
from tollhouse.ledger.hold_reply import Held, Short, Unpriced
from tollhouse.ledger.ledger import Ledger
from tollhouse.ledger.limits import parse_limit
from tollhouse.ledger.spool import Spool, SpoolRecord
from tollhouse.ledger.store.client import LedgerUnavailable, connect, unavailable
from tollhouse.ledger.store.outage import unanswered
from tollhouse.outcome import End, Outcome
from tollhouse.parties import Identity, Project

USED = Amount(160_000, 97, 1)
OTHER = Identity("tok_other", "acme", ("proj_1",))


class Outage:
    """As it is told."""

    def __init__(self) -> None:
        self.away = False
        self.in_force = False
        self.let_through = 0

    async def explains(self, error: LedgerUnavailable) -> bool:
        return unanswered(error) and self.away

    async def confirmed(self) -> bool:
        return self.away

    def over(self) -> None:
        self.in_force = False


class Exchange:
    def __init__(self) -> None:
        self.refused: list[Any] = []

    def refuse(self, denial: Any) -> None:
        self.refused.append(denial)


class World:
    """One gateway on one state directory; `crashed` is the next one there."""

    def __init__(self, url: str, directory: Path, server: RedisServer, **bounds: int) -> None:
        self.url, self.directory, self.server = url, directory, server
        self.redis: Redis = connect(url, directory)
        # A hanging server is waited for that long.
        self.redis.connection_pool.connection_kwargs["socket_timeout"] = 0.3
        self.lines: list[Mapping[str, str]] = []
        self.ledger = Ledger(self.redis, on_swept=self.lines.append, clock=RedisClock.LUA)
        self.spool = Spool(directory)
        self.outage = Outage()
        self.proven = True
        self.fail_open = FailOpen(
            self.ledger,
            self.spool,
            self.outage,
            lambda admitted: self.proven,
            self._refresh,
            **bounds,
        )
        self.purse = Purse(self.ledger, PRICES, self.spool, fail_open=self.fail_open, clock=Clock())
        self.refreshed = 0
        self.found = 0
        """Records that waited in the spool at the start."""

    async def _refresh(self) -> None:
        self.refreshed += 1

    def away(self) -> None:
        self.server.pause()
        self.outage.away = True

    async def back(self) -> None:
        self.server.resume()
        self.outage.away = False
        self.redis.connection_pool.connection_kwargs["socket_timeout"] = 5

    async def let_through(self, call: Requested | None = None) -> CallHold:
        call = call or a_call()
        covered = await self.purse(call, Exchange())
        assert covered.hold.unheld
        return self.purse.held[call.admitted.id]

    async def settled(self, call: CallHold, amount: Amount = USED) -> None:
        await self.purse.settle(
            call.id, amount, {"call_id": call.id, "model": "priced", "provider": "openai"}
        )

    async def records(self) -> list[dict[str, str]]:
        found = await self.redis.xrange(names.calls_key("acme"))
        return [
            {key.decode(): value.decode() for key, value in fields.items()} for _, fields in found
        ]

    async def holds(self) -> list[str]:
        return [key.decode() for key in await self.redis.hkeys("toll:{acme}:holds")]  # type: ignore[misc]

    async def used(self) -> tuple[int, int]:
        """Used and held."""
        return (await state(self.ledger))["10 usd/day"]

    def on_disk(self) -> list[dict[str, Any]]:
        """The records, in order."""
        if not self.spool.path.exists():
            return []
        with closing(sqlite3.connect(self.spool.path)) as connection:
            found = connection.execute("SELECT body FROM records ORDER BY seq").fetchall()
        return [json.loads(body) for (body,) in found]

    async def taken_late(self, call: CallHold) -> None:
        """What Redis was asked while it hung, done when it wakes."""
        await self.ledger.hold(call.id, call.scopes, HELD, give_back=False)

    async def close(self) -> None:
        await self.ledger.close()
        await self.spool.close()


@asynccontextmanager
async def open_world(
    server: RedisServer, url: str, directory: Path, **bounds: int
) -> AsyncIterator[World]:
    made = World(url, directory, server, **bounds)
    await RedisClock(made.redis).set(RedisClock.START)
    await made.ledger.set_limits(PROJECT, [parse_limit("10 usd/day")])
    yield made
    await made.back()
    await made.close()


@pytest.fixture
async def world(redis_server: RedisServer, redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(redis_server, redis_url, tmp_path) as made:
        yield made


@pytest.fixture
async def small(redis_server: RedisServer, redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """It lets few calls through, in number and in bytes."""
    async with open_world(redis_server, redis_url, tmp_path, max_calls=3, max_bytes=1000) as made:
        yield made


def ended(number: int) -> SpoolRecord:
    return SpoolRecord(f"call_{number}", (PROJECT,), USED, {})


async def crashed(world: World) -> World:
    """The process is gone and another one starts, with Redis there."""
    await world.back()
    await world.close()
    later = World(world.url, world.directory, world.server)
    later.found = await later.spool.open()
    return later


# Let through.


async def test_it_is_on_disk_before_it_leaves_and_charged_when_redis_is_back(world: World) -> None:
    """The whole estimate first, what it came to then; once, and nothing is left of it anywhere."""
    world.away()
    call = await world.let_through()
    [begun] = world.on_disk()
    assert (begun["kind"], begun["call_id"], begun["charged"]) == (
        "begun",
        call.id,
        [600_000, 150, 1],
    )
    assert begun["scopes"] == "tenant:acme project:proj_1 token:tok_1"
    assert (begun["record"]["model"], begun["record"]["unsafe_fail_open"]) == ("priced", "true")
    assert (call.amount, world.outage.let_through) == (HELD, 1)
    await world.settled(call)
    assert [one.get("kind") for one in world.on_disk()] == [None]
    assert (world.fail_open.opened, world.spool.live) == ({}, set())
    await world.back()
    await world.purse.retry()
    assert await world.used() == (160_000, 0)
    assert [record["call_id"] for record in await world.records()] == [call.id]
    assert (await world.holds(), world.on_disk(), world.lines) == ([], [], [])


async def test_redis_back_before_it_ends(world: World) -> None:
    """Nothing of its end is spooled, and nothing is left after the next turn."""
    world.away()
    call = await world.let_through()
    assert [one["kind"] for one in world.on_disk()] == ["begun"]
    await world.back()
    await world.settled(call)
    await world.purse.retry()
    assert (await world.used(), len(await world.records()), world.on_disk()) == (
        (160_000, 0),
        1,
        [],
    )


async def test_a_hold_that_reaches_redis_late_is_the_same_call(world: World) -> None:
    """Redis hung with the question in its socket, and takes the hold when it wakes: the settle replaces it, or comes before it and
    has it refused."""
    world.away()
    early, late = await world.let_through(), await world.let_through()
    await world.settled(early)
    await world.back()
    await world.taken_late(early)
    await world.purse.retry()
    await world.settled(late)
    with pytest.raises(ValueError, match="has ended"):
        await world.taken_late(late)
    assert await world.used() == (320_000, 0)
    assert sorted(record["call_id"] for record in await world.records()) == sorted(
        [early.id, late.id]
    )
    assert await world.holds() == []


async def test_one_that_never_left_costs_nothing(world: World) -> None:
    """The gate behind the budget refused it: all is given back, and the beginning on disk is of no account."""
    world.away()
    call = await world.let_through()
    await world.settled(call, NOTHING)
    later = await crashed(world)
    assert later.found == 1
    await later.purse.retry()
    assert (await later.used(), await later.records(), later.lines, later.on_disk()) == (
        (0, 0),
        [],
        [],
        [],
    )
    await later.close()


# Not let through.


async def denied(
    world: World, call: Requested | None = None, purse: Purse | None = None
) -> tuple[str, int]:
    """The code and status of the refusal."""
    with pytest.raises(Refused) as caught:
        await (purse or world.purse)(call or a_call(), Exchange())
    return caught.value.denial.code, caught.value.denial.status


AWAY = ("ledger_unavailable", 503)


async def refused(world: World) -> Requested:
    """503, and nothing is left of the call here or in Redis."""
    call = a_call()
    before = world.on_disk()
    assert await denied(world, call) == AWAY
    assert (world.purse.held, world.fail_open.opened) == ({}, {})
    assert (world.on_disk(), world.spool.live) == (before, set())
    return call


async def given_back(world: World, call: Requested) -> None:
    """The hold that Redis took late was released, and its id can't be held again."""
    await world.back()
    for _ in range(1000):
        if await world.redis.zscore("toll:{acme}:settled", call.admitted.id) is not None:
            break
    assert await world.holds() == []
    assert await world.used() == (0, 0)


async def test_one_that_is_not_proven(world: World) -> None:
    """Refused as without the switch."""
    world.away()
    world.proven = False
    await given_back(world, await refused(world))


async def test_an_outage_that_is_none(world: World) -> None:
    """The question had no answer in time, and Redis is there."""
    world.away()
    world.outage.away = False
    await given_back(world, await refused(world))


async def test_an_answer_is_no_outage(world: World) -> None:
    """An emptied Redis has no limits record of the project: nobody may spend without one."""
    world.outage.away = True
    await world.redis.delete(names.scope_key(PROJECT))
    await refused(world)


async def test_a_spool_that_cannot_be_written(world: World) -> None:
    """A directory stands where the file would be."""
    world.away()
    world.spool.path.mkdir()
    call = a_call()
    assert await denied(world, call) == AWAY
    assert (world.purse.held, world.fail_open.opened, world.spool.live) == ({}, {}, set())
    world.spool.path.rmdir()
    await given_back(world, call)


@pytest.mark.parametrize(("unpriced", "allowed"), [("refuse", False), ("dearest", True)])
async def test_a_model_without_a_price(world: World, unpriced: Any, allowed: bool) -> None:
    """The tenant may have a limit in money, and only Redis knows: the safe reading, whatever the project's own limits are."""
    world.away()
    project = Project("proj_1", "acme", ("5 requests/day",), unpriced=unpriced)
    call = a_call(model="unknown", project=project)
    if allowed:
        await world.let_through(call)
    else:
        assert await denied(world, call) == ("model_unpriced", 403)
        assert (world.on_disk(), world.purse.held) == ([], {})
        await given_back(world, call)


async def test_no_more_than_so_many(small: World) -> None:
    """Calls that Redis has not been told of, under way or ended, of each process on this state directory."""
    small.away()
    other = Spool(small.directory)
    await other.put(ended(1))
    await other.put(replace(ended(2), kind="begun"))
    call = await small.let_through()
    assert small.fail_open.full
    assert await small.fail_open.turn(["redis: away"]) == []
    assert await denied(small) == AWAY
    assert [one["call_id"] for one in small.on_disk()] == ["call_1", "call_2", call.id]
    await other.close()


def test_the_bounds() -> None:
    """What docs/redis.md says."""
    assert (MAX_CALLS, MAX_BYTES) == (10_000, 64 << 20)


async def test_no_more_than_so_many_bytes(small: World) -> None:
    """Whatever fills the file: the next call is refused, and what is under way can still end."""
    await small.spool.put(replace(ended(0), record={"path": "/" * 1000}))
    small.away()
    assert small.fail_open.full
    assert await denied(small) == AWAY
    await small.spool.put(ended(1))
    assert small.spool.waiting == 2


async def test_a_token_leaves_as_many_to_others_as_it_takes(small: World) -> None:
    """In calls: what one token has taken is what is free, so that it is refused, and another is not."""
    small.away()
    await small.let_through()
    await small.spool.put(ended(1))
    assert not small.fail_open.full
    assert await denied(small) == AWAY
    await small.let_through(a_call(identity=OTHER))


async def test_a_token_leaves_as_many_bytes_to_others_as_it_takes(small: World) -> None:
    """In bytes: of what it ended with, as of what it began."""
    small.away()
    call = await small.let_through()
    token = call.scopes[-1]
    await small.purse.settle(call.id, USED, {"call_id": call.id, "path": "/" * 400})
    assert 500 <= small.spool.share(token) == small.spool.size < 1000
    assert await denied(small) == AWAY
    await small.let_through(a_call(identity=OTHER))


class AwayAfterNo(Ledger):
    """Says that the call does not fit, and is gone."""

    asked = 0

    async def hold(self, *arguments: Any, **options: Any) -> Held | Short | Unpriced:
        self.asked += 1
        if self.asked == 1:
            return Short("0.001 usd/day", PROJECT, "usd", None, None, 300_000, left_usd=300_000)
        raise unavailable(RedisTimeoutError("gone"))


async def test_a_no_is_not_forgotten(world: World) -> None:
    """Redis goes while a call that does not fit is being clamped: that is no reason to let all of it through."""
    world.outage.away = True
    ledger = AwayAfterNo(world.redis)
    purse = Purse(ledger, PRICES, world.spool, fail_open=world.fail_open)
    call = a_call(project=Project("proj_1", "acme", ("0.001 usd/day",), "clamp"))
    assert await denied(world, call, purse) == AWAY
    assert (ledger.asked, world.on_disk(), purse.held) == (2, [], {})
    await ledger.close()


class AwayAtTheSweep(Ledger):
    async def sweep(self, *arguments: Any, **options: Any) -> int:
        raise unavailable(RedisTimeoutError("gone"))


async def test_a_no_is_not_forgotten_before_the_sweep_either(world: World) -> None:
    """All places are taken, and Redis goes while those of the dead are looked for."""
    ledger = AwayAtTheSweep(world.redis, clock=RedisClock.LUA)
    await ledger.set_limits(PROJECT, [parse_limit("1 concurrent")])
    await ledger.hold("call_dead", (PROJECT,), HELD, deadline_s=1)
    await RedisClock(world.redis).set(RedisClock.START + 10)
    with pytest.raises(LedgerUnavailable) as caught:
        await ledger.hold("call_next", (PROJECT,), HELD, give_back=False)
    assert not unanswered(caught.value)
    await ledger.close()


# Redis is back while it runs.


async def test_what_still_runs_is_held_like_any_other(world: World) -> None:
    """Its limits count it, its gateway's death is swept, and the settle finds its hold."""
    world.away()
    call = await world.let_through()
    await world.back()
    await world.purse.retry()
    assert (await world.used(), await world.holds(), world.fail_open.opened) == (
        (0, 600_000),
        [call.id],
        {},
    )
    assert world.on_disk() == []
    await world.settled(call)
    assert await world.used() == (160_000, 0)
    [record] = await world.records()
    assert (record["call_id"], record["settled_by"]) == (call.id, "hold")


async def test_a_gateway_that_dies_after_that_leaves_it_to_the_sweep(world: World) -> None:
    """The spool tells nothing of it any more: it may have been extended since."""
    world.away()
    call = await world.let_through()
    await world.back()
    await world.fail_open.adopt()
    assert world.on_disk() == []
    await world.ledger.extend(call.id, call.scopes, Amount(100_000, 10, 0))
    later = await crashed(world)
    assert later.found == 0
    await later.purse.retry()
    assert await later.used() == (0, 700_000)
    await RedisClock(later.redis).set(RedisClock.START + 29)
    await RedisClock(later.redis).set(RedisClock.START + 58)
    await later.ledger.ping()
    assert await later.ledger.sweep("acme") == 0
    await RedisClock(later.redis).set(RedisClock.START + 61)
    assert await later.ledger.sweep("acme") == 1
    assert await later.used() == (700_000, 0)
    [line] = later.lines
    assert (line["call_id"], line["charged_by"], line["unsafe_fail_open"]) == (
        call.id,
        "sweep",
        "true",
    )
    await later.close()


async def test_what_does_not_fit_any_more_is_charged_all_the_same(world: World) -> None:
    """It has left: the limit is passed, and the debt stays."""
    await world.ledger.set_limits(PROJECT, [parse_limit("0.0001 usd/day")])
    world.away()
    call = await world.let_through()
    await world.back()
    await world.purse.retry()
    # The question that hung was the first to come through, and did not fit either.
    assert (await world.holds(), list(world.fail_open.opened)) == ([], [call.id])
    await world.settled(call)
    assert (await state(world.ledger))["0.0001 usd/day"] == (160_000, 0)
    await world.purse.retry()
    assert world.on_disk() == []


async def test_one_that_was_held_late_and_swept(world: World) -> None:
    """Redis came back long after for another gateway, which charged the dead hold: the settle corrects it."""
    world.away()
    call = await world.let_through()
    await world.back()
    await world.taken_late(call)
    for seconds in (29, 58, 61):
        await RedisClock(world.redis).set(RedisClock.START + seconds)
        other = Ledger(world.redis, clock=RedisClock.LUA)
        swept = await other.sweep("acme")
    assert swept == 1
    assert await world.used() == (600_000, 0)
    await world.purse.retry()
    assert world.fail_open.opened == {}
    await world.settled(call)
    assert await world.used() == (160_000, 0)
    assert [record["settled_by"] for record in await world.records()] == ["sweep", "late"]


# Its gateway dies.


async def test_killed_in_the_middle(world: World) -> None:
    """The next one there charges the whole estimate, once, and writes the line."""
    world.away()
    call = await world.let_through()
    later = await crashed(world)
    assert later.found == 1
    await later.purse.retry()
    assert (await later.used(), later.on_disk(), await later.holds()) == ((600_000, 0), [], [])
    [line] = later.lines
    assert {
        key: line[key]
        for key in ("call_id", "project", "tenant", "identity", "model", "unsafe_fail_open")
    } == {
        "call_id": call.id,
        "project": "proj_1",
        "tenant": "acme",
        "identity": "tok_1",
        "model": "priced",
        "unsafe_fail_open": "true",
    }
    assert (line["charged_by"], line["cost_usd"], line["held_usd"]) == ("sweep", "0.0006", "0.0006")
    assert [record["call_id"] for record in await later.records()] == [call.id]
    await later.close()


async def test_killed_again_before_the_record_was_gone(world: World) -> None:
    """It is told once more, and charged no more."""
    world.away()
    call = await world.let_through()
    await world.spool.close()
    data = world.spool.path.read_bytes()
    later = await crashed(world)
    await later.purse.retry()
    await later.spool.close()
    later.spool.path.write_bytes(data)
    third = await crashed(later)
    assert third.found == 1
    await third.purse.retry()
    assert (await third.used(), third.lines, third.on_disk()) == ((600_000, 0), [], [])
    assert [record["call_id"] for record in await third.records()] == [call.id]
    await third.close()


async def test_killed_after_it_had_ended(world: World) -> None:
    """What it came to is what counts, and there is no line but its own."""
    world.away()
    call = await world.let_through()
    await world.settled(call)
    later = await crashed(world)
    assert later.found == 1
    await later.purse.retry()
    assert (await later.used(), later.lines, len(await later.records())) == ((160_000, 0), [], 1)
    await later.close()


async def test_killed_while_its_end_was_written(world: World) -> None:
    """A transaction that a crash cut off: the estimate stands."""
    world.away()
    call = await world.let_through()
    log = world.spool.path.with_name("spool.sqlite3-wal")
    size = log.stat().st_size
    await world.settled(call)
    begun = {world.spool.path: world.spool.path.read_bytes(), log: log.read_bytes()[: size + 100]}
    await world.spool.close()
    for file, data in begun.items():
        file.write_bytes(data)
    later = await crashed(world)
    assert later.found == 1
    await later.purse.retry()
    assert await later.used() == (600_000, 0)
    await later.close()


async def test_redis_goes_again_in_the_middle_of_the_telling(world: World) -> None:
    """What was told is not told again, and the rest is when it is back."""
    world.away()
    calls = [await world.let_through() for _ in range(3)]
    await world.settled(calls[1])
    later = await crashed(world)
    later.away()
    await later.purse.retry()
    assert later.spool.waiting == 3
    await later.back()
    await later.purse.retry()
    assert await later.used() == (2 * 600_000 + 160_000, 0)
    assert [line["call_id"] for line in later.lines] == [calls[0].id, calls[2].id]
    await later.close()


# A stream without a cap.


async def a_stream(world: World) -> CallHold:
    return await world.let_through(a_call(stream=True, capped=False, out=FIRST_SLICE_TOKENS))


async def test_a_stream_grows_on_disk_before_it_goes_on(world: World) -> None:
    """Its gateway dies: the last record of its beginning is what counts."""
    world.away()
    call = await a_stream(world)
    [begun] = world.on_disk()
    assert await call.covers(FIRST_SLICE_TOKENS + 100) is None
    [grown] = world.on_disk()
    assert grown["kind"] == "begun"
    assert grown["charged"] == [call.amount.nano_usd, call.amount.tokens, 1]
    assert grown["charged"][1] > begun["charged"][1]
    later = await crashed(world)
    assert later.found == 1
    await later.purse.retry()
    assert await later.used() == (call.amount.nano_usd, 0)
    assert len(later.lines) == 1
    await later.close()


async def test_a_stream_that_cannot_be_spooled_ends(world: World) -> None:
    """What it has said is on disk, more is not said."""
    world.away()
    call = await a_stream(world)
    await world.spool.close()
    world.spool.path.rename(world.directory / "kept")
    world.spool.path.mkdir()
    denial = await call.covers(FIRST_SLICE_TOKENS + 100)
    assert denial is not None
    assert denial.code == "ledger_unavailable"
    world.spool.path.rmdir()
    (world.directory / "kept").rename(world.spool.path)
    await world.settled(call)
    await world.back()
    await world.purse.retry()
    assert await world.used() == (160_000, 0)


async def test_a_stream_that_fits_no_more_when_redis_is_back_ends(world: World) -> None:
    """At its next extension it is held or refused, like any other."""
    await world.ledger.set_limits(PROJECT, [parse_limit("0.0001 usd/day")])
    world.away()
    call = await a_stream(world)
    await world.back()
    denial = await call.covers(FIRST_SLICE_TOKENS + 100)
    assert denial is not None
    assert denial.code == "budget_exceeded"
    await world.settled(call, Amount(30_000_000, 3_000, 1))
    assert (await state(world.ledger))["0.0001 usd/day"] == (30_000_000, 0)


async def test_a_stream_is_held_at_its_next_extension_when_redis_is_back(world: World) -> None:
    """For all that it has come to by then; what comes after is an ordinary extension."""
    world.away()
    call = await a_stream(world)
    await world.back()
    assert await call.covers(FIRST_SLICE_TOKENS + 100) is None
    assert world.fail_open.opened == {}
    assert await call.covers(2 * FIRST_SLICE_TOKENS + 200) is None
    assert await world.holds() == [call.id]
    await world.settled(call)
    assert await world.used() == (160_000, 0)


# Once a second.


async def test_a_turn(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Warns while calls leave all the same, is silent otherwise, and brings what is proven up to date while Redis answers."""
    assert await world.fail_open.turn([]) == []
    assert world.refreshed == 1
    world.outage.away = True
    [warning] = await world.fail_open.turn(["redis: gone"])
    assert warning.startswith("redis: gone; unsafe_fail_open is in force")
    world.outage.away = False
    assert await world.fail_open.turn(["redis: OOM"]) == []
    assert world.refreshed == 1

    async def boom() -> None:
        raise RuntimeError("injected")

    failing = FailOpen(world.ledger, world.spool, world.outage, lambda admitted: True, boom)
    assert await failing.turn([]) == []
    assert "injected" in caplog.text


async def test_its_charge_is_what_any_call_is_charged(world: World) -> None:
    """Nothing of the rules differs."""
    world.away()
    call = await world.let_through()
    usage = (Charge("", Units(input=90, output=7)),)
    assert world.purse.charge(call.id, Outcome(End.WHOLE, 200, metered=True, charges=usage)) == (
        USED,
        "usage",
    )


async def test_a_repeat_at_worst_is_on_disk_before_it_leaves(world: World) -> None:
    """What both attempts may cost is what the next gateway charges."""
    world.away()
    call = await world.let_through(a_call(project=Project("proj_1", "acme", estimate="worst")))
    assert await call.covers_repeat()
    assert call.amount == Amount(2 * HELD.nano_usd, 2 * HELD.tokens, 1)
    later = await crashed(world)
    await later.purse.retry()
    assert await later.used() == (2 * HELD.nano_usd, 0)
    await later.close()
