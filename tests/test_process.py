"""`tollhouse run`: what cannot start says so in one line, and signals are heeded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.programs import Program
from tests.support.redis_server import free_port
from tollhouse.config.load import Config, load_config
from tollhouse.control.lock import StateLock
from tollhouse.demo.gateway_config import write_config
from tollhouse.demo.gateway_process import GatewayProcess
from tollhouse.demo.standin import StandIn


def run(
    config: Path, *, environ: dict[str, str] | None = None, close_stdout: bool = False
) -> tuple[int, list[str]]:
    """``tollhouse run``: its exit code and what it said on stderr."""
    command = [sys.executable, "-m", "tollhouse", "run", "--config", str(config)]
    if close_stdout:
        command = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
    variables = {"PATH": os.environ.get("PATH", os.defpath), **(environ or {})}
    done = subprocess.run(
        command, env=variables, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()


def one_line(outcome: tuple[int, list[str]], *parts: str) -> None:
    """Exit 1, and one line that says why, beside the one about embedded stores."""
    code, said = outcome
    assert code == 1
    expected = ("embedded stores are for one machine", "a new CA was made")
    [line] = [line for line in said if not any(text in line for text in expected)]
    assert line.startswith("tollhouse: cannot start: ")
    assert all(part in line for part in parts), line


def test_which_embedded_store_forgets_what(configure: Callable[..., Config], taken: str) -> None:
    """A real Redis keeps the spend: then nothing is said of it, only of the embedded Vault."""
    config = configure({"redis": {"url": "redis://127.0.0.1:1/0"}, "listen": {"admin": taken}})
    code, said = run(config.path)
    assert code == 1
    assert "tollhouse: the embedded Vault is for one machine: " in said[0]
    assert not any("spend" in line for line in said)


def test_a_port_that_is_taken(configure: Callable[..., Config], taken: str) -> None:
    """One line, exit 1."""
    config = configure({"listen": {"admin": taken}})
    one_line(run(config.path), "listen.admin", taken)


def test_a_second_gateway_on_a_state_directory(configure: Callable[..., Config]) -> None:
    """One line, exit 1; the first is not touched."""
    config = configure()
    with StateLock.take(config.state.directory):
        one_line(run(config.path), "another gateway", str(config.state.directory))


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        (".", 0o777),
        (".", 0o720),
        ("ca-key.pem", 0o640),
        ("state.lock", 0o604),
        ("vault.key", 0o644),
    ],
)
def test_a_state_directory_of_others(
    configure: Callable[..., Config], name: str, mode: int
) -> None:
    """One line that says what and how to mend it, exit 1; nothing is made in it."""
    config = configure()
    path = config.state.directory / name
    if name != ".":
        path.touch()
    path.chmod(mode)
    before = sorted(config.state.directory.iterdir())
    private = "0700" if name == "." else "0600"
    one_line(run(config.path), f"{path} has mode {mode:04o}.", f"`chmod {private} {path}`")
    assert sorted(config.state.directory.iterdir()) == before


def test_a_state_directory_of_another_user(configure: Callable[..., Config]) -> None:
    """Whoever owns it could change it later, whatever its mode is."""
    if os.geteuid() != 0:
        pytest.skip("only root gives a directory away")
    config = configure()
    os.chown(config.state.directory, 1000, 1000)
    one_line(
        run(config.path), "belongs to user 1000, and the gateway runs as user 0", "`chown -R 0 "
    )


def test_a_state_directory_that_is_a_file(configure: Callable[..., Config], tmp_path: Path) -> None:
    """One line, exit 1."""
    (tmp_path / "file").write_text("")
    config = load_config(write_config(tmp_path, None, {"state": {"directory": "file"}}))
    one_line(run(config.path), str(tmp_path / "file"))


def test_lines_to_a_stdout_that_is_closed(configure: Callable[..., Config]) -> None:
    """One line, exit 1: a gateway whose lines go nowhere does not start."""
    one_line(run(configure().path, close_stdout=True), "log.calls")


def test_a_provider_key_in_its_environment(configure: Callable[..., Config]) -> None:
    """One line that names the variable and not the key."""
    outcome = run(configure().path, environ={"OPENAI_API_KEY": "sk-in-the-wrong-place"})
    one_line(outcome, "OPENAI_API_KEY")
    assert "sk-in" not in str(outcome)


def test_sigterm_while_it_waits_for_the_stores(
    configure: Callable[..., Config], tmp_path: Path
) -> None:
    """SIGHUP does not end it, SIGTERM does, with exit 0 and without a word of being ready."""
    admin = f"127.0.0.1:{free_port()}"
    config = configure(
        {"redis": {"url": f"redis://127.0.0.1:{free_port()}/0"}, "listen": {"admin": admin}}
    )
    with Program("gateway") as gateway:
        gateway.start(
            [sys.executable, "-m", "tollhouse", "run", "--config", str(config.path)],
            ready="not ready",
        )
        gateway.signal(signal.SIGHUP)
        why = ""
        end = time.monotonic() + 60
        while "redis" not in why:
            # It is listened on before Redis was tried.
            assert time.monotonic() < end, why
            with pytest.raises(urllib.error.HTTPError) as answer:
                urllib.request.urlopen(f"http://{admin}/readyz", timeout=60)
            assert answer.value.code == 503
            why = answer.value.read().decode()
        assert gateway.stop() == 0
        said = "".join(gateway.log)
    assert "tollhouse: ready" not in said
    assert "Traceback" not in said


def test_sighup_opens_the_file_of_lines_again(tmp_path: Path) -> None:
    """logrotate moves it away, signals, and finds the next line in a new one."""
    lines, moved = tmp_path / "calls.jsonl", tmp_path / "calls.jsonl.1"

    def call(gateway: GatewayProcess) -> None:
        with pytest.raises(urllib.error.HTTPError) as answer:
            urllib.request.urlopen(f"http://{gateway.base_url}/v1/models", timeout=20)
        assert answer.value.code == 401

    with StandIn() as standin:
        path = write_config(tmp_path, standin, {"log": {"calls": "calls.jsonl"}})
        with GatewayProcess(path) as gateway:
            call(gateway)
            lines.rename(moved)
            gateway.signal(signal.SIGHUP)
            for _ in range(1_000_000):
                if lines.exists():
                    break
            call(gateway)
            assert gateway.stop() == 0
    assert len(moved.read_text().splitlines()) == len(lines.read_text().splitlines()) == 1
