"""The values that travel along the road. Nothing here knows mitmproxy, Redis, Vault or a socket, and no value holds a key.

    Arrival     the head, as it came
    Addressed   whose it is                     admit
    Aimed       the path and query to send      admit
    Identified  who calls                       admit
    Billed      who pays                        admit
    Admitted    what is asked of whom           admit
    Requested   what the body says              admit, by the family
    Covered     what is held for it             budget
    Clearance   and the key to send it with     clearance.py
    Outcome     how it ended                    dispatch, in outcome.py

    Passed      a tunnel without interception   admit

Each is frozen. Each but `Outcome` carries the stage before it. A gate takes one stage and returns the next, or raises `Refused`.

Past 400 lines because the stages of a call are read one after the other.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, NamedTuple, Protocol, cast

from tollhouse.denial import Denial
from tollhouse.families.asked import Asked
from tollhouse.families.meters import Later
from tollhouse.families.operation import Operation
from tollhouse.families.units import Estimate
from tollhouse.headers import Headers
from tollhouse.parties import Identity, Project
from tollhouse.providers import Provider
from tollhouse.sources import source_of

SESSION_HEADERS: Final = ("x-claude-code-session-id", "session-id", "x-session-id")
"""In which coding agents name their session: Claude Code, Codex, opencode. They are passed on."""
_LONGEST_SESSION: Final = 128

_UNDECIDED: Final = object()

ListenerKind = Literal["proxy", "base_url", "transparent"]
ChargedBy = Literal["usage", "hold", "estimate", "disconnect", "sweep", "later", "none"]


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request's head as the client sent it; nothing in it has been judged yet.

    Header names are lower case, in order, duplicates kept. A value is its bytes decoded as UTF-8. A
    byte that is not UTF-8 is a lone surrogate (PEP 383), so that the value is passed on byte for
    byte (obs-text, RFC 9110 5.5).
    """

    listener: ListenerKind
    http_version: Literal["1.0", "1.1", "2"]
    method: str
    target: str
    """The path and query byte for byte, or for an HTTP/1 absolute-form request its path and query."""
    scheme: str
    """``https`` inside TLS, ``http`` outside. An absolute-form request names its own."""
    absolute_authority: str | None
    """The authority of an absolute-form request target, else None."""
    authority: str | None
    """``:authority`` of HTTP/2; None on HTTP/1."""
    headers: Headers
    connect_host: str | None = None
    """Host of the CONNECT that opened this tunnel, normalised when it was admitted."""
    connect_proxy_authorization: str | None = None
    sni: str | None = None
    client_ip: str = ""
    client_certificate: bytes | None = None
    """DER, of the TLS that the listener itself speaks; None without one. Its handshake has verified it."""
    _first: Mapping[str, str] = field(init=False, repr=False, compare=False)
    """The first value of each name. A call asks for twenty headers, and a walk through all of them takes
    longer each time than to make this once."""

    _decided: dict[object, Any] = field(init=False, repr=False, compare=False)
    """By rule, what it gave. `decide` alone writes it; the heads that `repeated` makes share it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_first", dict(reversed(self.headers)))
        object.__setattr__(self, "_decided", {})

    def repeated(self, headers: Headers) -> RequestHead:
        """The head of a later request of the same connection, which is the same but for its ``content-length``."""
        later = replace(self, headers=headers)
        object.__setattr__(later, "_decided", self._decided)
        return later

    def decide[**P, T](self, rule: Callable[P, T], *of: P.args, **more: P.kwargs) -> T:
        """What ``rule`` gives for this head, by the head alone and by what never changes while the gateway runs. It is asked
        once for all requests of a connection that have the same head but for its ``content-length``, so always with the same
        arguments; what it raises is raised each time. No rule may be asked about who calls, what he may do or what he pays:
        that may change."""
        found = self._decided.get(rule, _UNDECIDED)
        if found is _UNDECIDED:
            found = self._decided[rule] = rule(*of, **more)
        return cast(T, found)

    @property
    def source(self) -> str:
        """Whom limits of a source address count it for."""
        return source_of(self.client_ip)

    def get_all(self, name: str) -> list[str]:
        """All values of header ``name`` (lower case), in their order."""
        first = self._first.get(name)
        if first is None:
            return []
        if len(self._first) == len(self.headers):
            return [first]
        return [value for key, value in self.headers if key == name]

    def get(self, name: str) -> str | None:
        """The first value of header ``name`` (lower case), or None."""
        return self._first.get(name)

    @property
    def asks_for_websocket(self) -> bool:
        """RFC 6455 4.1. Any other ``Upgrade`` may be ignored: RFC 9110 7.8."""
        return "upgrade" in self._first and (
            "websocket" in ",".join(self.get_all("upgrade")).lower()
        )


@dataclass(frozen=True, slots=True)
class Amount:
    """What a call takes from a budget. Money is in nano-dollars (1e-9 USD), an integer."""

    nano_usd: int = 0
    tokens: int = 0
    requests: int = 1
    price: str = field(default="", compare=False)
    """The tables by whose prices the money was worked out, "" where there was none to work out."""
    notional: int = field(default=0, compare=False)
    """What a call with a login would have cost, in nano-dollars. It is taken from no budget."""


NOTHING = Amount(requests=0)


class Arrival(NamedTuple):
    """A request's head has arrived."""

    head: RequestHead
    id: str
    started: float
    """`time.monotonic()`."""
    timestamp: float
    """Seconds since the epoch."""
    trace_id: str = ""
    session: str = ""
    """The id of the agent's session, in the agent's own word. "" without one. It is written down in
    several places, and `Journey` takes tokens out of it before any gate sees it."""

    @classmethod
    def begin(cls, head: RequestHead, trace_header: str = "", session_header: str = "") -> Arrival:
        """``trace_header`` (lower case) names the trace; without it ``traceparent`` does.
        ``session_header`` (lower case) names the session; without it `SESSION_HEADERS` do."""
        trace_id = head.decide(_trace_id, head, trace_header)
        session = head.decide(_session, head, session_header)
        return cls(head, new_call_id(), time.monotonic(), time.time(), trace_id, session)


