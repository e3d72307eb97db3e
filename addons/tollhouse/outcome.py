"""How a call ended: what dispatch says of it when it is over."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from tollhouse.families.dialogue import Unfinished
from tollhouse.families.meters import Later
from tollhouse.families.units import Charge


class Attempt(NamedTuple):
    """One try at sending a call: how it ended (a status, or an error's code) and how long it took."""

    outcome: str
    duration_ms: float
    unknown: bool = False
    """The attempt ended without an answer, and the provider may have worked on it all the same."""
    provider: str = ""
    """The fallback to which it was made; "" for the call's own provider."""
    began: float = 0.0
    """`time.monotonic()`."""

    @property
    def answered(self) -> bool:
        """Whether the attempt got a status."""
        return self.outcome.isdigit()


class End(StrEnum):
    """How a call ended that passed every gate."""

    NEVER_LEFT = "never left"
    UNKNOWN = "left and no answer"
    """The last attempt was given up, or the client left before its answer came."""
    ERROR = "error status"
    """An error status, or an error object under a status of 2xx before any text."""
    WHOLE = "answered whole"
    """An answer that was made whole before its first byte came."""
    STREAMED = "stream ended"
    FAILED = "stream ended in an error"
    """The provider wrote an error into the stream, after text."""
    CUT = "cut by the provider"
    """The provider cut the answer, or a fault of ours on the way did."""
    LEFT = "left by the client"
    OVER_BUDGET = "ended by the budget"
    STOPPED = "stopped by us"


class LateUsage(NamedTuple):
    """What an answer has told of a call before it (`Pending`), whose own answer is over."""

    charges: tuple[Charge, ...] = ()
    error: str = ""
    later: Later | None = None
    """Where its usage stands, if this answer does not tell it."""


class Outcome(NamedTuple):
    """What dispatch says of a call. Counts are those of the last answer."""

    end: End
    status: int = 0
    """The provider's status. 0 without an answer."""
    in_flight: bool = False
    """The request had left, and the head of its answer had not come."""
    metered: bool = False
    """The answer is one that costs money: a metered operation, a status of 2xx."""
    meter_failed: bool = False
    """The answer, or the rest of it, went on unread, for a fault of ours."""
    streamed: bool = False
    """The answer came as a stream."""
    charges: tuple[Charge, ...] = ()
    """The provider's own count. It is a lower bound unless the answer is whole."""
    output_seen: int = 0
    """A rough count of the tokens of output that were read."""
    silent_s: float = 0.0
    """Seconds in which the gateway waited for the provider and no text came. It may have been
    hidden reasoning."""
    error: str = ""
    """The code of an error that came under a status of 2xx."""
    attempts: tuple[Attempt, ...] = ()
    attempts_unknown: int = 0
    breaker: str = ""
    key_version: str = ""
    first_byte: float | None = None
    """`time.monotonic()` when the first byte of the answer's body came."""
    waited_s: float = 0.0
    """Seconds spent waiting for the provider."""
    created: tuple[str, ...] = ()
    """Ids of objects that the answer says the provider now keeps."""
    later: Later | None = None
    """The usage comes later."""
    seen: LateUsage | None = None
    session: bool = False
    """A WebSocket session. ``charges`` are the sums of its answers that the provider has counted."""
    unfinished: tuple[Unfinished, ...] = ()
    """The answers of a session that had begun and were not counted."""
    requests: int = 1
    """The answers of a session that were asked for."""
