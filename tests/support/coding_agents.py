"""Coding agents as they are installed, run without a terminal by `tollhouse exec` through a running gateway.

An agent has a home of its own, and its only way out is the gateway: where network namespaces can be made it has a network of its
own, in which there is nothing but the gateway's proxy. docs/agents.md says how they are installed.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.support.alone import alone
from tests.support.gateway import PLACEHOLDER, Road
from tests.support.requires import places, program
from tollhouse.config.load import load_config
from tollhouse.control.client import perform
from tollhouse.demo import (
    standin_answers,
    standin_anthropic,
    standin_google,
    standin_responses,
)
from tollhouse.demo.standin_book import Received
from tollhouse.demo.standin_script import NEXT_MESSAGE, Behaviour, Latch

HOSTS = ("api.openai.com", "api.anthropic.com", "generativelanguage.googleapis.com", "chatgpt.com")
"""Those of the providers that agents call."""
CALLS = ("/v1/messages", "/responses", "/v1/chat/completions", "enerateContent")
OWN_KEY = "sk-a-key-of-the-users-own-0123456789abcdefghij"
IN_A_SESSION = "Quota exceeded. Check your plan and billing details."
"""What Codex says where a message of its WebSocket was refused for its budget: in its own words."""
READ_S = 5.0
"""Within which a person reads the reason, from the first request that was refused. On a machine that is so busy that an agent's
start takes longer, it may take as long as that start: both are the agent's own work."""
WAITED_S = 3.0
"""What a fault that may pass tells an agent to wait before its second request (`Retry-After`)."""
ANSWER = f"Hello from the road.{NEXT_MESSAGE}And this is the end."
_SHOWN, _WITHHELD = b"road.", b"end."
"""What of the answer an agent has to show before the rest of it leaves the provider."""


@dataclass(frozen=True)
class Agent:
    """``command`` follows the program's name. ``variables`` are its environment's, and ``key`` is the one in which it looks for a
    key. ``files`` are made in its home: what it can't start without. With ``streaming`` behind its command it shows an answer as
    it comes; most do without. ``waits_s`` is how long it waits by itself where a fault may pass. ``companions`` is its name in that
    table."""

    name: str
    command: tuple[str, ...]
    key: str
    model: str
    variables: dict[str, str] = field(default_factory=dict)
    session: str = ""
    """The header in which it names its session."""
    session_shown: str = ""
    """What its output says of that: a regular expression."""
    waits_s: float = WAITED_S
    files: dict[str, str] = field(default_factory=dict)
    streaming: tuple[str, ...] = ()
    companions: str = ""


AGENTS = (
    Agent(
        "claude",
        ("-p", "Say hello."),
        "ANTHROPIC_API_KEY",
        "claude-sonnet-5",
        {"ANTHROPIC_MODEL": "claude-sonnet-5"},
        session="x-claude-code-session-id",
        session_shown=r'"session_id":"([^"]+)"',
        streaming=("--output-format", "stream-json", "--verbose", "--include-partial-messages"),
        companions="claude-code",
    ),
    Agent(
        "codex",
        ("exec", "--skip-git-repo-check", "--sandbox", "read-only", "-m", "gpt-5.1", "Say hello."),
        "CODEX_API_KEY",
        "gpt-5.1",
        session="session-id",
        session_shown=r"session id: (\S+)",
        companions="codex",
    ),
    Agent(
        "gemini",
        ("-p", "Say hello.", "-m", "gemini-2.5-flash"),
        "GEMINI_API_KEY",
        "gemini-2.5-flash",
        {"GEMINI_CLI_TRUST_WORKSPACE": "true"},
        waits_s=4.0,
        files={
            ".gemini/settings.json": '{"security": {"auth": {"selectedType": "gemini-api-key"}}}'
        },
        companions="gemini-cli",
    ),
    Agent(
        "opencode",
        ("run", "-m", "openai/gpt-5.1", "Say hello."),
        "OPENAI_API_KEY",
        "gpt-5.1",
        session="x-session-id",
        companions="opencode",
    ),
    Agent(
        "llm",
        ("-m", "gpt-4o-mini", "Say hello."),
        "OPENAI_API_KEY",
        "gpt-4o-mini",
    ),
)


