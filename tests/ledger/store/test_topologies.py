"""The ledger on a Redis behind TLS with an ACL user, and on one that Sentinels watch over."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from pathlib import Path

import pytest
import redis as blocking
from tests.support.programs import free_port
from tests.support.redis_server import RedisServer, serving

from tollhouse.call import Amount
from tollhouse.ledger.hold_reply import Held
from tollhouse.ledger.ledger import Ledger, LedgerUnavailable, Scope
from tollhouse.ledger.limits import parse_limits
from tollhouse.ledger.store.client import connect

pytestmark = pytest.mark.requires("redis")

PROJECT = Scope("project", "acme", "proj_123")
TENANT = Scope("tenant", "acme", "acme")
SCOPES = (TENANT, PROJECT)
ACL = "~toll:* +@read +@write +@scripting +@connection +time +ping"


def make_certificate(cert: Path, key: Path) -> None:
    files = ("-keyout", str(key), "-out", str(cert))
    names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1")
    subprocess.run(
        ["openssl", "req", "-x509", *kind, *files, *names], check=True, capture_output=True
    )


async def use(ledger: Ledger, call_id: str) -> None:
    """Limits, a hold and a settle: all that a gateway asks of it."""
    assert isinstance(await ledger.hold(call_id, SCOPES, Amount(5)), Held)
    await ledger.settle(call_id, SCOPES, Amount(3), record={"call_id": call_id})


@pytest.mark.requires("redis-tls", "openssl")
async def test_tls_and_an_acl_user(tmp_path: Path) -> None:
    """The certificate is verified; the user may touch toll:* and nothing else; a wrong password is said to be one."""
    port, cert, key = free_port(), tmp_path / "cert.pem", tmp_path / "key.pem"
    make_certificate(cert, key)
    conf = tmp_path / "redis.conf"
    conf.write_text(
        f'port 0\ntls-port {port}\nbind 127.0.0.1\ndir {tmp_path}\nsave ""\ntls-auth-clients no\n'
        f"tls-cert-file {cert}\ntls-key-file {key}\ntls-ca-cert-file {cert}\n"
        f"user gate on >pass/word {ACL}\nuser default off\n"
    )
    where = f"localhost:{port}/0"
    with serving(str(conf), ready="Ready to accept"):
        ledger = Ledger(connect(f"rediss://gate:pass%2Fword@{where}?ssl_ca_certs={cert}", tmp_path))
        await ledger.set_limits(PROJECT, parse_limits(["10 usd/day"]))
        await use(ledger, "c1")
        await ledger.grant(PROJECT, "usd", 5, {"reason": "r"})
        [state] = await ledger.show([PROJECT])
        assert (state.limits[0].used, state.limits[0].granted) == (3, 5)
        assert len(await ledger.usage("acme", "proj_123")) == 1
        await ledger.close()
        for url in (
            f"rediss://gate:pass%2Fword@{where}",
            f"rediss://gate:wrong@{where}?ssl_ca_certs={cert}",
        ):
            refused = Ledger(connect(url, tmp_path))
            with pytest.raises(LedgerUnavailable) as raised:
                await refused.ping()
            assert "pass/word" not in raised.value.why
            await refused.close()


async def test_sentinels_name_the_master_and_a_failover_is_followed(tmp_path: Path) -> None:
    """What was settled before is there afterwards, once the replica had it; the same ledger goes on by itself."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    port = free_port()
    conf = tmp_path / "sentinel.conf"
    with RedisServer(tmp_path / "first") as first, RedisServer(tmp_path / "second") as second:
        with blocking.Redis.from_url(second.url) as replica:
            replica.replicaof("127.0.0.1", str(first.port))
            while replica.info("replication")["master_link_status"] != "up":  # type: ignore[index]
                pass
        conf.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\nsentinel monitor m 127.0.0.1 {first.port} 1\n"
            "sentinel down-after-milliseconds m 1000\nsentinel failover-timeout m 3000\n"
        )
        with serving(str(conf), "--sentinel", ready="+monitor"):
            ledger = Ledger(connect(f"redis+sentinel://127.0.0.1:1,127.0.0.1:{port}/m/0", tmp_path))
            await ledger.set_limits(PROJECT, parse_limits(["10 usd/day"]))
            await use(ledger, "c1")
            with blocking.Redis.from_url(first.url) as master:
                master.wait(1, 5000)
            first.stop()
            async with asyncio.timeout(60):
                while True:
                    with contextlib.suppress(LedgerUnavailable):
                        await use(ledger, "c2")
                        break
            [state] = await ledger.show([PROJECT])
            assert state.limits[0].used == 6
            with blocking.Redis.from_url(second.url) as promoted:
                assert promoted.info("replication")["role"] == "master"  # type: ignore[index]
            await ledger.close()


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://h:1",
        "redis+sentinel://h/m",
        "redis+sentinel://h:1,/m",
        "redis+sentinel://h:1/m/x",
        "redis+sentinel://u:hunter2@h:1/m?sentinel_pasword=hunter2",
    ],
)
def test_a_sentinel_url_that_says_too_little(tmp_path: Path, url: str) -> None:
    """No master, no port, an option that is not known: refused, no password shown."""
    with pytest.raises(
        ValueError, match=r"redis\+sentinel://\[USER:PASSWORD@\]HOST:PORT"
    ) as raised:
        connect(url, tmp_path)
    assert "hunter2" not in str(raised.value)
