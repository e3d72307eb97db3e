"""A session of the Responses API: https://platform.openai.com/docs/guides/websocket-mode.

Each ``response.create`` is a request of its own, with the fields of the body that is sent over HTTP, and it is read as that.
"""

from __future__ import annotations

import contextlib
import json
from collections import deque
from typing import Final

from tollhouse.families.asked import Asked, Dialect, Limits, Mode, Request
from tollhouse.families.dialogue import Exposed, Terms, Unfinished
from tollhouse.families.formats.document import parsed, refuse, shown
from tollhouse.families.formats.lowered import lower_cap
from tollhouse.families.openai import responses_estimate, responses_request
from tollhouse.families.openai.realtime import EVENT_TYPE, ResponsesSocketMeter, Sums
from tollhouse.families.openai.responses_meter import ENDS
from tollhouse.families.openai.responses_usage import error_code, id_of
from tollhouse.families.openai.tools import Hosted
from tollhouse.families.units import Charge, Estimate, Units

KIND: Final = "responses_socket"
_AHEAD: Final = 512
_SLICE: Final = 2_048
"""As `budget.growth` has them: the output of an answer without a cap is exposed in slices, ahead of what was seen."""
_A_SECOND: Final = 100.0
"""Tokens of reasoning that nobody sees."""
_MOST: Final = 64
"""Requests under way at one time: each message is covered anew with all of them."""


def read(request: Request, dialect: Dialect) -> Asked:
    """The handshake. The messages name the models."""
    return Asked(stream=True, writes=False, reasons=False, kind=KIND)


def estimate(asked: Asked, mode: Mode, limits: Limits, dialect: Dialect) -> Estimate:
    """Of the handshake, which costs nothing."""
    return Estimate(Units())


