"""The ledger on each program that can keep it, alone and as a Cluster."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import redis as blocking
from tests.support.redis_cluster import RedisCluster, told
from tests.support.redis_server import RedisServer

from tollhouse.accounts.directory import Directory
from tollhouse.call import Amount
from tollhouse.ledger.hold_reply import Held, Short
from tollhouse.ledger.ledger import Ledger, Scope
from tollhouse.ledger.limits import parse_limits
from tollhouse.ledger.store.client import connect
from tollhouse.parties import Project

PROJECT = Scope("project", "acme", "proj_123")
SCOPES = (Scope("tenant", "acme", "acme"), PROJECT)
PROGRAMS = [pytest.param(name, marks=pytest.mark.requires(name)) for name in ("redis", "valkey")]


async def exercise(url: str, directory: Path) -> None:
    """Every script once, and what is read without one."""
    redis = connect(url, directory)
    ledger, names = Ledger(redis), Directory(redis)
    await ledger.ping()
    project = Project("proj_123", "acme", ("10 usd/day", "2 concurrent"))
    await told(lambda: names.set_project(project))
    assert [project.id for project in await names.projects()] == ["proj_123"]
    assert await ledger.hold("c1", SCOPES, Amount(5)) == Held()
    assert await ledger.extend("c1", SCOPES, Amount(2)) == Held()
    assert await ledger.renew("c1", SCOPES)
    await told(lambda: ledger.settle("c1", SCOPES, Amount(3), record={"call_id": "c1"}))
    await ledger.hold("c2", SCOPES, Amount(5))
    await told(lambda: ledger.release("c2", SCOPES))
    await ledger.hold("c3", SCOPES, Amount(5), deadline_s=-1)
    assert await ledger.sweep("acme") == 1
    assert isinstance(await ledger.hold("c4", SCOPES, Amount(10**12)), Short)
    await ledger.grant(PROJECT, "usd", 7, {"reason": "r"})
    assert [one["reason"] for one in await ledger.grants(PROJECT)] == ["r"]
    [state] = await ledger.show([PROJECT])
    assert [(one.used, one.held, one.granted) for one in state.limits] == [(8, 0, 7), (0, 0, 0)]
    [row] = await ledger.usage("acme", "proj_123")
    assert (row.nano_usd, row.requests) == (8, 2)
    await told(lambda: ledger.set_limits(PROJECT, parse_limits([])))
    await ledger.close()


@pytest.mark.parametrize("server", PROGRAMS)
async def test_alone(server: str, tmp_path: Path) -> None:
    """What it answers is what Redis answers; what it has written is there after a restart."""
    (tmp_path / "data").mkdir()
    with RedisServer(tmp_path / "data", append_only=True, server=server) as running:
        await exercise(running.url, tmp_path)
        running.stop()
        running.start()
        with blocking.Redis.from_url(running.url) as client:
            assert client.xlen("toll:{acme}:calls") == 2


@pytest.mark.parametrize("server", PROGRAMS)
async def test_as_a_cluster(server: str, tmp_path: Path) -> None:
    """With a replica, which has what is settled."""
    with RedisCluster(tmp_path / "data", masters=1, replicas=True, server=server) as cluster:
        async with asyncio.timeout(60):
            await exercise(cluster.url, tmp_path)
        [master, replica] = cluster.nodes
        master.kill()
        with replica.client() as client:
            connection = client.connection_pool.get_connection()
            connection.send_command("READONLY")
            assert connection.read_response() == "OK"
            connection.send_command("XLEN", "toll:{acme}:calls")
            assert connection.read_response() >= 1
