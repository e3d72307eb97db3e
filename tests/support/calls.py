"""The one builder of calls for tests: each function gives a stage of a call, sound unless it is told otherwise."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.support.values import replace
from tollhouse.budget.hold import CallHold
from tollhouse.call import Admitted, Amount, Arrival, Covered, Pending, Requested, RequestHead
from tollhouse.credential.lease import Lease
from tollhouse.credential.secret import Secret
from tollhouse.families.asked import Asked, Limits, Request
from tollhouse.families.units import Estimate, Units
from tollhouse.ledger.names import Scope
from tollhouse.parties import Identity, Project
from tollhouse.providers import Provider
from tollhouse.providers.openai import OPENAI

HOST = "api.openai.com"
CHAT = "/v1/chat/completions"
PROJECT = Project("proj_1", "acme")
IDENTITY = Identity("tok_1", "acme", ("proj_1",))
BODY: dict[str, Any] = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "hi"}],
    "max_tokens": 50,
}
LIMITS = Limits(128_000, 16_384)


def head(
    method: str = "POST", target: str = CHAT, *headers: tuple[str, str], **more: Any
) -> RequestHead:
    """A head as the proxy's listener gives it, inside a tunnel to `HOST`. It has a Host header, unless one of ``headers`` is
    one or ``no_host`` is true."""
    if not more.pop("no_host", False) and not any(name == "host" for name, _ in headers):
        headers = (("host", HOST), *headers)
    fields: dict[str, Any] = {
        "listener": "proxy",
        "http_version": "1.1",
        "scheme": "https",
        "absolute_authority": None,
        "authority": None,
        "connect_host": HOST,
        "sni": HOST,
        "client_ip": "10.0.0.9",
    }
    return RequestHead(method=method, target=target, headers=headers, **(fields | more))


def models_head(
    *headers: tuple[str, str], method: str = "GET", target: str = "/v1/models", **more: Any
) -> RequestHead:
    """The same for a request that costs nothing and has no body."""
    return head(method, target, *headers, **more)


def arrival(given: RequestHead | None = None, **more: Any) -> Arrival:
    fields: dict[str, Any] = {"id": "call_1", "started": 100.0, "timestamp": 1_800_000_000.25}
    return Arrival(given or head(), **(fields | more))


def admitted(
    path: str = CHAT,
    *,
    method: str = "POST",
    provider: Provider = OPENAI,
    project: Project = PROJECT,
    identity: Identity = IDENTITY,
    call_id: str = "call_1",
    **more: Any,
) -> Admitted:
    operation = provider.family.operation(method, path)
    assert operation is not None, f"{method} {path} is not open"
    fields: dict[str, Any] = {"query": "", "headers": (("content-type", "application/json"),)}
    return Admitted(
        arrival(head(method, path), id=call_id),
        provider,
        provider.hosts[0] if provider.hosts else HOST,
        path=path,
        identity=identity,
        project=project,
        operation=operation,
        **(fields | more),
    )


def requested(
    body: Any = None,
    given: Admitted | None = None,
    *,
    estimate: Estimate | None = None,
    **asked: Any,
) -> Requested:
    """What the family reads of ``body`` (bytes, or what is sent as JSON; `BODY` if None). ``asked`` replaces fields of what it
    read, ``estimate`` its estimate."""
    at = given or admitted()
    if not at.operation.reads_body:
        return Requested(
            at, Asked(writes=False, reasons=False), None, Estimate(Units()), at.headers
        )
    raw = body if isinstance(body, bytes) else json.dumps(BODY if body is None else body).encode()
    family, dialect = at.provider.family, at.provider.dialect
    read = replace(family.read(Request(at.operation, at.path, at.headers, raw), dialect), **asked)
    mode = "worst" if at.worst else "typical"
    counted = estimate or family.estimate(read, mode, LIMITS, dialect)  # type: ignore[arg-type]
    return Requested(at, read, raw, counted, at.headers)


def lease(
    key: str = "sk-1",
    version: str = "1",
    *,
    path: str = "infrastructure/openai",
    secret: Secret | None = None,
    **more: Any,
) -> Lease:
    """A lease of ``secret``, or of the one that ``key`` makes."""
    of = secret or Secret(key)
    return Lease(of, version, of.fingerprint, path, **more)


def covered(given: Requested | None = None, amount: Amount | None = None) -> Covered:
    """A call that something is held for, outside of any purse."""
    of = given or requested()
    return Covered(of, CallHold(of, of.estimate, amount or Amount()))


@dataclass(frozen=True)
class HeldFor:
    """The least that a hold is: whose limits it is held against."""

    scopes: tuple[Scope, ...]


def pending(path: str, facts: str = "") -> Pending:
    """A call of `admitted`'s project whose usage comes later, from ``path``."""
    return Pending(
        call_id="call-1",
        tenant="acme",
        project="app",
        scopes="",
        provider="openai",
        price_id="openai",
        host=HOST,
        object=path.rpartition("/")[2],
        path=path,
        facts=facts,
        model="gpt-4o",
        deployment="",
        dearest=False,
        at=0.0,
        since=0.0,
        held=Amount(),
        extra=Amount(),
        carried={},
    )
