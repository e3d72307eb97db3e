"""The ledger on a Cluster whose nodes die, hang and hand their slots over."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as blocking
from tests.ledger.store.test_topologies import make_certificate
from tests.support.calls import HeldFor
from tests.support.redis_cluster import ClusterNode, RedisCluster, told
from tests.support.redis_server import free_port

from tollhouse.accounts.directory import Directory
from tollhouse.budget.keeper import Keeper
from tollhouse.budget.purse import Purse
from tollhouse.call import Amount
from tollhouse.ledger.hold_reply import Held
from tollhouse.ledger.ledger import Ledger, LedgerUnavailable, Scope
from tollhouse.ledger.limits import parse_limits
from tollhouse.ledger.spool import Spool, SpoolRecord
from tollhouse.ledger.store.client import connect
from tollhouse.parties import Project

pytestmark = pytest.mark.requires("redis")

BOUND_S = 10.0
"""Nothing may take so long, whatever is away: a command has 2 s."""


def scopes(tenant: str) -> tuple[Scope, ...]:
    return Scope("tenant", tenant, tenant), Scope("project", tenant, "p")


async def limit(ledger: Ledger, *tenants: str) -> None:
    for tenant in tenants:
        for scope in scopes(tenant):
            await told(lambda scope=scope: ledger.set_limits(scope, parse_limits(["10 usd/day"])))


async def use(ledger: Ledger, tenant: str, call_id: str) -> None:
    async with asyncio.timeout(BOUND_S):
        assert isinstance(await ledger.hold(call_id, scopes(tenant), Amount(5)), Held)
    await settled(ledger, tenant, call_id, Amount(3))


async def settled(ledger: Ledger, tenant: str, call_id: str, amount: Amount) -> None:
    await told(lambda: ledger.settle(call_id, scopes(tenant), amount, record={"call_id": call_id}))


async def refused(ledger: Ledger, tenant: str, call_id: str) -> str:
    async with asyncio.timeout(BOUND_S):
        with pytest.raises(LedgerUnavailable) as raised:
            await ledger.hold(call_id, scopes(tenant), Amount(5))
    return raised.value.why


async def until_used(ledger: Ledger, tenant: str) -> str:
    """A call that is made again after each refusal, each time with an id of its own; the last id."""
    async with asyncio.timeout(60):
        for number in itertools.count():
            call_id = f"again-{number}"
            with contextlib.suppress(LedgerUnavailable):
                await use(ledger, tenant, call_id)
                return call_id
    raise AssertionError


async def charged(ledger: Ledger, tenant: str) -> tuple[int, int]:
    """What is used and held of the project's first limit."""
    [state] = await ledger.show(scopes(tenant)[1:])
    return state.limits[0].used, state.limits[0].held


def records(cluster: RedisCluster, tenant: str) -> list[str]:
    with cluster.connection() as client:
        found: Any = client.xrange(f"toll:{{{tenant}}}:calls")
    return [fields["call_id"] for _, fields in found]


def copied(node: ClusterNode) -> None:
    """Returns when its replica has all that it has."""
    with node.client() as client:
        offset = client.info("replication")["master_repl_offset"]  # type: ignore[index]
        node.wait_for(
            "its replica has it",
            lambda: client.info("replication")["slave0"]["offset"] >= offset,  # type: ignore[index]
        )


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisCluster]:
    """Three masters, each with a replica; the test may do to them what it likes."""
    with RedisCluster(tmp_path / "cluster", replicas=True) as made:
        yield made


@pytest.fixture
def tenants(cluster: RedisCluster) -> list[str]:
    """One on each master."""
    return cluster.tenants("t")


@pytest.fixture
async def ledger(
    cluster: RedisCluster, tenants: list[str], tmp_path: Path
) -> AsyncIterator[Ledger]:
    """Each of the tenants has a project with a limit."""
    made = Ledger(connect(cluster.url, tmp_path))
    for tenant in tenants:
        await limit(made, tenant)
        await use(made, tenant, "first")
    yield made
    await made.close()


