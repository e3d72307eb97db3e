"""Credentials that are exchanged, and keys of an issuer, through a corporate proxy that wants a password of the store."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx2
from tests.support.connect_proxy import ConnectProxy
from tests.support.exchange_server import exchange_server
from tests.support.inproc import PROJECT, TENANT, open_inside
from tests.support.issuer import claims, jwk, jwks, rsa_key, serve_jwks
from tests.support.issuer import signed as workload_token
from tests.support.signed_token import ISSUER, signed
from tests.support.signed_token import jwks as subject_keys
from tests.support.workload_api import SPIFFE_ID, workload_api

from tollhouse.check.issuers import check_issuers
from tollhouse.check.subject_tokens import check_federation
from tollhouse.demo.standin import StandIn

LOGIN = ("gateway", "the-proxys-password")
WORKLOADS, KEY = "https://workloads.test", rsa_key("workloads")
OPENAI, EXCHANGE = "api.openai.com:443", "auth.openai.com:443"


def test_exchanges_and_keys_of_issuers_go_through_the_proxy(tmp_path: Path) -> None:
    """A workload shows a JWT whose issuer is beyond the proxy, and its call has a credential that was exchanged beyond it. The
    proxy sees names, and no token. Anthropic's own entry says "off", and its exchange is dialled directly, with a subject token
    of SPIFFE's Workload API."""
    (tmp_path / "subject").write_text(signed())
    with (
        StandIn(hosts=("api.openai.com", "api.anthropic.com")) as standin,
        exchange_server() as exchanges,
        serve_jwks(tmp_path, jwks(jwk(KEY, "k1"))) as issuer,
        ConnectProxy({}, login=LOGIN) as proxy,
        workload_api(tmp_path / "agent.sock") as agent,
    ):
        exchanges.keys, exchanges.issuer = subject_keys, ISSUER
        exchanges.on_given = standin.keys.add
        (tmp_path / "exchange-ca.pem").write_bytes(exchanges.ca_pem)
        keys = issuer.url.removeprefix("https://").removesuffix("/keys")
        proxy.names = {
            OPENAI: (standin.host, standin.port),
            EXCHANGE: ("127.0.0.1", exchanges.port),
            keys: ("127.0.0.1", int(keys.rpartition(":")[2])),
        }
        credential: dict[str, Any] = {
            "method": "federation",
            "subject": {"source": "file", "file": "subject"},
            "audience": "https://tollhouse.test",
            "ca_file": "exchange-ca.pem",
        }
        settings: dict[str, dict[str, Any]] = {
            "upstream": {"proxy": {"url": proxy.url, "secret": "infrastructure/proxy"}},
            "providers.openai": {
                "ca_file": "provider-ca.pem",
                "credential": {
                    **credential,
                    "parameters": {"identity_provider_id": "idp_1", "service_account_id": "sa_1"},
                },
            },
            "providers.anthropic": {
                "ca_file": "provider-ca.pem",
                "allow_private": True,
                "connect_to": standin.address,
                "upstream_proxy": "off",
                "credential": {
                    **credential,
                    "subject": {"source": "spiffe", "socket": "agent.sock", "id": SPIFFE_ID},
                    "connect_to": exchanges.address,
                    "parameters": {
                        "federation_rule_id": "fdrl_1",
                        "organization_id": "00000000-0000-4000-8000-00000000000a",
                        "service_account_id": "svac_1",
                    },
                },
            },
            "identity": {
                "jwt": [
                    {
                        "issuer": WORKLOADS,
                        "jwks_url": issuer.url,
                        "ca_file": str(issuer.ca_file),
                        "upstream_proxy": "on",
                        "audience": "tollhouse",
                        "project": "project",
                        "tenant": TENANT,
                    }
                ]
            },
        }
        standin.write_ca(tmp_path / "provider-ca.pem")
        secrets = {"infrastructure/proxy": dict(zip(("username", "password"), LOGIN, strict=True))}
        with open_inside(
            tmp_path, settings, standin=standin, stores="real", secrets=secrets, placed=False
        ) as inside:
            token = workload_token(claims(iss=WORKLOADS, sub="a", project=PROJECT), KEY, kid="k1")
            with httpx2.Client(
                proxy=f"http://x:{token}@{inside.gateway.addresses['proxy']}",
                verify=inside.context,
                trust_env=False,
            ) as client:
                assert client.get("https://api.openai.com/v1/models").status_code == 200
                asked = client.get(
                    "https://api.anthropic.com/v1/models",
                    headers={"anthropic-version": "2023-06-01"},
                )
                assert asked.status_code == 200
            seen = sorted(head.split()[1] for head in proxy.asked)
            rows = inside.do(inside.gateway.operations.perform("key_list", {}))
            config = inside.gateway.config
            subjects, issuers = (
                [(each.level, each.what) for each in asyncio.run(check(config))]
                for check in (check_federation, check_issuers)
            )
        of_openai, of_anthropic = standin.book
        assert of_openai.get("authorization") == f"Bearer {exchanges.given[0]}"
        assert of_anthropic.get("authorization") == f"Bearer {exchanges.given[1]}"
        assert seen == sorted([OPENAI, EXCHANGE, keys])
        assert issuer.asked == 2
        assert [level for level, _ in subjects] == ["ok", "ok"]
        assert f"anthropic is called as {SPIFFE_ID}" in subjects[0][1] + subjects[1][1]
        assert issuers == [("ok", f"{WORKLOADS} has 1 key.")]
        assert exchanges.subjects[1] == SPIFFE_ID
        assert agent.asked == [{1: ["https://tollhouse.test"], 2: [SPIFFE_ID]}] * 2
        [row] = [row for row in rows if row["path"] == "federation:anthropic"]
        assert (row["method"], row["subject"]) == ("federation (workload_api)", SPIFFE_ID)
        assert not any("eyJ" in head or LOGIN[1] in head for head in proxy.asked)
        assert LOGIN[1] not in json.dumps(rows)
