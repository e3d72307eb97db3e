"""AWS keys that Vault leases, through the running gateway. OpenBao's policies say who may have them; the engine is a stand-in."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.support.aws_engine import ARN, AwsEngine, aws_engine
from tests.support.inproc import open_inside
from tests.support.openbao import POLICY, OpenBao

from tollhouse.check.vault import check_vault
from tollhouse.demo.standin import StandIn
from tollhouse.demo.standin_script import reply

USER, SESSION = "bedrock.eu-west-1.amazonaws.com", "bedrock.us-east-1.amazonaws.com"
LINES = """
path "aws/creds/caller" { capabilities = ["read"] }
path "aws/sts/caller" { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }
"""


def test_leases_are_renewed_read_anew_and_given_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The keys of an IAM user are renewed and stay the same; those of STS are read anew ahead of their end. A policy without
    them lets nothing leave, and says which line it lacks. What is held is revoked at the stop. No log has a key."""
    engines: list[AwsEngine] = []
    given: list[str] = []

    @contextlib.contextmanager
    def before(bao: OpenBao) -> Iterator[str]:
        with aws_engine(bao) as engine:
            engines.append(engine)
            yield engine.address

    with StandIn(hosts=(USER, SESSION)) as standin:
        standin.always(reply(200, b'{"modelSummaries":[]}', [("content-type", "application/json")]))
        entry = {"allow_private": True, "ca_file": "provider-ca.pem", "connect_to": standin.address}
        lease = {"method": "vault_role", "path": "aws/creds/caller"}
        session = {
            "method": "vault_role",
            "path": "aws/sts/caller",
            "ttl_s": 900,
            "session_name": "gateway-1",
        }
        settings: dict[str, dict[str, Any]] = {
            "providers.bedrock": {**entry, "hosts": [USER], "credential": lease},
            "providers.sessions": {
                **entry,
                "family": "bedrock",
                "hosts": [SESSION],
                "credential": session,
            },
        }
        with open_inside(
            tmp_path, settings, standin=standin, stores="real", before_vault=before
        ) as inside:
            [engine] = engines
            engine.on_given = lambda text: (given.append(text), standin.keys.add(text))[0]
            bao = inside.stores
            assert bao is not None

            def ask(host: str) -> Any:
                with httpx2.Client(
                    proxy=inside.proxy_url, verify=inside.context, trust_env=False
                ) as client:
                    return client.get(f"https://{host}/foundation-models")

            def key(index: int) -> str:
                text = standin.book[index].get("authorization")
                return str(text).partition("Credential=")[2].partition("/")[0]

            refused = ask(USER)
            assert refused.headers["x-tollhouse-reason"] == "credential_unavailable"
            assert standin.book == []
            assert 'our policy lacks: path "aws/creds/caller"' in caplog.text
            unallowed = asyncio.run(check_vault(inside.gateway.config))
            bao.api("PUT", "sys/policies/acl/tollhouse", {"policy": POLICY + LINES})
            allowed = asyncio.run(check_vault(inside.gateway.config))
            for findings, level in ((unallowed, "error"), (allowed, "ok")):
                found = [each for each in findings if "aws/" in each.what]
                assert [each.level for each in found] == [level] * 2, found
            assert engine.made == []

            inside.do(forget(inside))
            engine.life_s = engine.longest_s = 3
            assert ask(USER).status_code == ask(SESSION).status_code == 200
            assert (key(0), key(1)) == ("AKIAOFTHETESTS1", "ASIAOFTHETESTS2")
            assert not standin.book[0].get("x-amz-security-token")
            assert standin.book[1].get("x-amz-security-token") == given[2]
            assert engine.asked[1][1] == {"ttl": "900s", "role_session_name": "gateway-1"}
            rows = {
                row["path"]: row
                for row in inside.do(inside.gateway.operations.perform("key_list", {}))
            }
            assert rows["lease:bedrock"]["method"] == "lease (aws/creds/caller)"
            assert rows["lease:sessions"]["subject"] == ARN
            assert 0 < rows["lease:bedrock"]["expires_s"] <= 3
            while not (len(engine.renewed) >= 2 and len(engine.made) >= 3):
                assert engine.arrived.acquire(timeout=20)
            assert ask(USER).status_code == ask(SESSION).status_code == 200
            assert key(2) == key(0)
            assert key(3) != key(1)
            assert {lease_id for lease_id, _ in engine.renewed} == {engine.made[0]}
            tested = inside.do(
                inside.gateway.operations.perform("key_test", {"provider": "bedrock"})
            )
            assert [row["result"] for row in tested] == ["ok"]
            lines = json.dumps([inside.lines(), list(rows.values()), tested])
        assert engine.made[0] in engine.revoked
        # One that is read at this moment is given back with the login alone.
        assert set(engine.made[1:-1]) <= set(engine.revoked)
    for text in given:
        assert text not in caplog.text + lines


async def forget(inside: Any) -> None:
    inside.gateway.keys.forget()
