"""A call that becomes a WebSocket session: from its handshake to its last frame."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from tollhouse.budget.purse import Purse
from tollhouse.call import Covered, Requested
from tollhouse.denial import Denial, Fault, Refused
from tollhouse.dispatch.answering import Answering
from tollhouse.dispatch.delivery import Delivery
from tollhouse.dispatch.relay import Relay
from tollhouse.fallback import Fallbacks, connected
from tollhouse.families.asked import Asked
from tollhouse.families.dialogue import Dialogue
from tollhouse.frames import Room
from tollhouse.listen.handshake import accepted
from tollhouse.listen.interruption import ClientGone, Stopped
from tollhouse.outcome import End
from tollhouse.reply import broken_off, pass_on
from tollhouse.socket_ties import Altering, Owing, SocketBounds, Ties
from tollhouse.trip import Gate, Objects, Passing, Rest, Trip, check_identity
from tollhouse.websocket import Session

log = logging.getLogger(__name__)

_ENDED_BY: Final = {Fault.BUDGET: End.OVER_BUDGET, Fault.WORKLOAD: End.LEFT}
"""Whoever sends what may not be sent has left the answers that were under way."""


class SocketReader(Protocol):
    """Reads the messages of sessions (`ReadBody`)."""

    def room(self, requested: Requested) -> Room: ...
    def dialogue(self, requested: Requested) -> Dialogue: ...
    async def heard(
        self, dialogue: Dialogue, tenant: str, message: bytes, now: float
    ) -> Asked | None: ...


@dataclass(frozen=True, slots=True)
class SocketParts:
    """What sessions over WebSockets need beside the gates. ``models`` is the gate of a project's models; ``clock`` gives seconds
    that never go back."""

    read: SocketReader
    models: Gate
    bounds: SocketBounds
    clock: Callable[[], float] = time.monotonic


class Alterers(Protocol):
    """The operator's addons behind their gate (`operators`)."""

    async def altered(self, call_id: str, answer: Answering, /) -> Passing: ...
    async def session(
        self, call_id: str, headers: Sequence[tuple[str, str]], longest: int, room: Room, /
    ) -> tuple[list[tuple[str, str]], Altering]: ...
    async def ended(self, call_id: str, why: str, /) -> None: ...


class Conversations:
    """``gates`` are all gates of the road, in their order."""

    def __init__(
        self,
        sockets: SocketParts,
        gates: Sequence[Gate],
        purse: Purse,
        relay: Relay,
        objects: Objects,
        fallbacks: Fallbacks | None,
        addons: Alterers | None = None,
    ) -> None:
        self._addons = addons
        self._sockets = sockets
        self.gates = tuple(gates)
        self._purse = purse
        self._relay = relay
        self._objects = objects
        self._fallbacks = fallbacks

    async def converse(self, trip: Trip, delivery: Delivery) -> Rest | None:
        """A WebSocket session, or the answer by which the provider refuses its handshake."""
        sockets, exchange = self._sockets, trip.exchange
        session: Session | None = None
        told = False
        covered = _covered(trip)
        room = sockets.read.room(covered.requested)
        try:
            async with exchange.interruptible():
                found = await connected(
                    trip, delivery, self._relay, self._fallbacks, sockets.bounds.longest, room
                )
                if isinstance(found, Answering):
                    trip.passing = found
                    if self._addons is not None:
                        trip.passing = await self._addons.altered(trip.id, found)
                    return await pass_on(trip, trip.passing)
                covered = _covered(trip)
                dialogue = sockets.read.dialogue(covered.requested)
                found.dialogue = dialogue
                trip.status = 101
                trip.passed()
                given = accepted(exchange.head, found.subprotocol)
                ties = self._ties(trip, sockets, covered, dialogue)
                if self._addons is not None:
                    longest = sockets.bounds.longest
                    more, alter = await self._addons.session(trip.id, given, longest, room)
                    given, ties = [*given, *more], ties._replace(alter=alter)
                exchange.switch([*given, ("x-tollhouse-call-id", trip.id)])
                session = Session(
                    exchange, found, dialogue, ties, sockets.bounds, room, sockets.clock
                )
                told = await session.run()
        except ClientGone:
            if session is None:
                raise
            if session.denial is None:
                if session.over:
                    return None
                await session.read_on(self._relay.abandoned_read_s)
                raise
            # We have ended it, and it left while it was told.
        except Stopped:
            trip.left = End.STOPPED
            if session is None or exchange.congested:
                return None
            await session.stopping()
            return exchange.end
        except Refused as refusal:
            return broken_off(trip, refusal)
        except Exception:
            log.exception("call %s: its session failed", trip.id)
            return broken_off(trip, Refused("internal", "The session failed."))
        finally:
            room.release()
            if session is not None:
                trip.stage = covered._replace(
                    requested=covered.requested._replace(asked=dialogue.asked)
                )
        if session.denial is not None:
            trip.denial, trip.gate = session.denial, "session"
            trip.left = _ENDED_BY.get(session.denial.reason.fault, End.CUT)
        elif session.left:
            trip.left = End.LEFT

        async def farewell() -> None:
            await session.farewell()
            exchange.end()

        return farewell if told else None

    def _ties(self, trip: Trip, sockets: SocketParts, covered: Covered, dialogue: Dialogue) -> Ties:
        """How a session speaks to the gates that the call has passed."""
        requested = covered.requested
        tenant = requested.admitted.project.tenant

        async def judge(asked: Asked) -> None:
            named = requested._replace(asked=asked)
            await sockets.models(named, trip.exchange)
            if trip.notes_objects:
                await self._objects.check(named)

        async def cover(owing: Owing) -> int | None:
            found = await self._purse.enlarging.cover(trip.id, *owing)
            if isinstance(found, Denial):
                raise Refused.of(found)
            return found

        async def note() -> None:
            if trip.notes_objects and (created := dialogue.created) != trip.noted:
                await trip.note_objects(created)

        return Ties(
            lambda message, now: sockets.read.heard(dialogue, tenant, message, now),
            judge,
            cover,
            note,
            lambda: check_identity(self.gates, trip.arrival, trip.exchange),
            lambda denial: trip.family.socket_error(denial, trip.id, dialogue.asked),
        )


def _covered(trip: Trip) -> Covered:
    """As the provider that is asked has it: it may be a fallback."""
    assert isinstance(trip.stage, Covered)
    return trip.stage
