"""The values that travel along the road. Nothing here knows mitmproxy, Redis, Vault or a socket.

A `Call` is filled in gate by gate, in order; what a gate needs is there because the gate before it allowed the call.
No key is ever put on it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

from tollhouse.denial import Denial
from tollhouse.providers import Endpoint, Provider

ListenerKind = Literal["proxy", "base_url", "transparent"]
ChargedBy = Literal["usage", "hold", "estimate", "disconnect", "sweep", "none"]


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request's head as the client sent it; nothing in it has been judged yet.

    Header names are lower case, in order, duplicates kept; values are UTF-8.
    """

    listener: ListenerKind
    http_version: Literal["1.0", "1.1", "2"]
    method: str
    target: str
    """The path and query byte for byte, or for an HTTP/1 absolute-form request its path and query."""
    scheme: str
    """``https`` inside TLS, ``http`` outside; of an absolute-form request what it says itself."""
    absolute_authority: str | None
    """The authority of an absolute-form request target, else None."""
    authority: str | None
    """``:authority`` of HTTP/2; None on HTTP/1."""
    headers: tuple[tuple[str, str], ...]
    connect_host: str | None = None
    """Host of the CONNECT that opened this tunnel, normalised when it was admitted."""
    connect_proxy_authorization: str | None = None
    sni: str | None = None
    client_ip: str = ""

    def get_all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    def get(self, name: str) -> str | None:
        """The first value of header ``name`` (lower case), or None."""
        return next((value for key, value in self.headers if key == name), None)


@dataclass(frozen=True, slots=True)
class Project:
    """Whom a call is charged to. ``limits`` are the texts of the configuration (``10 usd/day``)."""

    id: str
    tenant: str
    limits: tuple[str, ...] = ()
    on_shortfall: Literal["reject", "clamp"] = "reject"
    models: tuple[str, ...] = ()
    """Globs of the models allowed; empty means all."""
    unpriced: Literal["refuse", "dearest"] = "refuse"
    estimate: Literal["typical", "worst"] = "typical"
    """``worst`` holds the most that a call can cost; without it the likely most."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is calling: a gate token's public side. ``token_id`` is not secret."""

    token_id: str
    tenant: str
    projects: tuple[str, ...]
    label: str = ""
    charged_as: str = ""
    """The token whose limits count for this one: itself, or the first of those it was rotated from. Empty: itself."""


@dataclass(frozen=True, slots=True)
class Amount:
    """What a call takes from a budget. Money is in nano-dollars (1e-9 USD), an integer."""

    nano_usd: int = 0
    tokens: int = 0
    requests: int = 1


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts in one normal form: ``input`` is the whole input (cache read and write included), ``output`` the whole
    output (reasoning included); the other fields are parts of those two, never additions."""

    input: int = 0
    cached: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0
    input_audio: int = 0
    output_audio: int = 0
    cached_audio: int = 0

    @property
    def total(self) -> int:
        return self.input + self.output

    def as_dict(self) -> dict[str, int]:
        parts = {
            "cached": self.cached,
            "cache_write": self.cache_write,
            "reasoning": self.reasoning,
            "input_audio": self.input_audio,
            "output_audio": self.output_audio,
        }
        return {"input": self.input, "output": self.output, **{k: v for k, v in parts.items() if v}}


@dataclass(slots=True)
class Attempt:
    """One try at sending a call: how it ended (a status, or an error's code) and how long it took."""

    outcome: str
    duration_ms: float
    unknown: bool = False
    """True: it ended without an answer, and the provider may have worked on it all the same."""


@dataclass(slots=True)
class Call:
    """One request and its response, from its head to its line."""

    head: RequestHead
    id: str
    started: float
    """`time.monotonic()` when the head had arrived."""
    timestamp: float
    """Seconds since the epoch."""
    trace_id: str = ""

    provider: Provider | None = None
    host: str = ""
    path: str = ""
    """The path that will be sent, without the query string."""
    query: str = ""
    """The query string that will be sent, credentials taken out; never logged."""
    endpoint: Endpoint | None = None
    identity: Identity | None = None
    project: Project | None = None
    headers: list[tuple[str, str]] = field(default_factory=list)
    """What is left of the request's headers after stripping: the headers that will be sent, but for the credential."""

    body: bytes | None = None
    """The request's body as it will be sent."""
    model: str = ""
    other_models: tuple[str, ...] = ()
    """The models beside `model` that the request lets the provider use instead."""
    models_unknown: bool = False
    """The request names further models in a way that we can't read."""
    model_served: str = ""
    stream: bool = False
    usage_injected: bool = False
    """The request was made to ask for usage in its stream, and the answer has to be edited back."""
    input_estimate: int = 0
    """Tokens."""
    output_cap: int = 0
    """Tokens that the answer may have at most, all choices together."""
    capped: bool = False
    """`output_cap` is the request's own and so binds the provider; else it is only what is held."""
    answers: int = 1
    """How many choices are asked for (``n``); `output_cap` is for all together."""
    predicted: int = 0
    """Tokens of a predicted output, for all choices: what is not used of them is charged as output beside the cap."""
    covers: Callable[[int], Awaitable[Denial | None]] | None = None
    """Of a stream without a cap: makes the hold large enough for so many tokens of output, or says why it can't be."""
    clamped: int | None = None
    """The output cap of each answer that we lowered the request to; None for a request that was not changed so."""
    priced: bool = True
    """False: nobody knows what the model costs."""
    estimate: Amount = Amount(requests=0)
    charged: Amount = Amount(requests=0)
    charged_by: ChargedBy = "none"
    usage: Usage | None = None

    status: int = 0
    """What the client was answered."""
    upstream_status: int = 0
    """What the provider answered; 0 while it has not."""
    denial: Denial | None = None
    gate: str = ""
    """The gate that refused or failed."""
    attempts: list[Attempt] = field(default_factory=list)
    attempts_unknown: int = 0
    breaker: str = ""
    key_version: str = ""
    first_byte: float | None = None
    """`time.monotonic()` when the first byte of the answer's body went to the client."""
    in_flight: bool = False
    """The request of an attempt has left, or begun to, and its answer's head has not come."""
    complete: bool = False
    """The answer was read to its end."""
    output_seen: int = 0
    """A rough count of output tokens in what was read of the answer."""
    silent_s: float = 0.0
    """Seconds in which the provider was waited for and no text came: hidden reasoning, perhaps."""
    service_tier: str = ""
    """The tier asked for, then the one that was served."""
    audio: bool = False
    """Audio goes in or may come out."""
    cleared: bool = False
    """Every gate has allowed it."""
    unsafe_fail_open: bool = False
    """Redis was away, and it was let through all the same: by an identity that is remembered, without a hold, or both."""
    ended: str = ""
    """How an allowed call ended if not by its answer's end: ``client_gone``, ``stopped``, ``cut``, ``budget``."""
    waited_s: float = 0.0
    """Seconds spent waiting for the provider or the client: not ``overhead_ms``."""

    @classmethod
    def begin(cls, head: RequestHead) -> Call:
        return cls(head=head, id=new_call_id(), started=time.monotonic(), timestamp=time.time())


def new_call_id() -> str:
    """``call_`` and 24 hexadecimal digits: 48 bits of milliseconds since the epoch, so that ids sort by time, and 48
    random bits."""
    return f"call_{int(time.time() * 1000):012x}{secrets.token_hex(6)}"
