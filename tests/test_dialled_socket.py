"""Sockets that are dialled: whose descriptor they close."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import ssl
import struct
from collections.abc import Callable

import pytest
import uvloop

from tollhouse.dialled_socket import DialledSocket


def dialled(server: socket.socket) -> DialledSocket:
    made = DialledSocket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.connect(server.getsockname())
    made.setblocking(False)
    return made


@pytest.mark.parametrize("run", [uvloop.run, asyncio.run], ids=["uvloop", "asyncio"])
def test_a_connection_that_is_reset_at_once(run: Callable[..., None]) -> None:
    """The loop closes the descriptor. Whoever gets its number next keeps it, though the socket is closed and forgotten."""

    async def reset() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as server:
            mine = dialled(server)
            theirs, _ = server.accept()
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            theirs.close()
            number = mine.fileno()
            with pytest.raises(OSError):  # noqa: PT011 - a reset, or a broken pipe
                await loop.create_connection(
                    asyncio.Protocol,
                    sock=mine,
                    ssl=ssl.create_default_context(),
                    server_hostname="provider.test",
                )
            others = [os.open(os.devnull, os.O_RDONLY)]
            while others[-1] < number:
                others.append(os.open(os.devnull, os.O_RDONLY))
            assert number in others
            mine.close()
            del mine
            gc.collect()
            await asyncio.sleep(0)
            for one in others:
                os.close(one)

    run(reset())


def inode(number: int) -> int | None:
    """Which socket a descriptor is of, over the whole system; None if it is closed."""
    try:
        return os.fstat(number).st_ino
    except OSError:
        return None


def test_it_closes_its_own() -> None:
    """When it is closed, and when it is forgotten."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        first, second = dialled(server), dialled(server)
        # Another thread of the process may take the numbers at once, for other sockets.
        before = {number: inode(number) for number in (first.fileno(), second.fileno())}
        first.close()
        first.close()
        del second
        gc.collect()
    assert all(inode(number) != one for number, one in before.items())


def test_a_number_that_is_another_s() -> None:
    """What has taken the number stays open."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        mine = dialled(server)
        number = mine.fileno()
        os.close(number)
        other = os.open(os.devnull, os.O_RDONLY)
        assert other == number
        mine.close()
        os.close(other)