def _trace_id(head: RequestHead, first: str) -> str:
    found = (head.get(first) or head.get("traceparent") or "")[:256]
    # The line and its record are UTF-8.
    return found.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _session(head: RequestHead, first: str) -> str:
    """The first value that can be a session's id, of at most 128 printable ASCII characters."""
    for name in (first, *SESSION_HEADERS) if first else SESSION_HEADERS:
        for value in map(str.strip, head.get_all(name)):
            if 0 < len(value) <= _LONGEST_SESSION and value.isascii() and value.isprintable():
                return value
    return ""


class Addressed(NamedTuple):
    """The one authority that is meant, and its provider."""

    arrival: Arrival
    provider: Provider
    host: str
    raw_path: str
    """Path and query as they came. At the base URL the prefix that names the provider is taken
    off."""


class Aimed(NamedTuple):
    """What will be asked for, as far as the head's first line says it."""

    addressed: Addressed
    path: str
    """The path that will be sent, without the query string."""
    query: str
    """The query string that will be sent. Credentials are taken out of it. It is never logged."""
    credentials: tuple[str, ...]
    """The credentials that stood in the query."""


class Identified(NamedTuple):
    """Who calls is known, and every credential is taken off."""

    aimed: Aimed
    headers: Headers
    """The request's headers without those that were stripped."""
    identity: Identity
    user: str
    """The user name that came with the credential, "" if none did."""
    remembered: bool
    """Redis was away, and the identity is one that was proven before."""


class Billed(NamedTuple):
    """Who pays is known."""

    identified: Identified
    project: Project
    remembered: bool
    """Redis was away, and identity and project are remembered ones."""


class Admitted(NamedTuple):
    """The whole judgement of the first gates: what is asked of whom, by whom, and on whose
    account."""

    arrival: Arrival
    provider: Provider
    host: str
    path: str
    query: str
    headers: Headers
    """The headers that will be sent, but for the credential."""
    identity: Identity
    project: Project
    operation: Operation
    remembered: bool = False
    """Redis was away, and identity and project are remembered ones."""
    objects: tuple[str, ...] = ()
    """Ids of objects that the provider keeps, as far as the path names them."""
    body: bytes | None = None
    """The body, where an operator's addons have read it already: as they left it. Its coding is the
    one in ``headers``."""
    login: bool = False
    """It goes with the workload's own login. It costs us nothing."""

    @property
    def id(self) -> str:
        """The call's id."""
        return self.arrival.id

    @property
    def worst(self) -> bool:
        """The most that the call can use is held, and not the likely most."""
        return self.project.estimate == "worst"


class Pending(NamedTuple):
    """A call that was answered, and whose usage comes later. Its hold stays until then."""

    call_id: str
    tenant: str
    project: str
    scopes: str
    """Whose limits count: the scopes of its hold, as the ledger writes them."""
    provider: str
    price_id: str
    host: str
    object: str
    path: str
    """Of the family's `Later`, as ``facts`` are."""
    facts: str
    model: str
    deployment: str
    """As in `Asked`."""
    dearest: bool
    """Without a price the highest of the provider's is charged."""
    at: float
    """Seconds since the epoch, at which the call arrived."""
    since: float
    """The same, at which it began to wait."""
    held: Amount
    extra: Amount
    """What earlier attempts of unknown fate are charged beside the usage."""
    carried: Mapping[str, str]
    """What its hold remembers (`budget.hold`)."""

    @property
    def later(self) -> Later:
        """What it waits for."""
        return Later(self.object, self.path, self.facts)


