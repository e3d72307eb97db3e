"""Whose the objects are that a provider keeps: on each store, with a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from tests.families.tiny import TINY
from tests.ledger.clock import RedisClock
from tests.support.calls import admitted, requested
from tests.support.values import replace

from tollhouse.accounts.objects import KEPT_S, MOST_NAMED, KeptObjects
from tollhouse.call import Requested
from tollhouse.denial import Denial, Refused
from tollhouse.ledger import names
from tollhouse.ledger.ledger import Ledger
from tollhouse.ledger.store.client import LedgerUnavailable, connect
from tollhouse.parties import Project
from tollhouse.providers.openai import OPENAI

BIRDS = replace(OPENAI, family=TINY)
DAY_S = 86_400
KEY = names.objects_keys("acme", "openai")[1]


@pytest.fixture
def objects(ledger: Ledger) -> KeptObjects:
    return KeptObjects(ledger)


async def test_they_are_their_tenants_at_their_provider(objects: KeptObjects) -> None:
    """Noted twice is noted once; those that are missing are named in the order of the question."""
    for _ in range(2):
        await objects.note("acme", "openai", ["file-1", "file-2"])
    assert await objects.missing("acme", "openai", ["file-2", "file-1"]) == []
    asked = ["file-3", "file-1", "File-2", "é" * 5_000]
    assert await objects.missing("acme", "openai", asked) == ["file-3", "File-2", "é" * 5_000]
    assert await objects.missing("other", "openai", ["file-1"]) == ["file-1"]
    assert await objects.missing("acme", "azure", ["file-1"]) == ["file-1"]


async def test_no_id_is_in_redis(objects: KeptObjects, redis: Redis) -> None:
    """A digest of one length is, however long the id."""
    await objects.note("acme", "openai", ["file-1", "x" * 10_000])
    found: Any = await redis.zrange(KEY, 0, -1)
    assert [len(member) for member in found] == [22, 22]


async def test_an_object_that_nobody_uses_ends(
    objects: KeptObjects, clock: RedisClock, redis: Redis
) -> None:
    """After 90 days. One that is used is kept from then on; one that is only asked for beside another tenant's is not."""
    await objects.note("acme", "openai", ["used", "left"])
    await clock.add(80 * DAY_S)
    assert await objects.missing("acme", "openai", ["used"]) == []
    assert await objects.missing("acme", "openai", ["left", "none"]) == ["none"]
    await clock.add(10 * DAY_S)
    assert await objects.missing("acme", "openai", ["used", "left"]) == ["left"]
    assert await redis.zcard(KEY) == 2
    await objects.note("acme", "openai", ["new"])
    assert await redis.zcard(KEY) == 2
    lives_ms: Any = await redis.pttl(KEY)
    assert KEPT_S * 1_000 - 60_000 < lives_ms <= KEPT_S * 1_000


async def test_a_tenant_has_a_bound(ledger: Ledger, clock: RedisClock, redis: Redis) -> None:
    """Beyond it those go that were used longest ago."""
    objects = KeptObjects(ledger, most=3)
    for number in range(3):
        await objects.note("acme", "openai", [f"file-{number}"])
        await clock.add(2 * DAY_S)
    assert await objects.missing("acme", "openai", ["file-0"]) == []
    await clock.add(1)
    await objects.note("acme", "openai", ["file-3"])
    ids = [f"file-{number}" for number in range(4)]
    assert await objects.missing("acme", "openai", ids) == ["file-1"]
    await objects.note("acme", "openai", [f"more-{number}" for number in range(10)])
    assert await redis.zcard(KEY) == 3


async def test_the_embedded_store_keeps_them(tmp_path: Path) -> None:
    """When it is written."""
    redis: Any = connect("embedded", tmp_path)
    await KeptObjects(Ledger(redis)).note("acme", "openai", ["file-1"])
    redis.tollhouse_save()
    again = KeptObjects(Ledger(connect("embedded", tmp_path)))
    assert await again.missing("acme", "openai", ["file-1", "file-2"]) == ["file-2"]


class Lost(Ledger):
    """A Redis of which the tenants in ``lost`` can't be asked."""

    def __init__(self, directory: Path) -> None:
        super().__init__(connect("embedded", directory))
        self.lost: tuple[str, ...] = ()
        self.asked: list[str] = []

    async def run_script(
        self, name: str, script_keys: Sequence[str], arguments: Sequence[str]
    ) -> Any:
        self.asked.append(script_keys[0])
        if any(f"{{{tenant}}}" in script_keys[0] for tenant in self.lost):
            raise LedgerUnavailable("Redis: no answer in time")
        return await super().run_script(name, script_keys, arguments)


