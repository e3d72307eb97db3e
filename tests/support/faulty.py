"""A provider made of blocking sockets that fails in a way that a test wrote, below HTTP where it has to be."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator

PATIENCE_S = 20.0
"""How long one read of the provider may take before the test fails."""


class Wire:
    """The provider's side of one connection."""

    def __init__(self, raw: socket.socket, context: ssl.SSLContext, number: int) -> None:
        self.number = number
        """The first connection is 1."""
        self._socket = raw
        self._context = context

    def tls(self) -> None:
        self._socket = self._context.wrap_socket(self._socket, server_side=True)

    def hello(self) -> bytes:
        """Reads the beginning of a handshake, and does not go on with it."""
        return self._socket.recv(65536)

    def request(self) -> bytes:
        """One whole request. Raises EOFError at the connection's end."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._more()
        head, _, body = data.partition(b"\r\n\r\n")
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                while len(body) < int(line.partition(b":")[2]):
                    body += self._more()
        return head + b"\r\n\r\n" + body

    def _more(self) -> bytes:
        data = self._socket.recv(65536)
        if not data:
            raise EOFError
        return data

    def say(self, data: bytes) -> None:
        self._socket.sendall(data)

    def reset(self) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def goodbye(self) -> None:
        """Ends TLS in order (close_notify), and closes; the other side's goodbye is not waited for."""
        self._socket.setblocking(False)
        with contextlib.suppress(ssl.SSLWantReadError):
            assert isinstance(self._socket, ssl.SSLSocket)
            self._socket.unwrap()
        self._socket.close()

    def close(self) -> None:
        self._socket.close()

    def through(self, address: str) -> None:
        """Passes all bytes on to ``address`` and back, until either side ends."""
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port))) as other:
            ways = {self._socket: other, other: self._socket}
            while True:
                for one in select.select(list(ways), [], [], PATIENCE_S)[0]:
                    data = one.recv(65536)
                    if not data:
                        return
                    ways[one].sendall(data)

    def left(self) -> None:
        """Returns when the other side has closed the connection."""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while self._socket.recv(65536):
                pass


class ClosingProvider:
    """What a `FaultyProvider` serves: its first connection answers one request, and is closed when `close` is called, from a
    thread of its own. The others answer each request."""

    def __init__(self, answer: bytes, how: Callable[[Wire], None], *, tls: bool = True) -> None:
        self._answer = answer
        self._how = how
        self._tls = tls
        self._now, self._done = threading.Event(), threading.Event()
        self.read: list[bytes] = []
        """The requests that were read, of all connections."""

    def __call__(self, wire: Wire) -> None:
        if self._tls:
            wire.tls()
        while True:
            self.read.append(wire.request())
            wire.say(self._answer)
            if wire.number == 1:
                assert self._now.wait(PATIENCE_S)
                self._how(wire)
                self._done.set()
                return

    def close(self) -> None:
        """Returns when the connection is closed. The loop at the other end need not have heard of it."""
        self._now.set()
        assert self._done.wait(PATIENCE_S)


def reset_at_accept(wire: Wire) -> None:
    wire.reset()


def tls_alert(wire: Wire) -> None:
    wire.hello()
    # A fatal alert, handshake_failure: RFC 8446 6.2.
    wire.say(b"\x15\x03\x03\x00\x02\x02\x28")
    wire.left()


def tls_that_hangs(wire: Wire) -> None:
    wire.hello()
    wire.left()


class FaultyProvider:
    """``serve`` is called with each connection, in a thread of its own; the connection is closed when it returns."""

    def __init__(self, serve: Callable[[Wire], None], context: ssl.SSLContext) -> None:
        self._serve = serve
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self.open = 0
        self.faults: list[BaseException] = []
        """Of ``serve``: a wait that was too long among them."""
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def running(self) -> Iterator[FaultyProvider]:
        threading.Thread(target=self._accept, daemon=True).start()
        try:
            yield self
        finally:
            self._listener.close()

    def none_open(self, seconds: float = PATIENCE_S) -> bool:
        """Whether every connection ends in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self.open, seconds)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(PATIENCE_S)
            with self._changed:
                self.connections += 1
                self.open += 1
                wire = Wire(connection, self._context, self.connections)
            threading.Thread(target=self._one, args=(wire,), daemon=True).start()

    def _one(self, wire: Wire) -> None:
        try:
            self._serve(wire)
        except (EOFError, ConnectionError, ssl.SSLError):
            pass
        except BaseException as fault:
            self.faults.append(fault)
        finally:
            wire.close()
            with self._changed:
                self.open -= 1
                self._changed.notify_all()