class StreamedBody(Protocol):
    """A body that is never in memory as a whole: an upload."""

    length: int | None
    """None: nobody has said it."""
    sending_s: float
    """Seconds for which it was sent."""

    @property
    def repeatable(self) -> bool:
        """It can be sent more than once."""

    def pieces(self) -> AsyncIterator[bytes]:
        """The body from its beginning. Raises `Refused` if it can't be had to its end."""

    def before_end(self, check: Callable[[Asked], Awaitable[None]]) -> None:
        """``check`` is awaited before the last bytes leave, if something of the body is read that
        late. What it raises ends the body."""


class Passed(NamedTuple):
    """A tunnel that may be passed on without interception: to whom, by whom, and for whom."""

    arrival: Arrival
    host: str
    identity: Identity
    project: Project


class Requested(NamedTuple):
    """What the body says. ``body`` is as it came, and as it will be sent behind the budget's gate.
    It is None for an operation that takes none. ``headers`` are the headers that will be sent."""

    admitted: Admitted
    asked: Asked
    body: bytes | StreamedBody | None
    estimate: Estimate
    headers: Headers
    coded: bytes | None = None
    """The body as it came, if it came compressed. It is sent where nothing of the body is changed."""
    pending: Pending | None = None
    """The call before this one whose usage the answer may tell."""

    @property
    def creates(self) -> bool:
        """A second request would make or change something at the provider a second time."""
        admitted = self.admitted
        return admitted.operation.created_by(admitted.arrival.head.method, self.asked.keeps)


class Hold(Protocol):
    """The hold of a call under way. It grows with a stream whose end nobody knows."""

    @property
    def amount(self) -> Amount:
        """What is held now."""

    @property
    def unheld(self) -> bool:
        """Redis was away, and the call was let through without a hold."""

    @property
    def clamped(self) -> int | None:
        """The output cap of each choice that the request was lowered to; None if it was not."""

    @property
    def grows(self) -> bool:
        """The hold is that of a stream without a cap: `covers` has to be asked as the stream goes
        on."""

    async def covers(self, seen: int) -> Denial | None:
        """Makes the hold large enough for ``seen`` tokens of output, or says why it can't be."""

    async def covers_repeat(self) -> bool:
        """Whether an attempt of unknown fate may be repeated: the cost of both attempts is held."""


class Covered(NamedTuple):
    """What the call may cost is held. ``requested`` is what will be sent: its cap may have been lowered."""

    requested: Requested
    hold: Hold


Stage = Arrival | Addressed | Aimed | Identified | Billed | Admitted | Passed | Requested | Covered


class Known(NamedTuple):
    """What the gates have found out about a call. A field that is not known yet is None or ""."""

    arrival: Arrival
    provider: Provider | None = None
    host: str = ""
    path: str = ""
    identity: Identity | None = None
    project: Project | None = None
    admitted: Admitted | None = None
    requested: Requested | None = None
    hold: Hold | None = None


def known(stage: Stage) -> Known:
    """What ``stage`` and those before it have found out."""
    match stage:
        case Covered():
            return _judged(stage.requested.admitted, stage.requested, stage.hold)
        case Requested():
            return _judged(stage.admitted, stage)
        case Admitted():
            return _judged(stage)
        case Arrival():
            return Known(stage)
        case Addressed():
            return Known(stage.arrival, stage.provider, stage.host)
        case Aimed():
            return known(stage.addressed)._replace(path=stage.path)
        case Identified():
            return known(stage.aimed)._replace(identity=stage.identity)
        case Billed():
            return known(stage.identified)._replace(project=stage.project)
        case Passed():
            return Known(
                stage.arrival, host=stage.host, identity=stage.identity, project=stage.project
            )


def _judged(
    admitted: Admitted, requested: Requested | None = None, hold: Hold | None = None
) -> Known:
    return Known(
        admitted.arrival,
        admitted.provider,
        admitted.host,
        admitted.path,
        admitted.identity,
        admitted.project,
        admitted,
        requested,
        hold,
    )


def new_call_id() -> str:
    """``call_`` and 24 hexadecimal digits: 48 bits of milliseconds since the epoch, so that ids sort by time, and 48
    random bits."""
    return f"call_{int(time.time() * 1000):012x}{secrets.token_hex(6)}"
