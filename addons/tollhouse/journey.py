"""The coroutine that owns a call from its head to its line.

    gates      each takes a stage of the call and gives the next one, or raises `Refused`
    dispatch   attempts, then the answer, pulled piece by piece and written to the client
    conclude   exactly once, whatever happened: the charge, the settle, the line

Nothing leaves without a `Clearance`, and the only one is made here, behind the last gate. A gate that raises turns the call
into a refusal of ours.

Past 400 lines because all that can end a call stands in one place, beside the one way to its line.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

from tollhouse.accounts.token import without_tokens
from tollhouse.admit.own_login import own_login
from tollhouse.book import Book, Concluded
from tollhouse.budget.purse import Purse
from tollhouse.call import (
    NOTHING,
    Addressed,
    Amount,
    Arrival,
    Billed,
    ChargedBy,
    Covered,
    End,
    Outcome,
    Requested,
    Stage,
    known,
)
from tollhouse.clearance import Clearance
from tollhouse.clients import Client, client_of, final, spelled, told, told_of_handshake
from tollhouse.credential.lease import (
    NO_KEY,
    CredentialUnavailable,
    Lease,
    NoKey,
    login_lease,
)
from tollhouse.denial import Denial, Fault, Refused, error_headers
from tollhouse.dispatch.answering import Answering, Piece
from tollhouse.dispatch.relay import Delivery, Relay
from tollhouse.dispatch.sign import check_lease
from tollhouse.families import DEFAULT
from tollhouse.families.base import Asked, Dialogue, Family
from tollhouse.frames import Room
from tollhouse.lasting import Lasting
from tollhouse.listen.exchange import ClientGone, Exchange, Stopped
from tollhouse.listen.handshake import accepted, check_handshake
from tollhouse.providers import Provider
from tollhouse.websocket import Owing, Session, SocketBounds, Ties

log = logging.getLogger(__name__)

OVERDUE: Final = "deadline"
"""The gate in the line of a call that took too long."""
Rest = Callable[[], Coroutine[Any, Any, None] | None]
"""Writes the last bytes of an answer, once the call is concluded. It is a plain function where
nothing has to be waited for."""


class Gate(Protocol):
    """One stage before anything leaves. ``name`` stands in the line when it refuses or fails. ``gives`` is the type of what
    it gives: anything else is a refusal."""

    @property
    def name(self) -> str: ...
    @property
    def gives(self) -> type: ...

    def __call__(self, stage: Any, exchange: Any, /) -> Awaitable[Any]: ...


class Leases(Protocol):
    """The last gate: brings the key. It raises `CredentialUnavailable`."""

    async def get(self, provider: str, tenant: str, project: str) -> Lease: ...


class Objects(Protocol):
    """Whose the objects are that providers keep (`KeptObjects`)."""

    async def check(self, requested: Requested) -> None: ...
    async def note(self, tenant: str, provider: str, ids: Sequence[str]) -> None: ...


class AnsweredByGate(Exception):
    """A gate raises it to answer the call itself: nothing leaves, and nothing is charged. ``headers`` have no length."""

    def __init__(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        super().__init__(status)
        self.status = status
        self.headers = headers
        self.body = body


class Passing(Protocol):
    """What is passed on of an answer: an `Answering`, or what addons have made of it."""

    status: int
    bodiless: bool

    @property
    def sized(self) -> bool: ...
    @property
    def headers(self) -> list[tuple[str, str]]: ...
    @property
    def created(self) -> tuple[str, ...]: ...
    @property
    def can_be_told(self) -> bool: ...
    def __aiter__(self) -> AsyncIterator[Piece]: ...


class SocketReader(Protocol):
    """Reads the messages of sessions (`ReadBody`)."""

    def room(self, requested: Requested) -> Room: ...
    def dialogue(self, requested: Requested) -> Dialogue: ...
    async def heard(
        self, dialogue: Dialogue, tenant: str, message: bytes, now: float
    ) -> Asked | None: ...


@dataclass(frozen=True, slots=True)
class SocketParts:
    """What sessions over WebSockets need beside the gates. ``models`` is the gate of a project's models."""

    read: SocketReader
    models: Gate
    bounds: SocketBounds


class Alterers(Protocol):
    """The operator's addons behind their gate (`operators`)."""

    async def altered(self, call_id: str, answer: Answering, /) -> Passing: ...
    async def ended(self, call_id: str, why: str, /) -> None: ...


