"""Who is charged, and where Redis keeps it. Every key of a tenant carries the hash tag ``{tenant}``: one slot of a
Cluster.

=========================================  ======  ==================================================================
``toll:{tenant}:clock``                    string  the tenant's latest time and its last silence
``toll:{tenant}:holds``                    hash    call id -> what it holds, of which scopes, and what it carries
``toll:{tenant}:deadlines``                zset    call id -> when its hold may be swept, ms
``toll:{tenant}:settled``                  zset    call id -> when it ended, ms; kept for 24 h (2 h: see `transitions`)
``toll:{tenant}:swept``                    hash    call id -> what it was charged, until its late settle or 24 h
``toll:{tenant}:calls``                    stream  one record a call, bounded; for other systems to read
``toll:{tenant}:uncharged``                stream  one record a call that no settle tells of: refused, or a tunnel; bounded
``toll:{tenant}:exports``                  hash    name of an export -> how far it has come (`exports.pages`)
``toll:{tenant}:usage:PROJECT``            hash    ``DAY UNIT day|model|token|session NAME`` -> sum; kept for 400 days
``toll:{tenant}:scope:KIND:ID``            hash    limits, what was granted, and used + held of each in its window.
                                                   ID of KIND ``session`` is ``project|token.OWNER.HASH``, of the owner
                                                   of the limit and the session's id; gone 7 days after its last hold
``toll:{tenant}:grants:PROJECT``           list    the one-time additions, as JSON; the last 1000
``toll:{tenant}:objects:PROVIDER``         zset    digest of an object's id -> until when it is the tenant's, ms; bounded
``toll:{tenant}:later``                    hash    provider and object -> a call whose usage comes later; bounded
=========================================  ======  ==================================================================

Those of alerts belong to no tenant:

=========================================  ======  ==================================================================
``toll:{directory}:alerts:fired``          zset    event and receiver -> until when it is known that it was told, ms
``toll:{directory}:alerts:counts``         hash    receiver and outcome -> how many
``toll:{directory}:alerts:due:RECEIVER``   zset    event -> when it is sent next, ms; bounded, as those behind it
``toll:{directory}:alerts:body:RECEIVER``  hash    event -> what is sent
``toll:{directory}:alerts:tried:RECEIVER`` hash    event -> attempts
``toll:{directory}:alerts:why:RECEIVER``   hash    event -> why the last attempt failed
=========================================  ======  ==================================================================

The number of keys does not grow with the calls, but for those of sessions. Projects and tokens are looked up before the tenant
is known: their keys have the hash tag ``{directory}``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, get_args

ScopeKind = Literal["tenant", "project", "session", "token"]

_ID: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@-]{0,127}", re.ASCII)

_SESSION_ID: Final = re.compile(rf"(project|token)\.{_ID.pattern}\.[0-9a-f]{{32}}", re.ASCII)

PROJECTS: Final = "toll:{directory}:projects"
TOKENS: Final = "toll:{directory}:tokens"
TOKEN_IDS: Final = "toll:{directory}:token_ids"  # noqa: S105 - a key's name

UNIDENTIFIED: Final = "toll:{directory}:unidentified"
"""The stream of refused calls whose tenant nobody knows."""

POLLER: Final = "toll:{directory}:poller"
"""Which gateway asks for the answers whose usage comes later."""

ALERTER: Final = "toll:{directory}:alerter"
"""Which gateway looks for alerts and sends them."""

NO_CLOCK: Final = "toll:{directory}:clock"
"""Where scripts look for a tenant's time that belong to no tenant. Nobody sets it: the time is Redis's own."""

FIRED: Final = "toll:{directory}:alerts:fired"
ALERT_COUNTS: Final = "toll:{directory}:alerts:counts"


class OutboxKeys(NamedTuple):
    """The keys of what waits for one receiver of alerts."""

    due: str
    bodies: str
    tried: str
    why: str

    @classmethod
    def of(cls, receiver: str) -> OutboxKeys:
        name = check_id("receiver", receiver)
        return cls(*(f"toll:{{directory}}:alerts:{part}:{name}" for part in _PARTS))


_PARTS: Final = ("due", "body", "tried", "why")


class Scope(NamedTuple):
    """Something that has limits and is charged. ``id`` of kind ``tenant`` is the tenant itself."""

    kind: ScopeKind
    tenant: str
    id: str
    limits: str = ""
    """Of a session that is held for: what its record is to have (`limits.session_record`)."""

    @property
    def name(self) -> str:
        return f"{self.kind}:{self.id}"

    def __str__(self) -> str:
        """The scope as a sentence names it."""
        return f"{self.kind} {self.id}"


def session_scope(owner: Scope, session: str, limits: str) -> Scope:
    """The ``session`` of an agent, as far as the limits of ``owner`` (a project or token) count."""
    hashed = hashlib.sha256(session.encode()).hexdigest()[:32]
    return Scope("session", owner.tenant, f"{owner.kind}.{owner.id}.{hashed}", limits)


def check_id(what: str, text: str) -> str:
    """``text`` if it can be the id of a ``what`` (a tenant, project or token). Raises `ValueError`
    for any other text: ids become parts of keys."""
    if not _ID.fullmatch(text):
        raise ValueError(
            f"{text!r} can't be the id of a {what}: use 1 to 128 of the characters A-Z a-z 0-9 . _ @ - "
            "and begin with a letter, a digit or _"
        )
    return text


def scope_key(scope: Scope) -> str:
    tenant = check_id("tenant", scope.tenant)
    if scope.kind != "session":
        check_id(scope.kind, scope.id)
    elif not _SESSION_ID.fullmatch(scope.id):
        raise ValueError(f"{scope.id!r} can't be the id of a session: `session_scope` makes it")
    return f"toll:{{{tenant}}}:scope:{scope.kind}:{scope.id}"


def usage_key(tenant: str, project: str) -> str:
    return f"toll:{{{check_id('tenant', tenant)}}}:usage:{check_id('project', project) if project else ''}"


def grants_key(tenant: str, project: str) -> str:
    return f"toll:{{{check_id('tenant', tenant)}}}:grants:{check_id('project', project)}"


def calls_key(tenant: str) -> str:
    """The stream of the tenant's calls."""
    return f"toll:{{{check_id('tenant', tenant)}}}:calls"


