"""`tollhouse exec` and `env` with a running gateway: an unchanged program's calls go through it, and nothing is left behind."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.support.gateway import Road
from tests.support.requires import program

from tollhouse.cli.command_token import LIFE_S
from tollhouse.cli.main import cli
from tollhouse.config.load import load_config
from tollhouse.control.client import perform
from tollhouse.demo.gateway_config import write_config
from tollhouse.demo.standin_script import Behaviour, Steps

OWN_KEY = "sk-the-own-key-of-a-workload-0123456789abcdef"
CHAT = """
import os
from openai import OpenAI
assert "not-a-key" == os.environ["OPENAI_API_KEY"]
answer = OpenAI().chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hello."}])
print(answer.choices[0].message.content)
"""


def command(config: Path, *arguments: str) -> list[str]:
    name, *rest = arguments
    return [sys.executable, "-m", "tollhouse", name, "--config", str(config), *rest]


def environ(**more: str) -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), **more}


def tollhouse(
    config: Path, *arguments: str, code: int = 0, **more: str
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(config, *arguments),
        env=environ(**more),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def tokens(road: Road) -> list[dict[str, Any]]:
    """All of the project but the road's own."""
    found: list[dict[str, Any]] = perform(
        load_config(road.gateway.config), "token_list", {"project": road.project}
    )
    return [one for one in found if one["label"] != "test"]


def test_an_unchanged_program(road: Road) -> None:
    """It has the gateway for its provider and never a key, and its cost is said. Then its token is of no use."""
    done = tollhouse(
        road.gateway.config,
        "exec",
        "--project",
        road.project,
        "--",
        sys.executable,
        "-c",
        CHAT,
        OPENAI_API_KEY=OWN_KEY,
        ANTHROPIC_AUTH_TOKEN=OWN_KEY,
        HTTP_PROXY="http://127.0.0.1:9",
        NO_PROXY="*,.openai.com,internal.example",
    )
    [received] = road.standin.wait_count(1)
    assert received.get("authorization") == f"Bearer {road.standin.key}"
    [line] = road.wait_lines(1)
    assert (line["status"], line["charged_by"]) == (200, "usage")
    assert done.stdout.strip()
    assert "not handed on: ANTHROPIC_AUTH_TOKEN, OPENAI_API_KEY" in done.stderr
    count = sum(line["tokens"][name] for name in ("input", "output"))
    assert (
        f"tollhouse: {road.project}: 1 call, {count} tokens, {line['cost_usd']} usd" in done.stderr
    )
    assert OWN_KEY not in done.stderr
    [token] = tokens(road)
    assert line["identity"] == token["id"]
    assert token["revoked_at"] is not None
    assert token["label"] == "tollhouse exec"


def test_what_it_is_given(road: Road) -> None:
    """Every CA variable names a file with our CA in it, nothing leads round the gateway, and the files are gone at the end."""
    show = "import json, os; print(json.dumps([dict(os.environ), open(os.environ['SSL_CERT_FILE']).read()]))"
    done = tollhouse(
        road.gateway.config,
        *("exec", "--project", road.project, "--", sys.executable, "-c", show),
        ALL_PROXY="http://127.0.0.1:9",
        NO_PROXY="openai.com,*.internal,api.openai.com:443,10.0.0.0/8",
        NODE_EXTRA_CA_CERTS=str(road.directory / "provider-ca.pem"),
        SSL_CERT_FILE=str(road.directory / "provider-ca.pem"),
    )
    given, bundle = json.loads(done.stdout)
    ours = road.ca_file.read_text().strip()
    assert ours in bundle
    assert (road.directory / "provider-ca.pem").read_text().strip() in bundle
    assert "ALL_PROXY" not in given
    assert given["NO_PROXY"] == given["no_proxy"] == "localhost,127.0.0.1,::1,*.internal,10.0.0.0/8"
    assert given["HTTPS_PROXY"].endswith(f"@{road.gateway.proxy}")
    names = "REQUESTS_CA_BUNDLE CURL_CA_BUNDLE GIT_SSL_CAINFO AWS_CA_BUNDLE CODEX_CA_CERTIFICATE"
    assert {given[name] for name in names.split()} == {given["SSL_CERT_FILE"]}
    assert given["NODE_EXTRA_CA_CERTS"] == given["DENO_CERT"]
    assert given["NODE_USE_ENV_PROXY"] == "1"
    assert not Path(given["SSL_CERT_FILE"]).exists()
    assert "0 calls, 0 tokens, 0 usd" in done.stderr


def test_its_exit_code_and_the_cost_as_json(road: Road) -> None:
    end = ("exec", "--project", road.project, "--json", "--", "sh", "-c", "exit 7")
    done = tollhouse(road.gateway.config, *end, code=7)
    cost = json.loads(done.stderr)
    assert cost["project"] == road.project
    assert (cost["calls"], cost["tokens"], cost["usd"]) == (0, 0, "0")
    assert done.stdout == ""


