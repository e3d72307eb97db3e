"""What the kernel knows of a connection, at each moment of its life."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys

import pytest

from tollhouse.dispatch.tcp_info import TcpInfo, tcp_info

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="TCP_INFO as it is here is Linux's")


async def a_pair() -> tuple[asyncio.Transport, socket.socket]:
    """Our side, and the server's."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        transport, _ = await asyncio.get_running_loop().create_connection(
            asyncio.Protocol, *listening.getsockname()
        )
        return transport, listening.accept()[0]


async def test_what_was_received() -> None:
    transport, server = await a_pair()
    with server:
        before = tcp_info(transport)
        assert before is not None
        transport.write(b"0123456789")
        server.recv(10)
        assert tcp_info(transport) == TcpInfo(True, before.acknowledged + 10)
    # The loop has not turned since the server has closed.
    assert tcp_info(transport) == TcpInfo(False, before.acknowledged + 10)
    transport.abort()


@pytest.mark.parametrize("reset", [False, True])
async def test_what_was_not(reset: bool) -> None:
    """Bytes that meet a connection which the server has closed are never acknowledged."""
    transport, server = await a_pair()
    before = tcp_info(transport)
    assert before is not None
    if reset:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.close()
    transport.write(b"0123456789")
    assert tcp_info(transport) == TcpInfo(False, before.acknowledged)
    transport.abort()


async def test_a_connection_that_is_gone() -> None:
    transport, server = await a_pair()
    transport.abort()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert tcp_info(transport) is None
    assert tcp_info(None) is None
    server.close()
