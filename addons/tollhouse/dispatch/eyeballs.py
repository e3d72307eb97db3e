"""The first of a name's addresses that takes a connection (happy eyeballs, RFC 8305), with probes on its socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Final

import aiohappyeyeballs
from aiohttp.abc import ResolveResult

from tollhouse.dialled_socket import dialled_socket

_DELAY_S: Final = 0.25
"""RFC 8305, section 8."""
_PROBES: Final = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""In seconds, and in probes that nobody answers."""


def probed_socket(info: aiohappyeyeballs.AddrInfoType) -> socket.socket:
    """With probes: who is at the other end, or a firewall on the way, may go without a word."""
    made = dialled_socket(info)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _PROBES.items():
        if hasattr(socket, name):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made


async def connected(addresses: Sequence[ResolveResult]) -> socket.socket:
    """A socket that is connected with one of them. Raises OSError. The caller bounds the time."""
    return await aiohappyeyeballs.start_connection(
        [_info(one) for one in addresses],
        loop=asyncio.get_running_loop(),
        happy_eyeballs_delay=_DELAY_S,
        interleave=1,
        socket_factory=probed_socket,
    )


def _info(one: ResolveResult) -> aiohappyeyeballs.AddrInfoType:
    place = (one["host"], one["port"])
    at = (*place, 0, 0) if one["family"] == socket.AF_INET6 else place
    return one["family"], socket.SOCK_STREAM, socket.IPPROTO_TCP, "", at
