"""The public keys of an issuer: a JWK Set (RFC 7517), read strictly.

Each key is bound to the algorithms of its kind (RFC 8725 3.1, 3.2): an RSA key never verifies what says ``HS256``. A symmetric
key, a private one, one for another use and one that is too short are left out. A set that none is left of is an answer as well.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from jwt import PyJWK, PyJWTError

log = logging.getLogger(__name__)

MAX_KEYS: Final = 64
_KINDS: Final[Mapping[str, tuple[str, str | None]]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", None)),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}
_RSA_BITS: Final = range(2048, 8193)
_USES: Final = (None, "sig", "jwt-svid")
"""The last one is SPIFFE's. ``x509-svid`` and ``enc`` are for other things."""


class JwksError(ValueError):
    """It is no JWK Set."""


@dataclass(frozen=True, slots=True)
class KeySet:
    """Keys by the id and the algorithm. ``ids`` are the ids of all of them, "" of one without."""

    keys: Mapping[tuple[str, str], tuple[PyJWK, ...]]
    ids: tuple[str, ...]
    text: bytes
    """As it came: two that are equal have the same keys."""

    def fitting(self, kid: str | None, alg: str) -> tuple[PyJWK, ...]:
        """Those that may verify a JWT of this head. Without a ``kid`` a key is taken only if it is the only one."""
        if kid is not None:
            return self.keys.get((kid, alg), ())
        return self.keys.get((self.ids[0], alg), ()) if len(self.ids) == 1 else ()


def parse_jwks(text: bytes, algorithms: Collection[str]) -> KeySet:
    """A set without a key that could be used is a set: its issuer has taken its keys away. Raises `JwksError`."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or "keys" not in document:
        raise JwksError(_what_it_is(text, document))
    given = document["keys"]
    if not isinstance(given, list) or len(given) > MAX_KEYS:
        raise JwksError(f"`keys` is no list of at most {MAX_KEYS}")
    keys: dict[tuple[str, str], tuple[PyJWK, ...]] = {}
    ids: dict[str, None] = {}
    for jwk in given:
        if not isinstance(jwk, dict) or not _usable(jwk):
            continue
        kid = jwk.get("kid", "")
        for alg in algorithms:
            kty, curve = _KINDS[alg]
            if (
                jwk["kty"] != kty
                or (curve and jwk.get("crv") != curve)
                or jwk.get("alg", alg) != alg
            ):
                continue
            try:
                made = PyJWK.from_dict(jwk, algorithm=alg)
            except (PyJWTError, ValueError, TypeError):
                log.warning("a key of a JWKS can't be used, and is left out")
                continue
            keys[kid, alg] = (*keys.get((kid, alg), ()), made)
            ids[kid] = None
    return KeySet(keys, tuple(ids), text)


def _what_it_is(text: bytes, document: object) -> str:
    """What people put in the place of a JWK Set."""
    if isinstance(document, dict) and "jwks_uri" in document:
        return "it is the issuer's discovery document, whose `jwks_uri` says where the keys are"
    if isinstance(document, dict) and "kty" in document:
        return 'it is one key, and has to be a list of keys ({"keys": [...]})'
    if text.lstrip().startswith(b"-----BEGIN"):
        return "it is PEM, and has to be a JWK Set (RFC 7517)"
    return "it is no JSON object with a list `keys`"


def _usable(jwk: Mapping[str, Any]) -> bool:
    operations = jwk.get("key_ops", ["verify"])
    if (
        not isinstance(jwk.get("kty"), str)
        or not isinstance(jwk.get("kid", ""), str)
        or jwk.get("use") not in _USES
        or not isinstance(operations, list)
        or "verify" not in operations
    ):
        return False
    if "d" in jwk or "k" in jwk:
        if "d" in jwk:
            log.error("a JWKS holds a private key, which everybody can use now: it is left out")
        return False
    return jwk["kty"] != "RSA" or _bits(jwk.get("n")) in _RSA_BITS


def _bits(number: object) -> int:
    if not isinstance(number, str) or len(number) > 2048:
        return 0
    try:
        raw = base64.urlsafe_b64decode(number + "=" * (-len(number) % 4))
    except ValueError:
        return 0
    return int.from_bytes(raw).bit_length()
