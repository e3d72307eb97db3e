"""What ends the work of an exchange's owner from outside: its client is gone, the gateway stops, the budget or the time of the
call has ended."""

from __future__ import annotations

import asyncio
from types import TracebackType

from tollhouse.denial import Denial, Refused


class ClientGone(Exception):
    """The client closed its connection or reset its stream; nothing more can be sent to it."""


class Stopped(Exception):
    """The gateway is stopping and ends what still runs."""


class Interruption:
    """Of one exchange. The first of each kind counts."""

    __slots__ = ("_refused", "_refused_by", "_stopped", "gone", "scope", "settled")

    def __init__(self) -> None:
        self.gone: str | None = None
        """Why the client is gone."""
        self.scope: InterruptibleScope | None = None
        """Of the block that the owner is in."""
        self.settled = False
        """The end of the budget interrupts the owner no more."""
        self._stopped: str | None = None
        self._refused: Denial | None = None
        self._refused_by = ""

    @property
    def came(self) -> bool:
        return self.gone is not None or self._stopped is not None or self._refused is not None

    def lose(self, why: str) -> bool:
        """False if the client was gone already."""
        if self.gone is not None:
            return False
        self.gone = why
        return True

    def stop(self, why: str) -> None:
        if self._stopped is None:
            self._stopped = why
            self.interrupt()

    def refuse(self, denial: Denial, gate: str) -> None:
        if self._refused is None:
            self._refused, self._refused_by = denial, gate
            if not self.settled:
                self.interrupt()

    def interrupt(self) -> None:
        """Ends the owner's block now; nothing if it is in none."""
        if self.scope is not None:
            self.scope.end_soon()

    def block(self, settled: bool) -> InterruptibleScope:
        if settled:
            self._stopped = None
        return InterruptibleScope(self, settled)

    def raise_if_gone(self) -> None:
        if self.gone is not None:
            raise ClientGone(self.gone)

    def raise_if_ended(self) -> None:
        self.raise_if_gone()
        if self._stopped is not None:
            raise Stopped(self._stopped)
        if self._refused is not None and not self.settled:
            raise Refused.of(self._refused, self._refused_by)


class InterruptibleScope:
    """The block of `Exchange.interruptible`. It is entered once. It does what `asyncio.timeout(None)` does that is rescheduled
    to the present, in half of the time."""

    __slots__ = ("_cancelling", "_ended", "_ends", "_interruption", "_settled", "_task")

    def __init__(self, interruption: Interruption, settled: bool) -> None:
        self._interruption = interruption
        self._settled = settled
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._ends: asyncio.Handle | None = None
        self._ended = False
        """The owner was cancelled."""

    async def __aenter__(self) -> None:
        interruption = self._interruption
        interruption.settled = self._settled
        interruption.raise_if_ended()
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a call is owned by a task")
        self._task, self._cancelling = task, task.cancelling()
        interruption.scope = self

    def end_soon(self) -> None:
        """Cancels the owner in the next turn of the loop, unless it has left by then."""
        if self._ends is None:
            self._ends = asyncio.get_running_loop().call_soon(self._end)

    def _end(self) -> None:
        if self._task is not None:
            self._ended = True
            self._task.cancel()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        interruption = self._interruption
        interruption.scope = None
        task, self._task = self._task, None
        if self._ends is not None:
            self._ends.cancel()
        if not self._ended or task is None:
            return
        if task.uncancel() <= self._cancelling and isinstance(error, asyncio.CancelledError):
            interruption.raise_if_ended()
            raise TimeoutError from error
        if error is None or isinstance(error, TimeoutError):
            # The awaited code has swallowed the cancellation.
            interruption.raise_if_ended()
