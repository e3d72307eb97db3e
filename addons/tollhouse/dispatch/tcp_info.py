"""What Linux knows of a TCP connection and the event loop does not (tcp(7), TCP_INFO; struct tcp_info in linux/tcp.h)."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from typing import Final, NamedTuple

_STATE_AND_ACKED: Final = struct.Struct("=B119xQ")
"""``tcpi_state``, and ``tcpi_bytes_acked`` at byte 120 (Linux 4.2)."""
_ESTABLISHED: Final = 1
_OPTION: Final = socket.TCP_INFO if sys.platform == "linux" else None


class TcpInfo(NamedTuple):
    established: bool
    """The other end has neither closed nor reset the connection, as far as the kernel has heard. It may have heard of that
    before the loop has read it."""
    acknowledged: int
    """Bytes that the other end's kernel has acknowledged since the connection was made. Every segment acknowledges, that
    which closes the connection too."""


def tcp_info(transport: asyncio.BaseTransport | None) -> TcpInfo | None:
    """None where it is not to be had: another system, or a socket that is gone."""
    if transport is None or _OPTION is None:
        return None
    try:
        given = transport.get_extra_info("socket").getsockopt(
            socket.IPPROTO_TCP, _OPTION, _STATE_AND_ACKED.size
        )
        state, acknowledged = _STATE_AND_ACKED.unpack(given)
    except (OSError, ValueError, AttributeError, struct.error):
        return None
    return TcpInfo(state == _ESTABLISHED, acknowledged)
