"""Realtime sessions at Azure: the deployment in the query, the price of its model, the key in Azure's own slot."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from tests.support.attack import Attacked, watched
from tests.support.gateway import REAL_KEY
from tests.support.inproc import PROJECT, Inside, open_inside
from tests.support.raw_socket import RawSocket, frame, handshake, text

from tollhouse.credential.vault.embedded_vault import EmbeddedVault
from tollhouse.demo.standin import StandIn

HOST = "contoso.openai.azure.com"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    directory = tmp_path_factory.mktemp("azure")
    with StandIn(key=REAL_KEY, hosts=("api.openai.com", HOST)) as standin:
        entry: Any = {
            "hosts": [HOST],
            "connect_to": standin.address,
            "ca_file": "provider-ca.pem",
            "allow_private": True,
            "models": {"my-voice": "gpt-realtime"},
        }
        settings: Any = {
            "providers.azure": entry,
            f"projects.{PROJECT}": {"limits": ["10 usd/day"], "models": ["gpt-realtime"]},
        }
        with open_inside(directory, settings, standin=standin) as inside:
            EmbeddedVault(directory / "state").set("azure", REAL_KEY)
            yield inside


@pytest.fixture
def attacked(gateway: Inside, caplog: pytest.LogCaptureFixture) -> Iterator[Attacked]:
    yield from watched(gateway, caplog)


@pytest.mark.parametrize(
    "path",
    [
        "/openai/realtime?api-version=2025-04-01-preview&deployment=my-voice",
        "/openai/v1/realtime?model=my-voice",
    ],
)
def test_a_session(attacked: Attacked, path: str) -> None:
    client = attacked.tunnel(HOST, sni=HOST)
    socket = RawSocket(client, handshake("api-key: anything", path=path, host=HOST))
    with client:
        assert socket.answer.status == 101
        socket.until("session.created")
        client.send(text(type="response.create"))
        socket.until("response.done")
        client.send(frame(8, b"\x03\xe8"))
        assert socket.until("close").code == 1000
    [line] = attacked.lines(1)
    [received] = attacked.inside.standin.snapshot()
    assert received.get_all("api-key") == [REAL_KEY]
    assert received.get_all("authorization") == []
    assert (line["provider"], line["model"]) == ("azure", "gpt-realtime")
    # Nano-dollars a token of gpt-realtime: text 4,000 and 16,000, sound 32,000 and 64,000.
    cost = 30 * 4_000 + 70 * 32_000 + 15 * 16_000 + 45 * 64_000
    assert Decimal(line["cost_usd"]) * 10**9 == cost
    assert line["charged_by"] == "usage"
