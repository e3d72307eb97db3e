"""Coding agents as they are installed, without a terminal, by `tollhouse exec` through the running gateway: a call is metered,
and a refusal is read within seconds and not sent again and again. docs/agents.md has what was measured, and how to install them.

An agent has a home of its own, and its only way out is the gateway, which refuses every host that is no provider: where network
namespaces can be made it has a network of its own, in which there is nothing but the gateway's proxy.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.support.alone import alone
from tests.support.gateway import PLACEHOLDER, REAL_KEY, Road, open_road
from tests.support.redis_server import RedisServer
from tests.support.requires import places, program

from tollhouse.config.load import load_config
from tollhouse.control.client import perform
from tollhouse.demo.standin import StandIn

HOSTS = ("api.openai.com", "api.anthropic.com", "generativelanguage.googleapis.com", "chatgpt.com")
COMPANION = "platform.claude.com"
CALLS = ("/v1/messages", "/responses", "/v1/chat/completions", "enerateContent")
OWN_KEY = "sk-a-key-of-the-users-own-0123456789abcdefghij"
IN_A_SESSION = "Quota exceeded. Check your plan and billing details."
"""What Codex says where a message of its WebSocket was refused for its budget: in its own words."""
READ_S = 5.0
"""Within which a person reads the reason, from the first request."""


@dataclass(frozen=True)
class Agent:
    """``command`` follows the program's name. ``variables`` are its environment's, and ``key`` is the one in which it looks for a
    key. ``files`` are made in its home. ``extra`` is the number of requests that it sends beside the prompt's. ``waits_s`` is
    what it waits at the most for a fault that may pass."""

    name: str
    command: tuple[str, ...]
    key: str
    model: str
    variables: dict[str, str] = field(default_factory=dict)
    session: bool = True
    extra: int = 0
    waits_s: float = READ_S
    files: dict[str, str] = field(default_factory=dict)


AGENTS = (
    Agent(
        "claude",
        ("-p", "Say hello."),
        "ANTHROPIC_API_KEY",
        "claude-sonnet-5",
        {
            "ANTHROPIC_MODEL": "claude-sonnet-5",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
        },
    ),
    Agent(
        "codex",
        ("exec", "--skip-git-repo-check", "--sandbox", "read-only", "-m", "gpt-5.1", "Say hello."),
        "CODEX_API_KEY",
        "gpt-5.1",
        files={
            ".codex/config.toml": 'openai_base_url = "https://api.openai.com/v1"\n[analytics]\nenabled = false\n'
        },
    ),
    Agent(
        "gemini",
        ("-p", "Say hello.", "-m", "gemini-2.5-flash"),
        "GEMINI_API_KEY",
        "gemini-2.5-flash",
        {"GEMINI_CLI_TRUST_WORKSPACE": "true"},
        session=False,
        waits_s=9.0,
        files={
            ".gemini/settings.json": json.dumps(
                {
                    "security": {"auth": {"selectedType": "gemini-api-key"}},
                    "privacy": {"usageStatisticsEnabled": False},
                    "telemetry": {"enabled": False},
                }
            )
        },
    ),
    Agent(
        "opencode",
        ("run", "-m", "openai/gpt-5.1", "Say hello."),
        "OPENAI_API_KEY",
        "gpt-5.1",
        {"OPENCODE_DISABLE_AUTOUPDATE": "1"},
        extra=1,
    ),
    Agent(
        "llm",
        ("-m", "gpt-4o-mini", "Say hello."),
        "OPENAI_API_KEY",
        "gpt-4o-mini",
        session=False,
        extra=1,
    ),
)
agents = pytest.mark.parametrize(
    "agent",
    [
        pytest.param(one, id=one.name, marks=pytest.mark.requires(one.name, "redis"))
        for one in AGENTS
    ],
)


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer) -> Iterator[Road]:
    """A gateway whose three providers are the stand-in."""
    with StandIn(key=REAL_KEY, hosts=("localhost", COMPANION, *HOSTS)) as standin:
        own = {
            "connect_to": standin.address,
            "allow_private": True,
            "ca_file": "provider-ca.pem",
        }
        settings: Any = {
            "redis": {"url": redis_server.url},
            "providers.anthropic": own,
            "providers.gemini": own,
            "providers.chatgpt": own,
            "companions": {"claude-code": "needed"},
        }
        # Its own entry counts in the place of the agent's: the host is the stand-in here.
        tunnel = {"hosts": [COMPANION], "projects": ["*"]}
        tunnel |= {"connect_to": standin.address, "allow_private": True}
        with open_road(
            tmp_path_factory.mktemp("agents"),
            settings,
            standin=standin,
            tables={"tunnels": [tunnel]},
        ) as road:
            for name in ("anthropic", "gemini"):
                road.gateway.tollhouse("key", "set", name, stdin=REAL_KEY)
            yield road


@dataclass(frozen=True)
class Said:
    """``calls`` are the lines of its calls of a model. ``read_s`` is when our code stood in its output, counted from the first of
    them; None if it never did."""

    code: int
    text: str
    calls: list[dict[str, Any]]
    read_s: float | None


def limit(road: Road, *limits: str, **more: str) -> None:
    wanted = {"project": road.project, "tenant": road.tenant, "limits": list(limits)}
    perform(load_config(road.gateway.config), "project_set", {**wanted, **more})


def run(
    agent: Agent, road: Road, *, by_hand: bool = False, login: dict[str, str] | None = None
) -> Said:
    """By `tollhouse exec`, outside of whose network the agent is; or with variables that are set ``by_hand``. With a ``login``,
    which may be in its home alone, there is no key."""
    # Not where the search for leaks looks: Codex writes the proxy's URL down in its home.
    with (
        tempfile.TemporaryDirectory(prefix="agent-", ignore_cleanup_errors=True) as home,
        alone(road.gateway.proxy) as enter,
    ):
        if by_hand:
            given = {
                **road.environ,
                "NODE_EXTRA_CA_CERTS": str(road.ca_file),
                agent.key: PLACEHOLDER,
            }
            return _run(agent, road, Path(home), enter, given)
        options = ("--config", str(road.gateway.config), "--project", road.project)
        through = (sys.executable, "-m", "tollhouse", "exec", *options, "--", *enter)
        own = {agent.key: OWN_KEY} if login is None else login
        said = _run(agent, road, Path(home), through, own)
        assert (f"not handed on: {agent.key}" in said.text) is (login is None)
        assert OWN_KEY not in said.text
        assert re.search(rf"^tollhouse: {road.project}: \d+ calls?, ", said.text, re.MULTILINE)
        return said


def _run(
    agent: Agent, road: Road, home: Path, before: tuple[str, ...], given: dict[str, str]
) -> Said:
    """Its output as it comes. An agent that goes on for a minute is killed, which fails the test."""
    for name, text in agent.files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    (home / "work").mkdir()
    road.standin.clear()
    seen = len(road.gateway.lines())
    process = subprocess.Popen(
        [*before, program(agent.name), *agent.command],
        env={
            "PATH": os.pathsep.join(places()),
            "HOME": str(home),
            "TERM": "dumb",
            "NO_COLOR": "1",
            **agent.variables,
            **given,
        },
        cwd=home / "work",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    text, read_at, ends = b"", None, time.time() + 60
    os.set_blocking(process.stdout.fileno(), False)
    try:
        while True:
            done = process.poll() is not None
            if piece := process.stdout.read():
                text += piece
                if read_at is None and (b"[tollhouse:" in text or IN_A_SESSION.encode() in text):
                    read_at = time.time()
            elif done:
                break
            assert time.time() < ends, f"{agent.name} goes on: {text.decode(errors='replace')}"
            time.sleep(0.02)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    calls = [
        line for line in road.gateway.lines()[seen:] if any(one in line["path"] for one in CALLS)
    ]
    calls.sort(key=lambda line: line["ts"])
    first = datetime.fromisoformat(calls[0]["ts"]).timestamp() if calls else ends
    return Said(
        process.returncode,
        text.decode(errors="replace"),
        calls,
        None if read_at is None else read_at - first,
    )


def refused(agent: Agent, said: Said, code: str, within_s: float = READ_S) -> None:
    assert {line["reason"] for line in said.calls} == {code}
    assert 1 <= len(said.calls) <= 2 + agent.extra, said.calls
    assert said.code != 0
    shown = said.text.replace("\u2060", "")
    if any(line["status"] == 101 for line in said.calls):
        assert IN_A_SESSION in shown
    else:
        assert f"[tollhouse: {code}, call " in shown, shown
    assert said.read_s is not None
    assert said.read_s < within_s


@agents
def test_a_call(agent: Agent, gateway: Road) -> None:
    """It is answered, metered, and names its session."""
    limit(gateway, "10 usd/day")
    said = run(agent, gateway)
    assert said.calls, said.text
    # 101 is that of Codex's WebSocket.
    assert {line["status"] for line in said.calls} <= {200, 101}
    assert {line["charged_by"] for line in said.calls} == {"usage"}
    assert agent.model in {line["model"] for line in said.calls}
    sessions = {line["session"] for line in said.calls}
    assert len(sessions) == 1
    assert bool(sessions.pop()) is agent.session
    assert "[tollhouse:" not in said.text


@agents
def test_a_budget_that_is_used_up(agent: Agent, gateway: Road) -> None:
    limit(gateway, "0.0000001 usd/day")
    said = run(agent, gateway)
    refused(agent, said, "budget_exceeded")
    assert "The budget does not cover this call." in said.text or IN_A_SESSION in said.text


@agents
def test_a_limit_of_an_hour(agent: Agent, gateway: Road) -> None:
    limit(gateway, "0 requests/hour")
    refused(agent, run(agent, gateway), "rate_limited")


@agents
def test_a_budget_with_a_number_that_opencode_takes_for_a_status(
    agent: Agent, gateway: Road
) -> None:
    limit(gateway, "0.0000500 usd/day")
    refused(agent, run(agent, gateway), "budget_exceeded")


@agents
def test_redis_is_away(agent: Agent, gateway: Road, redis_server: RedisServer) -> None:
    """It may be back in a moment, so that the call is sent once more. That ends it."""
    limit(gateway, "10 usd/day")
    redis_server.stop()
    try:
        # `exec` would have no token.
        said = run(agent, gateway, by_hand=True)
    finally:
        redis_server.start()
    # opencode's title is sent twice as well, and Codex asks for a WebSocket first. Claude Code may send its second so soon that
    # it is told to come again: on a busy machine the state that ends it has not lasted long enough by then.
    extra = 1 if agent.name in ("claude", "codex") else 2 * agent.extra
    refused(
        Agent(**{**vars(agent), "extra": extra}),
        said,
        "ledger_unavailable",
        agent.waits_s,
    )


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


@pytest.mark.requires("claude", "redis")
def test_the_first_start_of_claude_code(gateway: Road, tmp_path: Path) -> None:
    """In a terminal it asks two hosts first: the provider's, and one that is passed on as a tunnel. Then it asks for its theme."""
    limit(gateway, "10 usd/day")
    gateway.fresh()
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (40, 120))
    options = ("--config", str(gateway.gateway.config), "--project", gateway.project)
    with (
        alone(gateway.gateway.proxy) as enter,
        subprocess.Popen(
            [sys.executable, "-m", "tollhouse", "exec", *options, "--", *enter, program("claude")],
            env={
                "PATH": os.pathsep.join(places()),
                "HOME": str(tmp_path),
                "TERM": "xterm-256color",
                "DISABLE_AUTOUPDATER": "1",
                # What the tunnel leads to shows its own certificate.
                "SSL_CERT_FILE": str(gateway.directory / "provider-ca.pem"),
            },
            cwd=tmp_path,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        ) as process,
    ):
        os.close(slave)
        said = b""
        # Reading fails once nobody has the terminal any more.
        with contextlib.suppress(OSError):
            while b"Dark" not in said and b"nable" not in said and (piece := os.read(master, 4096)):
                said += piece
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(OSError):
            while os.read(master, 4096):
                pass
        os.close(master)
    assert b"Dark" in said, said
    asked = {(line["host"], line["path"]): line for line in gateway.gateway.lines()}
    hello = asked["api.anthropic.com", "/api/hello"]
    assert (hello["status"], hello["project"], hello["attempts"][0]["outcome"]) == (
        200,
        gateway.project,
        "200",
    )
    tunnel = asked[COMPANION, ""]
    assert (tunnel["status"], tunnel["decision"], tunnel["project"]) == (
        200,
        "allow",
        gateway.project,
    )
    assert tunnel["bytes"]["received"] > 0
    [said_there] = [one for one in gateway.standin.snapshot() if one.sni == COMPANION]
    assert said_there.target == "/v1/oauth/hello"
    assert not said_there.get("authorization") + said_there.get("x-api-key")
