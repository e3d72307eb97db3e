"""An agent's session through the running gateway: its limit, its sums, its place in the line."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from tests.support.gateway import Road, open_road

from tollhouse.config.load import load_config
from tollhouse.control.client import perform

URL = "https://api.openai.com/v1/chat/completions"
CHAT: dict[str, Any] = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "hello"}],
    "max_completion_tokens": 50,
}
CLAUDE, CODEX = "x-claude-code-session-id", "session-id"


def call(client: httpx2.Client, session: str = "", header: str = CLAUDE) -> httpx2.Response:
    return client.post(URL, json=CHAT, headers={header: session} if session else {})


def sums_by_session(road: Road) -> dict[str, tuple[Decimal, int]]:
    words = ("usage", "--project", road.project, "--by", "session", "--json")
    rows = json.loads(road.gateway.tollhouse(*words))["rows"]
    return {row["key"]: (Decimal(row["usd"]), row["requests"]) for row in rows}


def test_one_session_ends_at_its_limit_and_another_goes_on(road: Road) -> None:
    """With the same token: the first is 402 and is named, the second is answered, and so is a call
    without a session. The lines and the sums have each session's own cost."""
    limits = ("--limit", "0.001 usd/session", "--limit", "10 usd/day")
    road.gateway.tollhouse("project", "set", road.project, *limits)
    answered = 0
    with road.http() as client:
        while (answer := call(client, "019a-loop")).status_code == 200:
            answered += 1
            assert answered < 10
        assert answered > 0
        assert answer.status_code == 402
        assert answer.headers["x-tollhouse-reason"] == "budget_exceeded"
        assert answer.headers["x-should-retry"] == "false"
        assert "retry-after" not in answer.headers
        told = answer.json()["error"]["message"]
        assert "The limit 0.001 usd/session of session 019a-loop has not enough left" in told
        assert "begin a new session, whose limit begins anew" in told
        assert call(client, "019a-calm", CODEX).status_code == 200
        assert call(client).status_code == 200
    received = road.standin.wait_count(answered + 2)
    assert [request.get(CLAUDE) for request in received[:answered]] == ["019a-loop"] * answered
    assert received[answered].get(CODEX) == "019a-calm"
    lines = road.wait_lines(answered + 3)
    sessions = [line["session"] for line in lines]
    assert sessions == ["019a-loop"] * (answered + 1) + ["019a-calm", ""]
    assert (lines[answered]["status"], lines[answered]["gate"]) == (402, "budget")
    cost = [Decimal(line["cost_usd"]) for line in lines]
    assert sums_by_session(road) == {
        "019a-loop": (sum(cost[:answered], Decimal(0)), answered),
        "019a-calm": (cost[answered + 1], 1),
    }
    # The limit by session is none of the project's own, and has no amounts.
    assert road.used() == sum(cost)
    shown = road.gateway.tollhouse("budget", "show", road.project)
    assert "0.001 usd/session" in shown


def test_an_sdk_raises_what_the_session_is_told(road: Road) -> None:
    """After one try: the client is told not to send it again."""
    road.gateway.tollhouse("project", "set", road.project, "--limit", "1 requests/session")
    client = road.sdk(default_headers={"x-session-id": "ses_7"})
    client.chat.completions.create(**CHAT)
    with pytest.raises(openai.RateLimitError) as raised:
        client.chat.completions.create(**CHAT)
    assert "The limit 1 requests/session of session ses_7 has not enough left" in str(raised.value)
    assert "retry-after" not in raised.value.response.headers
    assert [line["status"] for line in road.wait_lines(2)] == [200, 429]
    assert len(road.standin.snapshot()) == 1


def test_a_token_has_a_limit_by_session(road: Road) -> None:
    """Of its own: the project's other token is not bound by it."""
    settings = {"projects": [road.project], "limits": ["1 requests/session"]}
    made = perform(load_config(road.gateway.config), "token_create", settings)
    with replace(road, token=made["token"]).http() as client:
        assert [call(client, name).status_code for name in ("a", "a", "b")] == [200, 429, 200]
    with road.http() as client:
        assert [call(client, "a").status_code for _ in range(2)] == [200, 200]
    road.wait_lines(5)


def test_a_cap_is_lowered_to_what_a_session_has_left(road: Road) -> None:
    """The session's limit lowers a cap as any other does."""
    limits = ("--limit", "0.001 usd/session", "--on-shortfall", "clamp")
    road.gateway.tollhouse("project", "set", road.project, *limits)
    body = {key: value for key, value in CHAT.items() if key != "max_completion_tokens"}
    with road.http() as client:
        answer = client.post(URL, json=body | {"stream": True}, headers={CLAUDE: "s-1"})
    assert answer.status_code == 200
    assert 50 < int(answer.headers["x-tollhouse-clamped"]) < 100
    [line] = road.wait_lines(1)
    assert Decimal(line["held_usd"]) <= Decimal("0.001")


def test_a_header_of_ones_own_counts_first(tmp_path: Path) -> None:
    """It goes on to the provider as it came; a token in a session's id is written down nowhere."""
    with open_road(tmp_path, {"headers": {"session": "X-Work-Item"}}) as road:
        with road.http() as client:
            for headers in (
                {"x-work-item": "job 7", CLAUDE: "019a"},
                {CLAUDE: "019a"},
                {"x-work-item": f"a {road.token}"},
                {"x-work-item": "w" * 129},
            ):
                assert client.post(URL, json=CHAT, headers=headers).status_code == 200
        assert road.standin.wait_count(4)[0].get("x-work-item") == "job 7"
        lines = road.wait_lines(4)
        assert [line["session"] for line in lines] == ["job 7", "019a", "a gate_[removed]", ""]
        assert set(sums_by_session(road)) == {"job 7", "019a", "a gate_[removed]"}
