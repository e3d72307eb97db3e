"""The network that a program has for itself."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from tests.support.alone import alone

pytestmark = pytest.mark.requires("netns")

SCRIPT = """
import socket, sys
for address in sys.argv[1:]:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), 5) as one:
            one.sendall(b"ping")
            print(one.recv(9).decode())
    except OSError as error:
        print(type(error).__name__, error.errno)
"""


def test_the_proxy_is_there_and_nothing_else() -> None:
    """Another port of the same address is refused, and to an address of the internet there is no road."""
    with socket.create_server(("127.0.0.1", 0)) as proxy, socket.create_server(("", 0)) as other:
        addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in (proxy, other)]
        with alone(addresses[0]) as enter:
            process = subprocess.Popen(
                [*enter, sys.executable, "-c", SCRIPT, *addresses, "192.0.2.1:443"],
                stdout=subprocess.PIPE,
                text=True,
            )
            near, _ = proxy.accept()
            with near:
                assert near.recv(9) == b"ping"
                near.sendall(b"pong")
            said, _ = process.communicate(timeout=30)
    assert said.split("\n")[:3] == [
        "pong",
        "ConnectionRefusedError 111",
        "OSError 101",
    ]
