"""Lines for a shell, whatever is in a value."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tollhouse.cli.variables import PLACEHOLDER, Shell, Variables, variables
from tollhouse.providers import BUILT_IN, Catalog

ODD = 'it\'s $HOME `id` \\ "q" \n!*? #~ ünï'


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_quoting(shell: str) -> None:
    lines = "\n".join(Variables({"ODD": ODD}, ("GONE",), ()).lines("bash"))
    script = f'{lines}\nprintf %s "$ODD${{GONE-}}"'
    said = subprocess.run(
        [shell, "-uc", script], env={"GONE": "x"}, capture_output=True, text=True, check=True
    )
    assert said.stdout == ODD


@pytest.mark.parametrize(
    ("shell", "expected"),
    [
        ("fish", ["set -e GONE", r"set -gx NAME 'it\'s a \\'"]),
        ("bash", ["unset GONE", """export NAME='it'"'"'s a \\'"""]),
    ],
)
def test_lines(shell: Shell, expected: list[str]) -> None:
    assert list(Variables({"NAME": "it's a \\"}, ("GONE",), ()).lines(shell)) == expected


def test_keys_of_providers() -> None:
    """Each is taken away. One of each provider's variables gets a placeholder, the one that was used."""
    before = {
        "OPENAI_API_KEY": "not-a-key",
        "CO_API_KEY": "k",
        "GROQ_API_KEY": "k",
        "ANTHROPIC_AUTH_TOKEN": "k",
        "OTHER": "o",
    }
    found = variables(
        before,
        Catalog(BUILT_IN),
        proxy="http://p:t@127.0.0.1:8080",
        certs=Path("/certs"),
        wanted={"openai", "groq"},
    )
    after = found.applied(before)
    assert found.left_out == ("ANTHROPIC_AUTH_TOKEN", "CO_API_KEY", "GROQ_API_KEY")
    keys = {name: value for name, value in after.items() if value in ("k", "not-a-key")}
    assert keys == dict.fromkeys(
        ("CO_API_KEY", "GROQ_API_KEY", "ANTHROPIC_AUTH_TOKEN", "OPENAI_API_KEY", "CODEX_API_KEY"),
        "not-a-key",
    )
    assert after["OTHER"] == "o"


@pytest.mark.parametrize(
    ("logins", "before", "after"),
    [
        (False, "", "OPENAI_API_KEY CODEX_API_KEY ANTHROPIC_API_KEY"),
        (False, "CLAUDE_CODE_OAUTH_TOKEN", "OPENAI_API_KEY CODEX_API_KEY ANTHROPIC_API_KEY"),
        (True, "", "OPENAI_API_KEY"),
        (True, "CLAUDE_CODE_OAUTH_TOKEN ANTHROPIC_API_KEY", "OPENAI_API_KEY"),
        (True, "ANTHROPIC_AUTH_TOKEN", "OPENAI_API_KEY ANTHROPIC_AUTH_TOKEN"),
        (True, "CODEX_API_KEY", "OPENAI_API_KEY CODEX_API_KEY"),
    ],
)
def test_a_login(logins: bool, before: str, after: str) -> None:
    """It stays only where its project lets one through. Then no placeholder is in its way, unless it was a key that the program
    would have taken. ``after`` are those with a placeholder."""
    environ = dict.fromkeys(before.split(), "own")
    found = variables(
        environ,
        Catalog(BUILT_IN),
        proxy="http://p:t@127.0.0.1:8080",
        certs=Path("/certs"),
        wanted={"openai", "anthropic"},
        logins=logins,
    )
    given = found.applied(environ)
    kept = {"CLAUDE_CODE_OAUTH_TOKEN"} & environ.keys() if logins else set()
    assert {name for name, value in given.items() if value == "own"} == kept
    assert {name for name, value in given.items() if value == PLACEHOLDER} == set(after.split())


def test_urls_that_lead_elsewhere() -> None:
    """They stay, for somebody wants them so, and are named."""
    before = {
        "OPENAI_BASE_URL": "https://eu.api.openai.com/v1",
        "ANTHROPIC_BASE_URL": "http://localhost:8000",
        "OLLAMA_API_BASE": "http://[::1",
        "GROQ_BASE_URL": "",
        "MY_URL": "http://localhost",
    }
    found = variables(
        before, Catalog(BUILT_IN), proxy="http://p:t@h:1", certs=Path("/certs"), wanted=()
    )
    assert found.elsewhere == ("ANTHROPIC_BASE_URL", "OLLAMA_API_BASE")
    assert found.applied(before).items() >= before.items()