async def test_what_redis_could_not_be_told_waits(tmp_path: Path) -> None:
    """Until it can be; each tenant is tried once a turn, and those that answer do not wait for the others."""
    ledger = Lost(tmp_path)
    objects = KeptObjects(ledger)
    ledger.lost = ("acme", "other")
    for tenant in ("acme", "acme", "other"):
        await objects.note(tenant, "openai", ["file-1"])
    assert len(objects.waiting) == 3
    ledger.lost = ("acme",)
    ledger.asked.clear()
    await objects.retry()
    assert len(ledger.asked) == 2
    assert [tenant for tenant, _, _ in objects.waiting] == ["acme", "acme"]
    assert await objects.missing("other", "openai", ["file-1"]) == []
    ledger.lost = ()
    await objects.retry()
    assert not objects.waiting
    assert await objects.missing("acme", "openai", ["file-1"]) == []


async def test_a_call_that_is_cut_off_has_noted_what_it_made(tmp_path: Path) -> None:
    """It waits, and the cancellation goes on."""

    class Cancelled(Lost):
        async def run_script(self, *arguments: Any) -> Any:
            raise asyncio.CancelledError

    objects = KeptObjects(Cancelled(tmp_path))
    with pytest.raises(asyncio.CancelledError):
        await objects.note("acme", "openai", ["file-1"])
    assert len(objects.waiting) == 1


# What a call may do with a key that several tenants use.


def a_call(method: str, path: str, *ids: str, named: tuple[str, ...] = ()) -> Requested:
    """``ids`` stand in its body and ``named`` in its path."""
    at = admitted(path, method=method, provider=BIRDS, project=Project("p", "acme"), objects=named)
    body = b'{"m":"parrot-1"}' if at.operation.reads_body else None
    made = requested(body, at)
    return replace(made, asked=replace(made.asked, objects=ids))


async def refused(objects: KeptObjects, call: Requested) -> Denial | None:
    try:
        await objects.check(call)
    except Refused as refusal:
        return refusal.denial
    return None


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (a_call("POST", "/talk"), None),
        (a_call("GET", "/parrots"), None),
        (a_call("POST", "/nests"), None),
        (a_call("POST", "/talk", "nest-1"), None),
        (a_call("GET", "/nests/nest-1", named=("nest-1",)), None),
        (a_call("POST", "/talk", "nest-1", "nest-1"), None),
        (a_call("GET", "/nests"), "The list shows the objects of every tenant"),
        (a_call("DELETE", "/nests/nest-1", named=("nest-1",)), "Nothing is deleted"),
        (a_call("POST", "/talk", "nest-2"), "No call of tenant acme has made 'nest-2'."),
        (a_call("POST", "/talk", "nest-1", "nest-2"), "No call of tenant acme has made 'nest-2'."),
        (a_call("GET", "/nests/x", named=("x",)), "No call of tenant acme has made 'x'."),
        (a_call("POST", "/talk", "\n" + "x" * 100), "made '\\n" + "x" * 79 + "'."),
    ],
)
async def test_what_a_call_may_do(tmp_path: Path, call: Requested, why: str | None) -> None:
    """Use what its tenant's calls made, in path and body, and nothing else."""
    objects = KeptObjects(Ledger(connect("embedded", tmp_path)))
    await objects.note("acme", "openai", ["nest-1"])
    denial = await refused(objects, call)
    if why is None:
        assert denial is None
        return
    assert denial is not None
    assert (denial.code, denial.status) == ("object_not_yours", 403)
    assert why in denial.why
    assert "[providers.openai] share_objects = true" in denial.message


async def test_redis_is_asked_once_and_only_about_objects(tmp_path: Path) -> None:
    """While it is away, calls that name none go on."""
    ledger = Lost(tmp_path)
    objects = KeptObjects(ledger)
    ledger.lost = ("acme",)
    assert await refused(objects, a_call("POST", "/talk")) is None
    assert ledger.asked == []
    denial = await refused(objects, a_call("POST", "/talk", "a", "b", "c"))
    assert denial == Denial("ledger_unavailable", headers=(("retry-after", "1"),))
    assert len(ledger.asked) == 1


async def test_a_request_may_name_a_thousand(tmp_path: Path) -> None:
    """One more is too many: each is looked up while nothing else is."""
    objects = KeptObjects(Ledger(connect("embedded", tmp_path)))
    ids = [f"nest-{number}" for number in range(MOST_NAMED + 1)]
    await objects.note("acme", "openai", ids[:MOST_NAMED])
    assert await refused(objects, a_call("POST", "/talk", *ids[:MOST_NAMED])) is None
    denial = await refused(objects, a_call("POST", "/talk", *ids))
    assert denial is not None
    assert denial.code == "bad_request"
