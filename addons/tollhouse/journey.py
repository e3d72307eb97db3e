"""The coroutine that owns a call from its head to its line.

    gates      each takes a stage of the call and gives the next one, or raises `Refused`
    dispatch   attempts, then the answer, pulled piece by piece and written to the client
    conclude   exactly once, whatever happened: the charge, the settle, the line

Nothing leaves without a `Clearance`, and the only one is made here, behind the last gate. A gate that raises turns the call
into a refusal of ours.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any, Final, Protocol, cast

from tollhouse.accounts.token import without_tokens
from tollhouse.admit.own_login import own_login
from tollhouse.book import Book
from tollhouse.budget.purse import Purse
from tollhouse.call import Arrival, Covered, Requested, Stage
from tollhouse.clearance import Clearance
from tollhouse.conversation import Alterers, Conversations, SocketParts
from tollhouse.credential.lease import (
    NO_KEY,
    CredentialUnavailable,
    Lease,
    NoKey,
    login_lease,
)
from tollhouse.denial import Denial, Refused
from tollhouse.dispatch.delivery import Delivery
from tollhouse.dispatch.relay import Relay
from tollhouse.dispatch.sign import check_lease
from tollhouse.fallback import Fallbacks, answered
from tollhouse.lasting import Lasting
from tollhouse.listen.exchange import Exchange
from tollhouse.listen.handshake import check_handshake
from tollhouse.listen.interruption import ClientGone, Stopped
from tollhouse.outcome import End
from tollhouse.providers import Provider
from tollhouse.reply import NOT_VALID, OVERDUE, broken_off, last_words, pass_on
from tollhouse.trip import (
    JUDGED_WITHIN_S,
    AnsweredByGate,
    Gate,
    Objects,
    Rest,
    Trip,
    check_identity,
)

log = logging.getLogger(__name__)

_JUDGED_IN_A_TURN: Final = 32
"""Calls whose judging begins in one turn of the loop."""
_JUDGED_AT_ONCE: Final = 1024
"""Calls that are judged again at one time."""


_NO_MESSAGES: Final = "An addon of the gateway's operator takes requests and no messages."
_NO_SWITCH: Final = (
    'They are passed over HTTP/1.1, and not where the gateway has [listen] http1 = "mitmproxy".'
)


class Leases(Protocol):
    """The last gate: brings the key. It raises `CredentialUnavailable`."""

    async def get(self, provider: str, tenant: str, project: str) -> Lease: ...


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
        fallbacks: Fallbacks | None = None,
        sockets: SocketParts | None = None,
        judged_within_s: float = JUDGED_WITHIN_S,
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
        self._conversations: Conversations | None = None
        if sockets is not None:
            self._conversations = Conversations(
                sockets, self.gates, purse, relay, objects, fallbacks, addons
            )
        self._trace_header = trace_header.lower()
        self._session_header = session_header.lower()
        self._lasting = Lasting()
        self._judged_within_s = judged_within_s
        self._judging: dict[Exchange, asyncio.Task[None]] = {}
        self.under_way: dict[Exchange, asyncio.Task[Any] | None] = {}
        """The calls, each with the task that takes it along the road."""
        self._idle = asyncio.Event()
        self._idle.set()
        self.open = False
        """False while the gateway starts or stops: everything is refused."""

    async def travel(self, exchange: Exchange) -> None:
        """When this returns the exchange is finished, the hold is settled and the line is written."""
        arrival = Arrival.begin(exchange.head, self._trace_header, self._session_header)
        if arrival.session:
            arrival = arrival._replace(session=without_tokens(arrival.session))
        trip = Trip(arrival, exchange, self._purse, self._book, self._objects, self._lasting)
        self.under_way[exchange] = asyncio.current_task()
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
                await self._end(trip, rest)
                if self._addons is not None:
                    await self._addons.ended(trip.id, trip.why)
            finally:
                del self.under_way[exchange]
                if not self.under_way:
                    self._idle.set()
                exchange.abort()
                if trip.delivery is not None:
                    await trip.delivery.close()

    @classmethod
    async def _end(cls, trip: Trip, rest: Rest | None) -> None:
        """The settling, the line and the last bytes. A client that has them may call again at once: it finds its budget settled.
        Where no limit is near, last bytes that are one write go out as soon as Redis is told, before it has answered."""
        waiting: Coroutine[Any, Any, None] | None = None
        written = False

        def write() -> None:
            nonlocal waiting, written
            if not written:
                written, waiting = True, cls._write_rest(trip, rest)

        try:
            await trip.conclude(write)
            write()
            if waiting is not None:
                await cls._give(trip, waiting)
        finally:
            written = True
            if waiting is not None:
                waiting.close()

    @staticmethod
    def _write_rest(trip: Trip, rest: Rest | None) -> Coroutine[Any, Any, None] | None:
        """The last bytes, where one write is enough for them; else what has to be waited for, which has not begun."""
        try:
            return rest() if rest is not None else None
        except (ClientGone, Stopped, Refused):
            pass
        except Exception:
            log.exception("call %s: its last bytes could not be sent", trip.id)
        return None

    @staticmethod
    async def _give(trip: Trip, waiting: Coroutine[Any, Any, None]) -> None:
        """Nothing that happens to the last bytes changes what the call costs."""
        try:
            async with trip.exchange.interruptible(settled=True):
                await waiting
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

    async def end_invalid(self, after_s: float, wait_s: float | None = None) -> None:
        """Ends each call that has been under way for ``after_s`` and whose identity or project is not valid any more: its token
        was revoked or has expired. A session over a WebSocket looks after that itself. Each call is judged in a task of its
        own, and only one that hangs is waited for, ``wait_s`` at most. It is not judged by another task meanwhile."""
        before = time.monotonic() - after_s
        begun = []
        for n, exchange in enumerate(tuple(self.under_way)):
            if n % _JUDGED_IN_A_TURN == 0:
                await asyncio.sleep(0)
            if exchange.began > before or exchange.finished or exchange.head.asks_for_websocket:
                continue
            if exchange in self._judging:
                continue
            if len(self._judging) >= _JUDGED_AT_ONCE:
                judging = list(self._judging.values())
                await asyncio.wait(judging, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            if len(self._judging) >= _JUDGED_AT_ONCE:
                break
            task = asyncio.create_task(self._judge_again(exchange), name=f"judge {exchange}")
            if not task.done():
                self._judging[exchange] = task
                task.add_done_callback(partial(self._judged, exchange))
                begun.append(task)
        if begun:
            await asyncio.wait(begun, timeout=wait_s)

    async def _judge_again(self, exchange: Exchange) -> None:
        try:
            arrival = Arrival.begin(exchange.head, self._trace_header, self._session_header)
            await check_identity(self.gates, arrival, exchange, self._judged_within_s)
        except Refused as refusal:
            if refusal.denial.code == "internal":
                log.error("a call could not be judged again in time; it is ended")
            exchange.refuse(refusal.denial, NOT_VALID)
        except Exception:
            log.exception("a call could not be judged again; it is ended")
            denial = Denial("internal", "Its identity could not be judged again.")
            exchange.refuse(denial, NOT_VALID)

    def _judged(self, exchange: Exchange, _: object) -> None:
        del self._judging[exchange]

    async def stop_judging(self) -> None:
        """Gives up what `end_invalid` did not wait for."""
        tasks = list(self._judging.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def cut(self) -> int:
        """Cancels what is under way, and says how many calls that are: they did not heed `Exchange.stop`. Each is still settled and
        has its line."""
        tasks = [task for task in self.under_way.values() if task is not None]
        for task in tasks:
            task.cancel()
        return len(tasks)

    async def drained(self, seconds: float | None) -> bool:
        """Wait until no call is under way, at most so long; whether that is so. None: however long it takes."""
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def _travel(self, trip: Trip) -> Rest | None:
        """All of the road but the last bytes, which it gives; None for an answer that has to be cut."""
        try:
            clearance = await self._pass_gates(trip)
        except Refused as refusal:
            return trip.refusal(refusal)
        except AnsweredByGate as made:
            return trip.answer(made)
        trip.delivery = self._relay.delivery(clearance)
        if clearance.covered.requested.admitted.operation.socket:
            assert self._conversations is not None
            return await self._conversations.converse(trip, trip.delivery)
        return await self._deliver(trip, trip.delivery)

    async def _pass_gates(self, trip: Trip) -> Clearance:
        """Raises `Refused`, and what `Exchange.interruptible` raises."""
        if trip.exchange.defect is not None:
            raise Refused.of(trip.exchange.defect, "listener")
        if trip.exchange.head.asks_for_websocket:
            if self._conversations is None:
                raise Refused("upgrade_required", _NO_MESSAGES, gate="listener")
            if not trip.exchange.switches:
                raise Refused("upgrade_required", _NO_SWITCH, gate="listener")
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

    async def _clear(self, trip: Trip) -> Clearance:
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

    async def _check_objects(self, trip: Trip, requested: Requested) -> None:
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

    async def _deliver(self, trip: Trip, delivery: Delivery) -> Rest | None:
        try:
            async with trip.exchange.interruptible():
                trip.passing = answer = await answered(trip, delivery, self._relay, self._fallbacks)
                if self._addons is not None:
                    trip.passing = await self._addons.altered(trip.id, answer)
                return await pass_on(trip, trip.passing)
        except ClientGone:
            # A fallback has a delivery of its own.
            await (trip.delivery or delivery).read_on()
            raise
        except Stopped:
            trip.left = End.STOPPED
            if trip.exchange.congested:
                return None
            return last_words(trip, Denial("draining", "It stopped before the answer ended."))
        except Refused as refusal:
            return broken_off(trip, refusal)
        except Exception:
            log.exception("call %s: dispatch failed", trip.id)
            return broken_off(trip, Refused("internal", "The way to the provider failed."))


def _keyless(provider: Provider, error: CredentialUnavailable) -> Denial:
    """A key that is nowhere does not come by asking again."""
    if not isinstance(error, NoKey):
        return Denial("credential_unavailable", headers=(("retry-after", "5"),))
    todo = f"Whoever runs the gateway must store one; `tollhouse key test {provider.name}` tells where it was looked for."
    why = f"There is no key for {provider.name}."
    return Denial("credential_unavailable", why, (("x-should-retry", "false"),), todo_override=todo)
