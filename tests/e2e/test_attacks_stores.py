"""SECURITY.md row 25 with real servers: Redis gone, Vault gone and the cache over. The gates that raise are in
test_faults.py."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from tests.support.attack import BODY, Attacked, begin, post
from tests.support.gateway import REAL_KEY
from tests.support.inproc import PROJECT, open_inside
from tests.support.openbao import OpenBao
from tests.support.raw import Answer
from tests.support.redis_server import RedisServer

PLENTY: dict[str, Any] = {f"projects.{PROJECT}": {"limits": ["10 usd/day"]}}
PATIENCE_S = 30.0


def folder(tmp_path: Path) -> Path:
    """The gateway's own, beside that of its store."""
    made = tmp_path / "gateway"
    made.mkdir()
    return made


def call(attacked: Attacked) -> Answer:
    with attacked.tunnel() as client:
        return client.ask(post(BODY))


def until(attacked: Attacked, status: int) -> Answer:
    """Call until it is answered so; the book is emptied before each try."""
    end = time.monotonic() + PATIENCE_S
    while True:
        attacked.inside.standin.clear()
        answer = call(attacked)
        if answer.status == status or time.monotonic() > end:
            return answer


@pytest.mark.requires("redis")
@pytest.mark.parametrize("how", ["stopped", "silent"])
def test_redis_is_gone(tmp_path: Path, how: str) -> None:
    """Nothing leaves, whether Redis refuses the connection or never answers; when it is back, calls go out again."""
    with RedisServer(tmp_path) as server:
        settings = {**PLENTY, "redis": {"url": server.url}}
        with open_inside(folder(tmp_path), settings) as inside:
            attacked = begin(inside)
            assert call(attacked).status == 200
            inside.standin.clear()
            seen = len(inside.lines())
            if how == "stopped":
                server.stop()
            else:
                server.pause()
            answer = call(attacked)
            assert (answer.status, answer.reason) == (503, "ledger_unavailable")
            assert answer.get("retry-after") == "1"
            assert inside.standin.snapshot() == []
            [line] = inside.lines()[seen:]
            assert (line["status"], line["reason"], line["cost_usd"]) == (
                503,
                "ledger_unavailable",
                "0",
            )
            if how == "silent":
                server.resume()
                assert until(attacked, 200).status == 200
                attacked.settle()
            else:
                # Nothing was kept on disk: the token is gone with it, and an unknown one is refused.
                server.start()
                assert until(attacked, 401).reason == "identity_unknown"


@pytest.mark.requires("openbao")
def test_vault_is_gone_and_the_cache_is_over(tmp_path: Path) -> None:
    """The last key serves while it may; then 503, nothing leaves, the hold is given back, and back it comes."""
    bao = OpenBao(tmp_path)
    bao.start()
    try:
        bao.put("infrastructure/openai", {"api_key": REAL_KEY})
        files = {"role_id_file": str(bao.role_id_file), "secret_id_file": str(bao.secret_id_file)}
        vault = {
            "address": bao.address,
            "auth": {"method": "approle", **files},
            "refresh_s": 1,
            "stale_for_s": 1,
        }
        with open_inside(folder(tmp_path), {**PLENTY, "vault": vault}) as inside:
            attacked = begin(inside)
            assert call(attacked).status == 200
            bao.pause()
            answer = until(attacked, 503)
            assert (answer.status, answer.reason) == (503, "credential_unavailable")
            assert inside.standin.snapshot() == []
            line = inside.lines()[-1]
            assert (line["reason"], line["gate"], line["cost_usd"]) == (
                "credential_unavailable",
                "credential",
                "0",
            )
            attacked.settle()
            bao.resume()
            assert until(attacked, 200).status == 200
    finally:
        bao.resume()
        bao.stop()
