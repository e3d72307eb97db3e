"""Starting and stopping: what cannot start says so in one line and leaves nothing open, and what runs stops in order."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.gateway import REAL_KEY
from tests.support.inproc import open_inside
from tests.support.programs import Program
from tests.support.redis_server import RedisServer, free_port
from tollhouse.cannot_start import CANNOT_START, GatewayError
from tollhouse.config.load import Config, load_config
from tollhouse.control.lock import StateLock
from tollhouse.credential.vault.embedded_vault import EmbeddedVault
from tollhouse.demo.gateway_config import Settings, write_config
from tollhouse.demo.gateway_process import GatewayProcess
from tollhouse.demo.standin import StandIn
from tollhouse.demo.standin_script import Behaviour, Steps
from tollhouse.gateway import Gateway
from tollhouse.loop import tell_of_failure


@pytest.fixture
def configure(tmp_path: Path) -> Callable[..., Config]:
    """A configuration with a state directory, by its settings."""

    def make(settings: Settings | None = None) -> Config:
        config = load_config(write_config(tmp_path, None, settings))
        config.state.directory.mkdir(mode=0o700, exist_ok=True)
        EmbeddedVault(config.state.directory).set("openai", REAL_KEY)
        return config

    return make


@pytest.fixture
def taken() -> Iterator[str]:
    """An address that somebody else listens on."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def listening(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def nothing_is_open(gateway: Gateway, config: Config) -> None:
    """No port, no socket, no task."""
    assert not any(listening(address) for address in gateway.addresses.values() if address != "off")
    assert not (config.state.directory / "control.sock").exists()
    assert asyncio.all_tasks() == {asyncio.current_task()}


def broken_ledger(config: Config) -> None:
    (config.state.directory / "ledger.json").write_text("{")


def broken_vault(config: Config) -> None:
    (config.state.directory / "vault.enc").write_text("x")


