"""The way through a corporate proxy: dialling it, CONNECT, and what it answers.

The proxy looks the provider's name up. TLS with the provider is spoken inside the tunnel, so the proxy sees the name and no key.
"""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

from aiohttp.abc import ResolveResult

from tollhouse.credential.secret import Secret
from tollhouse.dispatch.eyeballs import connected
from tollhouse.providers import UpstreamProxy

_MAX_HEAD: Final = 16_384
_HEAD: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: [^\r\n]*)?\r\n")


class ProxyFailed(Exception):
    """There is no tunnel. ``code`` is a reason code, ``why`` names the proxy."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(code)
        self.code = code
        self.why = why[:1].upper() + why[1:]


@dataclass(frozen=True, slots=True)
class Via:
    """``tls`` is None for a proxy that is spoken to in plain text. ``host`` and ``port`` are where the tunnel ends."""

    proxy: UpstreamProxy
    tls: ssl.SSLContext | None
    host: str
    port: int
    authorization: Secret | None = None

    @property
    def where(self) -> str:
        return f"the proxy {self.proxy.host}:{self.proxy.port}"


def authorization(username: str, password: str) -> Secret:
    """The value of Proxy-Authorization."""
    given = base64.b64encode(f"{username}:{password}".encode()).decode()
    return Secret(f"Basic {given}")


async def open_tunnel(via: Via, addresses: Sequence[ResolveResult]) -> asyncio.Transport:
    """A transport whose other side is the provider. Nothing has been read from it. Raises `ProxyFailed`; the caller bounds
    the time."""
    loop = asyncio.get_running_loop()
    try:
        dialled = await connected(addresses)
    except OSError as error:
        why = f"{via.where} can't be reached ({error.strerror or type(error).__name__})."
        raise ProxyFailed("upstream_unreachable", why) from None
    try:
        made, opening = await loop.create_connection(
            _Opening,
            sock=dialled,
            ssl=via.tls,
            server_hostname=via.proxy.host if via.tls is not None else None,
        )
    except (ssl.SSLError, OSError) as error:
        dialled.close()
        said = getattr(error, "verify_message", "") or getattr(error, "reason", "") or "TLS failed"
        raise ProxyFailed("upstream_tls", f"{via.where}: {said}.") from None
    except BaseException:
        dialled.close()
        raise
    transport = made
    try:
        transport.write(_connect(via))
        _judge(via, await opening.head)
    except BaseException:
        transport.abort()
        raise
    return transport


def _connect(via: Via) -> bytes:
    literal = f"[{via.host}]" if ":" in via.host else via.host
    lines = [f"CONNECT {literal}:{via.port} HTTP/1.1", f"Host: {literal}:{via.port}"]
    if via.authorization is not None:
        lines.append(f"Proxy-Authorization: {via.authorization.reveal()}")
    return "\r\n".join([*lines, "", ""]).encode()


def _judge(via: Via, head: bytes) -> None:
    match = _HEAD.match(head)
    if match is None:
        problem = "answers what is no HTTP/1" if head else "closed the connection"
        raise ProxyFailed("upstream_unreachable", f"{via.where} {problem}.")
    status = int(match[1])
    if status == 407:
        why = (
            "wants a user name and a password, and there are none for it (the key secret)"
            if via.authorization is None
            else "refuses the user name and the password that the store has"
        )
        raise ProxyFailed("upstream_unreachable", f"{via.where} {why}.")
    if not 200 <= status < 300:
        why = f"answers {status} to CONNECT {via.host}:{via.port}"
        raise ProxyFailed("upstream_unreachable", f"{via.where} {why}.")
    if not head.endswith(b"\r\n\r\n"):
        # Nobody but the proxy could have said that: the provider's TLS waits for ours.
        raise ProxyFailed("upstream_unreachable", f"{via.where} sends more than its answer.")


class _Opening(asyncio.Protocol):
    """Reads the proxy's answer to CONNECT. ``head`` is b"" if it has given none."""

    def __init__(self) -> None:
        self.head: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._came = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._came += data
        if b"\r\n\r\n" in self._came:
            # What comes behind it is for whoever takes the transport.
            assert self._transport is not None
            self._transport.pause_reading()
            self._is(self._came)
        elif len(self._came) > _MAX_HEAD:
            self._is(self._came)

    def connection_lost(self, error: Exception | None) -> None:
        self._is(b"")

    def _is(self, head: bytes) -> None:
        if not self.head.done():
            self.head.set_result(head)
