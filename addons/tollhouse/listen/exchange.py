"""One request and its answer as the road sees them, with the listener's protocol hidden behind a `Wire`.

The layer (`listen.mitm`) feeds the request's body in; the coroutine that owns the call reads it and writes the answer.
Everything happens on one event loop; nothing here is safe for threads.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from tollhouse.admit.bodies import KeptBody
from tollhouse.admit.connection_limits import Occupant
from tollhouse.call import RequestHead
from tollhouse.denial import Denial, Refused
from tollhouse.listen.interruption import ClientGone, InterruptibleScope, Interruption, Stopped


class Wire(Protocol):
    """The client's side of one exchange. The methods only queue bytes, `drain` waits until they are taken. `switch` is for a
    wire that ``switches``: behind its 101 the bytes of both directions are the owner's, as they are."""

    @property
    def switches(self) -> bool: ...
    def send_continue(self) -> None: ...
    def send_head(
        self, status: int, headers: Sequence[tuple[str, str]], data: bytes, *, end: bool
    ) -> None: ...
    def send_data(self, data: bytes) -> None: ...
    def send_end(self) -> None: ...
    def switch(self, headers: Sequence[tuple[str, str]]) -> None: ...
    def abort(self) -> None: ...
    def congested(self) -> bool: ...
    async def drain(self) -> None: ...


