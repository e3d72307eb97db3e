"""The handshake of a WebSocket with a provider (RFC 6455 4.1). No extension is offered: frames could not be read."""

from __future__ import annotations

from itertools import chain
from typing import Final

from wsproto.utilities import generate_accept_token, generate_nonce

from tollhouse.dispatch.answer import Answer, UpstreamError
from tollhouse.dispatch.http_client import RoundTrip
from tollhouse.headers import Headers

PROTOCOL: Final = "sec-websocket-protocol"


class SocketHandshake:
    """One handshake. ``offered`` are the headers of the request; the subprotocols among them are offered."""

    def __init__(self, offered: Headers) -> None:
        named = ",".join(value for name, value in offered if name == PROTOCOL)
        self._subprotocols = frozenset(name.strip() for name in named.split(","))
        nonce = generate_nonce()
        self._accept = generate_accept_token(nonce).decode()
        self.headers = [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", nonce.decode()),
        ]

    def accepted(self, round_trip: RoundTrip, where: str) -> Answer:
        """The answer, with its connection. Raises `UpstreamError` for one that accepts another thing than was asked for,
        and closes its connection."""
        given = round_trip.headers
        problem = ""
        if round_trip.status != 101:
            problem = f"It answered {round_trip.status} to the handshake of a WebSocket."
        elif [value.lower() for value in given.getall("upgrade", ())] != ["websocket"]:
            problem = "It switched to what is no WebSocket."
        elif given.getall("sec-websocket-accept", ()) != [self._accept]:
            problem = "Its Sec-WebSocket-Accept is not that of this handshake."
        elif given.getall("sec-websocket-extensions", ()):
            problem = "It switched to an extension that was not asked for."
        elif len(chosen := given.getall(PROTOCOL, ())) > 1 or not (
            self._subprotocols.issuperset(chosen)
        ):
            problem = "It switched to a subprotocol that was not asked for."
        elif not "".join(chain.from_iterable(given.items())).isprintable():
            problem = "The headers of its answer contain control characters."
        if problem:
            round_trip.close()
            raise UpstreamError("upstream_bad_answer", f"{where}: {problem}", "maybe")
        connection = round_trip.take_over()
        headers = [(name.lower(), value) for name, value in given.items()]
        return Answer(101, headers, connection.read, connection.close, connection)
