"""Coding agents through the running gateway: a call is a stream and is metered, and a refusal is read within seconds and not sent
again and again. docs/agents.md has what was measured."""

from __future__ import annotations

import base64
import json
import re
import time
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from tests.support.coding_agents import AGENTS, IN_A_SESSION, Agent, limit, refused, run
from tests.support.gateway import Road
from tests.support.redis_server import RedisServer

agents = pytest.mark.parametrize(
    "agent",
    [
        pytest.param(one, id=one.name, marks=pytest.mark.requires(one.name, "redis"))
        for one in AGENTS
    ],
)


@agents
def test_a_budget_that_is_used_up(agent: Agent, gateway: Road) -> None:
    limit(gateway, "0.0000001 usd/day")
    said = run(agent, gateway)
    refused(said, "budget_exceeded")
    assert "The budget does not cover this call." in said.text or IN_A_SESSION in said.text
    assert {line["cost_usd"] for line in said.calls} == {"0"}
    assert [one for one in gateway.standin.snapshot() if one.method == "POST"] == []


@agents
def test_a_limit_of_an_hour(agent: Agent, gateway: Road) -> None:
    limit(gateway, "0 requests/hour")
    refused(run(agent, gateway), "rate_limited")


@pytest.mark.requires("opencode", "redis")
def test_a_budget_with_a_number_that_opencode_takes_for_a_status(gateway: Road) -> None:
    limit(gateway, "0.0000500 usd/day")
    [agent] = [one for one in AGENTS if one.name == "opencode"]
    refused(run(agent, gateway), "budget_exceeded")


@agents
def test_redis_is_away(agent: Agent, gateway: Road, agents_redis: RedisServer) -> None:
    """It may be back in a moment, so that the call is sent once more. That ends it."""
    limit(gateway, "10 usd/day")
    agents_redis.stop()
    try:
        # `exec` would have no token.
        said = run(agent, gateway, by_hand=True)
    finally:
        agents_redis.start()
    # opencode's title is sent twice as well, and Codex asks for a WebSocket first. Claude Code may send its second so soon that
    # it is told to come again: on a busy machine the state that ends it has not lasted long enough by then.
    # The SDK behind llm tries three times.
    most = {"gemini": 2, "opencode": 4}.get(agent.name, 3)
    refused(said, "ledger_unavailable", most=most, waits_s=agent.waits_s)


def jwt(**payload: Any) -> str:
    parts = ({"alg": "RS256", "typ": "JWT"}, payload)
    texts = [
        base64.urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip("=") for one in parts
    ]
    return ".".join([*texts, "c2lnbmF0dXJl" * 8])


def at_chatgpt() -> tuple[str, str]:
    """A login as `codex login` leaves it, and the file that it is in."""
    account = {"chatgpt_account_id": "account-1", "chatgpt_plan_type": "plus"}
    token = jwt(
        iss="https://auth.openai.com",
        exp=int(time.time()) + 86_400,
        **{"https://api.openai.com/auth": account},
    )
    tokens = {"id_token": token, "access_token": token, "refresh_token": "none"}
    kept = {
        "auth_mode": "chatgpt",
        "tokens": {**tokens, "account_id": "account-1"},
        "last_refresh": datetime.now(UTC).isoformat(),
    }
    return token, json.dumps(kept)


@pytest.mark.parametrize(
    "name",
    [pytest.param(one, marks=pytest.mark.requires(one, "redis")) for one in ("claude", "codex")],
)
def test_a_login(gateway: Road, name: str) -> None:
    """It goes to its provider, and the project has nothing to pay though it has no money."""
    # A project of its own: the gateway may know for some seconds yet what another one was before.
    gateway = replace(gateway, project=f"proj_login_{name}")
    limit(gateway, "0.0000001 usd/day", login="pass")
    agent = next(one for one in AGENTS if one.name == name)
    if name == "codex":
        token, file = at_chatgpt()
        # Its configuration names the API.
        agent = replace(agent, files={".codex/auth.json": file})
        login = {}
    else:
        token = "sk-ant-oat01-a-login-of-a-subscription-0123456789abcdefghijklmnop"
        login = {"CLAUDE_CODE_OAUTH_TOKEN": token}
    gateway.standin.keys.add(token)
    said = run(agent, gateway, login=login)
    # The handshake of Codex's WebSocket is refused, and it calls over HTTP.
    lines = [line for line in said.calls if line["status"] != 426]
    assert lines, said.text
    assert {line["status"] for line in lines} == {200}
    assert {line["provider"] for line in lines} == {"chatgpt" if name == "codex" else "anthropic"}
    assert {(line["key_version"], line["cost_usd"]) for line in lines} == {("login", "0")}
    assert max(Decimal(line["notional_usd"]) for line in lines) > 0
    received = [one for one in gateway.standin.snapshot() if one.method == "POST"]
    assert {one.get("authorization") for one in received} == {f"Bearer {token}"}
    assert re.search(r"^tollhouse: \S+: \d+ calls?, \d+ tokens, 0 usd$", said.text, re.MULTILINE)
