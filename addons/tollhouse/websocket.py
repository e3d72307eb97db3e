"""A WebSocket session between its client and its provider: messages in both directions, the hold that has to cover them, and its
end.

A message of the client's is judged whole, and what it may cost is held, before it leaves. Messages go on one by one, each when
the other side has taken the one before, so that whoever reads slowly makes the other wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Coroutine
from typing import Final

from tollhouse.denial import Denial, Fault, Refused
from tollhouse.dispatch.upstreamed import Upstreamed
from tollhouse.families.dialogue import Dialogue, Exposed, Unfinished
from tollhouse.frames import (
    FAULT,
    GOING_AWAY,
    NO_CODE,
    POLICY,
    BadFrames,
    Frames,
    Message,
    Room,
    Side,
    SideLost,
)
from tollhouse.listen.exchange import Exchange
from tollhouse.socket_ties import Owing, SocketBounds, Ties

log = logging.getLogger(__name__)

_TICK_S: Final = 1.0
_CHECK_EVERY_S: Final = 5.0
"""How soon a session ends whose token was revoked."""
_CLOSE_WITHIN_S: Final = 5.0
"""How long the other side has for its own close."""
_LONG: Final = 262_144
"""Bytes of a provider's message that a thread reads."""
_LAST_ANSWER_S: Final = 30.0
"""When no more can be held, an answer that is under way may end for so long: it was held for."""


