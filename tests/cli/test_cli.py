"""The command line as scripts rely on it: exit codes, what is on stdout and what on stderr, one line an error. Past 400 lines: each
command is walked through once."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import stat
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tollhouse.accounts.directory import Directory
from tollhouse.accounts.token import mint, token_id, well_formed
from tollhouse.cli.main import cli
from tollhouse.control.lock import StateLock
from tollhouse.control.operations import Operations
from tollhouse.control.socket import ControlServer
from tollhouse.ledger.ledger import Ledger
from tollhouse.ledger.store.client import connect

ENVIRON = {"PATH": os.environ.get("PATH", os.defpath)}
KEY = "sk-real-key-of-the-provider-0123456789"


@dataclass
class Said:
    """What a command wrote, and how it ended."""

    stdout: str
    stderr: str
    returncode: int


@dataclass
class Shell:
    """`tollhouse` with a configuration: in this process, which is quick, or ``apart``, in a process of its own."""

    config: Path
    apart: bool = False

    def __call__(self, *arguments: str, stdin: str = "", code: int = 0) -> Said:
        said = (self._process if self.apart else self._invoke)(arguments, stdin)
        assert said.returncode == code, said.stderr
        assert "Traceback" not in said.stderr
        return said

    def _process(self, arguments: Sequence[str], stdin: str) -> Said:
        command = [sys.executable, "-m", "tollhouse", *arguments]
        environ = {**ENVIRON, "TOLLHOUSE_CONFIG": str(self.config)}
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, env=environ, check=False
        )
        return Said(done.stdout, done.stderr, done.returncode)

    def _invoke(self, arguments: Sequence[str], stdin: str) -> Said:
        # Any other exception than SystemExit would be a traceback.
        done = invoke(
            *arguments,
            input=stdin,
            env={"TOLLHOUSE_CONFIG": str(self.config)},
            catch_exceptions=False,
        )
        return Said(done.stdout, done.stderr, done.exit_code)

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json").stdout)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Everything embedded."""
    return write(tmp_path, "embedded")


@pytest.fixture(params=["embedded", "redis"])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Shell:
    """The command on the embedded store and on a real Redis."""
    return Shell(
        write(
            tmp_path,
            "embedded" if request.param == "embedded" else request.getfixturevalue("redis_url"),
        )
    )


def write(directory: Path, redis: str, more: str = "") -> Path:
    file = directory / "tollhouse.toml"
    file.write_text(f'[redis]\nurl = "{redis}"\n[vault]\naddress = "embedded"\n{more}')
    return file


def invoke(*arguments: str, **settings: Any) -> Result:
    return CliRunner().invoke(cli, list(arguments), **settings)


def one_line(result: Result) -> str:
    """The only line of talk, which is an error's."""
    assert result.stdout == ""
    assert result.stderr.startswith("tollhouse: ")
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def test_a_day_with_tollhouse(shell: Shell) -> None:
    """Project, token, budget, usage, revocation: results on stdout, talk on stderr."""
    made = shell(
        "project",
        "set",
        "proj_123",
        "--tenant",
        "acme",
        "--limit",
        "10 usd/day",
        "--limit",
        "8 concurrent",
    )
    assert (made.stdout, made.stderr) == ("", "")
    created = shell("token", "create", "proj_123", "--expires", "30d", "--label", "ci")
    token = created.stdout.removesuffix("\n")
    assert well_formed(token)
    assert token not in created.stderr
    assert f"token {token_id(token)} for proj_123, valid until 20" in created.stderr
    shown = shell.json("budget", "show", "proj_123")
    limits = {limit["limit"]: limit for scope in shown["scopes"] for limit in scope["limits"]}
    assert set(shown) == {"project", "scopes"}
    assert {name: value for name, value in limits["10 usd/day"].items() if name != "resets_at"} == {
        "limit": "10 usd/day",
        "used": "0",
        "held": "0",
        "left": "10",
    }
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT00:00:00Z", limits["10 usd/day"]["resets_at"])
    assert limits["8 concurrent"]["resets_at"] is None
    assert shell.json("usage", "--project", "proj_123", "--since", "7d", "--by", "day") == {
        "project": "proj_123",
        "by": "day",
        "rows": [],
    }
    [info] = shell.json("token", "list", "proj_123")
    assert (info["id"], info["label"], info["revoked_at"]) == (token_id(token), "ci", None)
    assert shell("token", "revoke", info["id"]).stderr == f"tollhouse: revoked {info['id']}\n"
    assert shell.json("token", "list")[0]["revoked_at"] is not None
    assert [project["project"] for project in shell.json("project", "list")] == ["proj_123"]
    shell("project", "remove", "proj_123")
    assert shell("project", "show", "proj_123", code=1).stdout == ""


