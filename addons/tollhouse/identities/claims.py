"""A JWT's header and claims, read strictly. Nothing here is verified: `jwt_judge` does that.

Two readers of one JSON text may see two texts: one takes the first of two members of a name, the other the last. So members
that are given twice are refused, at any depth, before a library reads the text.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from tollhouse.denial import Refused

MAX_BYTES: Final = 16_384
"""Of a JWT. Most servers take no header above that."""
RENEW: Final = "Have the platform issue a new one; docs/identity.md says what this gateway takes."


class JwtParts(NamedTuple):
    header: Mapping[str, Any]
    claims: Mapping[str, Any]


class _Twice(ValueError):
    pass


def read_parts(token: str) -> JwtParts:
    """Raises `Refused` (401) for what is no JWT, or one that could be read in two ways."""
    if len(token) > MAX_BYTES:
        raise unknown(f"The JWT has {len(token)} bytes, and the most are {MAX_BYTES}.")
    header, claims, _ = token.split(".")
    return JwtParts(_object(header, "header"), _object(claims, "claims"))


def number(claims: Mapping[str, Any], name: str) -> float | None:
    """The claim ``name`` as seconds since the epoch, None without it. Raises `Refused` for another type."""
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12:
        raise unknown(f"The JWT's {name} is no number of seconds.")
    return float(value)


def unknown(why: str, todo: str = RENEW) -> Refused:
    return Refused.telling("identity_unknown", why, todo)


def shown(value: object) -> str:
    """What a client chose, as a refusal repeats it."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return ascii(text[:200])


def _object(text: str, what: str) -> Mapping[str, Any]:
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        found = json.loads(
            raw.decode(), object_pairs_hook=_once, parse_constant=_no_number, parse_float=_finite
        )
    except _Twice as twice:
        raise unknown(f"The JWT's {what} have {twice} twice.") from None
    except (binascii.Error, ValueError, RecursionError):
        raise unknown(f"The JWT's {what} can't be read.") from None
    if not isinstance(found, dict):
        raise unknown(f"The JWT's {what} are no JSON object.")
    return found


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _Twice(shown(name))
            seen.add(name)
    return found


def _no_number(text: str) -> float:
    raise ValueError(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value