async def test_a_killed_master(cluster: RedisCluster, ledger: Ledger, tenants: list[str]) -> None:
    """Its tenant is refused at once and others go on; its replica, which has not seen the scripts, goes on with what it had
    been told, and a hold that it knows is settled as one."""
    lost, other, _ = tenants
    await ledger.ping()
    await ledger.hold("open", scopes(lost), Amount(7))
    dying = cluster.masters[0]
    copied(dying)
    dying.kill()
    assert "Redis: ConnectionError: " in await refused(ledger, lost, "c1")
    await use(ledger, other, "c1")
    with pytest.raises(LedgerUnavailable, match=f"127.0.0.1:{dying.port}"):
        await ledger.ping()
    cluster.promoted(cluster.replica_of(dying))
    again = await until_used(ledger, lost)
    await settled(ledger, lost, "open", Amount(4))
    assert await charged(ledger, lost) == (3 + 3 + 4, 0)
    assert records(cluster, lost) == ["first", again, "open"]
    async with asyncio.timeout(BOUND_S):
        await ledger.ping()
    # It comes back as a replica, and nobody is misled.
    dying.start()
    cluster.wait_whole()
    await use(ledger, lost, "c3")


async def test_a_master_that_hangs(
    cluster: RedisCluster, ledger: Ledger, tenants: list[str]
) -> None:
    """It closes no connection and answers nothing: its tenant is refused in time, and followed to the successor of which
    only others tell."""
    lost, other, _ = tenants
    hanging = cluster.masters[0]
    copied(hanging)
    hanging.pause()
    assert "Timeout" in await refused(ledger, lost, "c1")
    await use(ledger, other, "c1")
    async with asyncio.timeout(BOUND_S):
        with pytest.raises(
            LedgerUnavailable, match=f"127.0.0.1:{hanging.port} does not answer in time"
        ):
            await ledger.ping()
    again = await until_used(ledger, lost)
    hanging.resume()
    cluster.wait_whole()
    await use(ledger, lost, "c3")
    assert records(cluster, lost) == ["first", again, "c3"]


async def test_a_settle_waits_for_a_replica(
    cluster: RedisCluster, ledger: Ledger, tenants: list[str], tmp_path: Path
) -> None:
    """What only a master knows is not settled: the caller is told so, keeps it, and tells it again, which counts once.
    The same of the directory. A hold does not wait."""
    tenant = tenants[0]
    await ledger.ping()
    redis = connect(cluster.url, tmp_path)
    directory = Directory(redis)
    await told(lambda: directory.set_project(Project("gone", tenant, ())))
    replicas = [cluster.replica_of(node) for node in cluster.masters]
    for replica in replicas:
        replica.pause()
    try:
        await ledger.hold("c1", scopes(tenant), Amount(5))
        with pytest.raises(LedgerUnavailable, match="could not copy it"):
            await ledger.settle("c1", scopes(tenant), Amount(3), record={"call_id": "c1"})
        with pytest.raises(LedgerUnavailable, match="could not copy it"):
            await directory.remove_project("gone")
    finally:
        for replica in replicas:
            replica.resume()
        await redis.aclose()
    await settled(ledger, tenant, "c1", Amount(3))
    assert records(cluster, tenant) == ["first", "c1"]
    assert await charged(ledger, tenant) == (6, 0)