class Elsewhere(Protocol):
    """The fallback of a provider (`Fallbacks`)."""

    async def clearance(self, requested: Requested, *, unknown: bool) -> Clearance | None: ...


class Journey:
    """Takes exchanges along the road, one coroutine each."""

    def __init__(
        self,
        gates: Sequence[Gate],
        leases: Leases,
        purse: Purse,
        relay: Relay,
        book: Book,
        objects: Objects,
        *,
        trace_header: str = "",
        session_header: str = "",
        addons: Alterers | None = None,
        fallbacks: Elsewhere | None = None,
        sockets: SocketParts | None = None,
    ) -> None:
        self.gates = tuple(gates)
        """In the order in which they are asked."""
        self._leases = leases
        self._purse = purse
        self._relay = relay
        self._book = book
        self._objects = objects
        self._addons = addons
        self._fallbacks = fallbacks
        self._sockets = sockets
        self._trace_header = trace_header.lower()
        self._session_header = session_header.lower()
        self._lasting = Lasting()
        self.under_way: set[Exchange] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.open = False
        """False while the gateway starts or stops: everything is refused."""

    async def travel(self, exchange: Exchange) -> None:
        """When this returns the exchange is finished, the hold is settled and the line is written."""
        arrival = Arrival.begin(exchange.head, self._trace_header, self._session_header)
        if arrival.session:
            arrival = arrival._replace(session=without_tokens(arrival.session))
        trip = _Trip(arrival, exchange, self._purse, self._book, self._objects, self._lasting)
        self.under_way.add(exchange)
        self._idle.clear()
        rest: Rest | None = None
        try:
            rest = await self._travel(trip)
        except ClientGone:
            trip.left = End.LEFT
        except Stopped:
            trip.left = End.STOPPED
        except asyncio.CancelledError:
            trip.left = End.STOPPED
            raise
        except Exception:
            # A refusal could not be given either: the connection is cut.
            log.exception("call %s failed", trip.id)
            trip.denial = trip.denial or Denial("internal")
        finally:
            try:
                # A client that has the last bytes of its answer may call again at once: it finds its budget settled.
                await trip.conclude()
                if rest is not None:
                    await self._give(trip, rest)
                if self._addons is not None:
                    await self._addons.ended(trip.id, trip.why)
            finally:
                self.under_way.discard(exchange)
                if not self.under_way:
                    self._idle.set()
                exchange.abort()
                if trip.delivery is not None:
                    await trip.delivery.close()

    @staticmethod
    async def _give(trip: _Trip, rest: Rest) -> None:
        """The last bytes. Nothing that happens to them changes what the call costs."""
        try:
            waiting = rest()
            if waiting is not None:
                try:
                    async with trip.exchange.interruptible(settled=True):
                        await waiting
                finally:
                    waiting.close()
        except (ClientGone, Stopped, Refused):
            pass
        except Exception:
            log.exception("call %s: its last bytes could not be sent", trip.id)

    def end_overdue(self, longest_s: float) -> None:
        """Ends each call that was under way for longer than ``longest_s``."""
        before = time.monotonic() - longest_s
        for exchange in tuple(self.under_way):
            if exchange.began < before:
                code = "upstream_timeout" if exchange.body_complete else "timeout"
                why = f"The call took longer than {longest_s:g} s ([limits] call_timeout_s)."
                exchange.refuse(Denial(code, why), OVERDUE)

    async def drained(self, seconds: float | None) -> bool:
        """Wait until no call is under way, at most so long; whether that is so. None: however long it takes."""
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def _travel(self, trip: _Trip) -> Rest | None:
        """All of the road but the last bytes, which it gives; None for an answer that has to be cut."""
        try:
            clearance = await self._pass_gates(trip)
        except Refused as refusal:
            return trip.refusal(refusal)
        except AnsweredByGate as made:
            return trip.answer(made)
        trip.delivery = self._relay.delivery(clearance)
        if clearance.covered.requested.admitted.operation.socket:
            return await self._converse(trip, trip.delivery, clearance.covered)
        return await self._deliver(trip, trip.delivery)

    async def _pass_gates(self, trip: _Trip) -> Clearance:
        """Raises `Refused`, and what `Exchange.interruptible` raises."""
        if trip.exchange.defect is not None:
            raise Refused.of(trip.exchange.defect, "listener")
        if trip.exchange.head.asks_for_websocket:
            if self._sockets is None or not trip.exchange.switches:
                raise Refused("upgrade_required", gate="listener")
            check_handshake(trip.exchange.head)
        if not self.open:
            raise Refused("draining", headers=(("retry-after", "1"),), gate="listener")
        for gate in self.gates:
            try:
                stage: object = await gate(trip.stage, trip.exchange)
                if not isinstance(stage, gate.gives):
                    raise TypeError(f"it gave no {gate.gives.__name__}")
            except (ClientGone, Stopped):
                raise
            except AnsweredByGate:
                trip.gate = gate.name
                raise
            except Refused as refusal:
                raise Refused.of(refusal.denial, gate.name) from None
            except Exception:
                log.exception("call %s: the gate %s failed", trip.id, gate.name)
                raise Refused("internal", f"The gate {gate.name} failed.", gate=gate.name) from None
            trip.stage = cast(Stage, stage)
            if (
                isinstance(stage, Requested)
                and stage.admitted.provider.fallback
                and not stage.admitted.login
            ):
                trip.read = stage
        return await self._clear(trip)

    async def _clear(self, trip: _Trip) -> Clearance:
        """The last gate: every other one has allowed the call, and there is a key for it."""
        try:
            covered = trip.stage
            if not isinstance(covered, Covered):
                raise TypeError("nothing is held for the call")
            admitted = covered.requested.admitted
            if admitted.operation.keyless:
                return Clearance(covered, NO_KEY, covered.requested.body)
            if admitted.login:
                token = own_login(admitted.arrival.head, admitted.provider)
                if token is None:
                    raise TypeError("the login that was let through is not there")
                return Clearance(covered, login_lease(token), covered.requested.body)
            try:
                lease = await self._leases.get(
                    admitted.provider.name, admitted.project.tenant, admitted.project.id
                )
                if not isinstance(lease, Lease):
                    raise TypeError("the credential gate gave no lease")
                check_lease(lease, admitted.provider)
            except CredentialUnavailable as e:
                log.error("call %s: no key for %s (%s)", trip.id, admitted.provider.name, e.why)
                # `why` names Vault's host and paths: for the log, not for the workload.
                raise Refused.of(_keyless(admitted.provider, e)) from None
            if lease.shared and not admitted.provider.share_objects:
                await self._check_objects(trip, covered.requested)
            return Clearance(covered, lease, covered.requested.body)
        except Refused as refusal:
            raise Refused.of(refusal.denial, refusal.gate or "credential") from None
        except Exception:
            log.exception("call %s: the gate credential failed", trip.id)
            raise Refused("internal", "The gate credential failed.", gate="credential") from None

    async def _check_objects(self, trip: _Trip, requested: Requested) -> None:
        """Other tenants use this call's key as well."""
        try:
            await self._objects.check(requested)
        except Refused as refusal:
            raise Refused.of(refusal.denial, "objects") from None
        trip.notes_objects = True
        if requested.body is not None and not isinstance(requested.body, bytes):
            # What a form names behind its file is known late.
            requested.body.before_end(
                lambda asked: self._objects.check(requested._replace(asked=asked))
            )

    async def _deliver(self, trip: _Trip, delivery: Delivery) -> Rest | None:
        try:
            async with trip.exchange.interruptible():
                trip.passing = answer = await self._answered(trip, delivery)
                if self._addons is not None:
                    trip.passing = await self._addons.altered(trip.id, answer)
                return await self._pass_on(trip, trip.passing)
        except ClientGone:
            await delivery.read_on()
            raise
        except Stopped:
            trip.left = End.STOPPED
            if trip.exchange.congested:
                return None
            return self._told(trip, Denial("draining", "It stopped before the answer ended."))
        except Refused as refusal:
            return self._broken_off(trip, delivery, refusal)
        except Exception:
            log.exception("call %s: dispatch failed", trip.id)
            return self._broken_off(
                trip, delivery, Refused("internal", "The way to the provider failed.")
            )

    async def _answered(self, trip: _Trip, delivery: Delivery) -> Answering:
        """The answer of the provider, or of its fallback where the provider does not serve the call and the fallback does."""
        refusal: Refused | None = None
        answer: Answering | None = None
        try:
            answer = await delivery.answer()
        except Refused as refused:
            refusal = refused
        # An answer may stream for hours, and nobody needs the body that was read any more.
        read, trip.read = trip.read, None
        if read is not None and delivery.may_fall_back:
            other = await self._fallen_back(trip, read, delivery)
            if other is not None:
                return other
        if answer is None:
            assert refusal is not None
            raise refusal
        return answer

    async def _fallen_back(
        self, trip: _Trip, read: Requested, delivery: Delivery
    ) -> Answering | None:
        """The fallback's answer; None if it may not be asked, gives an error or gives nothing. What it has cost to ask it is
        the call's."""
        if self._fallbacks is None:
            return None
        await delivery.keep()
        clearance = await self._fallbacks.clearance(read, unknown=delivery.unknown > 0)
        if clearance is None:
            return None
        # If the client leaves now, its end is what counts.
        trip.delivery = other = self._relay.delivery(clearance, delivery)
        try:
            answer = await other.answer()
        except Refused as refused:
            log.warning(
                "call %s: its fallback does not serve it (%s)", trip.id, refused.denial.code
            )
        else:
            if answer.status < 400:
                await delivery.close()
                trip.stage, trip.fallback_from = clearance.covered, read.admitted.provider.name
                return answer
            await answer.close()
        delivery.return_from(other)
        trip.delivery = delivery
        return None

    async def _converse(self, trip: _Trip, delivery: Delivery, covered: Covered) -> Rest | None:
        """A WebSocket session, or the answer by which the provider refuses its handshake."""
        sockets, exchange = self._sockets, trip.exchange
        assert sockets is not None
        session: Session | None = None
        room = sockets.read.room(covered.requested)
        try:
            dialogue = sockets.read.dialogue(covered.requested)
            async with exchange.interruptible():
                found = await delivery.connect(sockets.bounds.longest, room)
                if isinstance(found, Answering):
                    trip.passing = found
                    return await self._pass_on(trip, found)
                found.dialogue = dialogue
                trip.status = 101
                trip.passed()
                given = accepted(exchange.head, found.subprotocol)
                exchange.switch([*given, ("x-tollhouse-call-id", trip.id)])
                ties = self._ties(trip, sockets, covered, dialogue)
                session = Session(exchange, found, dialogue, ties, sockets.bounds, room)
                told = await session.run()
        except ClientGone:
            if session is None:
                raise
            if session.over:
                return None
            await session.read_on(self._relay.abandoned_read_s)
            raise
        except Stopped:
            trip.left = End.STOPPED
            if session is None or exchange.congested:
                return None
            await session.stopping()
            return exchange.end
        except Refused as refusal:
            return self._broken_off(trip, delivery, refusal)
        except Exception:
            log.exception("call %s: its session failed", trip.id)
            return self._broken_off(trip, delivery, Refused("internal", "The session failed."))
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

    def _ties(
        self, trip: _Trip, sockets: SocketParts, covered: Covered, dialogue: Dialogue
    ) -> Ties:
        """How a session speaks to the gates that the call has passed."""
        requested = covered.requested
        tenant = requested.admitted.project.tenant

        async def judge(asked: Asked) -> None:
            named = requested._replace(asked=asked)
            await sockets.models(named, trip.exchange)
            if trip.notes_objects:
                await self._objects.check(named)

        async def cover(owing: Owing) -> None:
            denial = await self._purse.cover(trip.id, *owing)
            if denial is not None:
                raise Refused.of(denial)

        async def note() -> None:
            if trip.notes_objects and (created := dialogue.created) != trip.noted:
                await trip.note_objects(created)

        async def check() -> None:
            """The gates up to the project are asked again."""
            stage: Any = trip.arrival
            for gate in self.gates:
                try:
                    stage = await gate(stage, trip.exchange)
                except Refused as refusal:
                    if refusal.denial.code == "ledger_unavailable":
                        return
                    raise
                if isinstance(stage, Billed):
                    return

        return Ties(
            lambda message, now: sockets.read.heard(dialogue, tenant, message, now),
            judge,
            cover,
            note,
            check,
            lambda denial: trip.family.socket_error(denial, trip.id, dialogue.asked),
        )

    async def _pass_on(self, trip: _Trip, answer: Passing) -> Rest:
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
                await self._begin(trip, answer, piece)
            elif piece.data:
                await exchange.send(piece.data)

        if piece.last and not exchange.answered:

            def in_one_write() -> None:
                exchange.start(answer.status, trip.headers(answer), piece.data, end=True)

            return in_one_write

        async def whole() -> None:
            if not exchange.answered:
                await self._begin(trip, answer, piece)
            elif piece.data:
                await exchange.send(piece.data)
            async for late in answer:
                if late.data:
                    await exchange.send(late.data)
            if not exchange.finished:
                exchange.end()

        return whole

    @staticmethod
    async def _begin(trip: _Trip, answer: Passing, piece: Piece) -> None:
        """The head goes out with the first piece."""
        exchange = trip.exchange
        exchange.start(answer.status, trip.headers(answer), piece.data, end=piece.last)
        if not piece.last:
            await exchange.send(b"")

    def _broken_off(self, trip: _Trip, delivery: Delivery, refusal: Refused) -> Rest | None:
        """There is no answer, or its rest can't be had."""
        exchange = trip.exchange
        gate = refusal.gate or "dispatch"
        if gate == Purse.name:
            trip.left = End.OVER_BUDGET
        if not exchange.answered:
            return trip.refusal(Refused.of(refusal.denial, gate))
        # The head is out. A stream can still be told that its budget has ended; any other answer is cut.
        trip.denial, trip.gate = refusal.denial, gate
        told = trip.left is End.OVER_BUDGET or gate == OVERDUE
        return self._told(trip, refusal.denial) if told else None

    @staticmethod
    def _told(trip: _Trip, denial: Denial) -> Rest | None:
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


