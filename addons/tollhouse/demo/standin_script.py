"""What the stand-in can be told to do with a request instead of simply answering it.

A `Behaviour` is data, and its fields combine. `Latch` and `Steps` are opened by the test's thread and awaited by the
stand-in's loop, so a test decides the order of events and never sleeps.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, Literal

NEXT_MESSAGE: Final = "\f"


class Latch:
    """Closed until `open` is called, from any thread."""

    def __init__(self) -> None:
        self._future: Future[None] = Future()
        self._lock = threading.Lock()

    def open(self) -> None:
        with self._lock:
            if not self._future.done():
                self._future.set_result(None)

    async def passed(self) -> None:
        """Return when the gate is open. A waiter that is cancelled leaves it as it is."""
        await asyncio.shield(asyncio.wrap_future(self._future))


class Steps:
    """Lets the pieces of one answer out one by one.

    Each frame of a stream waits for one permit, and so does a cut, after the frames before it.
    """

    def __init__(self) -> None:
        self._gates: list[Latch] = []
        self._lock = threading.Lock()
        self._released = 0
        self._all = False

    def release(self, count: int = 1) -> None:
        """Let the next ``count`` pieces out."""
        with self._lock:
            opened = [
                self._gate(number) for number in range(self._released, self._released + count)
            ]
            self._released += count
        for gate in opened:
            gate.open()

    def release_all(self) -> None:
        """Let out everything that is left, now and later."""
        with self._lock:
            self._all = True
            opened = list(self._gates)
        for gate in opened:
            gate.open()

    async def passed(self, number: int) -> None:
        """Return when piece ``number`` (from 0) may go out."""
        with self._lock:
            gate = self._gate(number)
        await gate.passed()

    def _gate(self, number: int) -> Latch:
        while len(self._gates) <= number:
            gate = Latch()
            if self._all:
                gate.open()
            self._gates.append(gate)
        return self._gates[number]


@dataclass(frozen=True, slots=True)
class ScriptedReply:
    """A fixed answer, sent whatever the request's key is."""

    status: int
    headers: Sequence[tuple[str, str]] = ()
    body: bytes | Sequence[bytes] = b""
    """Pieces are sent one by one, without a content-length."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What to do with one request. With nothing set: the ordinary answer."""

    wait: Latch | None = None
    """Do nothing until it is open; the request is in the book already."""
    reply: ScriptedReply | None = None
    raw: bytes | None = None
    """Write these bytes in place of an HTTP answer, then close."""
    headers: Sequence[tuple[str, str]] = ()
    """Added to the ordinary answer's."""
    text: str | None = None
    """What the assistant says; then it calls no function. `NEXT_MESSAGE` begins another message, where an API has several."""
    usage: bool = True
    """False: the answer carries no usage, whatever was asked."""
    done: bool = True
    """False: a stream ends without ``data: [DONE]``, as HTTP in good order."""
    steps: Steps | None = None
    """Each piece of the body (a frame of a stream, else the whole) waits for its permit."""
    withheld: tuple[bytes, Latch] | None = None
    """A piece with these bytes waits until the latch is open, and so does what is behind it."""
    frames: bytes | None = None
    """Of a WebSocket: these bytes go out behind the handshake in the place of frames, and nothing else does."""
    cut_after: int | None = None
    """Break the connection after this many pieces of the body; -1: before the headers."""
    cut: Literal["reset", "close"] = "reset"
    """``reset`` is a TCP RST, ``close`` an orderly end of TLS and TCP in the middle of the body."""

    async def passed(self, number: int, piece: bytes) -> None:
        """Return when this piece (from 0) may go out."""
        if self.steps is not None:
            await self.steps.passed(number)
        if self.withheld is not None and self.withheld[0] in piece:
            await self.withheld[1].passed()


def reset_before_headers() -> Behaviour:
    return Behaviour(cut_after=-1)


def reset_mid_body(after: int = 1) -> Behaviour:
    """RST after ``after`` frames of a stream; of a plain answer ``after`` = 0 sends half of it."""
    return Behaviour(cut_after=after)


def redirect(location: str, status: int = 302) -> Behaviour:
    return Behaviour(reply=ScriptedReply(status, [("location", location)]))


def reply(
    status: int, body: bytes | Sequence[bytes] = b"", headers: Sequence[tuple[str, str]] = ()
) -> Behaviour:
    return Behaviour(reply=ScriptedReply(status, headers, body))