async def test_a_slot_that_moves_while_calls_are_held(
    cluster: RedisCluster, ledger: Ledger, tenants: list[str]
) -> None:
    """Not all keys at one place (TRYAGAIN): it waits. All at the new one (ASK): it goes there, where nobody has seen the
    scripts. Then MOVED. What is charged is right at the end."""
    tenant, target = tenants[0], cluster.masters[1]
    key = f"{{{tenant}}}"
    await ledger.hold("swept", scopes(tenant), Amount(1), deadline_s=-1)
    # With it every key of a call is there.
    assert await ledger.sweep(tenant) == 1
    await ledger.hold("c1", scopes(tenant), Amount(5))
    await ledger.hold("c2", scopes(tenant), Amount(5))
    source = cluster.begin_move(key, target)
    source.run("MIGRATE", "127.0.0.1", target.port, f"toll:{key}:holds", 0, 5000)
    waiting = asyncio.create_task(
        ledger.settle("c1", scopes(tenant), Amount(2), record={"call_id": "c1"})
    )
    why = await refused(ledger, tenant, "c3")
    assert "TryAgain" in why or "Timeout" in why
    with contextlib.suppress(LedgerUnavailable):
        await waiting
    cluster.move_keys(key, source, target)
    # At the source there is nothing any more, and the slot is still the source's.
    assert cluster.owner(key) is source
    await use(ledger, tenant, "c4")
    await settled(ledger, tenant, "c1", Amount(2))
    cluster.end_move(key, source, target)
    await settled(ledger, tenant, "c2", Amount(2))
    await use(ledger, tenant, "c5")
    assert await charged(ledger, tenant) == (3 + 1 + 2 + 2 + 3 + 3, 0)
    assert sorted(records(cluster, tenant)) == ["c1", "c2", "c4", "c5", "first", "swept"]
    await ledger.ping()


async def test_the_directory_moves_with_its_slot(cluster: RedisCluster, tmp_path: Path) -> None:
    """Single commands follow ASK and MOVED as well."""
    redis = connect(cluster.url, tmp_path)
    directory = Directory(redis)
    project = Project("p", "acme")
    await directory.set_project(project)
    key = "{directory}"
    target = next(node for node in cluster.masters if node is not cluster.owner(key))
    source = cluster.begin_move(key, target)
    cluster.move_keys(key, source, target)
    assert [found.id for found in await directory.projects()] == ["p"]
    cluster.end_move(key, source, target)
    await directory.set_project(Project("q", "acme"))
    assert [found.id for found in await directory.projects()] == ["p", "q"]
    await redis.aclose()


async def test_slots_without_a_master(tmp_path: Path) -> None:
    """A Cluster that goes on without them (cluster-require-full-coverage no) serves the other tenants, and is not healthy."""
    options = ["--cluster-require-full-coverage", "no"]
    with RedisCluster(tmp_path / "cluster", options=options) as cluster:
        lost, other, _ = cluster.tenants("t")
        ledger = Ledger(connect(cluster.url, tmp_path))
        await limit(ledger, lost, other)
        first = cluster.masters[0]
        for node in cluster.masters:
            # What one forgets the others do not hear of.
            node.run("CLUSTER", "DELSLOTSRANGE", 0, 5460)
        assert "ClusterDownError" in await refused(ledger, lost, "c2")
        await use(ledger, other, "c2")
        # More of the lost tenant's than are renewed together stand before the other's.
        await ledger.hold("long", scopes(other), Amount(1), deadline_s=5)
        prices: Any = None
        spool = Spool(tmp_path)
        purse = Purse(ledger, prices, spool)
        for number, tenant in enumerate((lost, other, lost, other)):
            await spool.put(SpoolRecord(f"spooled-{number}", scopes(tenant), Amount(1), {}))
        purse.held.update(
            {f"lost-{number}": HeldFor(scopes(lost)) for number in range(300)}
            | {"long": HeldFor(scopes(other))}
        )
        await purse.renew()
        with cluster.owner(f"{{{other}}}").client() as client:
            now: Any = client.time()
            deadline: Any = client.zscore(f"toll:{{{other}}}:deadlines", "long")
        assert deadline > (now[0] + 30) * 1000
        with pytest.raises(LedgerUnavailable, match=r"of the 16384 slots (have no master|served)"):
            await ledger.ping()
        # A gateway that died held for the other tenant: that is swept all the same.
        await ledger.hold("dead", scopes(other), Amount(1), deadline_s=5)
        with cluster.owner(f"{{{other}}}").client() as client:
            client.zadd(f"toll:{{{other}}}:deadlines", {"dead": 1})

        async def nobody() -> list[str]:
            raise LedgerUnavailable("Redis: the directory's slot is away")

        assert "slots" in (await Keeper(ledger, purse, nobody, time.monotonic).turn())[0]
        # So is what the spool holds of it; the lost tenant's waits.
        assert spool.waiting == 2
        with cluster.owner(f"{{{other}}}").client() as client:
            assert not client.hexists(f"toll:{{{other}}}:holds", "dead")
        first.run("CLUSTER", "ADDSLOTSRANGE", 0, 5460)
        await until_used(ledger, lost)
        await purse.retry()
        assert spool.waiting == 0
        await spool.close()
        await ledger.close()