def _keyless(provider: Provider, error: CredentialUnavailable) -> Denial:
    """A key that is nowhere does not come by asking again."""
    if not isinstance(error, NoKey):
        return Denial("credential_unavailable", headers=(("retry-after", "5"),))
    todo = f"Whoever runs the gateway must store one; `tollhouse key test {provider.name}` tells where it was looked for."
    why = f"There is no key for {provider.name}."
    return Denial("credential_unavailable", why, (("x-should-retry", "false"),), todo_override=todo)


_ENDED_BY: Final = {Fault.BUDGET: End.OVER_BUDGET, Fault.WORKLOAD: End.LEFT}
"""Whoever sends what may not be sent has left the answers that were under way."""
_REASONS: Final[dict[End | None, str]] = {End.LEFT: "client_gone", End.STOPPED: "stopped"}
"""The line's ``reason`` of a call that nobody refused."""


class _Trip:
    """One call's way: the stage that it has reached, and its end, which comes once. Only `Journey` changes it."""

    def __init__(
        self,
        arrival: Arrival,
        exchange: Exchange,
        purse: Purse,
        book: Book,
        objects: Objects,
        lasting: Lasting,
    ) -> None:
        self.id = arrival.id
        self.arrival = arrival
        self.stage: Stage = arrival
        self.exchange = exchange
        self.delivery: Delivery | None = None
        self.passing: Passing | None = None
        self.read: Requested | None = None
        """The call as its body was read, if its provider has a fallback."""
        self.fallback_from = ""
        """The provider whose fallback has answered."""
        self.status = 0
        self.answered = False
        """A gate has answered it."""
        self.denial: Denial | None = None
        self.gate = ""
        self.left: End | None = None
        """Who ended it, if it was neither the provider nor its answer's end."""
        self.notes_objects = False
        """What the provider keeps from this call on is its tenant's alone."""
        self._purse = purse
        self._book = book
        self._objects = objects
        self._lasting = lasting
        self.noted: tuple[str, ...] = ()
        """The ids that were noted as the tenant's."""

    @property
    def family(self) -> Family:
        """In whose form it is refused."""
        found, stage = known(self.stage), self.stage
        if found.provider is None:
            return DEFAULT
        # A path that can't be sent is known as it came.
        return found.provider.family.at(
            stage.raw_path if isinstance(stage, Addressed) else found.path
        )

    @property
    def client(self) -> Client | None:
        """The known client that makes this call."""
        return client_of(self.exchange.head.get("user-agent") or "")

    @property
    def _road(self) -> tuple[str, str]:
        """The names of the provider and the project; "" where the call did not come so far."""
        found = known(self.stage)
        return (
            found.provider.name if found.provider is not None else "",
            found.project.id if found.project is not None else "",
        )

    def passed(self) -> None:
        """The provider has answered."""
        if self._lasting.any:
            self._lasting.answered(*self._road)

    def headers(self, answer: Passing) -> list[tuple[str, str]]:
        """The answer's headers, and ours."""
        headers = [*answer.headers, ("x-tollhouse-call-id", self.id), *self._attempts()]
        if isinstance(self.stage, Covered) and self.stage.hold.clamped is not None:
            headers.append(("x-tollhouse-clamped", str(self.stage.hold.clamped)))
        return headers

    def _attempts(self) -> tuple[tuple[str, str], ...]:
        """How often it was tried, for an answer that had attempts."""
        made = self.delivery.attempts if self.delivery is not None else 0
        return (("x-tollhouse-attempts", str(made)),) if made else ()

    async def conclude(self) -> None:
        """The charge, the settle and the line. No fault in here leaves a hold behind."""
        try:
            outcome, charged, charged_by = self._judged()
        except Exception:
            log.exception("call %s: its cost is not known, so its hold is charged", self.id)
            hold = self._purse.held.get(self.id)
            outcome = Outcome(End.WHOLE, self.status)
            charged, charged_by = (hold.amount, "hold") if hold is not None else (NOTHING, "none")
        if outcome is not None and outcome.seen is not None:
            requested = known(self.stage).requested
            if requested is not None and requested.pending is not None:
                await self._purse.seen(requested.pending, outcome.seen)
        if outcome is not None and await self._purse.keep(self.id, outcome):
            charged, charged_by = Amount(requests=1), "later"
        concluded = Concluded(
            self.stage,
            self.status,
            self.denial,
            self.gate,
            "addon" if self.answered else _REASONS.get(self.left, ""),
            outcome,
            charged,
            charged_by,
            self.exchange.waited_s + (outcome.waited_s if outcome is not None else 0.0),
            fallback_from=self.fallback_from,
        )
        record = self._book.record(concluded)
        entry = self._book.begin(record)
        try:
            settle = self._purse.settle(self.id, charged, record)
            created = outcome.created if outcome is not None and self.notes_objects else ()
            if created != self.noted:
                # Both are told in one write.
                await asyncio.gather(settle, self.note_objects(created))
            else:
                await settle
        finally:
            self._book.end(entry)

    async def note_objects(self, created: tuple[str, ...]) -> None:
        """Called before the client knows what the provider keeps from now on."""
        admitted = known(self.stage).admitted
        if admitted is None:
            return
        tenant, provider = admitted.project.tenant, admitted.provider.name
        try:
            await self._objects.note(tenant, provider, created)
        except Exception:
            log.exception("call %s: its objects could not be noted, and are nobody's", self.id)
        self.noted = created

    def _judged(self) -> tuple[Outcome | None, Amount, ChargedBy]:
        """How the call ended, what it costs and by what rule."""
        if self.delivery is None:
            return None, NOTHING, "none"
        outcome = self.delivery.outcome(self.left)
        return outcome, *(self._purse.charge(self.id, outcome) or (NOTHING, "none"))

    @property
    def why(self) -> str:
        """Why it has no whole answer; "" if it has one."""
        return self.denial.message if self.denial is not None else _REASONS.get(self.left, "")

    def answer(self, made: AnsweredByGate) -> Rest:
        """The answer of a gate."""
        self.answered, self.status = True, made.status
        headers = [*made.headers, ("x-tollhouse-call-id", self.id)]

        def answer() -> None:
            if made.status in (204, 304):
                self.exchange.start(made.status, headers, end=True)
            else:
                self.exchange.answer(made.status, headers, made.body)

        return answer

    def refusal(self, refusal: Refused) -> Rest:
        """The answer that is a refusal of ours, in the provider's own error format, and in the form
        that stops this client where it would not be stopped."""
        denial = refusal.denial
        lasted_s = 0.0
        if not final(denial):
            lasted_s = self._lasting.refused(*self._road, denial.code)
        client = self.client
        denial = told(denial, client, lasted_s)
        if self.exchange.head.asks_for_websocket:
            denial = told_of_handshake(denial, client)
        self.denial, self.gate, self.status = denial, refusal.gate, denial.status
        body = self.family.error_body(denial, self.id)
        if final(denial):
            body = spelled(body, client, self.id)

        def answer() -> None:
            headers = [*error_headers(denial, self.id), *self._attempts()]
            self.exchange.answer(denial.status, headers, body)

        return answer
