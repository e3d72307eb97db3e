"""What a family's contract is tried with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tollhouse.families.asked import Dialect
from tollhouse.families.base import Family, Verdict
from tollhouse.families.units import Charge
from tollhouse.headers import Headers

EVENTS: Headers = (("content-type", "text/event-stream"),)
JSON: Headers = (("content-type", "application/json"),)


@dataclass(frozen=True)
class Exchange:
    """One request, and what its provider answers. ``passed`` is what the client gets, if not the same. ``text`` says at which
    byte of the answer its first text has come whole; None for an answer that shows none on its way. ``created`` are ids of
    objects in the answer, and ``objects`` those that the request's body names. ``headers`` are those of the answer, and
    ``sent`` those of the request."""

    name: str
    path: str
    request: bytes
    answer: bytes
    charges: tuple[Charge, ...]
    headers: Headers = JSON
    passed: bytes | None = None
    text: int | None = None
    error: str = ""
    method: str = "POST"
    query: str = ""
    sent: Headers = JSON
    created: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()


@dataclass(frozen=True)
class Samples:
    """``open`` has method and path of one request for each route, with the query where that decides.
    ``malformed`` are requests to the first exchange's path that two parsers could read differently. A verdict is a status, an
    error's body, and what it says of the key."""

    family: Family
    open: tuple[tuple[str, str], ...]
    host: str = ""
    provider: str = ""
    """Whose built-in entry has this family and dialect; "" for the tests' own."""
    exchanges: tuple[Exchange, ...] = ()
    malformed: tuple[bytes, ...] = ()
    verdicts: tuple[tuple[int, bytes, Verdict | None], ...] = ()
    dialect: Dialect = field(default_factory=Dialect)
    sockets: tuple[str, ...] = ()
    """Path and query of the handshake of each WebSocket."""
    event_json: Callable[[bytes], bytes] = bytes
    """Takes the JSON of our event out of its framing, where the framing may itself have braces."""


def sse(*events: str) -> bytes:
    """Unnamed server-sent events."""
    return b"".join(f"data: {event}\n\n".encode() for event in events)
