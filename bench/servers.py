"""The two proxies of the bench and what they need, each started with a clean environment and ended with the block."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.certificate import make_certificate
from bench.load import Proxy
from bench.provider import CHUNKS, PAUSE_S

_BIN = Path(sys.executable).parent
_START_S = 120.0
"""On a machine that does much else. One that does nothing else needs two."""
_TOLLHOUSE = [str(_BIN / "tollhouse")]


@dataclass(frozen=True)
class Side:
    """A proxy that runs."""

    pids: tuple[int, ...]
    """The processes that carry the calls."""
    proxy: Proxy
    root: int = 0
    """The process that the others are children of."""
    neighbour: Proxy | None = None
    """The same for another tenant."""
    config: Path | None = None
    """The file of a Tollhouse."""
    base_port: int = 0
    """Where a Tollhouse takes calls that are addressed to itself."""

    def cpu_s(self) -> float:
        """Seconds of CPU that the processes which carry calls have taken."""
        return sum(map(cpu_s, self.pids))

    def whole_cpu_s(self) -> float:
        """Seconds of CPU that all of its processes have taken."""
        root = psutil.Process(self.root)
        return sum(cpu_s(one.pid) for one in (root, *root.children(recursive=True)))

    def memory_mb(self) -> float:
        """Resident memory of the processes that carry calls."""
        return sum(psutil.Process(pid).memory_info().rss for pid in self.pids) / 2**20

    def whole_memory_mb(self) -> float:
        """Memory of all of its processes. A page that several of them share counts once."""
        root = psutil.Process(self.root)
        return sum(_own_bytes(one) for one in (root, *root.children(recursive=True))) / 2**20


def _own_bytes(process: psutil.Process) -> int:
    info = process.memory_full_info()
    # Linux alone shares a page's size out among the processes that have it.
    return int(getattr(info, "pss", info.uss))


def cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


class Provider:
    """The provider's process. ``lock_step``: a frame of a stream waits until `step` has allowed it."""

    def __init__(self, port: int, process: subprocess.Popen[str]) -> None:
        self.port = port
        self.pid = process.pid
        self._process = process

    def step(self) -> None:
        """Lets one more frame of every open stream out."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def environment(**more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **more}


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"nothing listens on {port}")


@contextmanager
def running(arguments: list[str], log: Path, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """What it says is shown if it ends before it was told to."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            arguments, env=environment(**more), stdout=file, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        if process.poll() is not None:
            sys.stderr.write(log.read_text(errors="replace")[-4000:])
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def redis_server(directory: Path) -> Iterator[str]:
    port = free_port()
    arguments = [
        "redis-server",
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        str(directory),
    ]
    with running(arguments, directory / "redis.log") as process:
        wait_for_port(port, process)
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def provider(
    directory: Path,
    pause_s: float = PAUSE_S,
    *,
    chunks: int = CHUNKS,
    lock_step: bool = False,
) -> Iterator[Provider]:
    """Its CA is ``provider.pem`` in ``directory``."""
    cert, key = directory / "leaf.pem", directory / "leaf-key.pem"
    if not cert.exists():
        make_certificate(directory)
    options = ["--pause", str(pause_s), "--chunks", str(chunks)]
    if lock_step:
        options.append("--lock-step")
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.provider", str(cert), str(key), *options],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield Provider(int(process.stdout.readline()), process)
    finally:
        process.kill()
        process.communicate()


@contextmanager
def mitmdump(directory: Path, provider_port: int) -> Iterator[Side]:
    port = free_port()
    arguments = [str(_BIN / "mitmdump"), "-q", "--listen-host", "127.0.0.1", "-p", str(port)]
    for option in (
        "connection_strategy=lazy",
        "upstream_cert=false",
        f"confdir={directory / 'mitm'}",
        f"ssl_verify_upstream_trusted_ca={directory / 'provider.pem'}",
    ):
        arguments += ["--set", option]
    arguments += ["-s", str(Path(__file__).with_name("mitm_redirect.py"))]
    with running(
        arguments, directory / "mitmdump.log", BENCH_PROVIDER_PORT=str(provider_port)
    ) as process:
        wait_for_port(port, process)
        yield Side((process.pid,), Proxy(port), process.pid)


_CONFIG = """[listen]
proxy = "127.0.0.1:{port}"
base_url = "127.0.0.1:{base_port}"
admin = "off"
[state]
directory = "state"
[redis]
url = "{redis_url}"
[vault]
address = "embedded"
[log]
calls = "calls.jsonl"
[providers.openai]
connect_to = "127.0.0.1:{provider_port}"
ca_file = "{ca_file}"
allow_private = true
[projects.bench]
tenant = "bench"
limits = ["1000000 usd/day", "9000000000 tokens/minute", "100000000 requests/minute", "2000 concurrent"]
[projects.neighbour]
tenant = "neighbour"
"""


@contextmanager
def tollhouse(
    directory: Path,
    provider_port: int,
    redis_url: str,
    workers: int = 1,
    *,
    addon: Path | None = None,
    tables: str = "",
    **more: str,
) -> Iterator[Side]:
    """``directory`` has the provider's CA, and may have other gateways. ``addon`` is a file with a class `Watch`, an operator's
    addon. ``tables`` is added to its file, ``more`` to the environment."""
    port, base_port = free_port(), free_port()
    home = directory / f"tollhouse-{secrets.token_hex(4)}"
    home.mkdir(mode=0o700)
    config = home / "tollhouse.toml"
    text = _CONFIG.format(
        port=port,
        base_port=base_port,
        redis_url=redis_url,
        provider_port=provider_port,
        ca_file=directory / "provider.pem",
    )
    text += tables
    if addon is not None:
        # A copy: a gateway runs no addon that somebody else on the machine could write.
        shutil.copyfile(addon, home / addon.name)
        text += f'[addons]\nload = ["{addon.name}:Watch"]\n'
    config.write_text(text)
    _command(config, "key", "set", "openai", said=f"sk-{secrets.token_urlsafe(32)}")
    command = [*_TOLLHOUSE, "run", "--workers", str(workers), "--config", str(config)]
    with running(command, home / "gateway.log", **more) as process:
        wait_for_port(port, process)
        tokens = [_command(config, "token", "create", name) for name in ("bench", "neighbour")]
        pids = tuple(worker["pid"] for worker in json.loads(_command(config, "workers", "--json")))
        yield Side(
            pids,
            Proxy.basic(port, "bench", tokens[0]),
            process.pid,
            Proxy.basic(port, "neighbour", tokens[1]),
            config,
            base_port,
        )


def project_token(side: Side, project: str) -> str:
    """A token of a project of a Tollhouse that runs."""
    assert side.config is not None
    return _command(side.config, "token", "create", project)


def _command(config: Path, *words: str, said: str = "") -> str:
    """What a command of ``tollhouse`` prints. `RuntimeError` with its own words if it fails."""
    done = subprocess.run(
        [*_TOLLHOUSE, *words, "--config", str(config)],
        input=said,
        env=environment(),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(
            f"tollhouse {' '.join(words)} ended with {done.returncode}: {done.stderr}"
        )
    return done.stdout.strip()
