"""`tollhouse check`: can the listeners' ports be bound, and if not, is it our own gateway that has them?"""

from __future__ import annotations

import asyncio
import errno
import http.client
import socket
from typing import Final

from tollhouse.check.finding import Finding
from tollhouse.config.load import Address, Config
from tollhouse.control.client import reachable

LISTENERS: Final = ("proxy", "base_url", "transparent", "admin")


async def check_ports(config: Config) -> list[Finding]:
    """One finding a listener that is not off."""
    addresses = [(name, getattr(config.listen, name)) for name in LISTENERS]
    return await asyncio.to_thread(
        lambda: [_port(config, name, address) for name, address in addresses if address]
    )


def _port(config: Config, name: str, address: Address) -> Finding:
    trouble = _bind(address)
    if trouble is None:
        return Finding("ok", f"listen.{name} {address} is free.")
    if trouble.errno == errno.EADDRINUSE:
        if is_our_gateway(config):
            return Finding(
                "ok",
                f"listen.{name} {address} is in use.",
                "The gateway of this state directory is running.",
            )
        why = "Another program listens there."
        todo = f"Stop it (`ss -ltnp 'sport = :{address.port}'` shows it), or give listen.{name} another port."
    elif trouble.errno in (errno.EACCES, errno.EPERM):
        why = "This user may not bind a port below 1024."
        todo = "Grant CAP_NET_BIND_SERVICE, or take a port from 1024 on."
    elif trouble.errno == errno.EADDRNOTAVAIL:
        why = "The address is not one of this machine."
        todo = "Use one of its addresses, 127.0.0.1 or 0.0.0.0; this check must run where the gateway will."
    else:
        why = f"{trouble.strerror or type(trouble).__name__}."
        todo = f"Correct listen.{name}."
    return Finding("error", f"listen.{name} {address} can't be bound.", why, todo)


def _bind(address: Address) -> OSError | None:
    """Why the address can't be bound, or None. Nothing ever listens there."""
    try:
        found = socket.getaddrinfo(
            address.bound_to, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, place = found[0]
        with socket.socket(family, kind, protocol) as probe:
            # As servers do: a connection of the last run in TIME_WAIT does not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(place)
    except OSError as error:
        return error
    return None


def is_our_gateway(config: Config) -> bool:
    """Whether a gateway of this state directory, or on this admin address, is running."""
    if reachable(config.state.directory):
        return True
    admin = config.listen.admin
    if admin is None or admin.port == 0:
        return False
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(admin.host, admin.host)  # noqa: S104
    connection = http.client.HTTPConnection(host, admin.port, timeout=2)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().getheader("server") == "tollhouse"
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
