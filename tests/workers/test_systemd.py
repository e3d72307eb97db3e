"""What systemd is told, and the sockets that it gives."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tollhouse.workers.systemd import Notifier, given_sockets


@pytest.mark.parametrize("abstract", [False, True])
def test_what_is_told(tmp_path: Path, abstract: bool) -> None:
    """A datagram each, at a path or an abstract address; the variables are gone from the environment."""
    address = f"@tollhouse-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + address[1:] if abstract else address)
        environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000", "PATH": "/bin"}
        notifier = Notifier(environ)
        assert environ == {"PATH": "/bin"}
        assert notifier.watchdog_s == 15.0
        notifier.ready("2 workers are ready")
        notifier.reloading()
        notifier.alive()
        notifier.stopping()
        told = [listener.recv(1000).decode() for _ in range(4)]
        notifier.restore(environ)
    assert told[0].startswith("READY=1\nSTATUS=2 workers are ready\n")
    assert told[1].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert told[2] == "WATCHDOG=1"
    assert told[3].startswith("STOPPING=1")
    assert environ["NOTIFY_SOCKET"] == address
    assert environ["WATCHDOG_USEC"] == "30000000"


def test_without_systemd() -> None:
    """Nothing is told, and nothing fails; so if systemd is gone."""
    Notifier({}).ready("")
    Notifier({"NOTIFY_SOCKET": "/nowhere/at/all"}).ready("")
    assert Notifier({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}).watchdog_s == 0
    assert given_sockets({"LISTEN_PID": "1", "LISTEN_FDS": "1"}) == []


SCRIPT = """
import os, sys
os.environ["LISTEN_PID"] = str(os.getpid())
if DESCRIPTOR != 3:
    os.dup2(DESCRIPTOR, 3)
from tollhouse.workers.systemd import given_sockets
try:
    print([(name, one.getsockname()[1], os.get_inheritable(one.fileno())) for name, one in given_sockets(os.environ)])
except ValueError as error:
    print(error)
print("LISTEN_FDS" in os.environ)
"""


def passed(one: socket.socket | int, names: str) -> list[str]:
    """What a program sees that gets ``one`` as descriptor 3."""
    descriptor = one if isinstance(one, int) else one.fileno()
    environ = {**os.environ, "LISTEN_FDS": "1", "LISTEN_FDNAMES": names}
    command = [sys.executable, "-c", SCRIPT.replace("DESCRIPTOR", str(descriptor))]
    done = subprocess.run(
        command, env=environ, pass_fds=[descriptor], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_a_socket_of_a_unit() -> None:
    """By its name; no child is to have it, nor the variables."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
        assert passed(one, "proxy") == [str([("proxy", port, False)]), "False"]


def test_a_descriptor_that_is_no_socket(tmp_path: Path) -> None:
    """It says which, and what to correct."""
    (tmp_path / "file").write_text("")
    with (tmp_path / "file").open() as file:
        said, _ = passed(file.fileno(), "")
    assert "descriptor 3, which is no socket; correct the socket unit" in said