def uncharged_key(tenant: str) -> str:
    """The stream of the tenant's calls that were charged nothing. Without a tenant `UNIDENTIFIED`."""
    return f"toll:{{{check_id('tenant', tenant)}}}:uncharged" if tenant else UNIDENTIFIED


def exports_key(tenant: str) -> str:
    """How far exports have come with the tenant's records. Those without a tenant have a key of their own."""
    if not tenant:
        return f"{UNIDENTIFIED}:exports"
    return f"toll:{{{check_id('tenant', tenant)}}}:exports"


def objects_keys(tenant: str, provider: str) -> list[str]:
    """The KEYS of the scripts of objects: the tenant's clock, and its objects at ``provider``."""
    own = f"toll:{{{check_id('tenant', tenant)}}}:"
    return [own + "clock", f"{own}objects:{check_id('provider', provider)}"]


def later_key(tenant: str) -> str:
    """The tenant's calls whose usage comes later."""
    return f"toll:{{{check_id('tenant', tenant)}}}:later"


def script_keys(tenant: str, scopes: Sequence[Scope]) -> list[str]:
    """The KEYS of every script, in the order that scripts/common.lua gives. Raises `ValueError` for scopes of another
    tenant, named twice, or of two projects."""
    check_id("tenant", tenant)
    if len(set(scopes)) != len(scopes) or any(scope.tenant != tenant for scope in scopes):
        raise ValueError("the scopes of a call belong to one tenant and are named once each")
    projects = [scope.id for scope in scopes if scope.kind == "project"]
    if len(projects) > 1:
        raise ValueError("a call is charged to one project")
    own = f"toll:{{{tenant}}}:"
    names = ("clock", "holds", "deadlines", "settled", "swept")
    usage = usage_key(tenant, projects[0] if projects else "")
    return [*(own + name for name in names), calls_key(tenant), usage, *map(scope_key, scopes)]


def parse_scopes(tenant: str, names: str) -> tuple[Scope, ...]:
    """The scopes of a hold's record: ``project:a token:b``."""
    kinds: dict[str, ScopeKind] = {kind: kind for kind in get_args(ScopeKind)}
    parted = (name.partition(":") for name in names.split())
    return tuple(Scope(kinds[kind], tenant, rest) for kind, _, rest in parted)
