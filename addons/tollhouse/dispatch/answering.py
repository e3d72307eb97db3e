"""The way back: an answer that was not refused, as pieces that `journey` pulls and writes to the client."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from tollhouse.call import Admitted, Hold, Requested
from tollhouse.credential.redact import Redactor
from tollhouse.denial import Refused
from tollhouse.dispatch.answer import Answer, AnswerCut
from tollhouse.dispatch.breaker import Breaker
from tollhouse.dispatch.retry import SDK_STOPS
from tollhouse.dispatch.stages import (
    AnswerStage,
    BudgetTap,
    Judging,
    Metering,
    Redaction,
    fed,
    flushed,
)
from tollhouse.families.meters import AnswerHead, Later, Meter, PassThrough
from tollhouse.families.units import Charge
from tollhouse.outcome import LateUsage

log = logging.getLogger(__name__)

# Of the connection with the provider, or of its state with somebody else. `alt-svc` would lead the client past us.
_NOT_PASSED_ON: Final = frozenset(
    {"alt-svc", "set-cookie", "set-cookie2", "trailer", "content-length"}
)


_LATE: Final = 65_536
"""Bytes that may come behind the end that an answer has said: nobody pays for them. Comments and a count of some servers do."""


class Piece(NamedTuple):
    """A part of the answer. ``whole``: with it the client has the whole answer and may call again at once, so that
    Redis is told before it goes out, and near a limit has answered. ``last``: nothing comes behind it."""

    data: bytes
    whole: bool
    last: bool


class Answering:
    """One answer. It is an asynchronous iterator of `Piece`; it raises `Refused` when the provider cuts the answer, goes on
    for long behind the end that it has said, or the budget ends it.

    ``silence_s`` is how long its head was waited for. ``breaker`` is told how a metered answer went; nobody has told it of one
    yet. ``clock`` gives seconds that never go back. ``faults`` counts the answers whose meter failed, by provider.
    """

    def __init__(
        self,
        answer: Answer,
        requested: Requested,
        hold: Hold,
        redactor: Redactor,
        breaker: Breaker,
        silence_s: float,
        clock: Callable[[], float],
        faults: Counter[str],
    ) -> None:
        self.status = answer.status
        self.metered = requested.admitted.operation.metered and 200 <= answer.status < 300
        self.cut = False
        self.first_byte: float | None = None
        self.waited_s = 0.0
        self._answer = answer
        self._clock = clock
        self._asked_stream = requested.asked.stream
        self._passed_on = redactor.headers(
            [
                (k, v)
                for k, v in answer.headers
                if k not in _NOT_PASSED_ON and not k.startswith("x-tollhouse-")
            ]
        )
        self._admitted = requested.admitted
        head = AnswerHead(answer.status, answer.headers)
        family = self._admitted.provider.family
        meter: Callable[[], Meter] = partial(family.meter, requested.asked, head)
        self._shows = (
            requested.pending is not None and family.late_meter is not None and answer.status == 200
        )
        """The answer may tell the usage of a call before it. One to a ``Range`` (206) tells a part of it."""
        if self._shows and requested.pending is not None and family.late_meter is not None:
            meter = partial(family.late_meter, requested.pending.later, head)
        makes = requested.admitted.operation.objects == "makes" and 200 <= answer.status < 300
        self._is_read = self.metered or makes or self._shows
        self._metering = Metering(
            meter if self._is_read else PassThrough,
            silence_s,
            partial(_meter_failed, faults, self._admitted),
        )
        self._tap = BudgetTap(hold, self._metering)
        judging = (Judging(self._metering, breaker),) if self.metered else ()
        self._reading: tuple[AnswerStage, ...] = (Redaction(redactor), self._metering, *judging)
        self._stages: tuple[AnswerStage, ...] = (*self._reading, self._tap)
        length = answer.get("content-length")
        self._length = (
            int(length) if length is not None and length.isascii() and length.isdigit() else None
        )
        self._left = self._length
        self.bodiless = (
            requested.admitted.arrival.head.method == "HEAD"
            or self.status in (204, 304)
            or self._length == 0
        )
        """There is nothing behind the head."""
        self.complete = self.bodiless
        """The answer was read to its end, or has said that it is over."""
        self._late = _LATE
        self._flushed = False
        self._over = False
        self._given: bytes | None = None
        """The piece that was given last, once the one that pulls comes back for the next."""

    def stop_sdk(self) -> None:
        """The SDK is told not to ask again."""
        others = [pair for pair in self._passed_on if pair[0] != SDK_STOPS[0]]
        self._passed_on = [*others, SDK_STOPS]

    @property
    def sized(self) -> bool:
        """The length of the body is known: its head goes out with the first piece, in one write. What streams begins with its
        head."""
        return self._length is not None

    @property
    def headers(self) -> list[tuple[str, str]]:
        """What the client gets of the provider's headers. Of a sized answer they are asked for when the first piece is there:
        only then it is known whether the body is edited."""
        if self._length is None or (self._metering.edits and not self.bodiless):
            return self._passed_on
        return [*self._passed_on, ("content-length", str(self._length))]

    @property
    def charges(self) -> tuple[Charge, ...]:
        return () if self._shows else self._metering.charges

    @property
    def later(self) -> Later | None:
        """The usage of this answer comes later."""
        return self._metering.later if self._is_read and not self._shows else None

    @property
    def seen(self) -> LateUsage | None:
        """What the answer has told of a call before it; None unless that one is over."""
        if not (self._shows and self.complete) or self.meter_failed or not self._metering.ended:
            return None
        metering = self._metering
        return LateUsage(metering.charges, metering.error, metering.later)

    @property
    def created(self) -> tuple[str, ...]:
        """Ids of objects that the answer says the provider now keeps."""
        return self._metering.created

    @property
    def output_seen(self) -> int:
        return self._metering.output_seen

    @property
    def wrote(self) -> bool:
        """There was text, or the provider has counted some."""
        return self.output_seen > 0 or any(charge.units.output for charge in self.charges)

    @property
    def error(self) -> str:
        return "" if self._shows else self._metering.error

    @property
    def streamed(self) -> bool:
        """The answer comes as events, as far as is known by now."""
        return self._metering.boundary is not None or (
            self._asked_stream and self.first_byte is None
        )

    @property
    def meter_failed(self) -> bool:
        return self._metering.failed

    @property
    def silent_s(self) -> float:
        return self._metering.silent_s

    @property
    def can_be_told(self) -> bool:
        """The client can read one more event where the answer stands."""
        return self._tap.between_events

    def __aiter__(self) -> Answering:
        return self

    async def __anext__(self) -> Piece:
        if self._over:
            raise StopAsyncIteration
        given, self._given = self._given, None
        if given is not None and not self.complete:
            self._tap.sent(given)
            # Most holds do not grow; there is no coroutine for each piece of their answers.
            if self._tap.grows and (denial := await self._tap.due()) is not None:
                raise Refused.of(denial, "budget")
        clock = self._clock
        began = clock()
        try:
            chunk = await self._answer.read()
        except AnswerCut as cut:
            self._over = True
            self.cut = not self.complete
            self.flush()
            raise Refused(cut.code, cut.why) from None
        finally:
            now = clock()
            self.waited_s += now - began
            self._metering.waited(now - began)
        if not chunk:
            self.complete = self._over = True
            return Piece(self.flush(), True, True)
        if self.first_byte is None:
            self.first_byte = now
        if self.complete:
            self._late -= len(chunk)
            if self._late < 0:
                self._over = True
                raise Refused("upstream_bad_answer", "It went on behind the end that it had said.")
        last = False
        if self._left is not None:
            self._left -= len(chunk)
            last = self._left <= 0
        data = fed(self._stages, chunk)
        if last:
            data += self.flush()
            self.complete = self._over = True
        elif self._metering.done:
            self.complete = True
        self._given = data
        # What `Piece(...)` does as well, after a call of Python that takes a tenth of all that a piece costs here.
        return tuple.__new__(Piece, (data, self.complete, last))

    def flush(self) -> bytes:
        """What was still held back of the answer; b"" from the second time on."""
        if self._flushed:
            return b""
        self._flushed = True
        return flushed(self._stages)

    def give_up(self) -> None:
        """The answer is not read on: what has come of it counts."""
        self.flush()
        self._metering.end_silence()

    async def read_on(self, seconds: float) -> None:
        """The client has gone: read the answer to its end for a bounded time, for the true count and for the object that it
        has made. Raises nothing."""
        if self.complete or self.cut or not self._is_read:
            return
        self._metering.end_silence()
        try:
            async with asyncio.timeout(seconds):
                while chunk := await self._answer.read():
                    fed(self._reading, chunk)
                    if self._metering.done:
                        break
            self.complete = True
        except (TimeoutError, AnswerCut):
            pass
        except Exception:
            log.exception("an answer could not be read on")
        self.flush()

    async def close(self) -> None:
        """Let go of the answer. May be called twice."""
        try:
            self.flush()
        finally:
            await self._answer.close()


# No method: an answer that were part of a cycle would live on until the collector runs.
def _meter_failed(faults: Counter[str], admitted: Admitted) -> None:
    faults[admitted.provider.name] += 1
    log.exception("call %s: its meter failed; the answer goes on unread", admitted.id)
