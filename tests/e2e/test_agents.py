"""Coding agents through the running gateway: one call that is answered, and one that the budget refuses.

docs/agents.md says how they are installed and what they do with the other refusals. Each agent has a home of its own. Where
network namespaces can be made it also has a network of its own, in which there is the gateway's proxy and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.support.gateway import PLACEHOLDER, REAL_KEY, Road, open_road
from tests.support.netns import Namespace
from tests.support.requires import missing, program

from tollhouse.config.load import load_config
from tollhouse.control.client import perform
from tollhouse.demo.standin import StandIn

HOSTS = ("api.openai.com", "api.anthropic.com", "generativelanguage.googleapis.com")
LIMIT_S = 60.0
"""An agent that is not done by then is ended."""


@dataclass(frozen=True)
class Agent:
    """How it is asked without a screen. ``files`` are put into its home. ``status`` is what it gets
    for a budget that is used up."""

    arguments: tuple[str, ...]
    variables: dict[str, str]
    path: str
    files: dict[str, str] = field(default_factory=dict)
    status: int = 402
    has_session: bool = True


GEMINI_SETTINGS = {
    "security": {"auth": {"selectedType": "gemini-api-key"}},
    "privacy": {"usageStatisticsEnabled": False},
    "telemetry": {"enabled": False},
}
AGENTS = {
    "claude": Agent(
        ("-p", "Say hello."),
        {
            "ANTHROPIC_API_KEY": PLACEHOLDER,
            "ANTHROPIC_MODEL": "claude-sonnet-4-5",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
        },
        "/v1/messages",
    ),
    "codex": Agent(
        ("exec", "--skip-git-repo-check", "--sandbox", "read-only", "-m", "gpt-5.1", "Say hello."),
        {"OPENAI_API_KEY": PLACEHOLDER, "CODEX_API_KEY": PLACEHOLDER},
        "/v1/responses",
        {
            ".codex/config.toml": "check_for_update_on_startup = false\n[analytics]\nenabled = false\n"
        },
        status=400,
    ),
    "gemini": Agent(
        ("-p", "Say hello.", "-m", "gemini-2.5-flash"),
        {"GEMINI_API_KEY": PLACEHOLDER, "GEMINI_CLI_TRUST_WORKSPACE": "true"},
        "enerateContent",
        {".gemini/settings.json": json.dumps(GEMINI_SETTINGS)},
        has_session=False,
    ),
    "opencode": Agent(
        ("run", "-m", "openai/gpt-5.1", "Say hello."),
        {"OPENAI_API_KEY": PLACEHOLDER, "OPENCODE_DISABLE_AUTOUPDATE": "1"},
        "/v1/responses",
    ),
}

agents = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.requires(name)) for name in AGENTS]
)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """One whose providers are all the stand-in."""
    standin = StandIn(key=REAL_KEY, hosts=(*HOSTS, "localhost"))
    with standin:
        there = {
            "connect_to": standin.address,
            "allow_private": True,
            "ca_file": "provider-ca.pem",
        }
        settings = {"providers.anthropic": there, "providers.gemini": there}
        directory = tmp_path_factory.mktemp("agents")
        with open_road(directory, settings, standin=standin) as road:
            for provider in ("anthropic", "gemini"):
                road.gateway.tollhouse("key", "set", provider, stdin=REAL_KEY)
            yield road


def limited(gateway: Road, project: str, limit: str) -> Road:
    """A project and a token of its own, and no lines yet."""
    perform(
        load_config(gateway.gateway.config),
        "project_set",
        {"project": project, "tenant": gateway.tenant, "limits": [limit]},
    )
    token = gateway.gateway.make_token(project)
    seen = len(gateway.gateway.lines())
    gateway.standin.clear()
    return Road(gateway.gateway, gateway.standin, gateway.directory, project, token, _seen=seen)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError), selectors.DefaultSelector() as ready:
        ready.register(source, selectors.EVENT_READ, target)
        ready.register(target, selectors.EVENT_READ, source)
        while True:
            for key, _ in ready.select():
                piece = key.fileobj.recv(65536)  # type: ignore[union-attr]
                if not piece:
                    return
                key.data.sendall(piece)


def _door(listening: socket.socket, proxy: tuple[str, int]) -> None:
    """Until ``listening`` is shut down: each connection goes on to the proxy."""

    def through(near: socket.socket) -> None:
        with near, socket.create_connection(proxy) as far:
            _pump(near, far)

    with contextlib.suppress(OSError):
        while True:
            near, _ = listening.accept()
            threading.Thread(target=through, args=(near,), daemon=True).start()


@contextlib.contextmanager
def alone(road: Road) -> Iterator[tuple[str, ...]]:
    """A command that runs the one after it in a network where the gateway's proxy is the only one to speak to. Without
    network namespaces it is an empty command: the proxy refuses all other hosts, to an agent that asks it."""
    if missing("netns"):
        yield ()
        return
    host, _, port = road.gateway.proxy.rpartition(":")
    with Namespace() as network:
        listening = network.run(socket.create_server, ("127.0.0.1", int(port)))
        door = threading.Thread(target=_door, args=(listening, (host, int(port))), daemon=True)
        door.start()
        try:
            yield network.enter
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            listening.close()


def ask(name: str, road: Road, home: Path) -> tuple[int, str]:
    """The agent's exit code and all that it said."""
    agent = AGENTS[name]
    for path, text in agent.files.items():
        (home / path).parent.mkdir(parents=True)
        (home / path).write_text(text)
    (home / "work").mkdir()
    variables = {
        "PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8",
        "TERM": "dumb", "NO_COLOR": "1", "IS_SANDBOX": "1", "DISABLE_TELEMETRY": "1",
        "HTTPS_PROXY": road.proxy_url, "NODE_EXTRA_CA_CERTS": str(road.ca_file),
        "SSL_CERT_FILE": str(road.ca_file),
        **agent.variables,
    }
    with alone(road) as enter:
        process = subprocess.Popen(
            [*enter, program(name), *agent.arguments],
            env=variables,
            cwd=home / "work",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            said, _ = process.communicate(timeout=LIMIT_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return process.returncode, said.decode(errors="replace")


def calls(name: str, road: Road) -> list[dict[str, Any]]:
    """The lines of the calls of a model, once all are written."""
    road.wait_lines(1)
    return [line for line in road.lines() if AGENTS[name].path in line["path"]]


@agents
def test_an_agent_is_answered_and_metered(name: str, gateway: Road, tmp_path: Path) -> None:
    """With no setting but its proxy and its CA. The stand-in asks for a tool once, and opencode asks for a title."""
    road = limited(gateway, f"plain_{name}", "10 usd/day")
    code, said = ask(name, road, tmp_path)
    assert code == 0, said
    lines = calls(name, road)
    assert 1 <= len(lines) <= 3
    assert {(line["status"], line["reason"]) for line in lines} == {(200, "")}, said
    assert all(float(line["cost_usd"]) > 0 for line in lines)
    sessions = {line["session"] for line in lines}
    assert len(sessions) == 1
    assert bool(sessions.pop()) is AGENTS[name].has_session


@agents
def test_an_agent_that_the_budget_refuses_ends_at_once(
    name: str, gateway: Road, tmp_path: Path
) -> None:
    """With one request, and opencode's for a title. Our text is in its output, and nothing has left."""
    road = limited(gateway, f"budget_{name}", "0.0000001 usd/day")
    code, said = ask(name, road, tmp_path)
    assert code == 1, said
    assert "The budget does not cover this call." in said
    assert "[tollhouse: budget_exceeded, call " in said
    lines = calls(name, road)
    assert 1 <= len(lines) <= 2
    assert {(line["status"], line["reason"]) for line in lines} == {
        (AGENTS[name].status, "budget_exceeded")
    }
    assert road.standin.snapshot() == []
