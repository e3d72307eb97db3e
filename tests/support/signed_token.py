"""Subject tokens of an issuer of the tests' own, such as a cluster's, and its published keys."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from tests.support.token_endpoint import private_key

ISSUER = "https://cluster.test"


def signed(**changed: Any) -> str:
    """A JWT for ``https://tollhouse.test``, of 10 minutes; a claim of None is left out."""
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "sub": "system:serviceaccount:tollhouse:gateway",
        "aud": ["https://tollhouse.test"],
        "iat": now,
        "exp": now + 600,
        **changed,
    }
    claims = {name: value for name, value in claims.items() if value is not None}
    parts = [_text(json.dumps(one).encode()) for one in ({"alg": "RS256", "kid": "1"}, claims)]
    text = ".".join(parts)
    mark = private_key().sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{text}.{_text(mark)}"


def jwks() -> dict[str, Any]:
    numbers = private_key().public_key().public_numbers()
    n, e = (_text(one.to_bytes((one.bit_length() + 7) // 8)) for one in (numbers.n, numbers.e))
    return {"keys": [{"kty": "RSA", "kid": "1", "alg": "RS256", "n": n, "e": e}]}


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
