"""Where a stream ends whose budget has come to its end: behind an event, where the client can still be told why."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from tollhouse.denial import Denial

_EVENT_ENDS: Final = (b"\n\n", b"\r\n\r\n", b"\r\r")
_REST: Final = 65_536
"""Bytes that an event may still have after the budget's end came in the middle of it; then the answer is cut."""


class Ending:
    """One stream's, from what the client was sent of it."""

    __slots__ = ("_denial", "_rest", "between_events")

    def __init__(self) -> None:
        self.between_events = True
        """The client has whole events, and no piece of one."""
        self._denial: Denial | None = None
        self._rest = _REST

    def cut(self, data: bytes) -> bytes:
        """What of ``data`` is still to be sent: after the budget's end, no more than to the end of an event."""
        if self._denial is None:
            return data
        ends = [at + len(end) for end in _EVENT_ENDS if (at := data.find(end)) >= 0]
        data = data[: min(ends, default=len(data))]
        self._rest -= len(data)
        return data

    def sent(self, data: bytes) -> None:
        self.between_events = data.endswith(_EVENT_ENDS)

    async def due(self, covers: Callable[[int], Awaitable[Denial | None]], seen: int) -> Denial | None:
        """Why the stream is to end here, None if it goes on. ``covers`` is asked about ``seen`` wherever a piece ends: a client
        that reads slowly decides where they do, and could see to it that none is the end of an event."""
        if self._denial is None:
            self._denial = await covers(seen)
        return self._denial if self.between_events or self._rest < 0 else None
