"""A session of the Gemini Live API through the running gateway, by Google's own SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
from google import genai
from tests.support.billed import live_tokens
from tests.support.gateway import PLACEHOLDER, REAL_KEY, Road, open_road

from tollhouse.demo import standin_google
from tollhouse.demo.standin import StandIn

MODEL = "gemini-3.8-live"


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    directory = tmp_path_factory.mktemp("live")
    standin = StandIn(key=REAL_KEY, hosts=("localhost", "api.openai.com", *standin_google.HOSTS))
    with standin:
        entry = {
            "connect_to": standin.address,
            "ca_file": "provider-ca.pem",
            "allow_private": True,
        }
        entries = {f"providers.{name}": entry for name in ("gemini", "vertex")}
        with open_road(directory, entries, standin=standin) as made:
            for name in ("gemini", "vertex"):
                made.gateway.tollhouse("key", "set", name, stdin=standin.key)
            yield made


@asynccontextmanager
async def connect(
    road: Road, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], **options: Any
) -> AsyncIterator[Any]:
    # The SDK's WebSocket takes the proxy of the environment.
    monkeypatch.setenv("HTTPS_PROXY", road.proxy_url)
    client = genai.Client(
        api_key=PLACEHOLDER,
        **options,
        http_options={"async_client_args": {"ssl": road.context, "verify": road.context}},
    )
    async with client.aio.live.connect(model=MODEL, config=config) as session:
        yield session


async def ask(session: Any, text: str = "Hello") -> list[Any]:
    await session.send_client_content(
        turns={"role": "user", "parts": [{"text": text}]}, turn_complete=True
    )
    return [message async for message in session.receive()]


@pytest.mark.parametrize("provider", ["gemini", "vertex"])
async def test_a_session(road: Road, monkeypatch: pytest.MonkeyPatch, provider: str) -> None:
    """Two turns: the line has the sum of their last reports."""
    road.standin.clear()
    before = len(road.wait_lines(0))
    config = {"response_modalities": ["AUDIO"]}
    express = {"enterprise": True} if provider == "vertex" else {}
    async with connect(road, monkeypatch, config, **express) as session:
        first = await ask(session)
        second = await ask(session)
    assert first[-1].usage_metadata.response_token_count == 30
    assert second[-1].usage_metadata.total_token_count == 140
    [received] = road.standin.snapshot()
    line = road.wait_lines(before + 1)[-1]
    assert line["provider"] == provider
    assert line["model"] == line["model_served"] == MODEL
    assert len(received.bills) == 2
    tokens = live_tokens(received.bills)
    assert line["tokens"] == tokens
    heard, said = tokens["input_audio"], tokens["output_audio"]
    assert said == tokens["output"]
    # The list price of Google in nano-dollars a token: text 750, sound 3,000 and 12,000.
    nanos = (tokens["input"] - heard) * 750 + heard * 3_000 + said * 12_000
    assert Decimal(line["cost_usd"]) == Decimal(nanos) / 10**9
    assert line["charged_by"] == "usage"
    assert received.get("x-goog-api-key") == road.standin.key
    assert "key=" not in received.target
