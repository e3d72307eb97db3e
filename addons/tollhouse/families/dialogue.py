"""What reads the messages of a WebSocket session, in both directions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from tollhouse.families.asked import Asked, Dialect, Limits, Mode, Request
from tollhouse.families.units import Charge, Estimate


class Exposed(NamedTuple):
    """What one answer of a session may come to. ``asked`` names its models."""

    asked: Asked
    estimate: Estimate


class Unfinished(NamedTuple):
    """An answer of a session that has begun and was not counted."""

    exposure: Exposed
    output_seen: int
    """A rough count, in tokens."""
    seconds: float
    """Since it began."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a dialogue is read by. ``request`` is its handshake. ``limits`` are those of the models that are
    asked for. ``named`` puts models in the place of deployments (`Asked.deployment`)."""

    request: Request
    mode: Mode
    dialect: Dialect
    limits: Callable[[Asked], Limits]
    named: Callable[[Asked], Asked]


class Dialogue(Protocol):
    """Reads the messages of one WebSocket session, whole, in both directions. ``now`` is in seconds, and never goes
    back. It keeps no message."""

    @property
    def asked(self) -> Asked:
        """What the session asks for, as far as it is known."""

    @property
    def charges(self) -> tuple[Charge, ...]:
        """What the provider has counted: the sums of all answers."""

    @property
    def requests(self) -> int:
        """How many answers were asked for."""

    @property
    def created(self) -> tuple[str, ...]:
        """Ids of objects that the provider says it keeps now."""

    @property
    def error(self) -> str:
        """The code of the last error that the provider told."""

    @property
    def binary(self) -> bool:
        """The server's messages come in binary frames."""

    def heard(self, message: bytes, now: float) -> Asked | None:
        """A message of the client, before it is sent. Gives what it asks for, if its models and objects have to be
        judged. Raises `Refused` for one that can't be read in exactly one way, and for one that is not open."""

    def withdraw(self) -> None:
        """The message that was heard last is not sent."""

    @property
    def lowerable(self) -> Exposed | None:
        """The answer that the message heard last asks for, if its cap may be lowered."""

    def lowered(self, message: bytes, cap: int) -> bytes:
        """That message with its cap at ``cap``, which is less than what it has."""

    def told(self, message: bytes, now: float) -> None:
        """A message of the server, before it is passed on."""

    def exposed(self, now: float) -> tuple[Exposed, ...]:
        """The answers that may still be charged: those that are asked for or under way, and those that the provider
        may begin by itself. The same object as before if nothing has changed."""

    def unfinished(self, now: float) -> tuple[Unfinished, ...]:
        """The answers that are under way."""
