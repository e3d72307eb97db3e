"""A delivery with everything around it played: the provider's answers, the keys, and the one who pulls the pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from tests.support.calls import CHAT, admitted, arrival, covered, head, lease, requested
from tests.support.clock import Clock
from tests.support.values import replace

from tollhouse.call import Hold, Requested
from tollhouse.clearance import Clearance
from tollhouse.credential.lease import Lease
from tollhouse.credential.secret import Secret
from tollhouse.demo.standin_answers import chat_frames, chat_json, chat_usage
from tollhouse.dispatch.answer import Answer, AnswerCut
from tollhouse.dispatch.answering import Answering, Piece
from tollhouse.dispatch.attempts import REAL, Timing
from tollhouse.dispatch.breaker import Breakers
from tollhouse.dispatch.delivery import Delivery
from tollhouse.dispatch.outgoing import Outgoing
from tollhouse.dispatch.relay import Relay
from tollhouse.families.base import Family
from tollhouse.families.units import Charge, Units
from tollhouse.outcome import Attempt, End, Outcome
from tollhouse.providers.openai import OPENAI

REQUEST = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
STREAM = {**REQUEST, "stream": True}
COUNTED = {**STREAM, "stream_options": {"include_usage": True}}
JSON = chat_json(REQUEST)
PLAIN_STREAM = list(chat_frames(STREAM))
COUNTED_STREAM = list(chat_frames(COUNTED))
USAGE = Units(
    input=chat_usage(REQUEST)["prompt_tokens"],
    output=chat_usage(REQUEST)["completion_tokens"],
    requests=1,
)
CHARGE = Charge("gpt-4o-2024-08-06", USAGE, "default")
SSE = [("content-type", "text/event-stream; charset=utf-8")]
OF_JSON = [("content-type", "application/json")]
WAIT = b"wait for ever"
"""In place of a piece: nothing more comes."""
CUT = AnswerCut("upstream_bad_answer", "It broke off its answer.")

Given = tuple[int, Sequence[tuple[str, str]], Sequence[bytes | Exception]]


def with_length(body: bytes, headers: Sequence[tuple[str, str]] = OF_JSON) -> list[tuple[str, str]]:
    return [*headers, ("content-length", str(len(body)))]


OLD, NEW = lease("sk-old"), lease("sk-new", "2")


class Provider:
    """What each attempt gets, in order, and what was seen of it. An exception among an answer's pieces is raised. Each head
    takes ``head_s`` and each piece ``piece_s`` of ``clock``."""

    def __init__(
        self,
        *outcomes: Given | Exception,
        clock: Clock | None = None,
        head_s: float = 0.0,
        piece_s: float = 0.0,
    ) -> None:
        self._outcomes = list(outcomes)
        self._clock = clock or Clock()
        self._head_s = head_s
        self._piece_s = piece_s
        self.secrets: list[Secret] = []
        self.mints: Secret | None = None
        """Put on beside the lease's own."""
        self.closed: list[int] = []

    async def send(
        self,
        outgoing: Outgoing,
        *,
        budget_s: float,
        on_leaving: Callable[[], None],
        minted: Callable[[Secret], None],
        upgrade: object = None,
        fresh: bool = False,
        creates: bool = False,
    ) -> Answer:
        if self.mints is not None:
            minted(self.mints)
        outcome = self._outcomes.pop(0)
        if not (isinstance(outcome, Exception) and getattr(outcome, "sent", "") == "no"):
            on_leaving()
        self.secrets.append(outgoing.lease.secret)
        self._clock.advance(self._head_s)
        if isinstance(outcome, Exception):
            raise outcome
        if outcome[2] == [WAIT] and not outcome[0]:
            await asyncio.get_running_loop().create_future()
        return self._answer(*outcome)

    def token_refused(self, lease: Lease, token: Secret) -> bool:
        return False

    def _answer(
        self, status: int, headers: Sequence[tuple[str, str]], pieces: Sequence[bytes | Exception]
    ) -> Answer:
        left = [*pieces, b""]

        async def read() -> bytes:
            self._clock.advance(self._piece_s)
            piece = left.pop(0) if left else b""
            if isinstance(piece, Exception):
                raise piece
            if piece == WAIT:
                await asyncio.get_running_loop().create_future()
            return piece

        return Answer(status, list(headers), read, lambda: self.closed.append(status))


