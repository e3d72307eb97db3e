"""What a call leaves in Redis is bounded, whatever its client sent."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from redis.asyncio import Redis
from tests.ledger.clock import RedisClock

from tollhouse.call import Amount
from tollhouse.compact_json import compact_json
from tollhouse.ledger.ledger import Ledger, Scope
from tollhouse.ledger.limits import parse_limits
from tollhouse.ledger.records import FIELD_BYTES, RECORD_BYTES, bounded, texts
from tollhouse.ledger.store.client import connect

PROJECT = Scope("project", "acme", "proj_123")
SCOPES = (Scope("tenant", "acme", "acme"), PROJECT, Scope("token", "acme", "tok_1"))
FREE = Amount(0, 0, 1)
ENDLESS = "/v1/ü" * 12_000
FIELDS = {
    "ts": "2026-08-30T12:00:00.000Z",
    "call_id": "call_0123456789abcdef01234567",
    "trace_id": "t" * 60_000,
    "tenant": "a" * 128,
    "project": "p" * 128,
    "identity": "tok_0123456789abcdef",
    "provider": "openai",
    "host": "h" * 253,
    "method": "M" * 60_000,
    "path": ENDLESS,
    "model": "m" * 60_000,
    "model_served": "s" * 60_000,
    "attempts": '[{"outcome":"upstream_unreachable","ms":1000.0},{"outcome":"upstream_unreachable","ms":1000.0}]',
    **{f"a_field_of_the_line_{n:02}": "12345.6" for n in range(20)},
}
"""A line whose client sent as much as it could everywhere."""


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, False, 0, -7, 10**30, 12.3, 0.1, 1e-7, 1e300, float("nan"), "", "a\u00fc"),
        *([], {}, [{"outcome": "200", "ms": 3.5}], {"input": 14}),
    ],
    ids=repr,
)
def test_what_is_no_text_is_kept_as_json(value: object) -> None:
    """A reader of the stream has the value that the line has."""
    [kept] = texts({"x": value}).values()
    line = compact_json({"x": value})
    assert {"x": kept if isinstance(value, str) else json.loads(kept)} == json.loads(line)


def test_a_record_is_bounded() -> None:
    """The longest fields are cut first, those that a reader looks for or parses are whole, and a
    short record is as it was."""
    record = bounded(FIELDS)
    assert record.keys() == FIELDS.keys()
    assert sum(len(key) + len(value.encode()) for key, value in record.items()) <= RECORD_BYTES
    assert {
        key: value for key, value in record.items() if value == FIELDS[key]
    }.keys() == FIELDS.keys() - {
        *("trace_id", "host", "method", "path", "model", "model_served"),
    }
    assert record["trace_id"] == "t" * 61 + "..."
    path = bounded({"path": ENDLESS, "model": "m"})
    assert path == {"path": "/v1/ü" * 84 + "/v1/...", "model": "m"}
    assert bounded({"a": "x" * FIELD_BYTES}) == {"a": "x" * FIELD_BYTES}


async def test_a_call_adds_less_than_2_kb_to_the_stream(redis_url: str, tmp_path: Path) -> None:
    """With all that a real Redis needs for it; no field is above 512 bytes."""
    redis = connect(redis_url, tmp_path)
    ledger = Ledger(redis)
    await ledger.set_limits(PROJECT, [])
    for number in range(50):
        await ledger.settle(f"c{number}", SCOPES, FREE, record={**FIELDS, "call_id": f"c{number}"})
    found = await redis.xrange("toll:{acme}:calls")
    assert len(found) == 50
    assert max(len(value) for _, fields in found for value in fields.values()) <= FIELD_BYTES
    whole: int = await redis.memory_usage("toll:{acme}:calls", samples=0)
    assert whole / 50 < 2_048
    await ledger.close()


async def test_what_a_hold_carries_is_bounded(
    ledger: Ledger, redis: Redis, clock: RedisClock
) -> None:
    """And so is the record that a sweep makes of it."""
    await ledger.set_limits(PROJECT, [])
    carried = {"provider": "openai", "model": "m" * 60_000, "ts": FIELDS["ts"]}
    await ledger.hold("c1", SCOPES, Amount(5), deadline_s=1, carried=carried)
    text = await redis.hget("toll:{acme}:holds", "c1")
    assert text is not None
    assert len(text) < 700
    await clock.add(2)
    assert await ledger.sweep("acme") == 1
    [[_, fields]] = await redis.xrange("toll:{acme}:calls")
    assert fields[b"model"] == b"m" * 509 + b"..."
    swept = await redis.hget("toll:{acme}:swept", "c1")
    assert swept is not None
    assert len(swept) < 300


async def test_separators_in_a_name_part_nothing(
    ledger: Ledger, redis: Redis, clock: RedisClock
) -> None:
    """A client may name its model by the bytes that part a hold's text: the name is kept with
    blanks in their place."""
    await ledger.set_limits(PROJECT, parse_limits(["10 usd/day"]))
    odd = "a\x1fheld_in\x1e\x1f1 2 3 4"
    await ledger.hold(
        "c1", SCOPES, Amount(5), deadline_s=1, carried={"provider": "openai", "model": odd}
    )
    await clock.add(2)
    assert await ledger.sweep("acme") == 1
    [row] = await ledger.usage("acme", "proj_123", by="model")
    assert (row.key, row.nano_usd) == ("openai/a held_in  1 2 3 4", 5)
    await ledger.settle("c1", SCOPES, Amount(3), record={"provider": "openai", "model": odd})
    [row] = await ledger.usage("acme", "proj_123", by="model")
    assert (row.key, row.nano_usd) == ("openai/a held_in  1 2 3 4", 3)


async def test_a_day_has_sums_of_a_thousand_models(
    ledger: Ledger, redis: Redis, clock: RedisClock
) -> None:
    """Further ones are summed under `other`; those that have sums keep them, the next day begins
    anew, and a sweep's booking is taken back from where it went."""
    await ledger.set_limits(PROJECT, [])

    async def charge(name: str, call_id: str) -> None:
        await ledger.settle(
            call_id, SCOPES, Amount(2, 1), record={"provider": "openai", "model": name}
        )

    async def sums() -> dict[str, tuple[int, int, int]]:
        rows = await ledger.usage("acme", "proj_123", by="model")
        return {row.key: (row.nano_usd, row.tokens, row.requests) for row in rows}

    await asyncio.gather(*(charge(f"m{n}", f"c{n}") for n in range(1_000)))
    for name, call_id in (("m1000", "x0"), ("m1001", "x1"), ("m7", "x2")):
        await charge(name, call_id)
    found = await sums()
    assert (len(found), found["other"], found["openai/m7"]) == (1_001, (4, 2, 2), (4, 2, 2))
    await ledger.hold(
        "x3", SCOPES, Amount(50), deadline_s=1, carried={"provider": "openai", "model": "m1002"}
    )
    await clock.add(2)
    assert await ledger.sweep("acme") == 1
    assert (await sums())["other"] == (54, 2, 3)
    await ledger.settle("x3", SCOPES, Amount(7), record={"provider": "openai", "model": "m8"})
    found = await sums()
    assert (found["other"], found["openai/m8"]) == ((4, 2, 2), (9, 1, 2))
    await clock.add(86_400)
    await charge("m1003", "x4")
    assert (await sums())["openai/m1003"] == (2, 1, 1)
    # The longest name of a model takes no more than it should.
    await charge("m" * 60_000, "x5")
    assert max(map(len, await redis.hkeys("toll:{acme}:usage:proj_123"))) < 160


