"""The control socket, the lock of the state directory, and the way that a command takes to the stores."""

from __future__ import annotations

import asyncio
import json
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.programs import Program

from tollhouse.accounts.directory import Directory
from tollhouse.config.load import Config, load_config
from tollhouse.control.client import SOCKET_NAME, NoGateway, StoreError, ask, perform, reachable
from tollhouse.control.lock import StateBusy, StateLock
from tollhouse.control.operations import Operations
from tollhouse.control.socket import ControlServer, listen
from tollhouse.ledger.ledger import Ledger
from tollhouse.ledger.store.client import connect


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory as `run` makes it."""
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    return directory


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Embedded stores, state beside the file."""
    file = tmp_path / "tollhouse.toml"
    file.write_text('[redis]\nurl = "embedded"\n[vault]\naddress = "embedded"\n')
    return load_config(file)


@pytest.fixture
async def operations(state: Path) -> AsyncIterator[Operations]:
    """What a gateway's operations are: on the embedded store in this process."""
    redis = connect("embedded", state)
    ledger = Ledger(redis)
    yield Operations(Directory(redis), ledger)
    await ledger.close()


@pytest.fixture
async def server(state: Path, operations: Operations) -> AsyncIterator[ControlServer]:
    """A gateway as far as a command sees it: the lock held and the socket open."""
    with StateLock.take(state):
        control = ControlServer(state, operations)
        await control.start()
        yield control
        await control.close()


async def in_thread(function: Any, *arguments: Any, **named: Any) -> Any:
    """Commands are blocking, and the server is on this loop."""
    return await asyncio.to_thread(lambda: function(*arguments, **named))


async def raw(state: Path, request: bytes) -> tuple[int, Any]:
    """Send bytes, read to the end: status and JSON body."""
    reader, writer = await asyncio.open_unix_connection(str(state / SOCKET_NAME))
    writer.write(request)
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body) if b"application/json" in head else None


def modes(directory: Path) -> dict[str, int]:
    """Every file in it and its permissions."""
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}


def post(path: str, body: bytes) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: control\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )


async def test_operation_over_the_socket(
    server: ControlServer, state: Path, operations: Operations
) -> None:
    """The running gateway does it, in its own store."""
    arguments = {"project": "p", "tenant": "acme", "limits": ["1 usd/day"]}
    made = await in_thread(ask, state, "project_set", arguments)
    assert made == await operations.project_show("p")


async def test_refusal_over_the_socket(server: ControlServer, state: Path) -> None:
    """What the gateway refuses is the command's error, word for word."""
    with pytest.raises(StoreError, match="project nope does not exist"):
        await in_thread(ask, state, "token_create", {"projects": ["nope"]})


@pytest.mark.usefixtures("server")
async def test_socket_is_for_its_owner_only(state: Path) -> None:
    """0600, and nothing is left of the directory that it was bound in."""
    assert modes(state) == {SOCKET_NAME: 0o600, "state.lock": 0o600}


def test_socket_is_private_whatever_the_umask(state: Path) -> None:
    """A process with an open umask makes it 0600 all the same."""
    code = (
        "import os, sys, pathlib; os.umask(0); from tollhouse.control.socket import listen;"
        "path = pathlib.Path(sys.argv[1]); listen(path); print(oct(path.stat().st_mode & 0o7777))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(state / "s")], capture_output=True, text=True, check=True
    )
    assert done.stdout == "0o600\n"


@pytest.mark.parametrize(
    ("request_bytes", "status", "words"),
    [
        (post("/operations/nothing", b"{}"), 404, "no operation 'nothing'"),
        (post("/operations/perform", b"{}"), 404, "no operation 'perform'"),
        (post("/operations/project_list", b"{"), 400, "not JSON"),
        (post("/operations/project_list", b"[" * 100_000), 400, "not JSON"),
        (post("/operations/project_list", b"[]"), 400, "not a JSON object"),
        (post("/operations/project_list", b'{"x": 1}'), 400, "x: "),
        (post("/operations/project_show", b'{"project": "p"}'), 404, "does not exist"),
        (post("/operations/project_list", b" " * 1_100_000), 413, ""),
        (post("/operations/../project_list", b"{}"), 404, ""),
        (b"GET /operations/project_list HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n", 405, ""),
    ],
)
@pytest.mark.usefixtures("server")
async def test_bad_requests(state: Path, request_bytes: bytes, status: int, words: str) -> None:
    """Only POST, only a name of the table, only a JSON object; the error says which."""
    found, body = await raw(state, request_bytes)
    assert found == status
    assert not words or words in body["error"]


async def test_a_failure_is_told_by_its_type_only(state: Path) -> None:
    """What an unforeseen exception says could hold an argument."""

    class Broken(Operations):
        async def perform(self, name: str, arguments: Any, by: Any = None) -> Any:
            raise RuntimeError("gate_secret")

    redis = connect("embedded", state)
    ledger = Ledger(redis)
    control = ControlServer(state, Broken(Directory(redis), ledger))
    await control.start()
    status, told = await raw(state, post("/operations/project_list", b"{}"))
    assert (status, "(RuntimeError)" in told["error"]) == (500, True)
    assert "gate_secret" not in told["error"]
    await control.close()
    await ledger.close()


