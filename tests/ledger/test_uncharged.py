"""Records of refused calls on their way to Redis: bounded, in order, and kept while Redis is away."""

from __future__ import annotations

import logging

import pytest
from redis.asyncio import Redis

from tollhouse.ledger.ledger import Ledger, LedgerUnavailable
from tollhouse.ledger.store.client import connect
from tollhouse.ledger.uncharged import AT_ONCE, KEPT, Uncharged


async def test_a_flood(ledger: Ledger, redis: Redis, caplog: pytest.LogCaptureFixture) -> None:
    """A turn tells Redis of so many, the oldest first; those that had no place are counted in the log."""
    waiting = Uncharged(ledger)
    with caplog.at_level(logging.WARNING):
        for n in range(KEPT + 5):
            waiting.add(
                {"call_id": f"c{n}", "tenant": "acme" if n % 2 else "", "status": 403}, False
            )
        await waiting.flush()
    found = await ledger.streams.page("toll:{acme}:uncharged", "-", "+", 1000)
    assert [fields["call_id"] for _, fields in found] == [
        f"c{n}" for n in range(5, 5 + AT_ONCE) if n % 2
    ]
    assert found[0][1]["status"] == "403"
    assert await redis.xlen("toll:{directory}:unidentified") == AT_ONCE // 2
    assert "there were too many: 5" in caplog.text


async def test_it_waits_for_redis(ledger: Ledger, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing is lost meanwhile, and what a settle has told of is marked."""
    away = Ledger(connect("redis://127.0.0.1:1/0", tmp_path_factory.mktemp("away"), 0.2))
    waiting = Uncharged(away)
    waiting.add({"call_id": "c1", "tenant": "acme"}, True)
    with pytest.raises(LedgerUnavailable):
        await waiting.flush()
    with pytest.raises(LedgerUnavailable):
        await waiting.flush()
    await away.close()


async def test_an_export_has_one_place(ledger: Ledger) -> None:
    """Who is not where he believes to be does not move it."""
    streams = ledger.streams
    assert await streams.export_at("acme", "focus.x") == ""
    assert await streams.move_export("acme", "focus.x", "", "5-0 -")
    assert not await streams.move_export("acme", "focus.x", "", "4-0 -")
    assert await streams.export_at("acme", "focus.x") == "5-0 -"
