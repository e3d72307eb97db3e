"""Which addresses of clients count as one source, where a source may have so much and no more."""

from __future__ import annotations

import socket
from functools import lru_cache
from typing import Final

_MAPPED: Final = bytes(10) + b"\xff\xff"
"""RFC 4291, section 2.5.5.2."""


def source_of(client_ip: str) -> str:
    """An IPv4 address as it is. An IPv6 address's network of 64 bits: one host may take each address of it (RFC 8981)."""
    return client_ip if ":" not in client_ip else _network(client_ip)


@lru_cache(4096)
def _network(client_ip: str) -> str:
    try:
        packed = socket.inet_pton(socket.AF_INET6, client_ip.partition("%")[0])
    except OSError:
        return client_ip
    if packed.startswith(_MAPPED):
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return f"{socket.inet_ntop(socket.AF_INET6, packed[:8] + bytes(8))}/64"