def test_in_a_process_of_its_own(config: Path) -> None:
    """The exit codes 0, 1 and 2 and both outputs are those of the process."""
    shell = Shell(config, apart=True)
    made = shell("project", "set", "p", "--tenant", "acme", "--limit", "1 usd/day")
    assert (made.stdout, made.stderr) == ("", "")
    assert [project["project"] for project in shell.json("project", "list")] == ["p"]
    refused = shell("token", "create", "nope", code=1)
    assert (refused.stdout, refused.stderr.count("\n")) == ("", 1)
    assert shell("project", "set", "p 2", "--tenant", "acme", code=2).stdout == ""
    created = shell("token", "create", "p").stdout
    assert (
        shell("token", "revoke", "-", stdin=created).stderr
        == f"tollhouse: revoked {token_id(created.strip())}\n"
    )


def test_tables_are_for_people(shell: Shell) -> None:
    """Without --json there are headings and columns on stdout."""
    shell("project", "set", "p", "--tenant", "acme", "--limit", "1 usd/total")
    shell("token", "create", "p", "--label", "a label")
    assert shell("project", "list").stdout.splitlines() == [
        "PROJECT  TENANT  LIMITS       MODELS  ON SHORTFALL  UNPRICED  ESTIMATE  LOGIN",
        "p        acme    1 usd/total  -       reject        refuse    typical   strip",
    ]
    assert shell("budget", "show", "p").stdout.splitlines() == [
        "SCOPE      LIMIT        USED  HELD  LEFT  RESETS AT",
        "project:p  1 usd/total     0     0     1  -",
    ]
    assert "a label" in shell("token", "list").stdout
    assert "no usage" in shell("usage", "--project", "p").stderr


def test_unknown_project_has_no_token(shell: Shell) -> None:
    """Exit 1, nothing on stdout, and the way out on stderr."""
    refused = shell("token", "create", "nope", code=1)
    assert refused.stdout == ""
    assert refused.stderr.startswith("tollhouse: project nope does not exist: ")
    assert refused.stderr.count("\n") == 1


def test_tokens_are_revoked_from_stdin(shell: Shell) -> None:
    """`-` takes tokens or ids, one a line; a token in an argument works but is said to be unwise, and not repeated."""
    shell("project", "set", "p", "--tenant", "acme", "--no-limits")
    tokens = [shell("token", "create", "p").stdout.strip() for _ in range(3)]
    shell("token", "revoke", "-", stdin=f"{tokens[0]}\n\n{token_id(tokens[1])}\n")
    told = shell("token", "revoke", tokens[2]).stderr
    assert "history can see" in told
    assert tokens[2] not in told
    assert all(info["revoked_at"] for info in shell.json("token", "list"))
    assert "gate_half" not in shell("token", "revoke", "gate_half", code=1).stderr


def test_redis_away_is_one_line(tmp_path: Path) -> None:
    """Exit 1 with the place to look at, without the password."""
    shell = Shell(write(tmp_path, "redis://user:hunter2@127.0.0.1:1/0"))
    said = shell("project", "list", code=1).stderr
    assert "[redis] url" in said
    assert said.count("\n") == 1
    assert "hunter2" not in said


