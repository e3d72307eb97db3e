"""Records of refused calls on their way to Redis: bounded, in order, and kept while Redis is away."""

from __future__ import annotations

import logging

import pytest
from redis.asyncio import Redis

from tollhouse.ledger.ledger import Ledger, LedgerUnavailable
from tollhouse.ledger.store.client import connect
from tollhouse.ledger.uncharged import AT_ONCE, KEPT, Uncharged


async def test_a_flood(ledger: Ledger, redis: Redis, caplog: pytest.LogCaptureFixture) -> None:
    """It takes neither the place of other tenants' refusals nor that of tunnels. A turn tells Redis of so many, the oldest of a
    tenant first; those that had no place are counted in the log."""

    def refused(call_id: str, tenant: str) -> None:
        waiting.add(
            {"call_id": call_id, "tenant": tenant, "status": 403, "decision": "deny"}, False
        )

    waiting = Uncharged(ledger)
    waiting.add({"call_id": "tunnel", "tenant": "acme", "decision": "allow"}, False)
    refused("early", "quiet")
    for n in range(KEPT + 5):
        refused(f"c{n}", "")
    for n in range(10):
        refused(f"r{n}", "acme")
    refused("late", "quiet")
    with caplog.at_level(logging.WARNING):
        await waiting.flush()
    assert "there were too many: 17" in caplog.text

    async def told(key: str) -> list[str]:
        return [fields["call_id"] for _, fields in await ledger.streams.page(key, "-", "+", 1000)]

    of_acme = await told("toll:{acme}:uncharged")
    assert [each for each in of_acme if each != "tunnel"] == [f"r{n}" for n in range(10)]
    assert "tunnel" in of_acme
    assert await told("toll:{quiet}:uncharged") == ["early", "late"]
    rest = AT_ONCE - 13
    assert await told("toll:{directory}:unidentified") == [f"c{n}" for n in range(17, 17 + rest)]
    await waiting.flush()
    assert await redis.xlen("toll:{directory}:unidentified") == rest + AT_ONCE


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