async def test_a_cluster_that_is_down(tmp_path: Path) -> None:
    """With full coverage required one lost master stops all of it: everybody is refused, at once."""
    with RedisCluster(tmp_path / "cluster") as cluster:
        _, other, third = cluster.tenants("t")
        ledger = Ledger(connect(cluster.url, tmp_path))
        await limit(ledger, other, third)
        cluster.masters[0].kill()
        for node in cluster.masters[1:]:
            node.wait_for(
                "it is down", lambda node=node: "cluster_state:fail" in node.run("CLUSTER", "INFO")
            )
        for tenant in (other, third):
            assert "ClusterDownError" in await refused(ledger, tenant, "c2")
        cluster.masters[0].start()
        await until_used(ledger, other)
        await ledger.close()


async def test_nobody_is_there(tmp_path: Path) -> None:
    """No node of the URL answers: said in time, by each method."""
    ledger = Ledger(
        connect(f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{free_port()}", tmp_path)
    )
    async with asyncio.timeout(BOUND_S):
        for ask in (
            ledger.ping,
            lambda: ledger.show(scopes("t")),
            lambda: ledger.usage("t", "p"),
            lambda: ledger.sweep("t"),
        ):
            with pytest.raises(LedgerUnavailable, match="ConnectionError"):
                await ask()
        await ledger.close()


async def test_a_server_that_is_no_cluster(redis_url: str, tmp_path: Path) -> None:
    """Its own words say so."""
    ledger = Ledger(
        connect(redis_url.replace("redis://", "redis+cluster://").removesuffix("/0"), tmp_path)
    )
    with pytest.raises(LedgerUnavailable, match="cluster support disabled"):
        await ledger.ping()
    await ledger.close()


@pytest.mark.requires("redis-tls", "openssl")
async def test_tls_and_an_acl_user(tmp_path: Path) -> None:
    """The certificate is verified; the user that docs/redis.md names is enough."""
    port, cert, key = free_port(), tmp_path / "cert.pem", tmp_path / "key.pem"
    make_certificate(cert, key)
    tls = [
        "--tls-cert-file",
        str(cert),
        "--tls-key-file",
        str(key),
        "--tls-ca-cert-file",
        str(cert),
    ]
    options = ["--tls-port", str(port), *tls, "--tls-auth-clients", "no", "--tls-cluster", "yes"]
    rules = (
        "~toll:*",
        "+@read",
        "+@write",
        "+@scripting",
        "+@connection",
        "+time",
        "+cluster|slots",
        "+cluster|info",
    )
    with RedisCluster(tmp_path / "cluster", masters=1, options=options) as cluster:
        cluster.masters[0].run("ACL", "SETUSER", "gate", "on", ">pass/word", *rules)
        where = f"localhost:{port}?ssl=true"
        ledger = Ledger(
            connect(f"redis+cluster://gate:pass%2Fword@{where}&ssl_ca_certs={cert}", tmp_path)
        )
        await limit(ledger, "t")
        await use(ledger, "t", "c1")
        assert await ledger.sweep("t") == 0
        assert await ledger.grants(scopes("t")[1]) == []
        await ledger.ping()
        await ledger.close()
        for url in (
            f"redis+cluster://gate:wrong@{where}&ssl_ca_certs={cert}",
            f"redis+cluster://gate:pass%2Fword@{where}",
        ):
            refusing = Ledger(connect(url, tmp_path))
            with pytest.raises(LedgerUnavailable) as raised:
                await refusing.ping()
            assert "pass/word" not in raised.value.why
            await refusing.close()
        with blocking.Redis(port=cluster.masters[0].port) as client:
            client.acl_deluser("gate")
