"""docs/clients.md: what it shows of a client is taken out of it and run against a running gateway, as it is but for the ports."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.coding_agents import AGENTS
from tests.support.gateway import REAL_KEY, Road, open_road
from tests.support.requires import FRAMEWORKS, NODE, places, program

from tollhouse.demo.standin import StandIn
from tollhouse.demo.standin_script import Behaviour

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "clients.md").read_text()
CLIENTS = Path(__file__).parent / "clients"
HOSTS = ("api.openai.com", "api.anthropic.com", "generativelanguage.googleapis.com")
ANSWER = "Hello from the road."
PLAIN_KEY = "export OPENAI_API_KEY=not-a-key\n"
AGENT_NAMES = ("claude", "codex", "gemini", "opencode")


def blocks(heading: str, language: str) -> list[str]:
    """Those of a language below a heading, in order."""
    section = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = re.findall(rf"^```{language}\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    assert found, f"docs/clients.md has no {language} below {heading}"
    return found


PROXY, BASE_URL = blocks("The environment", "sh")[:2]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """OpenAI's, Anthropic's and Google's hosts are the stand-in."""
    with StandIn(key=REAL_KEY, hosts=("localhost", *HOSTS)) as standin:
        own = {
            "connect_to": standin.address,
            "allow_private": True,
            "ca_file": "provider-ca.pem",
        }
        settings: Any = {f"providers.{name}": own for name in ("openai", "anthropic", "gemini")}
        with open_road(tmp_path_factory.mktemp("clients"), settings, standin=standin) as road:
            for name in ("anthropic", "gemini"):
                road.gateway.tollhouse("key", "set", name, stdin=REAL_KEY)
            yield road


