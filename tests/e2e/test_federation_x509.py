"""OpenAI's exchange for a client certificate in place of a token: that of the store is shown there, and by the calls."""

from __future__ import annotations

import asyncio
from pathlib import Path
from ssl import PEM_cert_to_DER_cert
from typing import Any

import httpx2
from tests.support.client_certificate import made_for
from tests.support.exchange_server import exchange_server
from tests.support.inproc import open_inside

from tollhouse.check.subject_tokens import check_federation
from tollhouse.demo.standin import StandIn

API, PLACE = "mtls.api.openai.com", "infrastructure/openai-client"


def test_a_certificate_in_place_of_a_token(tmp_path: Path) -> None:
    """A certificate that was renewed in the store is shown by the next exchange. No token and no secret is sent."""
    first, second = made_for("the gateway"), made_for("the gateway, renewed")
    trusted = f"{first.cert}\n{second.cert}"
    with (
        StandIn(hosts=(API,), clients=trusted.encode()) as standin,
        exchange_server(trusted) as exchanges,
    ):
        exchanges.on_given = standin.keys.add
        (tmp_path / "exchange-ca.pem").write_bytes(exchanges.ca_pem)
        settings: dict[str, dict[str, Any]] = {
            "vault": {"refresh_s": 1},
            "providers.openai": {
                "hosts": [API],
                "client_certificate": PLACE,
                "credential": {
                    "method": "federation",
                    "subject": {"source": "certificate"},
                    "connect_to": exchanges.address,
                    "ca_file": "exchange-ca.pem",
                    "parameters": {"identity_provider_id": "idp_1", "service_account_id": "sa_1"},
                },
            },
        }
        secrets = {PLACE: first._asdict()}
        with open_inside(
            tmp_path, settings, standin=standin, stores="real", secrets=secrets
        ) as inside:

            def ask() -> int:
                with httpx2.Client(
                    proxy=inside.proxy_url, verify=inside.context, trust_env=False
                ) as client:
                    return int(client.get(f"https://{API}/v1/models").status_code)

            assert ask() == 200
            [row] = inside.do(inside.gateway.operations.perform("key_list", {}))
            assert row["method"] == "federation (certificate)"
            assert row["subject"] == "CN=the gateway"
            [finding] = asyncio.run(check_federation(inside.gateway.config))
            assert finding.level == "ok"
            assert f"as CN=the gateway of CN=the gateway, by the client certificate at {PLACE}" in (
                finding.what
            )
            assert inside.stores is not None
            inside.stores.put(PLACE, second._asdict())

            async def shown() -> str:
                [cert] = await inside.gateway.secrets.get(PLACE, "cert")
                return cert.reveal()

            async def renewed() -> None:
                async with asyncio.timeout(20):
                    while await shown() != second.cert:  # noqa: ASYNC110 - after each turn
                        await asyncio.sleep(0)
                inside.gateway.keys.forget()

            inside.do(renewed())
            assert ask() == 200
        one = exchanges.received[0]
        assert len(exchanges.received) == 2
        assert one[:3] == (
            "mtls.auth.openai.com",
            "/oauth/token",
            {
                "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
                "subject_token_type": "urn:openai:params:oauth:token-type:x509",
                "identity_provider_id": "idp_1",
                "service_account_id": "sa_1",
            },
        )
        assert not any(name in one[3] for name in ("authorization", "cookie", "x-api-key"))
        assert exchanges.certificates == [PEM_cert_to_DER_cert(one.cert) for one in (first, second)]
        used = [received.get("authorization") for received in standin.book]
        assert used == [f"Bearer {token}" for token in exchanges.given]
