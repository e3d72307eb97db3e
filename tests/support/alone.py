"""A program in a network of its own, in which there is the gateway's proxy and nothing else."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator

from tests.support.netns import Namespace
from tests.support.requires import missing


@contextlib.contextmanager
def alone(proxy: str) -> Iterator[tuple[str, ...]]:
    """A command that runs the one after it in such a network. ``proxy`` is the ``HOST:PORT`` of the gateway's listener, whose
    port is open on the program's own 127.0.0.1. Where network namespaces can't be made the command is empty: then the program
    is kept from other hosts by nothing but its proxy variables."""
    if missing("netns"):
        yield ()
        return
    host, _, port = proxy.rpartition(":")
    with Namespace() as network:
        listening = network.run(socket.create_server, ("127.0.0.1", int(port)))
        threading.Thread(target=_accept, args=(listening, (host, int(port))), daemon=True).start()
        try:
            yield network.enter
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            listening.close()


def _accept(listening: socket.socket, proxy: tuple[str, int]) -> None:
    """Until ``listening`` is shut down, each connection goes on to the proxy."""
    with contextlib.suppress(OSError):
        while True:
            near, _ = listening.accept()
            threading.Thread(target=_through, args=(near, proxy), daemon=True).start()


def _through(near: socket.socket, proxy: tuple[str, int]) -> None:
    with (
        contextlib.suppress(OSError),
        near,
        socket.create_connection(proxy) as far,
        selectors.DefaultSelector() as ready,
    ):
        ready.register(near, selectors.EVENT_READ, (near, far))
        ready.register(far, selectors.EVENT_READ, (far, near))
        while True:
            for key, _ in ready.select():
                source, target = key.data
                piece = source.recv(65536)
                if not piece:
                    return
                target.sendall(piece)
