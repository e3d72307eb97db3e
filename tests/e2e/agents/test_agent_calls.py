"""What a coding agent contacts beside its provider: companions pass as tunnels for the project that they are open to, and every
other host is refused at once. Each agent runs as it is installed, with nothing switched off."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.alone import alone
from tests.support.coding_agents import AGENTS, HOSTS, Agent, Said, limit, run, told
from tests.support.gateway import REAL_KEY, Road
from tests.support.requires import places, program

from tollhouse.companions import AGENTS as KNOWN

OPEN_PROJECT = "proj_companions"
"""That of conftest.py."""
REFUSED = {"codex": {"ab.chatgpt.com"}, "gemini-cli": {"play.googleapis.com"}}
"""Telemetry, by agent: what docs/agents.md calls better refused."""


def those(*wanted: Agent) -> pytest.MarkDecorator:
    """A test of each of them that is installed."""
    return pytest.mark.parametrize(
        "agent",
        [
            pytest.param(one, id=one.name, marks=pytest.mark.requires(one.name, "redis"))
            for one in wanted
        ],
    )


def called(agent: Agent, road: Road) -> Said:
    """It starts, shows the answer while it comes, names its session, is metered, and ends."""
    limit(road, "10 usd/day")
    # A tunnel leads to a host with a certificate of its own.
    trusted = {"SSL_CERT_FILE": str(road.directory / "provider-ca.pem")}
    said = run(agent, road, more=trusted)
    assert said.code == 0, said.text
    assert said.streamed, said.text
    assert "end." in said.text
    assert {line["decision"] for line in said.calls} == {"allow"}
    # 101 is that of Codex's WebSocket.
    assert {line["status"] for line in said.calls} <= {200, 101}
    assert {line["stream"] for line in said.calls} == {True}
    assert {line["charged_by"] for line in said.calls} == {"usage"}
    assert agent.model in {line["model"] for line in said.calls}
    assert_its_session(agent, said)
    # Whatever order they end in.
    counted = [(line["tokens"]["input"], line["tokens"]["output"]) for line in said.calls]
    assert sorted(counted) == sorted(map(told, said.received))
    assert all(read and written for read, written in counted)
    return said


def assert_its_session(agent: Agent, said: Said) -> None:
    """The lines have the one that the agent has named to the provider, and that it shows, if it shows any."""
    [session] = {line["session"] for line in said.calls}
    assert bool(session) is bool(agent.session)
    if agent.session:
        assert {one.get(agent.session) for one in said.received} == {session}
    if agent.session_shown:
        assert set(re.findall(agent.session_shown, said.text)) == {session}


def beside(said: Said) -> dict[str, list[dict[str, Any]]]:
    """Lines of hosts that are no provider's."""
    found: dict[str, list[dict[str, Any]]] = {}
    for line in said.lines:
        host = line["host"].partition(":")[0]
        if host not in HOSTS:
            assert line["method"] == "CONNECT"
            found.setdefault(host, []).append(line)
    return found


def assert_refused(lines: list[dict[str, Any]]) -> None:
    """At CONNECT, when it is known who asks: git, which some agents run, says so once it is asked."""
    told = {(line["status"], line["reason"]) for line in lines}
    assert told - {(407, "identity_missing")} == {(403, "host_not_allowed")}


@those(*AGENTS)
def test_a_call(agent: Agent, gateway: Road) -> None:
    """As it is installed, with nothing switched off: what it asks beside the call is refused at once, and does not hold it up."""
    said = called(agent, gateway)
    for lines in beside(said).values():
        assert_refused(lines)
    # Codex's list of models is a provider's host: it is refused inside of TLS, which ends its tries.
    asked = [line for line in said.lines if line["host"] == "chatgpt.com"]
    assert len(asked) <= 6
    assert {line["method"] for line in asked} <= {"GET", "POST"}
    assert all(400 <= line["status"] < 500 for line in asked)
    assert {one.sni for one in gateway.standin.snapshot()} <= set(HOSTS)


@those(*(one for one in AGENTS if one.companions not in ("", "claude-code")))
def test_companions(agent: Agent, gateway: Road) -> None:
    """What the table has of its companions passes as tunnels, and all else that it asks is refused."""
    gateway = replace(gateway, project=OPEN_PROJECT)
    said = called(agent, gateway)
    [known] = [one for one in KNOWN if one.agent == agent.companions]
    found = beside(said)
    refused = REFUSED.get(known.agent, set())
    assert found.keys() <= {*known.of("all"), *refused}
    for host, lines in found.items():
        if host in refused:
            assert_refused(lines)
            continue
        # As above of git.
        passed = [line for line in lines if line["reason"] != "identity_missing"]
        assert passed
        for line in passed:
            assert (line["status"], line["decision"], line["provider"]) == (200, "allow", "")
            assert (line["project"], line["cost_usd"]) == (OPEN_PROJECT, "0")
            assert line["identity"].startswith("tok_")
            # An agent that ends at once closes tunnels that it has not used yet.
            assert line["bytes"]["sent"] > 0 or line["bytes"]["received"] == 0
            assert line["key_version"] == ""
    through = [one for one in gateway.standin.snapshot() if one.sni not in HOSTS]
    assert {one.sni for one in through} <= found.keys() - refused
    assert bool(through) is bool(known.of("all"))
    for one in through:
        assert one.get("host") == one.sni
        assert REAL_KEY.encode() not in one.everything()
        assert b"gate_" not in one.everything()


@pytest.mark.requires("claude", "redis")
def test_the_first_start_of_claude_code(gateway: Road, tmp_path: Path) -> None:
    """In a terminal it asks two hosts first: the provider's, and one that is passed on as a tunnel. Then it asks for its theme."""
    gateway = replace(gateway, project=OPEN_PROJECT)
    limit(gateway, "10 usd/day")
    gateway.standin.clear()
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
    assert b"Dark" in said, (said, gateway.lines())
    asked = {(line["host"], line["path"]): line for line in gateway.gateway.lines()}
    hello = asked["api.anthropic.com", "/api/hello"]
    assert (hello["status"], hello["project"], hello["attempts"][0]["outcome"]) == (
        200,
        gateway.project,
        "200",
    )
    tunnel = asked["platform.claude.com", ""]
    assert (tunnel["status"], tunnel["decision"], tunnel["project"]) == (
        200,
        "allow",
        gateway.project,
    )
    assert tunnel["bytes"]["received"] > 0
    [said_there] = [one for one in gateway.standin.snapshot() if one.sni == "platform.claude.com"]
    assert said_there.target == "/v1/oauth/hello"
    assert not said_there.get("authorization") + said_there.get("x-api-key")
