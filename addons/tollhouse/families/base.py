"""The seam of a family: everything that the road asks about an API is one value of `Family`.

A family is a folder beside this file. It knows bytes and counts. It knows no money, no key, no socket and no client.
Nothing outside ``families`` and ``providers`` names one. The values that a family takes and gives stand in `operation`,
`asked`, `meters` and `dialogue`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from tollhouse.denial import Denial
from tollhouse.families.asked import Asked, Dialect, Limits, Mode, Request
from tollhouse.families.dialogue import Dialogue, Terms
from tollhouse.families.meters import AnswerHead, LateMeter, Later, Meter
from tollhouse.families.operation import Matched, Operation, Route
from tollhouse.families.units import Estimate
from tollhouse.headers import Headers

Hint = Callable[[Mapping[str, Any]], float | None]
"""The seconds that an error's object (`formats.errors`) asks to be waited; None if it does not say."""

Verdict = Literal["refused", "no_money", "request"]
"""What an error says of the key. ``refused``: the provider does not take it. ``no_money``: its account is empty. ``request``: the
key is sound and this request is at fault, whatever the status says; any workload can make such a request."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of a table of verdicts. ``source`` says where the row comes from.

    ``told`` gets the error's object (`formats.errors`). None: the status alone decides. If there
    are ``kind``, the header ``x-amzn-errortype`` has to begin with one of them.
    """

    verdict: Verdict
    status: int
    source: str
    told: Callable[[Mapping[str, Any]], bool] | None = None
    kind: tuple[str, ...] = ()


def _unmetered(*_: object) -> NoReturn:
    raise AssertionError("no operation of this family is metered")


@dataclass(frozen=True, slots=True, repr=False)
class Family:
    """An API and its dialects. docs/adding-a-provider.md explains each part.

    ``read`` is asked for operations that are metered or read a body. It raises `Refused` for a body
    that can't be read in exactly one way. ``rewrite`` changes the body where `Asked` says so, and
    no other byte. ``estimate`` is asked for metered operations, and never raises. ``sent_headers``
    gives the headers under which the body is sent. ``meter`` is asked for answers with a status of
    2xx of operations that are metered or make an object.

    ``error_body`` and ``error_event`` write a denial and a call's id as an error that the family's
    SDKs raise as their own: as a body of JSON, and as the last event of a stream that has begun.
    ``stream_error`` writes that event where its form depends on what was asked. None: it does not.
    """

    name: str
    routes: tuple[Route, ...]
    error_body: Callable[[Denial, str], bytes]
    error_event: Callable[[Denial, str], bytes]
    verdicts: tuple[Rule, ...] = ()
    retry_hint: Hint | None = None
    """For an error whose headers ask for no wait. None: its bodies ask for none."""
    spoken_by_others: bool = False
    """Other companies speak it as well, at prices of their own."""
    encoded: re.Pattern[str] | None = None
    """Paths that may hold an encoded ``/``, in the places where this pattern has it. It has to fit
    the whole path. All other paths with one are refused."""
    read: Callable[[Request, Dialect], Asked] = _unmetered
    rewrite: Callable[[bytes, Asked], bytes] = _unmetered
    sent_headers: Callable[[Headers, Asked], Headers] = _unmetered
    estimate: Callable[[Asked, Mode, Limits, Dialect], Estimate] = _unmetered
    meter: Callable[[Asked, AnswerHead], Meter] = _unmetered
    stream_error: Callable[[Denial, str, Asked], bytes] | None = None
    dialogue: Callable[[Asked, Terms], Dialogue] = _unmetered
    """Reads the session of an operation that is a ``socket``."""
    socket_error: Callable[[Denial, str, Asked], bytes] = lambda denial, call_id, asked: b""
    """The message by which a session is told why it ends, before it is closed. Empty: it is told by the close
    alone."""
    late_meter: Callable[[Later, AnswerHead], LateMeter] | None = None
    """Makes the meter of an answer that shows a `Later`. None: usage never comes later."""
    below: tuple[tuple[str, Family], ...] = ()
    """Beginnings of paths below which it speaks the API of another family. The errors there have
    that family's form."""

    def __repr__(self) -> str:
        return f"Family({self.name!r})"

    def operation(
        self, method: str, path: str, query: str = "", host: str = ""
    ) -> Operation | None:
        """The operation for this request. None: no route names it, so it is closed."""
        found = self.match(method, path, query, host)
        return None if found is None else found.operation

    def match(
        self, method: str, path: str, query: str = "", host: str = "", *, socket: bool = False
    ) -> Matched | None:
        """The same, with the ids of objects that stand in the path. ``socket``: the request asks for a WebSocket."""
        for route in self.routes:
            here = route.hosts is None or route.hosts.fullmatch(host)
            so = route.query is None or route.query.fullmatch(query)
            if route.operation.socket is not socket:
                continue
            if here and so and route.method == method and (found := route.path.fullmatch(path)):
                if not found.re.groupindex:
                    return Matched(route.operation)
                named = found.groupdict()
                ids = (text for name, text in named.items() if name.startswith("object") and text)
                return Matched(route.operation, tuple(ids))
        return None

    def at(self, path: str) -> Family:
        """In whose form a call to ``path`` is refused."""
        for beginning, family in self.below:
            if path.startswith(beginning):
                return family
        return self

    def last_event(self, denial: Denial, call_id: str, asked: Asked) -> bytes:
        """The event that ends a stream of ``asked`` with a refusal."""
        if self.stream_error is None:
            return self.error_event(denial, call_id)
        return self.stream_error(denial, call_id, asked)

    @property
    def metered(self) -> bool:
        """Whether any operation costs money."""
        return any(route.operation.metered for route in self.routes)