@dataclass(frozen=True)
class Said:
    """``calls`` are the lines of its calls of a model, and ``lines`` those of all that it asked. ``started_s`` is how long it took
    until the first of these calls that was refused, and ``read_s`` how long after that our code stood in its output; None if it
    never did. ``streamed``: it has shown the answer's beginning while the provider kept the rest. ``received`` is the provider's
    book of its calls."""

    code: int
    text: str
    calls: list[dict[str, Any]]
    lines: list[dict[str, Any]]
    started_s: float
    read_s: float | None
    streamed: bool
    received: list[Received]


def limit(road: Road, *limits: str, **more: str) -> None:
    wanted = {"project": road.project, "tenant": road.tenant, "limits": list(limits)}
    perform(load_config(road.gateway.config), "project_set", {**wanted, **more})


def run(
    agent: Agent,
    road: Road,
    *,
    by_hand: bool = False,
    login: dict[str, str] | None = None,
    more: dict[str, str] | None = None,
) -> Said:
    """By `tollhouse exec`, outside of whose network the agent is; or with variables that are set ``by_hand``. With a ``login``,
    which may be in its home alone, there is no key. ``more`` are variables of the shell in which it is started."""
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
        said = _run(agent, road, Path(home), through, {**own, **(more or {})})
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
    rest = Latch()
    road.standin.clear()
    road.standin.always(Behaviour(text=ANSWER, withheld=(_WITHHELD, rest)))
    seen = len(road.gateway.lines())
    began = time.time()
    process = subprocess.Popen(
        [*before, program(agent.name), *agent.command, *agent.streaming],
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
    text, read_at, streamed = b"", None, False
    os.set_blocking(process.stdout.fileno(), False)
    try:
        while True:
            done = process.poll() is not None
            if piece := process.stdout.read():
                text += piece
                if read_at is None and (b"[tollhouse:" in text or IN_A_SESSION.encode() in text):
                    read_at = time.time()
                if _SHOWN in text and not streamed:
                    streamed = _WITHHELD not in text
                    rest.open()
            elif done:
                break
            assert time.time() < began + 120, (
                f"{agent.name} goes on: {text.decode(errors='replace')}"
            )
            time.sleep(0.02)
    finally:
        rest.open()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    lines = sorted(road.gateway.lines()[seen:], key=lambda line: str(line["ts"]))
    # Codex may open a session ahead of its prompt, and leave it without a message.
    calls = [
        line
        for line in lines
        if any(one in line["path"] for one in CALLS)
        and (line["status"], line["reason"], line["tokens"]) != (101, "client_gone", {})
    ]
    assert calls, text.decode(errors="replace")
    refused = [line for line in calls if line["decision"] != "allow"]
    first = datetime.fromisoformat((refused or calls)[0]["ts"]).timestamp()
    return Said(
        process.returncode,
        text.decode(errors="replace"),
        calls,
        lines,
        first - began,
        None if read_at is None else read_at - first,
        streamed,
        [
            one
            for one in road.standin.snapshot()
            if any(call in one.target for call in CALLS) and (one.method == "POST" or one.messages)
        ],
    )


def told(received: Received) -> tuple[int, int]:
    """The tokens read and written that the stand-in has told of a call."""
    if received.method == "GET":
        # A WebSocket.
        bills = received.bills
        return sum(one["input_tokens"] for one in bills), sum(one["output_tokens"] for one in bills)
    document, path = received.document(), received.target.partition("?")[0]
    if "enerateContent" in path:
        written = standin_google.answer_tokens(document, ANSWER) + standin_google.THOUGHTS
        return standin_google.prompt_tokens(document), written
    if path.endswith("/messages"):
        usage = standin_anthropic.usage(document, ANSWER)
    elif path.endswith("/responses"):
        usage = standin_responses.usage_of(document, ANSWER)
    else:
        chat = standin_answers.chat_usage(document, ANSWER)
        return chat["prompt_tokens"], chat["completion_tokens"]
    return usage["input_tokens"], usage["output_tokens"]


def refused(said: Said, code: str, *, most: int = 2, waits_s: float = 0.0) -> None:
    """For the reason ``code``, which a person has read soon, or soon behind what the agent ``waits_s``; in ``most`` requests. Of
    these one may be another than the prompt's: opencode asks for a title too, and Codex for a WebSocket."""
    assert {line["reason"] for line in said.calls} == {code}
    assert 1 <= len(said.calls) <= most, said.calls
    assert said.code != 0
    shown = said.text.replace("\u2060", "")
    if any(line["status"] == 101 for line in said.calls):
        assert IN_A_SESSION in shown
    else:
        assert f"[tollhouse: {code}, call " in shown, shown
    assert said.read_s is not None
    assert said.read_s <= waits_s + max(READ_S, said.started_s)