async def test_a_free_call_is_remembered_for_two_hours(
    ledger: Ledger, redis: Redis, clock: RedisClock
) -> None:
    """One that held and cost nothing but its request; a call that held money is remembered for a
    day, whatever it cost."""
    await ledger.set_limits(PROJECT, parse_limits(["9 requests/day"]))
    for call_id, amount in (("free", FREE), ("refused", Amount(5, 5, 1))):
        await ledger.hold(call_id, SCOPES, amount)
        assert await ledger.settle(call_id, SCOPES, FREE, record={}) == "hold"
    began = clock.now
    await clock.add(7_200)
    await ledger.settle("other", SCOPES, FREE, record={})
    assert await ledger.settle("free", SCOPES, FREE, record={}) == "duplicate"
    await clock.add(1)
    await ledger.settle("another", SCOPES, FREE, record={})
    assert await redis.zrange("toll:{acme}:settled", 0, -1) == [b"refused", b"other", b"another"]
    # It may have been told before, so that it is not counted twice.
    assert await ledger.settle("free", SCOPES, FREE, record={}, tried_at=began) == "forgotten"
    assert await ledger.settle("refused", SCOPES, FREE, record={}, tried_at=began) == "duplicate"
    [shown] = await ledger.show([PROJECT])
    assert shown.limits[0].used == 4


@pytest.mark.parametrize(("ago", "answer"), [(3_599, "no_hold"), (3_600, "forgotten")])
async def test_a_free_settle_is_told_an_hour_later_at_most(
    ledger: Ledger, clock: RedisClock, ago: int, answer: str
) -> None:
    """After that its id may have been forgotten: an hour less than it is kept."""
    await ledger.set_limits(PROJECT, [])
    assert await ledger.settle("c1", SCOPES, FREE, record={}, tried_at=clock.now - ago) == answer


async def test_what_an_ended_call_leaves(redis_url: str, tmp_path: Path) -> None:
    """An id and a time, in less than 200 bytes of a real Redis."""
    redis = connect(redis_url, tmp_path)
    ledger = Ledger(redis)
    await ledger.set_limits(PROJECT, [])
    ids = [f"call_{n:024x}" for n in range(1_000)]
    await asyncio.gather(*(ledger.hold(call_id, SCOPES, FREE) for call_id in ids))
    await asyncio.gather(*(ledger.settle(call_id, SCOPES, FREE, record={}) for call_id in ids))
    whole: int = await redis.memory_usage("toll:{acme}:settled", samples=0)
    assert whole / len(ids) < 200
    assert await redis.exists("toll:{acme}:holds") == 0
    await ledger.close()