def test_a_program_that_is_not_there(road: Road) -> None:
    """No token is made for it."""
    done = tollhouse(road.gateway.config, "exec", "--", "no-such-program-here", code=127)
    assert done.stderr.startswith("tollhouse: no-such-program-here was not found")
    done = tollhouse(road.gateway.config, "exec", "--", str(road.ca_file), code=126)
    assert f"{road.ca_file} is not executable" in done.stderr
    assert tokens(road) == []


@contextlib.contextmanager
def started(road: Road, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Once the command has written its first line."""
    with subprocess.Popen(
        command(road.gateway.config, "exec", "--project", road.project, "--", *words),
        env=environ(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_reaches_the_command(road: Road, number: signal.Signals) -> None:
    """Sent to us alone. The token is revoked all the same."""
    wait = f"trap 'echo heard; exit 3' {int(number)}; echo ready; while :; do sleep 0.05; done"
    with started(road, "sh", "-c", wait) as process:
        process.send_signal(number)
        said, talk = process.communicate(timeout=60)
    assert said == "heard\n"
    assert process.returncode == 3
    assert "0 calls" in talk
    assert [one["revoked_at"] is not None for one in tokens(road)] == [True]


def test_a_command_that_a_signal_ends(road: Road) -> None:
    with started(road, "sh", "-c", "echo ready; exec sleep 60") as process:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert [one["revoked_at"] is not None for one in tokens(road)] == [True]


def test_a_command_that_leaves_a_call_in_its_middle(road: Road) -> None:
    """The call is counted when it has ended, which is said."""
    steps = Steps()
    road.standin.script(Behaviour(steps=steps))
    with started(road, sys.executable, "-c", f"print('ready', flush=True)\n{CHAT}") as process:
        road.standin.wait_for(lambda book: bool(book))
        process.send_signal(signal.SIGTERM)
        _, talk = process.communicate(timeout=60)
    steps.release_all()
    assert process.returncode == 128 + signal.SIGTERM
    [token] = tokens(road)
    later = f"a call that was under way is not in it yet: `tollhouse usage --project {road.project}"
    # On a slow machine it may have been counted by then.
    assert (later in talk and token["id"] in talk) or ": 1 call, " in talk


def test_it_is_killed(road: Road) -> None:
    """Nobody revokes its token, which ends by itself within minutes; its end moves only while the command runs."""
    with started(road, "sh", "-c", "echo ready; read line") as process:
        [made] = tokens(road)
        process.kill()
        process.wait(timeout=60)
        [left] = tokens(road)
    assert left == made
    begun, ends = (datetime.fromisoformat(left[name]) for name in ("created_at", "expires_at"))
    assert (ends - begun).total_seconds() == LIFE_S == 300
    assert left["revoked_at"] is None


def test_a_parent_that_ignores_its_children(road: Road) -> None:
    """The exit code is the command's all the same."""
    ignoring = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    words = command(
        road.gateway.config, "exec", "--project", road.project, "--", "sh", "-c", "exit 7"
    )
    done = subprocess.run(
        [sys.executable, "-c", ignoring, *words],
        env=environ(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 7, done.stderr
    assert "0 calls" in done.stderr


TERMINAL = """
import os, signal, sys
signals = [signal.SIGINT, signal.SIGTERM]
# Blocked, so that they may come whenever they like.
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
print("ready", sys.stdin.isatty(), os.getppid(), flush=True)
signal.sigwait(signals[:1])
print("heard", flush=True)
signal.sigwait(signals[1:])
print("heard again:", signal.SIGINT in signal.sigpending(), flush=True)
sys.exit(5)
"""


def test_the_terminal_is_the_commands(road: Road) -> None:
    """It is in the foreground there, and Ctrl-C reaches it once."""
    master, slave = pty.openpty()
    words = command(
        road.gateway.config,
        *("exec", "--project", road.project, "--", sys.executable, "-c", TERMINAL),
    )
    # The terminal is the shell's, as it is anywhere. What is not read yet is lost when its owner ends, so it waits to be told.
    shell = """trap : INT; "$@"; code=$?; echo "over $code"; read told"""
    with subprocess.Popen(
        ["setsid", "--ctty", "sh", "-c", shell, "sh", *words],
        env=environ(),
        stdin=slave,
        stdout=slave,
        stderr=slave,
    ):
        os.close(slave)
        said = b""

        def until(sign: bytes) -> re.Match[bytes]:
            nonlocal said
            while not (found := re.search(sign + rb"\r\n", said)):
                piece = os.read(master, 4096)
                assert piece, said
                said += piece
            return found

        try:
            ours = int(until(rb"ready True (\d+)").group(1))
            os.write(master, b"\x03")
            until(b"heard")
            # Had Ctrl-C been passed on as well, it would be there before this signal, which is.
            os.kill(ours, signal.SIGTERM)
            assert until(rb"heard again: (\w+)").group(1) == b"False"
            assert until(rb"over (\d+)").group(1) == b"5"
            os.write(master, b"\n")
        finally:
            # It ends whoever still has the terminal.
            os.close(master)
    assert b"0 calls" in said


def test_a_token_that_is_given(road: Road) -> None:
    """It stays valid, and only what the command's own calls came to is said."""
    road.sdk().chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": "Before."}]
    )
    for _ in range(2):
        done = tollhouse(
            road.gateway.config,
            *("exec", "--", sys.executable, "-c", CHAT),
            TOLLHOUSE_TOKEN=road.token,
        )
        assert f"{road.project}: 1 call, " in done.stderr
    assert tokens(road) == []
    road.sdk().chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": "After."}]
    )


def test_a_token_that_is_of_no_use(road: Road) -> None:
    """Nothing runs with it, and the reason is said."""
    config = load_config(road.gateway.config)
    made = perform(config, "token_create", {"projects": [road.project], "label": "test"})
    other = {"project": f"{road.project}_other", "tenant": road.tenant}
    perform(config, "project_set", other)

    def refused(token: str, *options: str) -> str:
        return tollhouse(
            road.gateway.config,
            "exec",
            *options,
            "--",
            "echo",
            "ran",
            code=1,
            TOLLHOUSE_TOKEN=token,
        ).stderr

    assert "is not for" in refused(made["token"], "--project", other["project"])
    assert "--limit is for" in refused(made["token"], "--limit", "1 usd/day")
    assert "not a gate token" in refused(OWN_KEY)
    perform(config, "token_extend", {"token_id": made["id"], "expires_s": 0.001})
    assert f"the token {made['id']} ended at " in refused(made["token"])
    perform(config, "token_revoke", {"token_id": made["id"]})
    assert "was revoked" in refused(made["token"])


def test_lines_for_a_shell(road: Road) -> None:
    """With them an unchanged program in that shell goes through the gateway."""
    script = f'eval "$("$@")" && {program("curl")} -sS https://api.openai.com/v1/models'
    words = command(road.gateway.config, "env", "--project", road.project)
    done = subprocess.run(
        ["bash", "-euc", script, "bash", *words],
        env=environ(OPENAI_ADMIN_KEY=OWN_KEY, http_proxy="http://127.0.0.1:9"),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout)["object"] == "list"
    assert "taken out of this shell: OPENAI_ADMIN_KEY" in done.stderr
    [token] = tokens(road)
    assert token["revoked_at"] is None
    assert f"`tollhouse token revoke {token['id']}` ends it" in done.stderr


def test_env_as_json(road: Road, tmp_path: Path) -> None:
    given = ("env", "--project", road.project, "--certs", str(tmp_path / "certs"), "--json")
    shown = json.loads(tollhouse(road.gateway.config, *given).stdout)
    assert shown["set"]["SSL_CERT_FILE"] == str(tmp_path / "certs" / "bundle.pem")
    assert shown["token_id"] == tokens(road)[0]["id"]


def test_a_project_must_be_chosen(road: Road) -> None:
    """This gateway has several."""
    for name in ("a", "b"):
        wanted = {"project": f"{road.project}_{name}", "tenant": "acme"}
        perform(load_config(road.gateway.config), "project_set", wanted)
    done = tollhouse(road.gateway.config, "exec", "--", "true", code=1)
    assert "there are several projects: choose by --project one of " in done.stderr
    done = tollhouse(road.gateway.config, "exec", "--project", "nobody", "--", "true", code=1)
    assert "project nobody does not exist" in done.stderr


def test_no_gateway(tmp_path: Path) -> None:
    config = write_config(tmp_path, None, {"listen": {"proxy": "127.0.0.1:1"}})
    done = tollhouse(config, "exec", "--", "true", code=1)
    assert done.stderr.startswith("tollhouse: no gateway answers at 127.0.0.1:1 ")
    assert "`tollhouse run`" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("named", ["gateway.internal", "http://gateway:8080", ":8080", "a:70000"])
def test_a_gateway_that_is_no_address(named: str) -> None:
    done = CliRunner().invoke(cli, ["exec", "--gateway", named, "--", "true"])
    assert done.exit_code == 2
    assert f"'{named}' is not HOST:PORT, such as 127.0.0.1:8080" in done.output


def test_a_gateway_without_a_project(tmp_path: Path, road: Road) -> None:
    """The gateway is another's; the projects are those of this configuration."""
    config = write_config(tmp_path, None)
    (tmp_path / "state").mkdir()
    done = tollhouse(config, "exec", "--gateway", road.gateway.proxy, "--", "true", code=1)
    assert (
        "there is no project yet: `tollhouse project set NAME --tenant T` makes one" in done.stderr
    )
