"""The operator's addons on the road of each call: the gate behind identity and strip, the way back, and the end."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import ClassVar

from mitmproxy.flow import Error

from tollhouse.admit.bodies import BodyBytes, KeptBody, KeptFor
from tollhouse.admit.reading import BodySource, ReadBody
from tollhouse.call import Admitted
from tollhouse.denial import Refused
from tollhouse.dispatch.answering import Answering
from tollhouse.frames import Room
from tollhouse.operators.altered import Altered
from tollhouse.operators.flows import (
    SentAs,
    new_flow,
    new_response,
    refuse_odd_charset,
    sent_body,
    sent_head,
    sent_switch,
)
from tollhouse.operators.hooks_run import Addons
from tollhouse.operators.messages import AlteredMessages
from tollhouse.socket_ties import Altering
from tollhouse.trip import AnsweredByGate

log = logging.getLogger(__name__)


class _Call:
    """A call with a flow. Its hooks and this room change it."""

    def __init__(self, admitted: Admitted, kept: KeptBody) -> None:
        self.flow = new_flow(admitted)
        self.kept = kept
        """Of its answer."""
        self.is_head = admitted.arrival.head.method == "HEAD"
        self.responded = False
        self.altered: Altered | None = None


class AddonsOnRoad:
    """The gate ``addons``, and what `Journey` asks. ``ours`` are the names of our own headers, in lower case."""

    name: ClassVar = "addons"
    gives: ClassVar = Admitted

    def __init__(
        self, addons: Addons, read: ReadBody, bodies: BodyBytes, ours: frozenset[str]
    ) -> None:
        self._addons = addons
        self._wants_calls = addons.want_calls
        self._read = read
        self._bodies = bodies
        self._ours = ours
        self._calls: dict[str, _Call] = {}

    async def __call__(self, admitted: Admitted, exchange: BodySource) -> Admitted:
        """Refuses 503 (an addon failed) and 403 (it killed the flow), and as `ReadBody` does. Raises `AnsweredByGate` if an addon
        has set the response."""
        if not (self._wants_calls or admitted.operation.socket):
            return admitted
        kept = self._bodies.reserve(KeptFor.of(admitted))
        call = self._calls[admitted.id] = _Call(admitted, kept)
        flow = call.flow
        before = SentAs(flow)
        async with exchange.interruptible():
            await self._addons.ask("requestheaders", flow)
        whole = await self._read.whole(admitted, exchange)
        request = flow.request
        if whole.plain:
            refuse_odd_charset(request, "request")
            request.headers["content-length"] = str(len(whole.plain))
        request.raw_content = whole.plain
        request.timestamp_end = time.time()
        async with exchange.interruptible():
            await self._addons.ask("request", flow)
            if flow.response is not None:
                raise await self._answered(call)
        changed = before.judged(
            admitted,
            flow,
            self._ours,
            plain=whole.plain,
            came=whole.came,
            coding=whole.coding,
        )
        if (growth := len(changed.body or b"") - len(whole.came)) > 0:
            whole.kept.extend(growth)
        return changed

    async def _answered(self, call: _Call) -> AnsweredByGate:
        """An addon's own answer passes the hooks of an answer, as mitmproxy has it."""
        await self._addons.ask("responseheaders", call.flow)
        call.responded = True
        await self._addons.ask("response", call.flow)
        status, headers = sent_head(call.flow)
        return AnsweredByGate(status, headers, sent_body(call.flow))

    async def altered(self, call_id: str, answer: Answering) -> Altered | Answering:
        """The answer to pass on in place of ``answer``. Raises `Refused`."""
        call = self._calls.get(call_id)
        if call is None:
            return answer
        call.altered = Altered(
            self._addons, call.flow, answer, self._read.max_body_bytes, call.kept, call.is_head
        )
        await call.altered.begin()
        return call.altered

    async def session(
        self, call_id: str, headers: Sequence[tuple[str, str]], longest: int, room: Room
    ) -> tuple[list[tuple[str, str]], Altering]:
        """A handshake that the provider has accepted, and ``headers`` of our answer to it: those that the addons add, and what
        each message has to pass. Raises `Refused`."""
        call = self._calls[call_id]
        flow = call.flow
        flow.response = new_response(101, headers)
        flow.response.raw_content = b""
        messages = AlteredMessages(self._addons, flow, longest, room)
        await self._addons.ask("responseheaders", flow)
        call.responded = True
        await self._addons.ask("response", flow)
        before = {name for name, _ in headers}
        return [pair for pair in sent_switch(flow) if pair[0] not in before], messages

    async def ended(self, call_id: str, why: str) -> None:
        """The call is over. Its addons are told why it ended, if they were told of no whole answer. Raises nothing but a
        cancellation."""
        call = self._calls.pop(call_id, None)
        if call is None:
            return
        call.kept.release()
        flow = call.flow
        responded = call.responded or (call.altered is not None and call.altered.responded)
        try:
            if why and (not responded or flow.error is not None):
                flow.error = flow.error or Error(why)
                await self._addons.ask("error", flow)
        except Refused:
            pass  # It is in the log, and the call has ended.
        except Exception:
            log.exception("call %s: its addons could not be told how it ended", call_id)
        flow.live = False
