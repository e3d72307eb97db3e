"""The answer of a call as its client gets it: passed on piece by piece, or broken off with a word of why."""

from __future__ import annotations

from typing import Final

from tollhouse.budget.purse import Purse
from tollhouse.call import known
from tollhouse.clients import final, spelled
from tollhouse.denial import Denial, Refused
from tollhouse.dispatch.answering import Piece
from tollhouse.outcome import End
from tollhouse.trip import Passing, Rest, Trip

OVERDUE: Final = "deadline"
"""The gate in the line of a call that took too long."""
NOT_VALID: Final = "identity"
"""The gate in the line of a call whose identity or project ended while it was under way."""


async def pass_on(trip: Trip, answer: Passing) -> Rest:
    """Pulls the answer and writes it to the client, up to the piece that makes it whole; that one and what follows are
    given back."""
    exchange = trip.exchange
    trip.status = answer.status
    trip.passed()
    if answer.bodiless:

        def only_the_head() -> None:
            exchange.start(answer.status, trip.headers(answer), end=True)

        return only_the_head
    if not answer.sized:
        exchange.start(answer.status, trip.headers(answer))
    async for piece in answer:
        if piece.whole:
            break
        if trip.notes_objects and (created := answer.created) != trip.noted:
            await trip.note_objects(created)
        if not exchange.answered:
            await _begin(trip, answer, piece)
        elif piece.data:
            await exchange.send(piece.data)

    if piece.last and not exchange.answered:

        def in_one_write() -> None:
            exchange.start(answer.status, trip.headers(answer), piece.data, end=True)

        return in_one_write

    async def whole() -> None:
        if not exchange.answered:
            await _begin(trip, answer, piece)
        elif piece.data:
            await exchange.send(piece.data)
        async for late in answer:
            if late.data:
                await exchange.send(late.data)
        if not exchange.finished:
            exchange.end()

    return whole


async def _begin(trip: Trip, answer: Passing, piece: Piece) -> None:
    """The head goes out with the first piece."""
    exchange = trip.exchange
    exchange.start(answer.status, trip.headers(answer), piece.data, end=piece.last)
    if not piece.last:
        await exchange.send(b"")


def broken_off(trip: Trip, refusal: Refused) -> Rest | None:
    """There is no answer, or its rest can't be had."""
    exchange = trip.exchange
    gate = refusal.gate or "dispatch"
    if gate == Purse.name:
        trip.left = End.OVER_BUDGET
    if not exchange.answered:
        return trip.refusal(Refused.of(refusal.denial, gate))
    # The head is out. A stream can still be told that its budget has ended; any other answer is cut.
    trip.denial, trip.gate = refusal.denial, gate
    told = trip.left is End.OVER_BUDGET or gate in (OVERDUE, NOT_VALID)
    return last_words(trip, refusal.denial) if told else None


def last_words(trip: Trip, denial: Denial) -> Rest | None:
    """The event by which a stream that has begun says why it ends; None for an answer that has no place for one."""
    exchange, answer = trip.exchange, trip.passing
    requested = known(trip.stage).requested
    if not exchange.answered or answer is None or requested is None or not answer.can_be_told:
        return None
    event = trip.family.last_event(denial, trip.id, requested.asked)
    if final(denial):
        event = spelled(event, trip.client, trip.id)

    async def last_event() -> None:
        await exchange.send(event)
        exchange.end()

    return last_event