def said(road: Road, directory: Path, shell: str) -> str:
    """What the lines of ``shell`` print in ``directory``, in a shell that knows the token, and finds the gateway's state there."""
    for shown, here in (
        ("127.0.0.1:8080", road.gateway.proxy),
        ("http://localhost:8000/v1", road.base_url),
    ):
        shell = shell.replace(shown, here)
    (directory / "state").symlink_to(road.ca_file.parent)
    road.fresh()
    road.standin.clear()
    road.standin.always(Behaviour(text=ANSWER))
    done = subprocess.run(
        ["bash", "-euc", shell],
        cwd=directory,
        env={
            "PATH": os.pathsep.join(places()),
            "TOKEN": road.token,
            # Where uv, Go and Maven keep what was fetched before.
            **{name: os.environ[name] for name in ("HOME", "UV_CACHE_DIR") if name in os.environ},
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_called(road: Road, provider: str, listener: str, output: str) -> None:
    """One call went through the gateway, was metered, and its answer is what the client printed."""
    [line] = road.wait_lines(1)
    [received] = road.standin.wait_count(1)
    assert ANSWER in output
    assert (line["provider"], line["status"], line["charged_by"]) == (provider, 200, "usage")
    assert (line["project"], line["listener"]) == ("proj_123", listener)
    everything = received.everything()
    assert REAL_KEY.encode() in everything
    assert road.token.encode() not in everything


ENVIRONMENTS = {"proxy": PROXY, "base_url": BASE_URL}
listeners = pytest.mark.parametrize("listener", sorted(ENVIRONMENTS))


@pytest.mark.parametrize(
    ("number", "provider"), [(0, "openai"), (1, "anthropic"), (2, "gemini")], ids=str
)
def test_python(gateway: Road, tmp_path: Path, number: int, provider: str) -> None:
    (tmp_path / "app.py").write_text(blocks("Python", "python")[number])
    output = said(gateway, tmp_path, f"{PROXY}{sys.executable} app.py")
    assert_called(gateway, provider, "proxy", output)


def test_a_file_of_variables(gateway: Road, tmp_path: Path) -> None:
    """deploy/laptop's example for a workload, with a token and a directory put in."""
    lines = (
        (ROOT / "deploy" / "laptop" / "workload.env.example")
        .read_text()
        .replace("gate_TOKEN", gateway.token)
        .replace("/path/to", str(tmp_path))
    )
    (tmp_path / "app.py").write_text(blocks("Python", "python")[0])
    output = said(gateway, tmp_path, f"set -a\n{lines}set +a\n{sys.executable} app.py")
    assert_called(gateway, "openai", "proxy", output)


def test_python_by_the_base_url(gateway: Road, tmp_path: Path) -> None:
    """As the page says: without the `api_key`."""
    shown = blocks("Python", "python")[0]
    assert 'api_key="not-a-key"' in shown
    (tmp_path / "app.py").write_text(shown.replace('api_key="not-a-key"', ""))
    output = said(gateway, tmp_path, f"{BASE_URL}{sys.executable} app.py")
    assert_called(gateway, "openai", "base_url", output)


def uv() -> str:
    """That of the interpreter itself, if it has one: a shim on PATH may ask which Python is meant."""
    own = Path(sys.base_prefix) / "bin" / "uv"
    return str(own) if own.exists() else program("frameworks")


@pytest.mark.requires("frameworks")
@pytest.mark.parametrize("number", [0, 1], ids=["langchain", "llamaindex"])
def test_frameworks(gateway: Road, tmp_path: Path, number: int) -> None:
    (tmp_path / "app.py").write_text(blocks("LangChain and LlamaIndex", "python")[number])
    run = (
        f"run -q --offline --python {sys.executable} --no-project --with-requirements {FRAMEWORKS}"
    )
    command = f"{uv()} {run} python app.py"
    output = said(gateway, tmp_path, PROXY + command)
    assert_called(gateway, "openai", "proxy", output)


@pytest.mark.requires("curl")
@listeners
def test_curl(gateway: Road, tmp_path: Path, listener: str) -> None:
    shown = blocks("curl", "sh")[list(ENVIRONMENTS).index(listener)]
    output = said(gateway, tmp_path, ENVIRONMENTS[listener] + shown)
    assert_called(gateway, "openai", listener, output)


@pytest.mark.requires("node-openai")
@pytest.mark.parametrize(
    ("heading", "number", "listener"),
    [
        ("Node", 0, "base_url"),
        ("Node", 1, "proxy"),
        ("Vercel AI SDK", 0, "base_url"),
    ],
)
def test_node(gateway: Road, tmp_path: Path, heading: str, number: int, listener: str) -> None:
    (tmp_path / "node_modules").symlink_to(NODE / "node_modules")
    (tmp_path / "app.mjs").write_text(blocks(heading, "js")[number])
    run = f"{program('node-openai')} app.mjs"
    output = said(gateway, tmp_path, ENVIRONMENTS[listener] + run)
    assert_called(gateway, "openai", listener, output)


@pytest.mark.requires("openai-go")
@listeners
def test_go(gateway: Road, tmp_path: Path, listener: str) -> None:
    for name in ("go.mod", "go.sum"):
        (tmp_path / name).write_bytes((CLIENTS / "go" / name).read_bytes())
    (tmp_path / "main.go").write_text(blocks("Go", "go")[0])
    # Built before, for modules may have to be fetched.
    build = f"{program('openai-go')} build -o app .\n"
    key = PLAIN_KEY if listener == "proxy" else ""
    output = said(gateway, tmp_path, f"{build}{ENVIRONMENTS[listener]}{key}./app")
    assert_called(gateway, "openai", listener, output)


@pytest.mark.requires("openai-java")
def test_java(gateway: Road, tmp_path: Path) -> None:
    (tmp_path / "pom.xml").write_bytes((CLIENTS / "java" / "pom.xml").read_bytes())
    (tmp_path / "Hello.java").write_text(blocks("Java", "java")[0])
    maven = program("openai-java")
    find = f"{maven} -q dependency:build-classpath -Dmdep.outputFile=classpath\n"
    run = 'java -cp "$(cat classpath)" Hello.java'
    output = said(gateway, tmp_path, f"{find}{BASE_URL}{run}")
    assert_called(gateway, "openai", "base_url", output)


def test_agents() -> None:
    """The lines of the coding agents are those that tests/e2e/agents runs."""
    shown = {}
    for text in blocks("Coding agents", "sh"):
        *before, last = text.splitlines()
        words = re.fullmatch(r"tollhouse exec -- (\w+) (.*)", last)
        assert words
        shown[words[1]] = (words[2].replace('"', ""), before)
    assert tuple(shown) == AGENT_NAMES
    for agent in AGENTS:
        if agent.name in shown:
            command, before = shown[agent.name]
            assert command == " ".join(agent.command)
            for name, value in agent.variables.items():
                assert f"export {name}={value}" in before
            for name, value in agent.files.items():
                assert any(f"echo '{value}' > ~/{name}" in line for line in before)


def test_each_client_has_its_lines() -> None:
    """Each heading that the table links to is there, and has lines."""
    table = TEXT.partition("|---")[2].partition("\n\n")[0]
    linked = set(re.findall(r"\]\(#([\w-]+)\)", table))
    headings = re.findall(r"^## (.+)$", TEXT, re.MULTILINE)
    assert linked == {one.lower().replace(" ", "-") for one in headings} - {"the-environment"}