async def test_many_tokens(tmp_path: Path, redis_url: str) -> None:
    """More than 1,000 are read in pages and printed as they come, by their ids; each is there once."""
    shell = Shell(write(tmp_path, redis_url))
    ledger = Ledger(connect(redis_url, tmp_path))
    directory = Directory(connect(redis_url, tmp_path), ledger)
    made = [
        await directory.add_viewer(mint(number.to_bytes(32)), "", label=f"of {number}")
        for number in range(1_002)
    ]
    ids = sorted(info.id for info in made)
    told = await asyncio.to_thread(shell, "token", "list")
    assert [line.split()[0] for line in told.stdout.splitlines()[1:]] == ids
    assert "sorted by id" in told.stderr
    found = await asyncio.to_thread(shell.json, "token", "list")
    assert [info["id"] for info in found] == ids
    await ledger.close()


async def test_running_gateway_is_asked(config: Path) -> None:
    """Embedded stores live in the gateway: what a command changes is in its memory at once, and in the file."""
    state = config.parent / "state"
    with StateLock.take(state):
        redis = connect("embedded", state)
        ledger = Ledger(redis)
        directory = Directory(redis)
        control = ControlServer(state, Operations(directory, ledger))
        await control.start()
        # A process of its own, as the gateway is one.
        shell = Shell(config, apart=True)
        await asyncio.to_thread(
            shell, "project", "set", "p", "--tenant", "acme", "--limit", "1 usd/day"
        )
        created = await asyncio.to_thread(shell, "token", "create", "p")
        assert [info.id for info in await directory.tokens()] == [token_id(created.stdout.strip())]
        refused = await asyncio.to_thread(shell, "budget", "show", "q", code=1)
        assert refused.stderr.startswith("tollhouse: project q does not exist")
        logged = await asyncio.to_thread(shell.json, "audit", "--since", "1h")
        assert [(r["via"], r["by"]) for r in logged] == [("command", f"uid:{os.getuid()}")] * 2
        assert "project:p" in (await asyncio.to_thread(shell, "audit")).stdout
        assert created.stdout.strip() not in str(logged)
        await control.close()
        await ledger.close()
    # What the embedded store keeps has the log in it.
    assert await asyncio.to_thread(shell.json, "audit") == logged
    assert [info["id"] for info in await asyncio.to_thread(shell.json, "token", "list")] == [
        token_id(created.stdout.strip())
    ]


def test_apply(tmp_path: Path) -> None:
    """The file's projects, as `run` takes them at its start; `project set` says when the file will undo it."""
    file = write(tmp_path, "embedded", '[projects.p]\ntenant = "acme"\nlimits = ["1 usd/day"]\n')
    shell = Shell(file)
    assert shell.json("apply")["projects"][0]["limits"] == ["1 usd/day"]
    assert "names p too" in shell("project", "set", "p", "--limit", "2 usd/day").stderr
    assert shell.json("project", "show", "p")["limits"] == ["2 usd/day"]


def test_apply_of_another_file(tmp_path: Path) -> None:
    """Its projects and tenants, into the stores of the configuration; a wrong one changes nothing."""
    shell = Shell(write(tmp_path, "embedded"))
    other = tmp_path / "projects.toml"
    other.write_text(
        '[projects.p]\ntenant = "acme"\nmodels = ["gpt-4o*"]\n[tenants.acme]\nlimits = ["5 usd/day"]\n'
    )
    wrong = tmp_path / "wrong.toml"
    wrong.write_text('[projects.q]\ntenant = "acme"\nlimits = ["5 usd/fortnight"]\n')
    assert "projects.q.limits[0]" in shell("apply", "-f", str(wrong), code=1).stderr
    assert shell.json("project", "list") == []
    done = shell.json("apply", "-f", str(other))
    assert done["tenants"] == [{"tenant": "acme", "limits": ["5 usd/day"]}]
    assert shell.json("project", "show", "p")["models"] == ["gpt-4o*"]
    assert shell("apply", "-f", str(other)).stdout.splitlines()[-1] == "acme    5 usd/day"
    assert shell("budget", "show", "p").stdout.splitlines()[1].startswith("tenant:acme  5 usd/day")


