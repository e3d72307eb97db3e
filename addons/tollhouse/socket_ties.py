"""What a WebSocket session is given: its bounds, and its ties to the rest of the road."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

from tollhouse.denial import Denial
from tollhouse.families.asked import Asked
from tollhouse.families.dialogue import Exposed
from tollhouse.families.units import Charge
from tollhouse.frames import Message


@dataclass(frozen=True, slots=True)
class SocketBounds:
    """``longest`` are the most bytes of a message; ``idle_s`` is the longest time without one, ``session_s`` that of a whole
    session."""

    longest: int
    idle_s: float
    session_s: float


class Owing(NamedTuple):
    """What a session has come to, and may still come to."""

    asked: Asked
    charges: tuple[Charge, ...]
    exposed: tuple[Exposed, ...]
    requests: int
    lowerable: Exposed | None = None
    """The answer among them whose cap may be lowered."""


Altering = Callable[[Message, bool], Awaitable[Message | None]]
"""What an operator's addons make of a message; whether it is the client's. None: it is dropped. Raises `Refused`."""


class Ties(NamedTuple):
    """How a session speaks to the rest of the road. Each of them raises `Refused` for what may not go on."""

    heard: Callable[[bytes, float], Awaitable[Asked | None]]
    """Reads a message of the client's."""
    judge: Callable[[Asked], Awaitable[None]]
    """The models and objects that a message names."""
    cover: Callable[[Owing], Awaitable[int | None]]
    """Holds what was counted and what may still be charged. It gives the cap to which an answer has to be lowered for
    that."""
    note: Callable[[], Awaitable[None]]
    """Objects that the provider keeps from now on."""
    check: Callable[[], Awaitable[None]]
    """Whoever calls may still call."""
    error: Callable[[Denial], bytes]
    """The message that tells the client why the session ends."""
    alter: Altering | None = None
    """None where no addon takes messages."""
