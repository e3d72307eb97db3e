"""Verifies JWTs, and remembers those that were good.

Who may verify a JWT is told by its issuer alone: by ``iss``, exactly as configured, or, of a SPIFFE JWT-SVID, which needs no
``iss``, by the trust domain of its ``sub``. Only that issuer's keys are tried, with its algorithms, its audience, its types and
its rules. What a JWT says of keys itself (``jwk``, ``jku``, ``x5u``, ``x5c``) is never read.

A JWT costs about 300 us to verify. One that was verified costs 3 us: it is remembered by its SHA-256 until it expires, or until
its issuer's keys change. What was refused is not remembered.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import jwt

from tollhouse.accounts.token import subject_id
from tollhouse.denial import Refused
from tollhouse.identities.claims import RENEW, JwtParts, number, read_parts, shown, unknown
from tollhouse.identities.jwks import KeySet
from tollhouse.identities.key_sets import IssuerKeys
from tollhouse.identities.templates import ClaimError, ClaimPath, ProjectRule, Template
from tollhouse.ledger.names import check_id
from tollhouse.parties import Identity

LEEWAY_S: Final = 30.0
REMEMBERED: Final = 16_384
"""JWTs, about 600 bytes each."""
SPIFFE: Final = "spiffe://"
_MAX_SUBJECT: Final = 2048
"""Of a SPIFFE ID; OpenID Connect's ``sub`` has 255."""
_ANY_TYPE: Final = frozenset({"", "jwt", "jose"})
"""The ``typ`` of a JWT that is for no special use. Kubernetes and SPIRE leave it out."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """An entry of [[identity.jwt]]."""

    issuer: str
    audience: tuple[str, ...]
    algorithms: tuple[str, ...]
    project: ProjectRule
    tenant: str
    """A tenant's name, or a template if it has a brace."""
    keys: IssuerKeys
    token_type: str | None = None
    """The ``typ`` that is demanded. None: none, or one of no special use."""
    limits: tuple[str, ...] = ()
    """Of each subject."""
    claims: Mapping[ClaimPath, tuple[str, ...]] = field(default_factory=dict)
    """Claims that have to have one of these values."""

    @property
    def trust_domain(self) -> bool:
        return self.issuer.startswith(SPIFFE)


class _Verified(NamedTuple):
    identity: Identity
    not_before: float
    ends_at: float
    issuer: Issuer
    keys: KeySet


class _Proven(NamedTuple):
    """A JWT that its issuer has signed, and that is valid now."""

    claims: Mapping[str, Any]
    not_before: float
    ends_at: float
    issuer: Issuer
    keys: KeySet


class JwtJudge:
    """``clock`` is seconds since the epoch. It is mutable, and for one event loop."""

    def __init__(self, issuers: Sequence[Issuer], clock: Callable[[], float] = time.time) -> None:
        self.issuers = tuple(issuers)
        self._by_name = {one.issuer: one for one in issuers}
        self._clock = clock
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()

    @property
    def remembered(self) -> int:
        return len(self._verified)

    def names_issuer(self, token: str) -> bool:
        """Whether ``token`` says that it is of one of the issuers. Nothing of it is verified."""
        try:
            self._issuer_of(read_parts(token).claims)
        except Refused:
            return False
        return True

    async def identify(self, token: str) -> Identity:
        """Whom the JWT names. Raises `Refused`: 401, 403 and, if its issuer's keys can't be read, 503."""
        digest = hashlib.sha256(token.encode()).digest()
        found = self._verified.get(digest)
        if found is not None:
            # Before its keys: an issuer that is away makes no JWT live longer.
            self._judge_remembered(digest, found)
        if found is not None and found.keys is found.issuer.keys.now():
            self._verified.move_to_end(digest)
        else:
            found = await self._verify(token)
            self._verified[digest] = found
            self._verified.move_to_end(digest)
            if len(self._verified) > REMEMBERED:
                self._verified.popitem(last=False)
        return found.identity

    def _judge_remembered(self, digest: bytes, found: _Verified) -> None:
        now = self._clock()
        if now >= found.ends_at + LEEWAY_S or now < found.not_before - LEEWAY_S:
            del self._verified[digest]
            _judge_time(now, found.not_before, found.ends_at)

    async def claims(self, token: str) -> Mapping[str, Any]:
        """What a JWT claims, of whomever. Raises as `identify`."""
        return (await self._proven(token)).claims

    async def _verify(self, token: str) -> _Verified:
        proven = await self._proven(token)
        identity = _identity(proven.issuer, proven.claims)
        return _Verified(identity, proven.not_before, proven.ends_at, proven.issuer, proven.keys)

    async def _proven(self, token: str) -> _Proven:
        parts = read_parts(token)
        issuer = self._issuer_of(parts.claims)
        alg, kid = _judge_header(parts.header, issuer)
        keys, fitting = await issuer.keys.fitting(kid, alg)
        _judge_signature(token, alg, fitting, issuer, parts)
        ends_at = number(parts.claims, "exp")
        if ends_at is None:
            raise unknown("The JWT has no exp, and would be valid for ever.")
        not_before = max(
            (t for name in ("nbf", "iat") if (t := number(parts.claims, name)) is not None),
            default=0.0,
        )
        _judge_time(self._clock(), not_before, ends_at)
        return _Proven(parts.claims, not_before, ends_at, issuer, keys)

    def _issuer_of(self, claims: Mapping[str, Any]) -> Issuer:
        name, subject = claims.get("iss"), claims.get("sub")
        found = None
        if isinstance(name, str) and not name.startswith(SPIFFE):
            found = self._by_name.get(name)
        if found is None and isinstance(subject, str) and subject.startswith(SPIFFE):
            found = self._by_name.get(SPIFFE + subject.removeprefix(SPIFFE).partition("/")[0])
        if found is None:
            if name is None:
                raise unknown("The JWT names no issuer (iss).")
            raise unknown(
                f"The JWT is of {shown(name)}, which is no issuer of this gateway.",
                "Use a token of an issuer that [[identity.jwt]] names.",
            )
        return found