@pytest.mark.parametrize(
    ("text", "code", "why"),
    [
        (None, 2, "does not exist: --file names a file with [projects] and [tenants]"),
        ("", 1, "has neither a [projects.NAME] nor a [tenants.NAME]"),
        ("[projects]\n", 1, "has neither a [projects.NAME] nor a [tenants.NAME]"),
        (
            '[projects.p]\ntenant = "acme"\n[redis]\nurl = "embedded"\n',
            1,
            "only [projects] and [tenants] belong into",
        ),
        (
            '[projects.p]\ntenant = "acme"\n[project.q]\n',
            1,
            "only [projects] and [tenants] belong into",
        ),
        (
            '[projects.p]\ntenant = "acme"\nmodels = ["nosuch/*"]\n',
            2,
            "there is no provider 'nosuch'",
        ),
    ],
)
def test_files_that_apply_refuses(tmp_path: Path, text: str | None, code: int, why: str) -> None:
    """One line that says what a file of projects and tenants is; nothing is changed."""
    shell = Shell(write(tmp_path, "embedded"))
    file = tmp_path / "projects.toml"
    if text is not None:
        file.write_text(text)
    [line] = shell("apply", "-f", str(file), code=code).stderr.splitlines()
    assert why in line
    assert str(file) in line
    assert shell.json("project", "list") == []


def test_a_project_without_any_limit(tmp_path: Path) -> None:
    """Said while neither it nor its tenant has one."""
    shell = Shell(write(tmp_path, "embedded"))
    assert (
        "neither p nor its tenant acme has a limit"
        in shell("project", "set", "p", "--tenant", "acme").stderr
    )
    tenants = tmp_path / "tenants.toml"
    tenants.write_text('[tenants.acme]\nlimits = ["5 usd/day"]\n')
    shell("apply", "-f", str(tenants))
    assert shell("project", "set", "p", "--any-model").stderr == ""
    assert shell("project", "set", "q", "--tenant", "acme").stderr == ""


def test_a_token_is_rotated_by_its_id(shell: Shell) -> None:
    """Only the new token is on stdout; stderr says until when the old one is valid."""
    shell("project", "set", "p", "--tenant", "acme")
    shell("token", "create", "p", "--limit", "1 usd/day")
    [old] = shell.json("token", "list")
    done = shell("token", "rotate", old["id"], "--overlap", "2h")
    assert well_formed(done.stdout.removesuffix("\n"))
    assert f"{old['id']} is valid until 20" in done.stderr
    listed = shell.json("token", "list", "p")
    assert [(info["limits"], info["expires_at"] is None) for info in listed] == [
        (["1 usd/day"], False),
        (["1 usd/day"], True),
    ]
    assert shell.json("token", "rotate", listed[1]["id"])["replaces"] == listed[1]["id"]


def test_a_grant_is_shown(shell: Shell) -> None:
    """In the table of limits, and with its reason below it."""
    shell("project", "set", "p", "--tenant", "acme", "--limit", "1 usd/total")
    granted = shell("budget", "grant", "p", "5 usd", "--reason", "the fair")
    assert (granted.stdout, "p has 5 usd more in 1 limit, until" in granted.stderr) == ("", True)
    lines = shell("budget", "show", "p").stdout.splitlines()
    assert lines[0] == "SCOPE      LIMIT        GRANTED  USED  HELD  LEFT  RESETS AT"
    assert lines[1] == "project:p  1 usd/total        5     0     0     6  -"
    assert lines[4].endswith("the fair")
    for said in ("p has 1 usd more in 1 limit, until", "the grant g1 of 1 usd was made "):
        assert (
            said in shell("budget", "grant", "p", "1 usd", "--reason", "more", "--id", "g1").stderr
        )
    assert shell.json("budget", "show", "p")["scopes"][1]["limits"][0]["left"] == "7"
    assert (
        "is not an amount" in shell("budget", "grant", "p", "lots", "--reason", "x", code=2).stderr
    )
    assert shell("budget", "grant", "p", "5 usd", code=2).stdout == ""


