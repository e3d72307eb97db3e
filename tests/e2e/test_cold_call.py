"""A client's first call where the provider is 40 ms away: how many round trips of that line it waits for. What it takes in
milliseconds is a figure of the bench; the round trips are the same on any machine."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

from bench.wire import Wire
from tests.support.attack import HOST, Attacked, post
from tests.support.gateway import REAL_KEY
from tests.support.inproc import open_inside

from tollhouse.demo.standin import StandIn

BODY = b'{"model":"gpt-4o","messages":[{"role":"user","content":"first"}]}'
MOST = 0.45
"""Of what the client would wait for without the gateway."""


class Line:
    """The line to the provider. Whoever waits for what comes back has waited for a round trip; so has who connects."""

    def __init__(self, target: int) -> None:
        self.wire = Wire(target, round_trip_s=0.04, passed=self._passed)
        self._went_out = False
        self._turns = 0
        self._counted = 0

    def _passed(self, direction: str, at: float, size: int) -> None:
        self._turns += direction == "back" and self._went_out
        self._went_out = direction == "out"

    def trips(self) -> int:
        """Round trips since it was asked last."""
        found = self._turns + self.wire.connections - self._counted
        self._counted += found
        return found


@contextlib.contextmanager
def opened(target: int) -> Iterator[Line]:
    line, loop = Line(target), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="line", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(line.wire.open(), loop).result(30)
        yield line
        asyncio.run_coroutine_threadsafe(line.wire.close(), loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


def through(attacked: Attacked) -> int:
    """The status of a client's first call."""
    with attacked.tunnel() as client:
        return client.ask(post(BODY)).status


def direct(port: int, ca_file: Path) -> int:
    context = ssl.create_default_context(cafile=str(ca_file))
    authorization = f"Authorization: Bearer {REAL_KEY}\r\n".encode()
    head, _, rest = post(BODY).partition(b"\r\n")
    with (
        socket.create_connection(("127.0.0.1", port)) as tcp,
        context.wrap_socket(tcp, server_hostname=HOST) as tls,
    ):
        tls.sendall(head + b"\r\n" + authorization + rest)
        return int(tls.recv(65_536).split(b" ")[1])


def test_the_first_call_of_a_client(tmp_path: Path) -> None:
    """It waits for one round trip where others have called before: the gateway has a connection. Without it there are three."""
    with StandIn(key=REAL_KEY) as standin, opened(standin.port) as line:
        settings = {"providers.openai": {"connect_to": f"127.0.0.1:{line.wire.port}"}}
        with open_inside(tmp_path, settings, standin=standin) as inside:
            attacked = Attacked(inside, 0)
            assert through(attacked) == 200
            # TCP, TLS and the call. The server's tickets may come before the call is on its way.
            assert line.trips() in (3, 4)
            assert through(attacked) == 200
            gateway = line.trips()
            assert direct(line.wire.port, tmp_path / "provider-ca.pem") == 200
            alone = line.trips()
    assert (gateway, alone in (3, 4)) == (1, True)
    assert gateway <= MOST * alone
