"""The seam of a family: everything that the road asks about an API is one value of `Family`.

A family is a folder beside this file. It knows bytes and counts. It knows no money, no key, no socket and no client.
Nothing outside ``families`` and ``providers`` names one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, NoReturn, Protocol

from tollhouse.denial import Denial
from tollhouse.families.units import Charge, Estimate

if TYPE_CHECKING:
    from tollhouse.families.formats.multipart import Form

Headers = Sequence[tuple[str, str]]
"""Names in lower case, in order, duplicates kept."""
Cost = Literal["metered", "free", "job", "mints", "account"]
"""``metered``: the answer tells the usage. ``free``: it costs nothing. ``job``: the cost comes later,
elsewhere. ``mints``: it makes a credential or a session that would go around the gateway.
``account``: it administrates the account. The last two are refused always."""
Objects = Literal["", "makes", "lists", "deletes"]
"""What a request does with objects that the provider keeps, beside using them. ``makes``: the answer
has the id of a new one, or of what has come of an earlier request. ``lists``: the answer
shows those of everybody who has the key."""
Upload = Literal["", "form", "bytes"]
"""Whether a body may be a file, and so larger than bodies are that are kept. ``form``: a multipart
body may be one; its fields are read as it comes. ``bytes``: nothing of the body is read."""
Mode = Literal["typical", "worst"]
"""``worst`` is the most that a call can use; ``typical`` is the likely most."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What a request asks the API to do. ``kind`` is the family's own word: ``chat``, ``embeddings``, ``models``."""

    kind: str
    cost: Cost
    reads_body: bool = False
    """The body is read and judged before anything is held. Without it a body is refused."""
    objects: Objects = ""
    keyless: bool = False
    """It goes out without a key."""
    shows_usage: bool = False
    """The answer may tell the usage of an answer that was asked for earlier. The first object of the
    path is its id (`Later`)."""
    upload: Upload = ""
    creates: bool | None = None
    """Whether a second request would make or change something a second time. None: a method with
    that effect (POST, PATCH: RFC 9110 9.2.2) does, unless the operation is metered and keeps no
    object."""
    socket: bool = False
    """It is a WebSocket: the request asks for an upgrade. `Family.dialogue` reads its messages."""

    @property
    def metered(self) -> bool:
        return self.cost == "metered"

    def created_by(self, method: str, keeps: bool | None) -> bool:
        """``keeps`` is that of `Asked`."""
        if method not in ("POST", "PATCH"):
            return False
        if self.creates is not None:
            return self.creates
        if not self.metered:
            return True
        return self.objects == "makes" if keeps is None else keeps


class Matched(NamedTuple):
    """What a route says of a request. ``objects`` are the ids in its path."""

    operation: Operation
    objects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """One method and path. ``path`` has to fit the whole path, without the query. ``hosts`` has to
    fit the whole host, and ``query`` the whole query; None stands for every one. Groups of ``path`` whose names begin with
    ``object`` are ids of objects that the provider keeps."""

    method: str
    path: re.Pattern[str]
    operation: Operation
    hosts: re.Pattern[str] | None = None
    query: re.Pattern[str] | None = None


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one provider's speech differs from its family's. It is data of the provider's entry."""

    usage_in_stream: Literal["on_request", "always"] = "always"
    """``on_request``: a stream tells its usage only if the request asks for it."""
    own_rules: bool = False
    """The company whose API this is serves the models itself. So its published rules hold for
    models of these names."""
    least_seconds: int = 0
    """Sound that is written down is charged for so many seconds at least."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The most tokens that a call's models read (``context``) and write (``answer``). Of several
    models that the call can reach, the largest counts."""

    context: int
    answer: int


class Request(NamedTuple):
    """What `Family.read` gets: a request whose body has come whole."""

    operation: Operation
    path: str
    headers: Headers
    body: bytes = b""
    """b"" where the operation reads none."""
    query: str = ""
    host: str = ""
    model: str = ""
    """The model that the path names, and that counts whatever the body says. The family itself sets
    it, for readers that its paths share with others."""
    form: Form | None = None
    """The fields of a multipart body that was read as it came. ``body`` is b"" then."""


class Asked(NamedTuple):
    """What a request says."""

    model: str = ""
    other_models: tuple[str, ...] = ()
    """The models beside ``model`` that the provider may use instead."""
    models_unknown: bool = False
    """The request names further models in a way that can't be read."""
    stream: bool = False
    cap: int | None = None
    """Tokens of output that each choice may have; None is no cap."""
    writes: bool = True
    """The answer has tokens of output."""
    choices: int = 1
    tier: str = ""
    """The service tier that is asked for."""
    reasons: bool = True
    """The model and the request can reason in silence."""
    asks: frozenset[str] = frozenset()
    may: frozenset[str] = frozenset()
    """Token parts, as in `Estimate`."""
    asks_for_usage: bool = False
    """`Family.rewrite` makes the request ask for usage, and the meter takes the added bytes out of
    the answer."""
    lowered_to: int | None = None
    """`Family.rewrite` lowers the cap of each choice to this."""
    kind: str = ""
    """That of the operation."""
    objects: tuple[str, ...] = ()
    """Ids of objects that the provider keeps, as far as the body names them."""
    least_cap: int = 1
    """The cap of each choice is not lowered below this."""
    detail: Any = None
    """What the family's own meter has to know of the request. Nobody else looks at it."""
    document: Any = None
    """The parsed body, for `Family.estimate` and `Family.sent_headers`. It is dropped after them,
    before anything is waited for: it takes many times the memory of the body's bytes."""
    deployment: str = ""
    """The name by which the request calls its model, where the provider's entry maps that name to
    ``model``. No family sets it."""
    keeps: bool | None = None
    """Whether the provider keeps the answer as an object, where the request itself says it. None:
    the operation says it."""


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """An answer's status and headers, as the provider sent them."""

    status: int
    headers: Headers

    def get(self, name: str) -> str:
        """The first value of header ``name`` (lower case), "" if there is none."""
        return next((value for key, value in self.headers if key == name), "")