FAILURES: dict[str, tuple[Settings, Callable[[Config], None], str]] = {
    "a CA that is not there": (
        {"ca": {"cert_file": "none.pem", "key_file": "none-key.pem"}},
        lambda config: None,
        "none.pem",
    ),
    "a CA that reaches too little": (
        {"providers.vllm": {"family": "openai", "hosts": ["llm.example"]}},
        lambda config: None,
        "llm.example",
    ),
    "lines into a directory that is not there": (
        {"log": {"calls": "none/calls.jsonl"}},
        lambda config: None,
        "log.calls",
    ),
    "an embedded ledger that is broken": ({}, broken_ledger, "ledger.json"),
    "a provider's roots that are not there": (
        {"providers.openai": {"ca_file": "none.pem"}},
        lambda config: None,
        "providers.openai",
    ),
    "the admin port is taken": (
        {"listen": {"admin": "TAKEN"}},
        lambda config: None,
        "listen.admin",
    ),
    "the proxy port is taken": (
        {"listen": {"proxy": "TAKEN"}},
        lambda config: None,
        "listen.proxy",
    ),
    "the base URL's port is taken": (
        {"listen": {"base_url": "TAKEN"}},
        lambda config: None,
        "listen.base_url",
    ),
    "a listener's certificate that is none": (
        {"listen": {"tls": {"cert_file": "tollhouse.toml", "key_file": "tollhouse.toml"}}},
        lambda config: None,
        "[listen] tls",
    ),
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_what_cannot_start(
    configure: Callable[..., Config], taken: str, failure: str
) -> None:
    """It says what and where, and what had been opened before is closed."""
    settings, prepare, said = FAILURES[failure]
    if failure == "a CA that reaches too little":
        # Made for the built-in hosts alone.
        await _started_once(configure())
    config = configure(json.loads(json.dumps(settings).replace("TAKEN", taken)))
    prepare(config)
    gateway = Gateway(config)
    with pytest.raises(CANNOT_START) as error:
        await gateway.start()
    assert said in str(error.value)
    assert taken not in gateway.addresses.values()
    nothing_is_open(gateway, config)
    await gateway.stop()


async def _started_once(config: Config) -> None:
    gateway = Gateway(config)
    await gateway.start()
    await gateway.stop()


async def test_a_fault_of_ours_at_the_start(configure: Callable[..., Config]) -> None:
    """Anything else is not hidden in a sentence, and leaves nothing open either."""

    class Faulty(Gateway):
        async def open_listeners(self) -> None:
            raise RuntimeError("injected")

    config = configure()
    gateway = Faulty(config)
    with pytest.raises(RuntimeError, match="injected"):
        await gateway.start()
    nothing_is_open(gateway, config)


async def test_a_control_socket_that_is_answered(configure: Callable[..., Config]) -> None:
    """Another gateway on the same state directory, past the lock: it goes on, the second does not start."""
    first = Gateway(configure())
    await first.start()
    second = Gateway(configure())
    with pytest.raises(GatewayError, match="control socket"):
        await second.start()
    assert first.readiness.reasons() == []
    assert listening(first.addresses["proxy"])
    assert (first.config.state.directory / "control.sock").exists()
    await first.stop()
    nothing_is_open(first, first.config)


async def test_start_and_stop(configure: Callable[..., Config]) -> None:
    """Ready when it takes calls, nothing left behind, and a second stop does nothing."""
    config = configure()
    gateway = Gateway(config)
    assert gateway.readiness.reasons() == ["starting"]
    await gateway.start()
    assert gateway.readiness.reasons() == []
    assert all(listening(gateway.addresses[kind]) for kind in ("proxy", "base_url", "admin"))
    await gateway.stop()
    assert gateway.readiness.reasons() == ["stopping"]
    nothing_is_open(gateway, config)
    await gateway.stop()


async def test_a_stop_before_the_start(configure: Callable[..., Config]) -> None:
    """There is nothing to close."""
    await Gateway(configure()).stop()


async def test_something_that_will_not_close(configure: Callable[..., Config]) -> None:
    """The rest is closed all the same."""

    async def boom() -> None:
        raise RuntimeError("injected")

    config = configure()
    gateway = Gateway(config)
    await gateway.start()
    gateway.on_stop(boom)
    await gateway.stop()
    nothing_is_open(gateway, config)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - after each turn of the loop
            await asyncio.sleep(0)


async def test_no_listener_before_the_stores_answer(
    configure: Callable[..., Config],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Redis is away: it says so, takes nothing, and is ready once Redis is there; so again when it goes later."""
    (tmp_path / "redis").mkdir()
    server = RedisServer(tmp_path / "redis")
    server.port = free_port()
    port = free_port()
    config = configure({"redis": {"url": server.url}, "listen": {"proxy": f"127.0.0.1:{port}"}})
    gateway = Gateway(config, health_every_s=0.0)
    starting = asyncio.ensure_future(gateway.start())
    await until(lambda: any("redis" in reason for reason in gateway.readiness.reasons()))
    assert not listening(f"127.0.0.1:{port}")
    assert not (gateway.config.state.directory / "control.sock").exists()
    with server:
        await starting
        assert gateway.readiness.reasons() == []
        assert listening(f"127.0.0.1:{port}")
        server.stop()
        await until(lambda: any("redis" in reason for reason in gateway.readiness.reasons()))
        server.start()
        await until(lambda: gateway.readiness.reasons() == [])
        assert (
            caplog.text.count("not ready, and every call is refused: redis")
            == caplog.text.count("ready again")
            >= 1
        )
        await gateway.stop()


async def test_a_stop_while_it_waits_for_the_stores(configure: Callable[..., Config]) -> None:
    """It ends the start, which raises nothing and opens nothing."""
    config = configure({"redis": {"url": f"redis://127.0.0.1:{free_port()}/0"}})
    gateway = Gateway(config)
    starting = asyncio.ensure_future(gateway.start())
    await until(lambda: any("redis" in reason for reason in gateway.readiness.reasons()))
    gateway.stopping.set()
    await starting
    assert gateway.addresses.keys() == {"admin"}
    await gateway.stop()
    nothing_is_open(gateway, config)


def test_it_is_not_ready_again_while_it_drains(tmp_path: Path) -> None:
    """The look at the ledger goes on, since holds are renewed to the last; it does not call the gateway ready."""
    with open_inside(tmp_path, health_every_s=0.0) as inside:
        steps = Steps()
        inside.standin.script(Behaviour(steps=steps))
        host, port = inside.gateway.addresses["base_url"].rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=20) as client:
            body = b'{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"wait"}]}'
            client.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (inside.token.encode(), len(body), body)
            )
            steps.release(1)
            assert client.recv(65536).startswith(b"HTTP/1.1 200")

            async def stop() -> list[list[str]]:
                stopping = asyncio.ensure_future(inside.gateway.stop())
                seen = []
                for _ in range(200):
                    await asyncio.sleep(0)
                    seen.append(list(inside.gateway.readiness.reasons()))
                assert not stopping.done()
                steps.release_all()
                await stopping
                return seen

            seen = inside.do(stop())
        assert seen == [["stopping"]] * 200
        [line] = inside.lines()
        assert (line["charged_by"], line["reason"]) == ("usage", "")


# The process.


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


@pytest.mark.parametrize(
    "message",
    ["Fatal error on SSL protocol", "Fatal error on transport", "Error occurred during shutdown"],
)
async def test_a_connection_that_was_given_up_is_one_line(
    caplog: pytest.LogCaptureFixture, message: str
) -> None:
    """What uvloop says of its closed handle has no traceback; any other failure keeps its own."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(tell_of_failure)
    closed = RuntimeError(
        "unable to perform operation on <TCPTransport closed=True reading=False 0x1>; the handler is closed"
    )
    loop.call_exception_handler({"message": message, "exception": closed})
    [record] = caplog.records
    assert (record.name, record.levelname, record.exc_info) == (
        "tollhouse.loop",
        "WARNING",
        None,
    )
    assert record.getMessage().endswith(f"and is closed: {message}")
    caplog.clear()
    loop.call_exception_handler({"message": message, "exception": RuntimeError("a fault of ours")})
    [record] = caplog.records
    assert (record.name, record.levelname) == ("asyncio", "ERROR")
    assert record.exc_info is not None


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
        with pytest.raises(urllib.error.HTTPError) as answer:
            urllib.request.urlopen(f"http://{admin}/readyz", timeout=10)
        assert answer.value.code == 503
        assert "redis" in answer.value.read().decode()
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
