"""What a listener asks of the gateway, and what it lets a client use up."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Protocol

from tollhouse.call import ListenerKind, RequestHead
from tollhouse.companions import PassableHost
from tollhouse.denial import Denial
from tollhouse.listen.exchange import Exchange


@dataclass(frozen=True)
class Bounds:
    """What a listener lets a client use up."""

    max_header_bytes: int
    request_timeout_s: float
    max_discarded_bytes: int
    """How much of a body that nobody wants is read on, so that the client sees the answer and not a reset."""
    stalled_timeout_s: float = 300.0
    """How long a client may read nothing of an answer. Meanwhile the call holds money, memory and a connection to the provider."""
    idle_connection_s: float = 300.0
    """How long a connection is kept that has no request."""
    least_body_bytes_s: int = 0
    """A body that comes more slowly is not waited for, once `request_timeout_s` was; 0 is no bound."""


@dataclass
class ConnectRequest:
    """A CONNECT to be judged. ``host`` stays None unless it is admitted: no answer is a refusal."""

    target: str
    headers: tuple[tuple[str, str], ...]
    client_ip: str
    client_certificate: bytes | None = None
    """As in `RequestHead`."""
    host: str | None = None
    passable: PassableHost | None = None
    """The tunnel is passed on without interception, if its client may do that."""
    denial: Denial | None = None
    call_id: str = ""


class Judge(Protocol):
    """Judges tunnels and handshakes. What it raises is a refusal."""

    @property
    def refuses_ech(self) -> bool:
        """A ClientHello with an encrypted name is refused, also where the name beside it may be called."""

    def connect(self, asked: ConnectRequest) -> None:
        """Sets ``host`` or ``denial``."""

    def context(
        self, listener: ListenerKind, connect: ConnectRequest | None, sni: str | None
    ) -> ssl.SSLContext | None:
        """The TLS context for a handshake that names ``sni``; None refuses it. ``connect`` is the tunnel that it is in, None on
        a listener of ours that speaks TLS itself and on the transparent one."""

    def tls_refused(self, head: RequestHead, why: str) -> None:
        """A handshake was refused, or has failed; for the record only. ``why`` has none of the client's bytes."""


class Owner(Protocol):
    """Owns an exchange from its head to its end. If it has not finished it when it returns or raises, the exchange is cut."""

    async def __call__(self, exchange: Exchange) -> None: ...