class Exchange:
    """A request under way.

    ``defect`` is set when the request could not be parsed. It is the only answer that can be given
    then.

    The owner is interrupted only inside ``async with exchange.interruptible()``, and there at once:
    with `ClientGone` when the client is lost, with `Stopped` when the gateway stops, and with
    `Refused` when the budget ends. Work that must not be interrupted (holding, settling) is done
    outside of the block.
    """

    def __init__(
        self,
        head: RequestHead,
        wire: Wire,
        defect: Denial | None = None,
        *,
        least_body_bytes_s: int = 0,
        occupant: Occupant | None = None,
    ) -> None:
        self.head = head
        self.occupant = occupant
        """Of the connection that it came over. None: that is not counted."""
        self.defect = defect
        self._interruption = Interruption()
        self.began = time.monotonic()
        self.answered = False
        """The answer's head was sent."""
        self.finished = False
        """The answer is complete, or the exchange was aborted."""
        self.body_complete = False
        self.buffered = 0
        self.received = 0
        self.discarded = 0
        """Bytes of the body that came when nobody wanted them any more."""
        self.waited_s = 0.0
        """Seconds in which the owner waited for the client: for its body, or until it took the
        bytes of the answer."""
        self._wire = wire
        self._chunks: deque[bytes] = deque()
        self._least_body_bytes_s = least_body_bytes_s
        self._body_waited_s = 0.0
        """Seconds in which the body was waited for."""
        self._releases: list[Callable[[], object]] = []
        self._waiter: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._discarding = False
        self._spoilt: Denial | None = None
        # RFC 9110 10.1.1: what an HTTP/1.0 request expects is ignored.
        self._expects_continue = (
            head.get("expect") or ""
        ).lower() == "100-continue" and head.http_version != "1.0"

    # What the layer calls.

    def feed(self, data: bytes) -> None:
        """A piece of the request's body has arrived."""
        self.received += len(data)
        if self._discarding:
            self.discarded += len(data)
        else:
            self._chunks.append(data)
            self.buffered += len(data)
        self._wake()

    async def room(self, limit: int) -> None:
        """Waits until no more than ``limit`` bytes of the body are unread, or until nobody will
        read them."""
        while self.buffered > limit:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def feed_end(self) -> None:
        self.body_complete = True
        self._wake()

    def spoil(self, denial: Denial) -> None:
        """Called when the rest of the request's body can't be read. Ends `read_all` with this
        refusal."""
        self._spoilt = denial
        self._wake()

    def lose(self, why: str) -> None:
        """Called when the client is gone. Ends the owner's `interruptible` block."""
        if not self.finished and self._interruption.lose(why):
            self._drop_body()
            self._interruption.interrupt()

    def stop(self, why: str) -> None:
        """The gateway ends this exchange."""
        if not self.finished:
            self._interruption.stop(why)

    def refuse(self, denial: Denial, gate: str = "budget") -> None:
        """Called when the budget, or the time of the call, has ended. Ends the owner's
        `interruptible` block with `Refused`, of this gate."""
        if not self.finished:
            self._interruption.refuse(denial, gate)

    def interrupt(self) -> None:
        """End the owner's interruptible scope now; nothing if it is in none."""
        self._interruption.interrupt()

    # What the owner of the call calls.

    def interruptible(self, *, settled: bool = False) -> InterruptibleScope:
        """Raises `ClientGone`, `Stopped` or the `Refused` of `refuse` out of the block as soon as one of them is so. Of a call
        that is ``settled`` the client is told what is left to tell: no `refuse` ends that, nor a `stop` that came before."""
        return self._interruption.block(settled)

    @property
    def gone(self) -> str | None:
        """Why the client is gone, or None while it is there."""
        return self._interruption.gone

    @property
    def congested(self) -> bool:
        """The client does not take what was sent."""
        return self._wire.congested()

    async def read_all(self, limit: int, idle_s: float, kept: KeptBody | None = None) -> bytes:
        """The whole request body. ``kept`` counts it for as long as the exchange is not finished.

        Raises `Refused`: 413 past ``limit`` bytes, 408 after ``idle_s`` seconds without a byte, 400 for a body that is
        malformed, 429 and 503 for one that ``kept`` has no room for; and `ClientGone`.
        """
        if kept is not None:
            self.at_end(kept.release)
        size = 0
        parts: list[bytes] = []
        while part := await self.read(limit + 1, idle_s):
            size += len(part)
            if size > limit:
                raise Refused(
                    "body_too_large", f"The limit is {limit} bytes ([limits] max_body_bytes)."
                )
            if kept is not None:
                kept.extend(len(part))
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def read(self, most: int, idle_s: float) -> bytes:
        """The next bytes of the request's body, about ``most`` at most; b"" at its end. One reader at a
        time.

        Raises `Refused`: 408 after ``idle_s`` seconds without a byte, 400 for a body that is
        malformed; and `ClientGone`.
        """
        if self._expects_continue and not self.body_complete:
            self._expects_continue = False
            self._wire.send_continue()
        while True:
            if self._chunks:
                return self._next(most)
            self._make_room()
            self._interruption.raise_if_ended()
            if self._spoilt is not None:
                raise Refused.of(self._spoilt)
            if self.body_complete:
                return b""
            self._waiter = asyncio.get_running_loop().create_future()
            since = time.monotonic()
            try:
                async with asyncio.timeout(min(idle_s, self._body_left_s(idle_s))):
                    await self._waiter
            except TimeoutError:
                why = f"No byte of the body came for {idle_s:g} s."
                if self._body_left_s(idle_s) < idle_s:
                    why = f"Its body comes more slowly than {self._least_body_bytes_s} bytes a second."
                raise Refused("timeout", why) from None
            finally:
                self._waiter = None
                waited_s = time.monotonic() - since
                self.waited_s += waited_s
                self._body_waited_s += waited_s

    def _body_left_s(self, idle_s: float) -> float:
        """Seconds for which the body is still waited for in all. They do not run while it is there and nobody reads it."""
        if not self._least_body_bytes_s:
            return idle_s
        return max(0.0, idle_s + self.received / self._least_body_bytes_s - self._body_waited_s)

    async def read_beside(self, most: int, idle_s: float) -> bytes:
        """`read` for a task that works for the owner. What interrupts the owner is not raised here: the owner ends the task."""
        try:
            return await self.read(most, idle_s)
        except (ClientGone, Stopped, Refused):
            if not self._interruption.came:
                raise
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    def _next(self, most: int) -> bytes:
        part = self._chunks.popleft()
        size = len(part)
        if self._chunks and size < most:
            parts = [part]
            while self._chunks and size + len(self._chunks[0]) <= most:
                parts.append(self._chunks.popleft())
                size += len(parts[-1])
            part = b"".join(parts)
        self.buffered -= size
        self._make_room()
        return part

    def put_back(self, data: bytes) -> None:
        """``data`` is what `read` gives next."""
        if data and not self._discarding:
            self._chunks.appendleft(data)
            self.buffered += len(data)

    def at_end(self, release: Callable[[], object]) -> None:
        """``release`` is called when the exchange is finished."""
        if self.finished:
            release()
        else:
            self._releases.append(release)

    @property
    def switches(self) -> bool:
        """Whether the client can be answered by `switch`."""
        return self._wire.switches

    def switch(self, headers: Sequence[tuple[str, str]]) -> None:
        """Answers 101. From then on `read_switched` gives the client's bytes, and `send` sends ours, as they are."""
        self._interruption.raise_if_gone()
        self.answered = True
        self.body_complete = False
        self._wire.switch(headers)

    async def read_switched(self) -> bytes:
        """The next bytes of the client's, behind `switch`. Raises what `interruptible` raises."""
        while not self._chunks:
            self._interruption.raise_if_ended()
            self._waiter = asyncio.get_running_loop().create_future()
            since = time.monotonic()
            try:
                await self._waiter
            finally:
                self._waiter = None
                self.waited_s += time.monotonic() - since
        data = self._chunks.popleft() if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self.buffered = 0
        self._make_room()
        return data

    def start(
        self,
        status: int,
        headers: Sequence[tuple[str, str]],
        data: bytes = b"",
        *,
        end: bool = False,
    ) -> None:
        """Send the answer's head, with the first bytes of its body if they are there. Framing headers are the wire's
        business; ``content-length`` is kept if given."""
        self._interruption.raise_if_gone()
        self.answered = True
        if end:
            self._finish()
        self._wire.send_head(status, headers, data, end=end)

    async def send(self, data: bytes) -> None:
        """Send a piece of the answer's body and wait while the client does not take it. Raises `ClientGone`."""
        if self._interruption.gone is not None:
            self._interruption.raise_if_gone()
        if data:
            self._wire.send_data(data)
        if self._wire.congested():
            since = time.monotonic()
            try:
                await self._wire.drain()
            finally:
                self.waited_s += time.monotonic() - since

    def end(self) -> None:
        self._interruption.raise_if_gone()
        self._finish()
        self._wire.send_end()

    def abort(self) -> None:
        """Cut the answer so that the client sees it is incomplete."""
        if not self.finished:
            self._finish()
            if self._interruption.gone is None:
                self._wire.abort()

    def answer(self, status: int, headers: Sequence[tuple[str, str]], body: bytes) -> None:
        """Send a whole answer that is in memory."""
        length = ("content-length", str(len(body)))
        # RFC 9110 9.3.2: to HEAD, the length that GET's answer would have, and no body.
        self.start(
            status, [*headers, length], b"" if self.head.method == "HEAD" else body, end=True
        )

    def _finish(self) -> None:
        self.finished = True
        self._discarding = True
        self._drop_body()
        for release in self._releases:
            release()
        self._releases.clear()

    def _drop_body(self) -> None:
        self._chunks.clear()
        self.buffered = 0
        self._make_room()

    def _make_room(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