class Session:
    """One session. ``clock`` gives seconds that never go back; what is to end by it is looked at every ``tick_s``."""

    def __init__(
        self,
        exchange: Exchange,
        upstreamed: Upstreamed,
        dialogue: Dialogue,
        ties: Ties,
        bounds: SocketBounds,
        room: Room,
        clock: Callable[[], float] = time.monotonic,
        tick_s: float = _TICK_S,
    ) -> None:
        self._upstreamed = upstreamed
        self._provider = upstreamed.side
        self._client = Side(
            exchange.read_switched,
            exchange.send,
            Frames(client=False, longest=bounds.longest, room=room),
        )
        self._dialogue = dialogue
        self._ties = ties
        self._alter = ties.alter
        self._bounds = bounds
        self._clock = clock
        self._tick_s = tick_s
        self._began = self._last = clock()
        self._reading = asyncio.Lock()
        """The dialogue reads one message at a time: a long one is read by a thread."""
        self._closes: Message | None = None
        """The first close that came."""
        self._closed_by_client = False
        self.left = False
        """The client has closed it while an answer was under way."""
        self._quiet = asyncio.Event()
        """No answer is under way."""
        self._covered: tuple[Exposed, ...] = ()
        """What was held for last."""
        self._farewell = Message("close", b"", NO_CODE)
        """The close that the client is sent, if it was sent none."""
        self.denial: Denial | None = None
        """Why we have ended it."""

    @property
    def over(self) -> bool:
        """One side has closed it."""
        return self._closes is not None

    async def run(self) -> bool:
        """Until it has ended. `Session.denial` says why, if we did. True: the client is to be told by `farewell`, and else
        its connection is to be cut. Raises what the exchange raises."""
        tasks = [
            asyncio.create_task(work)
            for work in (self._from_client(), self._from_provider(), self._watch())
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            other = [task for task in tasks[:2] if task not in done]
            if self._closes is not None and other and tasks[2] not in done:
                # The other side answers with its own close.
                await self._within(_CLOSE_WITHIN_S, other)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                return await self._broken(error)
        self.left = self._closed_by_client and bool(self._dialogue.unfinished(self._clock()))
        await self._end(self._closes or self._farewell)
        return True

    async def farewell(self) -> None:
        """The client's close. It comes when everything is settled. Raises what the exchange raises."""
        await self._client.close(
            self._farewell.code, self._farewell.data.decode("utf-8", "replace")
        )

    async def _broken(self, error: BaseException) -> bool:
        """One direction can't go on. Whether the client can be told."""
        match error:
            case Refused():
                await self._refuse(error.denial)
            case _FromClient():
                self.denial = Denial("bad_request", f"Its frames can't be read: {error.why}.")
                await self._end(Message("close", error.why.encode(), error.code))
            case _FromProvider():
                self._upstreamed.cut = True
                self.denial = Denial(
                    "upstream_bad_answer", f"Its frames can't be read: {error.why}."
                )
                await self._provider_side(self._provider.close(error.code))
                await self._end(Message("close", b"the provider's frames can't be read", FAULT))
            case SideLost():
                if self._closes is None:
                    # As without a gateway, the client finds its connection ended without a close.
                    self._upstreamed.cut = True
                    return False
                self._farewell = self._closes
                self.left = self._closed_by_client and bool(
                    self._dialogue.unfinished(self._clock())
                )
            case _:
                raise error
        return True

    async def _refuse(self, denial: Denial) -> None:
        self.denial = denial
        if denial.code == "timeout":
            # Nothing was asked: an error would be the answer to nothing, and the client may come again.
            await self._end(Message("close", denial.message.encode(), GOING_AWAY))
            return
        event = self._ties.error(denial)
        if event and not self._client.closed and not self._client.midway:
            await self._client.send(Message("binary" if self._dialogue.binary else "text", event))
        code = FAULT if denial.code == "addon_failed" else POLICY
        await self._end(Message("close", denial.message.encode(), code))

    async def stopping(self) -> None:
        """The gateway stops. Raises nothing but a cancellation."""
        try:
            await self._client.close(GOING_AWAY, "the gateway stops")
        except Exception:
            log.debug("a client could not be told that the gateway stops", exc_info=True)
        await self._provider_side(self._provider.close(GOING_AWAY))

    async def read_on(self, seconds: float) -> None:
        """The client is gone: the answers under way are read on for a bounded time, for their true count. Raises nothing."""
        try:
            async with asyncio.timeout(seconds):
                if self._closes is None and self._dialogue.unfinished(self._clock()):
                    async for message in self._provider.messages():
                        if message.is_data:
                            self._dialogue.told(message.data, self._clock())
                        if not self._dialogue.unfinished(self._clock()):
                            break
        except (TimeoutError, SideLost, BadFrames):
            pass
        except Exception:
            log.exception("a session could not be read on")
        await self._provider_side(self._provider.close(GOING_AWAY))

    async def _end(self, close: Message) -> None:
        """The provider is closed, and the client will be. Of a refusal the provider hears no more than that we go."""
        self._farewell = close
        if self.denial is not None:
            await self._provider_side(self._provider.close(GOING_AWAY))
        else:
            reason = close.data.decode("utf-8", "replace")
            await self._provider_side(self._provider.close(close.code, reason))

    async def _provider_side(self, work: Coroutine[None, None, None]) -> None:
        """A provider that is gone, or takes nothing, keeps nobody waiting."""
        task = asyncio.create_task(work)
        # A close that was taken at once ends here, before the client can leave.
        if not task.done():
            try:
                await self._within(_CLOSE_WITHIN_S, [task])
            finally:
                task.cancel()
                await asyncio.wait([task])
        with contextlib.suppress(SideLost, asyncio.CancelledError):
            task.result()

    async def _within(self, seconds: float, tasks: Collection[asyncio.Task[None]]) -> None:
        """Returns when ``tasks`` have ended, or so many seconds have passed."""
        until, pending = self._clock() + seconds, set(tasks)
        while pending and self._clock() < until:
            _, pending = await asyncio.wait(pending, timeout=self._tick_s)

    async def _from_client(self) -> None:
        try:
            async for message in self._client.messages():
                if message.kind == "close":
                    await self._take_close(message, self._provider)
                    return
                if message.is_data:
                    self._last = self._clock()
                    if self._alter is not None:
                        # What is judged and held is what is sent.
                        altered = await self._alter(message, True)
                        if altered is None:
                            continue
                        message = altered
                    message = await self._judge(message)
                await self._provider.send(message)
        except BadFrames as error:
            raise _FromClient(error.code, error.why) from None

    async def _judge(self, message: Message) -> Message:
        """The message to send. Raises `Refused`: then none leaves."""
        async with self._reading:
            asked = await self._ties.heard(message.data, self._clock())
        try:
            if asked is not None:
                await self._ties.judge(asked)
            cap = await self._cover(of_message=True)
            return message if cap is None else await self._lowered(message, cap)
        except Refused as refusal:
            self._dialogue.withdraw()
            await self._last_answer(refusal.denial)
            raise
        except asyncio.CancelledError:
            self._dialogue.withdraw()
            raise

    async def _lowered(self, message: Message, cap: int) -> Message:
        async with self._reading:
            if len(message.data) > _LONG:
                data = await asyncio.to_thread(self._dialogue.lowered, message.data, cap)
            else:
                data = self._dialogue.lowered(message.data, cap)
        return message._replace(data=data)

    async def _cover(self, *, of_message: bool = False) -> int | None:
        """Nothing is asked of the budget while nothing has changed. ``of_message``: the cap of the message that was heard
        last may be lowered, to what is given. Raises `Refused`."""
        # A thread may be reading a message.
        async with self._reading:
            dialogue = self._dialogue
            exposed = dialogue.exposed(self._clock())
            owing = Owing(dialogue.asked, dialogue.charges, exposed, dialogue.requests)
            if of_message:
                owing = owing._replace(lowerable=dialogue.lowerable)
        if exposed is self._covered:
            return None
        cap = await self._ties.cover(owing)
        self._covered = exposed
        return cap

    async def _unfinished(self) -> tuple[Unfinished, ...]:
        async with self._reading:
            return self._dialogue.unfinished(self._clock())

    async def _last_answer(self, denial: Denial) -> None:
        """When the budget has ended, an answer that was held for as a whole may end."""
        if denial.reason.fault is not Fault.BUDGET or any(
            one.exposure.estimate.grows for one in await self._unfinished()
        ):
            return
        until = self._clock() + _LAST_ANSWER_S
        self._quiet.clear()
        while self._clock() < until and await self._unfinished():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._tick_s):
                    await self._quiet.wait()
            self._quiet.clear()

    async def _from_provider(self) -> None:
        try:
            async for message in self._provider.messages():
                message = self._upstreamed.redacted(message)
                if message.kind == "close":
                    await self._take_close(message, self._client)
                    return
                if message.is_data:
                    await self._tell(message)
                    if self._alter is not None:
                        # It is counted as the provider sent it.
                        altered = await self._alter(message, False)
                        if altered is None:
                            continue
                        message = altered
                await self._client.send(message)
        except BadFrames as error:
            raise _FromProvider(error.code, error.why) from None

    async def _tell(self, message: Message) -> None:
        now = self._last = self._clock()
        if self._upstreamed.first_message is None:
            self._upstreamed.first_message = now
        async with self._reading:
            try:
                if len(message.data) > _LONG:
                    await asyncio.to_thread(self._dialogue.told, message.data, now)
                else:
                    self._dialogue.told(message.data, now)
                ended = not self._dialogue.unfinished(now)
            except Exception:
                log.exception("a message could not be metered; its session is ended")
                self._upstreamed.meter_failed = True
                raise Refused("internal", "A message of the provider could not be read.") from None
        await self._ties.note()
        if ended:
            self._quiet.set()

    async def _take_close(self, message: Message, other: Side) -> None:
        """The close that came first is passed on at once, the other one at the end."""
        if self._closes is None:
            self._closes = message
            self._closed_by_client = other is self._provider
            await other.close(message.code, message.data.decode("utf-8", "replace"))

    async def _watch(self) -> None:
        """Time: silence, the whole session, a token that was revoked, and answers that grow while nothing is said."""
        checked = self._clock()
        while True:
            await asyncio.sleep(self._tick_s)
            now = self._clock()
            if now - self._began > self._bounds.session_s:
                raise Refused("timeout", f"The session has lasted {self._bounds.session_s:g} s.")
            if now - self._last > self._bounds.idle_s:
                raise Refused("timeout", f"No message came for {self._bounds.idle_s:g} s.")
            if now - checked >= _CHECK_EVERY_S:
                checked = now
                await self._ties.check()
            try:
                await self._cover()
            except Refused as refusal:
                await self._last_answer(refusal.denial)
                raise


class _FromClient(BadFrames):
    """The client's frames can't be read."""


class _FromProvider(BadFrames):
    """The provider's frames can't be read."""