def _judge_header(header: Mapping[str, Any], issuer: Issuer) -> tuple[str, str | None]:
    alg, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "")
    if not isinstance(alg, str) or alg not in issuer.algorithms:
        raise unknown(
            f"The JWT's alg is {shown(alg)}, and its issuer signs with {' or '.join(issuer.algorithms)}.",
        )
    if kid is not None and not isinstance(kid, str):
        raise unknown("The JWT's kid is no text.")
    # RFC 7515 4.1.11: what is critical and not understood is refused. Nothing that is critical is understood here.
    if "crit" in header or "b64" in header or "zip" in header or "enc" in header:
        raise unknown("The JWT's header asks for an extension that is not understood here.")
    kind = kind.lower().removeprefix("application/") if isinstance(kind, str) else None
    wanted = issuer.token_type
    if kind is None or (kind not in _ANY_TYPE if wanted is None else kind != wanted.lower()):
        raise unknown(
            f"The JWT's typ is {shown(header.get('typ'))}, and {wanted or 'JWT'} is what this gateway takes of its issuer.",
        )
    return alg, kid


def _judge_signature(
    token: str, alg: str, keys: Sequence[jwt.PyJWK], issuer: Issuer, parts: JwtParts
) -> None:
    """Signature, audience and issuer. Raises `Refused`."""
    for key in keys:
        try:
            jwt.decode(
                token,
                key,
                algorithms=[alg],
                audience=issuer.audience,
                issuer=None if issuer.trust_domain else issuer.issuer,
                # The times are judged here, by the clock that is passed in, and the subject is, for every issuer alike.
                options={
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "verify_sub": False,
                },
            )
            return
        except jwt.InvalidSignatureError:
            continue
        except (jwt.InvalidAudienceError, jwt.MissingRequiredClaimError):
            audience = shown(parts.claims.get("aud"))
            raise unknown(
                f"The JWT is for the audience {audience}, and not for this gateway.",
                f"Have the platform issue one for {' or '.join(issuer.audience)}.",
            ) from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise unknown(f"The JWT is malformed ({type(error).__name__}).") from None
    raise unknown("The JWT's signature is not that of its issuer.")


def _judge_time(now: float, not_before: float, ends_at: float) -> None:
    if now >= ends_at + LEEWAY_S:
        ago = f"The JWT expired {now - ends_at:.0f} s ago."
        raise Refused.telling("identity_expired", ago, RENEW)
    if now < not_before - LEEWAY_S:
        raise unknown(
            f"The JWT is valid only in {not_before - now:.0f} s.",
            "Send it then, or set the clocks of its issuer and of this gateway right.",
        )


def _identity(issuer: Issuer, claims: Mapping[str, Any]) -> Identity:
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject or len(subject) > _MAX_SUBJECT:
        raise unknown(f"The JWT's sub is no text of 1 to {_MAX_SUBJECT} characters.")
    for path, values in issuer.claims.items():
        try:
            value = path.of(claims)
        except ClaimError:
            value = None
        if (json.dumps(value) if isinstance(value, bool) else value) not in values:
            raise unknown(
                f"The JWT's claim {path.text} is {shown(value)}, which is not let in.",
                "Use a workload that [[identity.jwt]] claims lets in, or ask for yours to be added.",
            )
    try:
        projects = issuer.project.projects_of(claims)
        tenant = issuer.tenant
        if "{" in tenant:
            tenant = Template.parse(tenant).fill(claims)
            check_id("tenant", tenant)
    except ClaimError as error:
        raise _of_no_project(str(error)) from None
    except ValueError:
        raise _of_no_project("What the JWT claims can't be the name of a tenant.") from None
    return Identity(
        subject_id("jwt", issuer.issuer, subject),
        tenant,
        projects,
        limits=issuer.limits,
        kind="jwt",
        subject=subject,
    )


def _of_no_project(why: str) -> Refused:
    todo = "Whoever runs the gateway decides in [[identity.jwt]] project which claims lead to which project."
    return Refused.telling("project_not_allowed", why, todo)