def test_a_name_that_is_none(shell: Shell) -> None:
    """Wrong use, in our own words and in one line, whether a gateway runs or not."""
    refused = shell("project", "set", "p 2", "--tenant", "acme", code=2)
    assert refused.stderr.startswith(
        "tollhouse: project: 'p 2' cannot be a name, because names stand in URLs and Vault paths; "
    )


def test_models_and_shortfall_of_a_project(shell: Shell) -> None:
    """Set, kept when something else is set, and taken away."""
    shell(
        "project", "set", "p", "--tenant", "acme", "--model", "gpt-4o*", "--model", "openai/meta/*"
    )
    assert shell.json("project", "set", "p", "--on-shortfall", "clamp")["models"] == [
        "gpt-4o*",
        "openai/meta/*",
    ]
    refused = shell("project", "set", "p", "--model", "opnai/gpt*", code=2)
    assert "--model: there is no provider 'opnai'; did you mean 'openai'?" in refused.stderr
    assert shell.json("project", "set", "p", "--estimate", "worst")["on_shortfall"] == "clamp"
    assert shell.json("project", "show", "p")["estimate"] == "worst"
    table = shell("project", "list").stdout.splitlines()
    assert table[0].split()[-1], table[1].split()[-1] == ("ESTIMATE", "worst")
    assert (
        "is not one of 'typical', 'worst'"
        in shell("project", "set", "p", "--estimate", "best", code=2).stderr
    )
    assert "is not a model pattern" in shell("project", "set", "p", "--model", "*/x", code=2).stderr
    after = shell.json("project", "set", "p", "--any-model")
    assert (after["models"], after["on_shortfall"], after["estimate"]) == ([], "clamp", "worst")


def test_unenforced_is_refused_by_apply_and_run(tmp_path: Path) -> None:
    """What this version does not do is not accepted in silence."""
    file = tmp_path / "tollhouse.toml"
    versions = 'versions = { "infrastructure/openai" = 3 }'
    file.write_text(f'[redis]\nurl = "embedded"\n[vault]\naddress = "embedded"\n{versions}\n')
    for command in ("apply", "run"):
        refused = invoke(command, "--config", str(file))
        assert refused.exit_code == 1
        assert "vault.versions: is not enforced yet" in one_line(refused)


def test_every_problem_of_a_file_is_said(tmp_path: Path) -> None:
    """A line each, exit 1."""
    file = tmp_path / "tollhouse.toml"
    file.write_text("[redis]\nurl = 1\n[listen]\nprox = 1\n")
    refused = invoke("project", "list", "--config", str(file))
    assert refused.exit_code == 1
    lines = refused.stderr.splitlines()
    assert len(lines) >= 2
    assert all(line.startswith(f"tollhouse: {file}: ") for line in lines)


@pytest.mark.parametrize(
    "arguments",
    [
        ("project", "list", "--config", "FILE"),
        ("project", "--config", "FILE", "list"),
        ("--config", "FILE", "project", "list"),
        ("--config", "/nonexistent", "project", "list", "--config", "FILE"),
    ],
)
def test_config_anywhere(config: Path, arguments: tuple[str, ...]) -> None:
    """--config is taken on every level; the innermost counts, and all before the environment."""
    words = [str(config) if word == "FILE" else word for word in arguments]
    done = invoke(*words, "--json", env={"TOLLHOUSE_CONFIG": "/nonexistent/other.toml"})
    assert (done.exit_code, done.stdout) == (0, "[]\n")