class Boundary(Protocol):
    """Where the client of a stream can still be told something: between two of its events."""

    @property
    def between(self) -> bool:
        """Whether the bytes that were sent so far end with a whole event."""

    def sent(self, data: bytes) -> None:
        """Called when ``data`` went to the client."""

    def cut(self, data: bytes) -> bytes:
        """The beginning of ``data`` up to the first end of an event. All of ``data`` if no event
        ends in it."""


class Meter(Protocol):
    """Reads one answer as it passes by.

    A meter raises nothing: what it can't read it passes on unread.
    """

    @property
    def output_seen(self) -> int:
        """Tokens of output in what was read: a rough count of the text, or the provider's own if that is more."""

    @property
    def done(self) -> bool:
        """The answer has said itself that it is over. More bytes may follow."""

    @property
    def error(self) -> str:
        """The code of an error that the provider wrote into an answer of status 2xx, else ""."""

    @property
    def edits(self) -> bool:
        """Whether `feed` may give fewer bytes than it gets. This is known when the first bytes were
        fed."""

    @property
    def boundary(self) -> Boundary | None:
        """None: no event of ours can be put into this answer."""

    @property
    def created(self) -> tuple[str, ...]:
        """Ids of objects that the answer says the provider now keeps."""

    def feed(self, data: bytes) -> bytes:
        """The bytes that go to the client now."""

    def flush(self) -> bytes:
        """Called at the end of the answer. Gives the bytes that were held back."""

    def finish(self) -> tuple[Charge, ...]:
        """The provider's count so far. Empty if it has counted nothing. It may be asked at any
        time."""


class Later(NamedTuple):
    """An answer whose usage comes later. A meter that may meet one has an attribute ``later``: this,
    or None."""

    id: str
    """Of the object by which it is asked for."""
    path: str
    """GET shows it there."""
    facts: str = ""
    """What `Family.late_meter` has to know of the request; at most 2,000 characters."""


class Exposed(NamedTuple):
    """What one answer of a session may come to. ``asked`` names its models."""

    asked: Asked
    estimate: Estimate


class Unfinished(NamedTuple):
    """An answer of a session that has begun and was not counted."""

    exposure: Exposed
    output_seen: int
    """A rough count, in tokens."""
    seconds: float
    """Since it began."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a dialogue is read by. ``request`` is its handshake. ``limits`` are those of the models that are
    asked for. ``named`` puts models in the place of deployments (`Asked.deployment`)."""

    request: Request
    mode: Mode
    dialect: Dialect
    limits: Callable[[Asked], Limits]
    named: Callable[[Asked], Asked]


class Dialogue(Protocol):
    """Reads the messages of one WebSocket session, whole, in both directions. ``now`` is in seconds, and never goes
    back. It keeps no message."""

    @property
    def asked(self) -> Asked:
        """What the session asks for, as far as it is known."""

    @property
    def charges(self) -> tuple[Charge, ...]:
        """What the provider has counted: the sums of all answers."""

    @property
    def requests(self) -> int:
        """How many answers were asked for."""

    @property
    def created(self) -> tuple[str, ...]:
        """Ids of objects that the provider says it keeps now."""

    @property
    def error(self) -> str:
        """The code of the last error that the provider told."""

    @property
    def binary(self) -> bool:
        """The server's messages come in binary frames."""

    def heard(self, message: bytes, now: float) -> Asked | None:
        """A message of the client, before it is sent. Gives what it asks for, if its models and objects have to be
        judged. Raises `Refused` for one that can't be read in exactly one way, and for one that is not open."""

    def withdraw(self) -> None:
        """The message that was heard last is not sent."""

    @property
    def lowerable(self) -> Exposed | None:
        """The answer that the message heard last asks for, if its cap may be lowered."""

    def lowered(self, message: bytes, cap: int) -> bytes:
        """That message with its cap at ``cap``, which is less than what it has."""

    def told(self, message: bytes, now: float) -> None:
        """A message of the server, before it is passed on."""

    def exposed(self, now: float) -> tuple[Exposed, ...]:
        """The answers that may still be charged: those that are asked for or under way, and those that the provider
        may begin by itself. The same object as before if nothing has changed."""

    def unfinished(self, now: float) -> tuple[Unfinished, ...]:
        """The answers that are under way."""


class LateMeter(Meter, Protocol):
    """Reads an answer that shows what became of an answer before it."""

    @property
    def ended(self) -> bool:
        """That answer is over: its usage does not change any more."""

    @property
    def later(self) -> Later | None:
        """Where the usage of that answer stands, if it is over and its usage is not shown here."""


class PassThrough:
    """The meter of an answer that costs nothing, or of an error."""

    output_seen = 0
    done = False
    error = ""
    edits = False
    boundary: Boundary | None = None
    created: tuple[str, ...] = ()
    later: Later | None = None
    ended = False

    def feed(self, data: bytes) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""

    def finish(self) -> tuple[Charge, ...]:
        return ()


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


MODELS: Final = Operation("models", "free")


def model_list(path: str, one: str = r"[A-Za-z0-9._:-]+") -> tuple[Route, Route]:
    """The routes of a free list of models at ``path`` (a pattern), and of a single model, whose
    name ``one`` matches."""
    return Route("GET", re.compile(path), MODELS), Route("GET", re.compile(f"{path}/{one}"), MODELS)
