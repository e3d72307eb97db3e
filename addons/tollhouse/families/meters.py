"""What reads an answer as it passes by, and counts what it used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from tollhouse.families.units import Charge
from tollhouse.headers import Headers


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """An answer's status and headers, as the provider sent them."""

    status: int
    headers: Headers

    def get(self, name: str) -> str:
        """The first value of header ``name`` (lower case), "" if there is none."""
        return next((value for key, value in self.headers if key == name), "")


class Boundary(Protocol):
    """Where the client of a stream can still be told something: between two of its events."""

    @property
    def between(self) -> bool:
        """Whether the bytes that were sent so far end with a whole event."""

    def sent(self, data: bytes) -> None:
        """Called when ``data`` went to the client."""

    def cut(self, data: bytes) -> bytes:
        """The beginning of ``data`` up to the first end of an event. All of ``data`` if no event
        ends in it."""


class Meter(Protocol):
    """Reads one answer as it passes by.

    A meter raises nothing: what it can't read it passes on unread.
    """

    @property
    def output_seen(self) -> int:
        """Tokens of output in what was read: a rough count of the text, or the provider's own if that is more."""

    @property
    def done(self) -> bool:
        """The answer has said itself that it is over. More bytes may follow."""

    @property
    def error(self) -> str:
        """The code of an error that the provider wrote into an answer of status 2xx, else ""."""

    @property
    def edits(self) -> bool:
        """Whether `feed` may give fewer bytes than it gets. This is known when the first bytes were
        fed."""

    @property
    def boundary(self) -> Boundary | None:
        """None: no event of ours can be put into this answer."""

    @property
    def created(self) -> tuple[str, ...]:
        """Ids of objects that the answer says the provider now keeps."""

    def feed(self, data: bytes) -> bytes:
        """The bytes that go to the client now."""

    def flush(self) -> bytes:
        """Called at the end of the answer. Gives the bytes that were held back."""

    def finish(self) -> tuple[Charge, ...]:
        """The provider's count so far. Empty if it has counted nothing. It may be asked at any
        time."""


class Later(NamedTuple):
    """An answer whose usage comes later. A meter that may meet one has an attribute ``later``: this,
    or None."""

    id: str
    """Of the object by which it is asked for."""
    path: str
    """GET shows it there."""
    facts: str = ""
    """What `Family.late_meter` has to know of the request; at most 2,000 characters."""


class LateMeter(Meter, Protocol):
    """Reads an answer that shows what became of an answer before it."""

    @property
    def ended(self) -> bool:
        """That answer is over: its usage does not change any more."""

    @property
    def later(self) -> Later | None:
        """Where the usage of that answer stands, if it is over and its usage is not shown here."""


class PassThrough:
    """The meter of an answer that costs nothing, or of an error."""

    output_seen = 0
    done = False
    error = ""
    edits = False
    boundary: Boundary | None = None
    created: tuple[str, ...] = ()
    later: Later | None = None
    ended = False

    def feed(self, data: bytes) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""

    def finish(self) -> tuple[Charge, ...]:
        return ()