class ResponsesDialogue:
    binary = False

    def __init__(self, asked: Asked, terms: Terms) -> None:
        self.asked = asked
        self.error = ""
        self.requests = 0
        self._terms = terms
        self._meter = ResponsesSocketMeter(self._tools_of)
        self._uncounted = Sums()
        self._lanes: dict[str, _Lane] = {}
        self._last: str | None = None
        """The lane of the message that was heard last."""
        self._changed = False
        self._exposed: tuple[Exposed, ...] = ()

    @property
    def charges(self) -> tuple[Charge, ...]:
        return (*self._meter.finish(), *self._uncounted.charges())

    @property
    def created(self) -> tuple[str, ...]:
        return self._meter.created

    def heard(self, message: bytes, now: float) -> Asked | None:
        terms, self._last = self._terms, None
        document = parsed(message)
        kind = document.name(document.tree.get("type"))
        if kind != "response.create":
            refuse(f"A message of the type {shown(str(kind))} is not open in a session.")
        lane = id_of(document.name(document.tree.get("stream_id")))
        if len(self._under_way()) >= _MOST:
            refuse(f"The session has {_MOST} requests under way, which is the most.")
        asked = responses_request.read(terms.request._replace(body=message), terms.dialect)
        if asked.detail.background:
            refuse('"background" is not open in a session; send the request over HTTP.')
        asked = terms.named(asked)._replace(stream=True, kind=KIND)
        if lane in self._lanes and self._tools_of(lane) != asked.detail.tools:
            # An answer does not say which request it is of, and its tools are charged by the request.
            refuse("A request with other tools is under way; wait for its answer.")
        found = responses_estimate.estimate(asked, terms.mode, terms.limits(asked), terms.dialect)
        asked = asked._replace(document=None)
        begun = _Begun(Exposed(asked, found), self._meter.output_seen, now)
        self._lanes.setdefault(lane, _Lane()).waiting.append(begun)
        self._last = lane
        self.asked = asked._replace(detail=None, objects=())
        self.requests += 1
        self._changed = True
        return asked

    def withdraw(self) -> None:
        lane, self._last = self._last, None
        if lane is None:
            return
        if lane in self._lanes:
            self._lanes[lane].waiting.pop()
            self._empty(lane)
        self.requests -= 1
        self._changed = True

    @property
    def lowerable(self) -> Exposed | None:
        return None if self._last is None else self._lanes[self._last].waiting[-1].exposed

    def lowered(self, message: bytes, cap: int) -> bytes:
        assert self._last is not None
        begun = self._lanes[self._last].waiting[-1]
        asked, found = begun.exposed
        found = found.of_output(cap)._replace(grows=False)
        begun.exposed = Exposed(asked._replace(cap=cap), found)
        self._changed = True
        return lower_cap(message, cap, responses_request.CAP)

    def told(self, message: bytes, now: float) -> None:
        match = EVENT_TYPE.match(message)
        kind = match[1].decode() if match is not None else ""
        if kind and kind not in ENDS and kind not in ("error", "response.created"):
            self._meter.feed(message)
            return
        before = _tokens(self._meter.finish())
        self._meter.feed(message)
        event = None
        with contextlib.suppress(ValueError, RecursionError):
            event = json.loads(message)
        if not isinstance(event, dict):
            return
        kind, lane = str(event.get("type")), id_of(event.get("stream_id"))
        if kind == "error":
            root = {"code": event.get("code"), "type": "error"}
            self.error = error_code(event.get("error")) or error_code(root)
        if lane not in self._lanes:
            return
        if kind == "response.created":
            self._begin(lane)
        elif kind == "error" and len(self._lanes[lane].waiting) > 1:
            # What is held for the others stays: the one that failed may be the cheapest.
            self._lanes[lane].failed += 1
            self._empty(lane)
        elif kind == "error" or kind in ENDS:
            counted = _tokens(self._meter.finish()) > before
            self._end(lane, counted=counted, failed=kind in ("error", "response.failed"))

    def exposed(self, now: float) -> tuple[Exposed, ...]:
        found = tuple(
            Exposed(one.exposed.asked, self._grown(one, now)) for one in self._under_way()
        )
        if self._changed or found != self._exposed:
            self._changed, self._exposed = False, found
        return self._exposed

    def unfinished(self, now: float) -> tuple[Unfinished, ...]:
        return tuple(
            Unfinished(
                Exposed(one.exposed.asked, self._grown(one, now)),
                self._seen(lane, one),
                now - one.since,
            )
            for lane in self._lanes.values()
            for one in lane.waiting
        )

    def _under_way(self) -> list[_Begun]:
        return [one for lane in self._lanes.values() for one in lane.waiting]

    def _seen(self, lane: _Lane, one: _Begun) -> int:
        """The output of one since it began. Of the lanes that answer at the same time each counts the others' as well."""
        if lane.seen_before is None:
            return self._meter.output_seen - one.seen_before
        return self._meter.output_seen - lane.seen_before if one is lane.waiting[0] else 0

    def _grown(self, begun: _Begun, now: float) -> Estimate:
        """Its output by now, where it has no cap."""
        found = begun.exposed.estimate
        if not found.grows:
            return found
        need = self._meter.output_seen - begun.seen_before
        if begun.exposed.asked.reasons:
            need = max(need, int((now - begun.since) * _A_SECOND))
        missing = need + _AHEAD - found.units.output
        if missing <= 0:
            return found
        slices = -(-missing // _SLICE)
        return found.of_output(found.units.output + slices * _SLICE)

    def _tools_of(self, lane: str) -> Hosted:
        """Those of the request that is answered next."""
        there = self._lanes.get(lane)
        return there.waiting[0].exposed.asked.detail.tools if there else Hosted()

    def _begin(self, lane: str) -> None:
        there = self._lanes[lane]
        if there.seen_before is not None and there.failed:
            # The answer before has ended in an error.
            there.failed -= 1
            self._charge(there, there.waiting[0], failed=True)
            there.waiting.popleft()
            self._changed = True
        there.seen_before = self._meter.output_seen

    def _empty(self, lane: str) -> None:
        """A lane is gone where none waits but those that have failed."""
        self._changed = True
        there = self._lanes[lane]
        if len(there.waiting) > there.failed:
            return
        if there.waiting and there.seen_before is not None:
            self._charge(there, there.waiting[0], failed=True)
        del self._lanes[lane]

    def _end(self, lane: str, *, counted: bool, failed: bool) -> None:
        there = self._lanes[lane]
        if failed and there.failed:
            # The provider has told it by an error as well.
            there.failed -= 1
        if not counted:
            self._charge(there, there.waiting[0], failed=failed)
        there.waiting.popleft()
        there.seen_before = None
        self._empty(lane)

    def _charge(self, lane: _Lane, begun: _Begun, *, failed: bool) -> None:
        """An answer that ended without a count: what was seen, if it failed, and else what was held."""
        seen = self._seen(lane, begun)
        if failed and not seen:
            return
        asked, found = begun.exposed
        output = seen if failed else max(seen, found.units.output)
        units = Units(input=found.units.input, output=output, requests=1)
        self._uncounted.add(Charge(asked.model, units, asked.tier))


class _Lane:
    """Requests that are answered one behind the other."""

    def __init__(self) -> None:
        self.waiting: deque[_Begun] = deque()
        self.failed = 0
        """The errors that came while several waited: an error does not say whose it is."""
        self.seen_before: int | None = None
        """The output that was seen before the answer under way; None between two answers."""


class _Begun:
    """A request that was sent, and whose answer is not over."""

    def __init__(self, exposed: Exposed, seen_before: int, since: float) -> None:
        self.exposed = exposed
        self.seen_before = seen_before
        self.since = since


def _tokens(charges: tuple[Charge, ...]) -> int:
    return sum(charge.units.tokens for charge in charges)