NO_HEAD: Given = (0, [], [WAIT])
"""The request has left, and nothing comes."""


class Keys:
    """``others`` are given one after the other to calls that can't go on with the key they have."""

    def __init__(self, other: Lease | None, others: Sequence[Lease] = ()) -> None:
        self.other = other
        self.others = others
        self.refusals: list[Lease] = []
        self.told: dict[str, tuple[str, float | None]] = {}

    async def refused(self, lease: Lease) -> Lease | None:
        self.refusals.append(lease)
        return self.other

    def cooling(self, lease: Lease, seconds: float | None) -> Lease | None:
        self.told[lease.fingerprint] = ("cooling", seconds)
        return self.next()

    def exhausted(self, lease: Lease) -> Lease | None:
        self.told[lease.fingerprint] = ("exhausted", None)
        return self.next()

    def next(self) -> Lease | None:
        return next((lease for lease in self.others if lease.fingerprint not in self.told), None)


def asked_for(
    body: Any = None,
    *,
    attempts: int = 3,
    headers: Sequence[tuple[str, str]] = (),
    family: Family | None = None,
    method: str = "POST",
    path: str = CHAT,
    **asked: Any,
) -> Requested:
    provider = replace(OPENAI, attempts=attempts)
    at = replace(
        admitted(path, method=method, provider=provider),
        arrival=arrival(head(method, path, *headers)),
    )
    of = requested(REQUEST if body is None else body, at, **asked)
    if family is not None:
        # Its errors are read; no operation of it is open yet.
        at = replace(
            at, provider=replace(provider, family=replace(family, meter=OPENAI.family.meter))
        )
    return replace(of, admitted=at)


class Trip:
    """One delivery, the one who pulls it, and what it had at the moment at which everything is settled."""

    def __init__(
        self,
        provider: Provider,
        of: Requested | None = None,
        *,
        keys: Keys | None = None,
        lease: Lease = OLD,
        hold: Hold | None = None,
        read_on_s: float = 60,
        timing: Timing = REAL,
        breakers: Breakers | None = None,
    ) -> None:
        self.provider = provider
        self.keys = keys or Keys(None)
        self.breakers = breakers or Breakers(lambda: 0.0)
        relay = Relay(provider, self.breakers, self.keys, abandoned_read_s=read_on_s, timing=timing)  # type: ignore[arg-type]
        held = covered(of or asked_for())
        if hold is not None:
            held = replace(held, hold=hold)
        self.delivery: Delivery = relay.delivery(Clearance(held, lease, held.requested.body))
        self.headers: dict[str, str] = {}
        self.pieces: list[Piece] = []
        self.before: bytes | None = None
        """What the client has when the call is settled; None if it never was."""
        self.settled: Outcome | None = None
        self._changed = asyncio.Event()

    async def run(self) -> Trip:
        """To the end of the answer."""
        try:
            answering = await self.delivery.answer()
            if not answering.sized or answering.bodiless:
                self.headers = dict(answering.headers)
            if answering.bodiless:
                self.before, self.settled = b"", self.outcome()
                return self
            async for piece in answering:
                if answering.sized and not self.pieces:
                    self.headers = dict(answering.headers)
                if piece.whole and self.settled is None:
                    self.before, self.settled = self.body, self.outcome()
                self.pieces.append(piece)
                self._changed.set()
            return self
        finally:
            self._changed.set()

    async def left_after(self, pieces: int) -> Trip:
        """The one who pulls goes away once it has had so many pieces and waits for the next."""
        task = asyncio.ensure_future(self.run())
        while len(self.pieces) < pieces:
            self._changed.clear()
            await self._changed.wait()
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(self.pieces) == pieces
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        return self

    def outcome(self, left: End | None = None) -> Outcome:
        return self.delivery.outcome(left)

    @property
    def answering(self) -> Answering:
        assert self.delivery.answering is not None
        return self.delivery.answering

    @property
    def body(self) -> bytes:
        return b"".join(piece.data for piece in self.pieces)

    @property
    def status(self) -> int:
        return self.answering.status

    @property
    def made(self) -> list[str]:
        return [attempt.outcome for attempt in self.attempts]

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        return self.outcome().attempts


def opened(breakers: Breakers, of: Lease) -> Breakers:
    breaker = breakers.of("api.openai.com", of.secret.digest, tenant="acme")
    for _ in range(10):
        breaker.enter()
        breaker.failure()
    return breakers
