"""What a subject token says of itself. Its signature is not looked at: the endpoint does that, and does
not say what was wrong."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509

from tollhouse.clipped import clipped
from tollhouse.credential.lease import CredentialUnavailable

LONGEST: Final = 16_384
_JWT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
_AHEAD_S: Final = 300.0
"""A token that was made so much later than now comes from a machine with another clock."""


@dataclass(frozen=True, slots=True)
class SubjectToken:
    """``text`` is the token. The other fields are shown."""

    text: str = field(repr=False)
    subject: str
    issuer: str
    jti: str = ""


def judged(text: str, audience: str, origin: str, now: float) -> SubjectToken:
    """``text`` as a token that may be sent to an endpoint that wants ``audience``. ``origin`` says where it comes from,
    ``now`` is seconds since the epoch. Raises `CredentialUnavailable`, whose text has nothing of the token but its claims."""
    if len(text) > LONGEST:
        raise CredentialUnavailable(
            f"subject: {origin} gives more than {LONGEST} characters, which is no token."
        )
    claims = _claims(text)
    if claims is None:
        raise CredentialUnavailable(f"subject: {origin} gives no JWT.")
    subject, issuer = _shown(claims, "sub"), _shown(claims, "iss")
    if not subject or not issuer:
        raise CredentialUnavailable(f"subject: the token of {origin} has no iss, or no sub.")
    ends, made = _moment(claims, "exp"), _moment(claims, "iat")
    if ends is None:
        raise CredentialUnavailable(f"subject: the token of {origin} has no exp.")
    if ends <= now:
        raise CredentialUnavailable(
            f"subject: the token of {origin} ended {now - ends:.0f} s ago. Whoever gives it has stopped, or the clock of "
            "this machine is ahead."
        )
    if made is not None and made > now + _AHEAD_S:
        raise CredentialUnavailable(
            f"subject: the token of {origin} was made {made - now:.0f} s from now: set the clock of this machine."
        )
    found = claims.get("aud")
    has = found if isinstance(found, list) else [found]
    if audience and audience not in has:
        said = ", ".join(clipped(one, 128) for one in has[:4] if isinstance(one, str)) or "none"
        raise CredentialUnavailable(
            f"audience: the token of {origin} is for {said}, and has to be for {audience}."
        )
    jti = claims.get("jti")
    return SubjectToken(text, subject, issuer, jti if isinstance(jti, str) else "")


def subject_of_certificate(pem: str, origin: str) -> SubjectToken:
    """Whom a client certificate names, in place of a token: its first URI, or its subject. Raises `CredentialUnavailable`."""
    try:
        read = x509.load_pem_x509_certificate(pem.encode())
        uris = _uris(read)
        subject = uris[0] if uris else read.subject.rfc4514_string()
        issuer = read.issuer.rfc4514_string()
    except (ValueError, x509.DuplicateExtension, x509.InvalidVersion):
        raise CredentialUnavailable(f"The certificate at {origin} can't be read.") from None
    return SubjectToken("", clipped(subject, 200), clipped(issuer, 200))


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return found.get_values_for_type(x509.UniformResourceIdentifier)


def _claims(text: str) -> Mapping[str, object] | None:
    if not _JWT.fullmatch(text):
        return None
    part = text.split(".")[1]
    try:
        found = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _shown(claims: Mapping[str, object], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str):
        return ""
    return clipped("".join(c if c.isprintable() else "?" for c in value), 200)


def _moment(claims: Mapping[str, object], name: str) -> float | None:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        moment = float(value)
    except OverflowError:
        return None
    return moment if abs(moment) < 1e12 else None
