"""What a client's connection needs of others: who speaks over it in the place of `Http1`, and what all connections share."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Protocol

from tollhouse.listen.doors import Bounds, ConnectRequest, Judge, Owner

if TYPE_CHECKING:
    from tollhouse.listen.client_connection import ClientConnection


class Spoken(Protocol):
    """What speaks with the client in the place of `Http1`."""

    def receive(self, data: bytes) -> None: ...
    def receive_end(self) -> None: ...
    def lose(self, why: str) -> None: ...
    def overdue(self, now: float) -> bool: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def retire(self) -> None: ...


class Shared(Protocol):
    """What all connections have together."""

    @property
    def bounds(self) -> Bounds: ...
    @property
    def judge(self) -> Judge: ...
    @property
    def owner(self) -> Owner: ...
    @property
    def retiring(self) -> bool:
        """Answers end their connections."""

    @property
    def leaves_by(self) -> float:
        """When a client of a retiring process is told, even though it has requests under way."""

    def tls(self, *, own: bool) -> ssl.SSLContext:
        """The context that handshakes begin with (`tls.choosing`), with the listener's ``own`` TLS or inside a tunnel."""

    def speaks(
        self,
        connection: ClientConnection,
        *,
        secure: bool,
        sni: str | None,
        connect: ConnectRequest | None,
    ) -> Spoken | None:
        """Who speaks with a client whose TLS has chosen ``connection.alpn``; None: `Http1`."""

    def passes(self, connection: ClientConnection, connect: ConnectRequest, rest: bytes) -> Spoken:
        """Who passes a tunnel on. ``rest`` came behind its CONNECT."""

    def opened(self, connection: ClientConnection) -> bool:
        """Whether there is room for one more."""

    def closed(self, connection: ClientConnection) -> None: ...
