"""What the stand-in wrote down of a request. Pure."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from tollhouse.codings import inflated

_MOST_BYTES: Final = 64 << 20
Outcome = Literal["open", "answered", "refused", "cut", "client_gone", "stopped"]
"""``refused`` is an error status of the stand-in's own; ``cut`` is a connection it broke because it was told to."""


@dataclass(slots=True)
class Received:
    """One request as it arrived, and what became of it. `StandIn.wait_for` tells when a field changes."""

    number: int
    """From 1; the answer's ``x-request-id`` is made of it."""
    method: str
    target: str
    """The request target byte for byte (latin-1)."""
    headers: list[tuple[bytes, bytes]]
    """As sent: order, case and duplicates kept."""
    sni: str | None
    connection: int
    """From 1: requests of one connection share it."""
    at: float
    """Seconds since the epoch when the head had arrived."""
    shown: str = ""
    """The common name of the certificate that the client has shown."""
    body: bytes = b""
    complete: bool = False
    """The whole body has arrived."""
    status: int = 0
    outcome: Outcome = "open"
    sent: list[float] = field(default_factory=list)
    """`time.monotonic` just before each piece of the answer's body was written: whoever has a piece finds it here. Of a
    WebSocket: before each message."""

    messages: list[bytes] = field(default_factory=list)
    """Of a WebSocket: what the client sent, each whole."""
    came: list[tuple[str, bytes]] = field(default_factory=list)
    """Of a WebSocket: these messages among the client's pings, pongs and close, in their order: the kind, and the payload or the
    reason."""
    bills: list[dict[str, Any]] = field(default_factory=list)
    """Of a WebSocket: the usage of each answer, as it was told."""
    close_code: int | None = None
    """Of a WebSocket: that of the client's close."""

    @property
    def request_id(self) -> str:
        return f"req_{self.number:012d}"

    def get_all(self, name: str) -> list[str]:
        """The values of header ``name``, whatever its case."""
        return [
            value.decode("latin-1")
            for key, value in self.headers
            if key.decode("latin-1").lower() == name.lower()
        ]

    def get(self, name: str) -> str:
        return next(iter(self.get_all(name)), "")

    def document(self) -> dict[str, Any]:
        """The body as JSON; raises ``ValueError`` if it is none."""
        coding = self.get("content-encoding")
        body = inflated(self.body, coding, _MOST_BYTES) if coding else self.body
        return dict(json.loads(body))

    def everything(self) -> bytes:
        """All that came, for searching: request line, headers, body."""
        head = b"".join(key + b": " + value + b"\r\n" for key, value in self.headers)
        return f"{self.method} {self.target}\r\n".encode("latin-1") + head + b"\r\n" + self.body

    def as_json(self) -> str:
        """One line for the book file of a stand-in that runs alone; the body is base64."""
        return json.dumps(
            {
                "number": self.number,
                "request_id": self.request_id,
                "at": self.at,
                "connection": self.connection,
                "sni": self.sni,
                "method": self.method,
                "target": self.target,
                "headers": [[k.decode("latin-1"), v.decode("latin-1")] for k, v in self.headers],
                "body": base64.b64encode(self.body).decode(),
                "status": self.status,
                "outcome": self.outcome,
            }
        )
