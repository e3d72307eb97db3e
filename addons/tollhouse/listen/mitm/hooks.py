"""What is asked of our addons: mitmproxy hooks of our own, each with exactly one field, and what they are asked about."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from mitmproxy.proxy import commands
from OpenSSL import SSL

from tollhouse.call import ListenerKind, RequestHead
from tollhouse.denial import Denial
from tollhouse.listen.exchange import Exchange

Commands = Generator[commands.Command, Any, None]
"""What a layer's handling of an event gives."""


@dataclass(frozen=True)
class Bounds:
    """What a listener lets a client use up."""

    max_header_bytes: int
    request_timeout_s: float
    max_discarded_bytes: int
    """How much of a body that nobody wants is read on, so that the client sees the answer and not a reset."""


@dataclass
class ConnectRequest:
    """A CONNECT to be judged. ``host`` stays None unless an addon admits it: no answer is a refusal."""

    target: str
    headers: tuple[tuple[str, str], ...]
    client_ip: str
    host: str | None = None
    denial: Denial | None = None
    call_id: str = ""


@dataclass(eq=False)
class TollhouseConnectHook(commands.StartHook):
    """A client asks for a tunnel."""

    data: ConnectRequest


@dataclass(eq=False)
class TollhouseCallHook(commands.StartHook):
    """A request's head has arrived. The addon's coroutine owns the exchange from here to its end."""

    data: Exchange
    blocking = False


@dataclass
class Handshake:
    """A TLS handshake to be judged by its SNI. ``connection`` stays None unless an addon brings one: no answer ends it.

    ``connect`` is the tunnel it is in, None on a listener of ours that speaks TLS itself and on the transparent one.
    """

    listener: ListenerKind
    connect: ConnectRequest | None
    sni: str | None
    connection: SSL.Connection | None = None


@dataclass(eq=False)
class TollhouseHandshakeHook(commands.StartHook):
    """A client has said for which host it wants TLS."""

    data: Handshake


@dataclass(eq=False)
class TollhouseTlsRefusedHook(commands.StartHook):
    """A TLS handshake with a client was refused or failed; for the record only."""

    data: RequestHead
    blocking = False
