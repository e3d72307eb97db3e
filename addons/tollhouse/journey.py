"""The coroutine that owns a call from its head to its line.

    gates      admit -> read -> models -> budget -> credential; each returns a `Decision`, and none is a refusal
    dispatch   attempts, then the answer relayed as it arrives with the meter reading along
    settle     exactly once, whatever happened; then the line

Nothing leaves without a `Clearance`, and the only one is made here, behind the last gate. A gate that raises turns the call
into a refusal of ours.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from typing import Protocol

from tollhouse.book import Book
from tollhouse.budget.purse import Purse
from tollhouse.call import Amount, Call
from tollhouse.clearance import Clearance
from tollhouse.credential.lease import CredentialUnavailable, Lease, NoKey
from tollhouse.denial import Decision, Denial, Refused, error_body, error_headers
from tollhouse.dispatch.relay import Delivery, Relay
from tollhouse.dispatch.sign import check_lease
from tollhouse.ledger.ledger import LedgerUnavailable
from tollhouse.listen.exchange import ClientGone, Exchange, Stopped

log = logging.getLogger(__name__)


class Gate(Protocol):
    """One stage before anything leaves. ``name`` stands in the line when it refuses or fails."""

    @property
    def name(self) -> str: ...

    def __call__(self, call: Call, exchange: Exchange) -> Awaitable[Decision]: ...


class Leases(Protocol):
    """The last gate: brings the key. It raises `CredentialUnavailable` instead of deciding."""

    async def get(self, provider: str, tenant: str, project: str) -> Lease: ...


class Journey:
    """Takes exchanges along the road, one coroutine each."""

    def __init__(self, gates: Sequence[Gate], leases: Leases, purse: Purse, relay: Relay, book: Book) -> None:
        self._gates = tuple(gates)
        self._leases = leases
        self._purse = purse
        self._relay = relay
        self._book = book
        self.under_way: set[Exchange] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.open = False
        """False while the gateway starts or stops: everything is refused."""

    async def travel(self, exchange: Exchange) -> None:
        """When this returns the exchange is finished, the hold is settled and the line is written."""
        call = Call.begin(exchange.head)
        trip = _Trip(call, exchange, self._purse, self._book)
        self.under_way.add(exchange)
        self._idle.clear()
        try:
            await self._travel(trip)
        except (ClientGone, Stopped) as e:
            call.ended = "client_gone" if isinstance(e, ClientGone) else "stopped"
        except asyncio.CancelledError:
            call.ended = "stopped"
            raise
        except Exception:
            # A refusal could not be given either: the connection is cut.
            log.exception("call %s failed", call.id)
            call.denial = call.denial or Denial("internal")
        finally:
            try:
                await trip.conclude()
            finally:
                self.under_way.discard(exchange)
                if not self.under_way:
                    self._idle.set()
                exchange.abort()

    async def drained(self, seconds: float) -> bool:
        """Wait until no call is under way, at most so long; whether that is so."""
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def _travel(self, trip: _Trip) -> None:
        call, exchange = trip.call, trip.exchange
        lease = await self._pass_gates(trip)
        if lease is None:
            return
        call.cleared = True
        delivery = self._relay.delivery(Clearance(call, lease, call.body), exchange)
        try:
            await self._deliver(trip, delivery)
        finally:
            await delivery.close()

    async def _deliver(self, trip: _Trip, delivery: Delivery) -> None:
        try:
            async with trip.exchange.interruptible():
                await delivery.run(trip.conclude)
        except ClientGone:
            await delivery.read_on()
            raise
        except Stopped:
            raise
        except Refused as refusal:
            if trip.call.ended == "budget" and trip.exchange.answered:
                await delivery.end_with(refusal.denial, trip.conclude)
            else:
                await self._failed(trip, refusal.denial)
        except Exception:
            log.exception("call %s: dispatch failed", trip.call.id)
            await self._failed(trip, Denial("internal", "The way to the provider failed."))

    @staticmethod
    async def _failed(trip: _Trip, denial: Denial) -> None:
        if trip.exchange.answered:
            # The head is out: all that can be done is to cut the answer, which `travel` does.
            trip.call.denial, trip.call.gate = denial, "dispatch"
        else:
            await trip.refuse(Decision.refuse("dispatch", denial))

    async def _pass_gates(self, trip: _Trip) -> Lease | None:
        """The lease if every gate allows the call; else it has been answered."""
        call, exchange = trip.call, trip.exchange
        if exchange.defect is not None:
            await trip.refuse(Decision.refuse("listener", exchange.defect))
            return None
        if not self.open:
            await trip.refuse(Decision.refuse("listener", Denial("draining", headers=(("retry-after", "1"),))))
            return None
        gate_name, denial = "", None
        try:
            for gate in self._gates:
                gate_name = gate.name
                decision = await gate(call, exchange)
                if not isinstance(decision, Decision):
                    decision = Decision.refuse(gate_name, Denial("internal", "A gate gave no decision."))
                if not decision.allowed:
                    break
            else:
                gate_name = "credential"
                return await self._lease(call)
        except (ClientGone, Stopped):
            raise
        except Refused as refusal:
            denial = refusal.denial
        except LedgerUnavailable as e:
            log.error("call %s: the ledger is away (%s)", call.id, e)
            denial = Denial("ledger_unavailable", headers=(("retry-after", "1"),))
        except CredentialUnavailable as e:
            log.error("call %s: no key for %s (%s)", call.id, call.provider.name if call.provider else "?", e.why)
            # `why` names Vault's host and paths: for the log, not for the workload.
            denial = _keyless(call, e)
        except Exception:
            log.exception("call %s: the gate %s failed", call.id, gate_name)
            denial = Denial("internal", f"The gate {gate_name} failed.")
        await trip.refuse(Decision.refuse(gate_name, denial) if denial else decision)
        return None

    async def _lease(self, call: Call) -> Lease:
        assert call.provider is not None
        assert call.project is not None
        lease = await self._leases.get(call.provider.name, call.project.tenant, call.project.id)
        if not isinstance(lease, Lease):
            raise TypeError("the credential gate gave no lease")
        check_lease(lease, call.provider)
        call.key_version = f"{lease.fingerprint}@{lease.version}"
        return lease


def _keyless(call: Call, error: CredentialUnavailable) -> Denial:
    """A key that is nowhere does not come by asking again."""
    if not isinstance(error, NoKey) or call.provider is None:
        return Denial("credential_unavailable", headers=(("retry-after", "5"),))
    name = call.provider.name
    todo = f"Whoever runs the gateway must store one; `tollhouse key test {name}` tells where it was looked for."
    why = f"There is no key for {name}."
    return Denial("credential_unavailable", why, (("x-should-retry", "false"),), todo_override=todo)


class _Trip:
    """What belongs to one call's end: its refusal, its settling and its line, each at most once."""

    def __init__(self, call: Call, exchange: Exchange, purse: Purse, book: Book) -> None:
        self.call = call
        self.exchange = exchange
        self._purse = purse
        self._book = book
        self._concluded = False

    async def conclude(self) -> None:
        """Settle and write the line. Runs before the last bytes of an answer go out, so that a client that has its answer
        finds its budget settled, and again at the end, where it does nothing."""
        if self._concluded:
            return
        self._concluded = True
        call = self.call
        call.waited_s += self.exchange.waited_s
        with self.exchange.uninterrupted():
            if call.id in self._purse.held:
                try:
                    charge = self._purse.charge(call)
                except Exception:
                    # A price that cannot be worked out must not leave a hold behind.
                    log.exception("call %s: its cost is not known, so its hold is charged", call.id)
                    charge = call.estimate, "hold"
                call.charged, call.charged_by = charge if charge is not None else (Amount(requests=0), "none")
            record = self._book.record(call)
            try:
                await self._purse.settle(call, record)
            finally:
                self._book.write(record)

    async def refuse(self, decision: Decision) -> None:
        """Answer with a refusal of ours, in the provider's own error format. Raises `ClientGone`."""
        call, denial = self.call, decision.denial
        assert denial is not None
        call.denial, call.gate = denial, decision.gate
        call.status = denial.status
        await self.conclude()
        family = call.provider.family if call.provider else "openai"
        self.exchange.answer(denial.status, error_headers(denial, call.id), error_body(denial, family, call.id))
