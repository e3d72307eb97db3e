"""A call under way: the stage that it has reached, who has ended it, and its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, Protocol

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
    Requested,
    Stage,
    known,
)
from tollhouse.clients import Client, client_of, final, spelled, told, told_of_handshake
from tollhouse.denial import Denial, Refused, error_headers
from tollhouse.dispatch.answering import Piece
from tollhouse.dispatch.delivery import Delivery
from tollhouse.families import DEFAULT
from tollhouse.families.base import Family
from tollhouse.lasting import Lasting
from tollhouse.listen.exchange import Exchange
from tollhouse.outcome import End, Outcome

log = logging.getLogger(__name__)

Rest = Callable[[], Coroutine[Any, Any, None] | None]
"""Writes the last bytes of an answer. It is a plain function where nothing has to be waited for; else what it gives is awaited
once the call is concluded."""


class Gate(Protocol):
    """One stage before anything leaves. ``name`` stands in the line when it refuses or fails. ``gives`` is the type of what
    it gives: anything else is a refusal."""

    @property
    def name(self) -> str: ...
    @property
    def gives(self) -> type: ...

    def __call__(self, stage: Any, exchange: Any, /) -> Awaitable[Any]: ...


_NOBODY_CAN_SAY: Final = frozenset({"ledger_unavailable", "identity_unavailable"})
JUDGED_WITHIN_S: Final = 30.0
"""For judging a call again. Stores and issuers that are away are given up long before."""


async def check_identity(
    gates: Sequence[Gate],
    arrival: Arrival,
    exchange: Exchange,
    within_s: float = JUDGED_WITHIN_S,
) -> None:
    """Asks the gates up to the project again, of a call that has passed them. Raises `Refused` once its identity or its project
    is not valid any more. While a store or an issuer is away, it is. A gate that hangs beyond ``within_s`` is a refusal."""
    try:
        async with asyncio.timeout(within_s):
            await _asked_again(gates, arrival, exchange)
    except TimeoutError:
        why = f"Its identity could not be judged again within {within_s:g} s."
        raise Refused("internal", why) from None


async def _asked_again(gates: Sequence[Gate], arrival: Arrival, exchange: Exchange) -> None:
    stage: Any = arrival
    for gate in gates:
        try:
            stage = await gate(stage, exchange)
        except Refused as refusal:
            if refusal.denial.code in _NOBODY_CAN_SAY:
                return
            raise
        if isinstance(stage, Billed):
            return


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


_REASONS: Final[dict[End | None, str]] = {End.LEFT: "client_gone", End.STOPPED: "stopped"}
"""The line's ``reason`` of a call that nobody refused."""


class Trip:
    """One call's way: the stage that it has reached, and its end, which comes once. Only `Journey`, and what it
    calls, changes it."""

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

    async def conclude(self, told: Callable[[], object]) -> None:
        """The charge, the settle and the line. No fault in here leaves a hold behind. Where no limit is near, ``told`` is called
        once Redis is told what the call cost."""
        try:
            outcome, charged, charged_by = self._judged()
        except Exception:
            log.exception("call %s: its cost is not known, so its hold is charged", self.id)
            hold = self._purse.held.get(self.id)
            outcome = Outcome(End.WHOLE, self.status)
            charged, charged_by = (hold.amount, "hold") if hold is not None else (NOTHING, "none")
        cut: asyncio.CancelledError | None = None
        if outcome is not None:
            try:
                if await self._usage_comes_later(outcome):
                    charged, charged_by = Amount(requests=1), "later"
            except asyncio.CancelledError as error:
                # A gateway that ends at once. The call is charged all the same, and its line is written.
                cut = error
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
        entry = self._book.begin(record, concluded)
        hold = self._purse.held.get(self.id)
        created = outcome.created if outcome is not None and self.notes_objects else ()
        try:
            if created != self.noted:
                # Both are told in one write.
                settle = self._purse.settle(self.id, charged, record)
                await asyncio.gather(settle, self.note_objects(created))
            else:
                late = hold is not None and hold.settles_late
                await self._purse.settle(self.id, charged, record, told if late else None)
        finally:
            self._book.end(entry, settled=hold is not None)
        if cut is not None:
            raise cut

    async def _usage_comes_later(self, outcome: Outcome) -> bool:
        """Whether the hold stays until then. An earlier call whose usage this answer had is charged before."""
        requested = known(self.stage).requested
        if outcome.seen is not None and requested is not None and requested.pending is not None:
            await self._purse.seen(requested.pending, outcome.seen)
        return await self._purse.keep(self.id, outcome)

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