def test_config_from_the_environment_and_from_here(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TOLLHOUSE_CONFIG, else ./tollhouse.toml."""
    assert invoke("project", "list", env={"TOLLHOUSE_CONFIG": str(config)}).exit_code == 0
    monkeypatch.chdir(config.parent)
    assert invoke("project", "list").exit_code == 0


def test_no_configuration_is_wrong_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 2, and the three ways to name one."""
    monkeypatch.chdir(tmp_path)
    nowhere = invoke("project", "list")
    assert nowhere.exit_code == 2
    assert "tollhouse init" in one_line(nowhere)
    named = invoke("project", "list", env={"TOLLHOUSE_CONFIG": "gone.toml"})
    assert named.exit_code == 2
    assert "gone.toml does not exist" in one_line(named)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nothing",), "No such command 'nothing'"),
        (("token", "create"), "name the PROJECT that the token may charge"),
        (("token", "create", "p", "--expires", "soon"), "'soon' is not a time such as 12h"),
        (("project", "set", "p", "--limit", "10 usd"), "the window is missing"),
        (("project", "set", "p", "--limit", "1 usd/day", "--no-limits"), "contradict"),
        (("usage", "--project", "p", "--since", "x"), "neither a date"),
        (("usage", "--project", "p", "--by", "x"), "'x' is not one of"),
        (("usage",), "Missing option '--project'"),
        (("run", "--fast"), "No such option"),
    ],
)
def test_wrong_use(config: Path, arguments: tuple[str, ...], words: str) -> None:
    """Exit 2, one line, and where to read more."""
    wrong = invoke(*arguments, env={"TOLLHOUSE_CONFIG": str(config)})
    assert wrong.exit_code == 2
    assert words in one_line(wrong)
    assert "--help" in wrong.stderr


def test_key_comes_from_stdin(config: Path) -> None:
    """The key is in neither output, and its file is encrypted; a second one is the next version."""
    shell = Shell(config)
    for version in (1, 2):
        done = shell("key", "set", "openai", stdin=f"{KEY}{version}\n")
        assert f"version {version} of infrastructure/openai" in done.stderr
        assert KEY not in done.stdout + done.stderr
    [listed] = shell.json("key", "list")
    assert (listed["path"], listed["version"]) == ("infrastructure/openai", "2")
    for file in (config.parent / "state").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert KEY.encode() not in file.read_bytes()


def test_key_is_asked_for_without_echo(config: Path) -> None:
    """On a terminal it is prompted for, and what is typed is not shown."""
    mine, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "tollhouse", "key", "set", "openai", "--config", str(config)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=ENVIRON,
        start_new_session=True,
    )
    os.close(theirs)
    seen = b""
    while b"Key of openai: " not in seen:
        seen += os.read(mine, 1024)
    os.write(mine, KEY.encode() + b"\n")
    while b"kept as version 1" not in seen:
        seen += os.read(mine, 1024)
    assert process.wait() == 0
    os.close(mine)
    assert KEY.encode() not in seen


@pytest.mark.parametrize("value", ["", "\n", "two words", "a\nb", "kéy", "a\x00b"])
def test_key_must_be_one(config: Path, value: str) -> None:
    """Something that can't be a key is refused and not repeated."""
    refused = invoke("key", "set", "openai", "--config", str(config), input=value)
    assert refused.exit_code == 1
    assert "nothing was changed" in one_line(refused)


def test_key_in_an_argument_is_refused(config: Path) -> None:
    """Exit 2, and the key is not repeated."""
    refused = invoke("key", "set", "openai", KEY, "--config", str(config))
    assert refused.exit_code == 2
    assert KEY not in one_line(refused)


def test_key_of_nobody_and_key_of_a_real_vault(config: Path) -> None:
    """An unknown provider is named with those that exist; a real Vault's keys are not ours to set."""
    unknown = invoke("key", "set", "opanai", "--config", str(config), input=KEY)
    assert unknown.exit_code == 1
    assert "openai" in one_line(unknown)
    config.write_text(
        '[vault]\naddress = "https://vault:8200"\nauth = { method = "token", token_file = "t" }\n'
    )
    real = invoke("key", "set", "openai", "--config", str(config), input=KEY)
    assert real.exit_code == 1
    assert "https://vault:8200" in one_line(real)
    assert "into secret/infrastructure/openai, field api_key" in one_line(real)