async def test_second_gateway_is_refused(
    server: ControlServer, state: Path, operations: Operations
) -> None:
    """A live socket is not replaced, and the lock says so before that."""
    with pytest.raises(FileExistsError, match="already answers"):
        await ControlServer(state, operations).start()
    with pytest.raises(StateBusy):
        StateLock.take(state)
    assert await in_thread(reachable, state)


async def test_dead_gateways_socket_is_replaced(state: Path, operations: Operations) -> None:
    """A socket file that nobody listens on is a crash's, and no obstacle."""
    listen(state / SOCKET_NAME).close()
    assert not reachable(state)
    control = ControlServer(state, operations)
    await control.start()
    assert await in_thread(ask, state, "project_list", {}) == []
    await control.close()
    assert not (state / SOCKET_NAME).exists()


async def test_close_leaves_the_successors_socket(server: ControlServer, state: Path) -> None:
    """A gateway that ends late does not take away the socket of the one that follows."""
    successor = listen(state / SOCKET_NAME)
    await server.close()
    assert (state / SOCKET_NAME).exists()
    successor.close()


def test_no_gateway(state: Path) -> None:
    """No socket, or one that nobody listens on: no gateway, which is no error yet."""
    with pytest.raises(NoGateway):
        ask(state, "project_list", {})
    listen(state / SOCKET_NAME).close()
    with pytest.raises(NoGateway):
        ask(state, "project_list", {})


def test_gateway_that_breaks_off_is_an_error(state: Path) -> None:
    """It may have done it: said, and not tried again elsewhere."""
    listening = listen(state / SOCKET_NAME)
    listening.setblocking(True)

    def hang_up() -> None:
        connection, _ = listening.accept()
        connection.recv(1)
        connection.close()

    thread = threading.Thread(target=hang_up)
    thread.start()
    with pytest.raises(StoreError, match="look whether the change was made"):
        ask(state, "project_list", {})
    thread.join()
    listening.close()


async def test_paths_longer_than_a_sockets_address(tmp_path: Path, operations: Operations) -> None:
    """A state directory deep down works: its socket's path is over 108 bytes."""
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    control = ControlServer(deep, operations)
    await control.start()
    assert await in_thread(ask, deep, "project_list", {}) == []
    await control.close()


async def test_perform_goes_to_the_running_gateway(
    server: ControlServer, config: Config, operations: Operations
) -> None:
    """Embedded and a gateway: over the socket, so that the gateway knows it at once."""
    await in_thread(perform, config, "project_set", {"project": "p", "tenant": "acme"})
    assert [project["project"] for project in await operations.project_list()] == ["p"]


def test_perform_opens_the_file_when_none_runs(config: Config) -> None:
    """Embedded and no gateway: the store's file, made with its directory; a dead gateway's socket is no obstacle."""
    perform(config, "project_set", {"project": "p", "tenant": "acme"})
    directory = config.state.directory
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    listen(directory / SOCKET_NAME).close()
    assert [project["project"] for project in perform(config, "project_list", {})] == ["p"]


def test_perform_waits_for_a_gateway_that_starts(config: Config, state: Path) -> None:
    """The lock is held and nobody listens: never beside the gateway, but an error in the end."""
    with StateLock.take(state), pytest.raises(StoreError, match="starting, stopping or stuck"):
        perform(config, "project_list", {}, give_up_s=0.0)


def test_perform_says_when_the_directory_is_not_ours(config: Config) -> None:
    """A state directory that can't be one is a sentence, not a traceback."""
    config.state.directory.write_text("a file")
    with pytest.raises(StoreError, match="can't be used"):
        perform(config, "project_list", {})


def test_perform_goes_to_a_real_redis(tmp_path: Path, redis_url: str) -> None:
    """A Redis URL: neither socket nor state directory."""
    file = tmp_path / "tollhouse.toml"
    file.write_text(f'[redis]\nurl = "{redis_url}"\n[vault]\naddress = "embedded"\n')
    config = load_config(file)
    perform(config, "project_set", {"project": "p", "tenant": "acme"})
    assert [project["project"] for project in perform(config, "project_list", {})] == ["p"]
    assert not config.state.directory.exists()


def test_lock_ends_with_its_holder(state: Path) -> None:
    """A killed process holds nothing: the kernel lets go of its lock."""
    code = (
        "import signal, sys, pathlib; from tollhouse.control.lock import StateLock;"
        "lock = StateLock.take(pathlib.Path(sys.argv[1])); print('held', flush=True); signal.pause()"
    )
    with Program("the holder") as holder:
        holder.start([sys.executable, "-c", code, str(state)], ready="held")
        with pytest.raises(StateBusy):
            StateLock.take(state)
        holder.kill()
    StateLock.take(state).release()


def test_lock_file_is_private_and_not_followed(state: Path, tmp_path: Path) -> None:
    """0600; a link in its place is not opened."""
    StateLock.take(state).release()
    lock = state / "state.lock"
    assert stat.S_IMODE(lock.stat().st_mode) == 0o600
    lock.unlink()
    lock.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        StateLock.take(state)