def test_init_then_ca(tmp_path: Path) -> None:
    """`init` makes file and CA, overwrites nothing; `ca show` and `bundle` tell of the CA; `renew` keeps the old one."""
    place = tmp_path / "here"
    made = invoke("init", str(place), "--embedded")
    assert (made.exit_code, made.stdout) == (0, "")
    again = invoke("init", str(place))
    assert again.exit_code == 1
    assert "not overwritten" in one_line(again)
    shell = Shell(place / "tollhouse.toml")
    shown = shell.json("ca", "show")
    assert shown["fingerprint"] in made.stderr
    assert "api.openai.com" in shown["hosts"]
    assert shown["uncovered"] == []
    bundle = shell("ca", "bundle").stdout
    ours = (place / "state" / "ca.pem").read_text()
    assert ours in bundle
    assert bundle.count("BEGIN CERTIFICATE") > 50
    shell("ca", "renew")
    assert shell.json("ca", "show")["fingerprint"] != shown["fingerprint"]
    assert (place / "state" / "ca-previous.pem").read_text() == ours


def test_no_ca_yet(config: Path) -> None:
    """`ca show` makes none."""
    refused = invoke("ca", "show", "--config", str(config))
    assert refused.exit_code == 1
    assert "there is no CA yet" in one_line(refused)
    assert not (config.parent / "state").exists()


def test_check(config: Path) -> None:
    """Exit 0 when only warnings are left, 1 for an error; the same as JSON."""
    config.write_text(
        '[listen]\nproxy = "127.0.0.1:0"\nbase_url = "off"\nadmin = "off"\n' + config.read_text()
    )
    good = invoke("check", "--json", "--config", str(config))
    report = json.loads(good.stdout)
    assert (good.exit_code, report["level"]) == (0, "warn")
    assert {"level", "what", "why", "todo"} == set(report["findings"][0])
    config.write_text(config.read_text().replace('"embedded"', '"redis://127.0.0.1:1"', 1))
    bad = invoke("check", "--config", str(config))
    assert bad.exit_code == 1
    assert any(
        line.startswith("error: Redis at redis://127.0.0.1:1") for line in bad.stdout.splitlines()
    )
    config.write_text("[redis]\nurl = 1\n")
    assert invoke("check", "--config", str(config)).exit_code == 1


def test_help_is_light() -> None:
    """`tollhouse --help` imports no store, no server and no model of the configuration."""
    heavy = (
        "pydantic",
        "aiohttp",
        "redis",
        "mitmproxy",
        "hvac",
        "cryptography",
        "fakeredis",
        "asyncio",
        "requests",
    )
    code = f"import sys, tollhouse.cli.main; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_help_and_version() -> None:
    """Help and version are results: stdout, exit 0; no command at all is wrong use with the help as its answer."""
    shown = invoke("--help")
    assert shown.exit_code == 0
    for command in (
        "demo",
        "init",
        "run",
        "check",
        "project",
        "token",
        "budget",
        "usage",
        "key",
        "ca",
        "apply",
    ):
        assert f"\n  {command} " in shown.stdout
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", invoke("--version").stdout)
    assert invoke().exit_code == 2
    assert invoke("token").exit_code == 2


def test_reader_that_leaves_is_no_traceback(config: Path) -> None:
    """`tollhouse ca bundle | head -1` ends in silence."""
    shell = Shell(config)
    shell("ca", "renew")
    done = subprocess.run(
        f"{sys.executable} -m tollhouse ca bundle --config {config} | head -c 1",
        shell=True,
        capture_output=True,
        text=True,
        env=ENVIRON,
        check=True,
    )
    assert done.stderr == ""


def test_a_limit_by_session_is_no_bound_by_itself(shell: Shell) -> None:
    """A program names its session itself, so that the command warns as it does without a limit."""
    words = ("project", "set", "p", "--tenant", "acme", "--limit", "2 usd/session")
    assert shell(*words).stderr == (
        "tollhouse: neither p nor its tenant acme has a limit but by session, and an agent names its session itself: "
        "it may spend without bound\n"
    )
    assert shell(*words, "--limit", "10 usd/day").stderr == ""
    rows = [line.split() for line in shell("budget", "show", "p").stdout.splitlines()]
    assert rows[1][:6] == ["project:p", "10", "usd/day", "0", "0", "10"]
    assert rows[2] == ["project:p", "2", "usd/session", "-", "-", "-", "-"]
    assert "no usage" in shell("usage", "--project", "p", "--by", "session").stderr
