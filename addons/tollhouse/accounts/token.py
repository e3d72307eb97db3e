"""Gate tokens: what a workload holds instead of a provider's key.

A token is ``gate_``, then 43 base62 digits of 256 random bits, then 6 base62 digits of a CRC-32 of
all that stands before them. By the checksum a secret scanner tells a token from other text, as with
GitHub's tokens (https://github.blog/engineering/behind-githubs-new-authentication-token-formats/).

A JWT may be shown in the place of a gate token, so it is known here by its form as well.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterator
from typing import Final, Literal

PREFIX: Final = "gate_"
RANDOM_BYTES: Final = 32

_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BODY_DIGITS: Final = 43
_CHECK_DIGITS: Final = 6
_FORM: Final = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{_BODY_DIGITS + _CHECK_DIGITS}}}", re.ASCII)
# A token, or most of one, anywhere in a text.
_WITHIN: Final = re.compile(rf"{PREFIX}[0-9A-Za-z]{{30,}}", re.ASCII)
_JWT_BEGINS: Final = "eyJ"
"""Of each JWT: its header is a JSON object, and `{"` is this in base64url (RFC 7519 3.1)."""
_JWT: Final = re.compile(rf"{_JWT_BEGINS}[\w-]+\.[\w-]+\.[\w-]*", re.ASCII)
# A run of base64url with claims behind it. A run is looked at once, from its beginning: the time is linear.
_BEFORE_CLAIMS: Final = re.compile(r"(?<![\w-])[\w-]++(?=\.e[wy][\w-]{10})", re.ASCII)
_CLAIMS: Final = re.compile(r"\.[\w-]+(?:\.[\w-]*)?", re.ASCII)
_LEAST_HEADER: Final = 13


def mint(random_bytes: bytes) -> str:
    """The token of 32 random bytes. Raises `ValueError` for another number of bytes."""
    if len(random_bytes) != RANDOM_BYTES:
        raise ValueError(
            f"a token is made of {RANDOM_BYTES} random bytes, not of {len(random_bytes)}"
        )
    body = PREFIX + _base62(int.from_bytes(random_bytes), _BODY_DIGITS)
    return body + _check(body)


def well_formed(text: str) -> bool:
    """Whether ``text`` could be a token: its form and its checksum. Says nothing of whether it exists."""
    if not _FORM.fullmatch(text):
        return False
    body = text[:-_CHECK_DIGITS]
    return body <= _LARGEST and _check(body) == text[-_CHECK_DIGITS:]


def is_jwt(text: str) -> bool:
    """Whether ``text`` has the form of a JWT that is signed, or says that it need not be."""
    return text.startswith(_JWT_BEGINS) and _JWT.fullmatch(text) is not None


def carries_gate_token(text: str) -> bool:
    """Whether a gate token, or most of one, stands anywhere in ``text``."""
    return PREFIX in text and _WITHIN.search(text) is not None


def carries_token(text: str) -> bool:
    """Whether a gate token, most of one, or a JWT stands anywhere in ``text``."""
    return carries_gate_token(text) or (
        _JWT_BEGINS in text and next(_jwts_within(text), None) is not None
    )


def without_tokens(text: str) -> str:
    """``text`` as it may be written down: each gate token and each JWT in it is replaced."""
    if PREFIX in text:
        text = _WITHIN.sub(PREFIX + "[removed]", text)
    if _JWT_BEGINS not in text:
        return text
    kept, end = [], 0
    for begins, ends in _jwts_within(text):
        if begins >= end:
            kept += [text[end:begins], _JWT_BEGINS + "[removed]"]
        end = max(end, ends)
    return "".join([*kept, text[end:]])


def _jwts_within(text: str) -> Iterator[tuple[int, int]]:
    """Where JWTs stand: header and claims, with or without the signature. Two may overlap."""
    for run in _BEFORE_CLAIMS.finditer(text):
        begins = text.find(_JWT_BEGINS, run.start(), run.end())
        if 0 <= begins <= run.end() - _LEAST_HEADER:
            behind = _CLAIMS.match(text, run.end())
            assert behind is not None
            yield begins, behind.end()


def digest(token: str) -> str:
    """The stored form of a token: SHA-256 in hexadecimal. 256 random bits need no salt and no slow
    hash."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def token_id(token: str) -> str:
    """The token's public name, which may be logged: ``tok_`` and 64 bits of a hash. It is another
    hash than `digest`."""
    return (
        "tok_"
        + hashlib.sha256(b"tollhouse token id\0" + token.encode("utf-8", "replace")).hexdigest()[
            :16
        ]
    )


SUBJECT_ID: Final = re.compile(r"(?:jwt|crt|net)_[0-9a-f]{24}", re.ASCII)
"""What `subject_id` gives."""


def subject_id(kind: Literal["jwt", "crt", "net"], issuer: str, subject: str) -> str:
    """The public name of a subject of the platform, which may be logged: 96 bits of a hash. The issuer is hashed with its
    length, so that no other two parts give the same text."""
    text = f"tollhouse subject {len(issuer)} {issuer} {subject}"
    return f"{kind}_{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:24]}"


def _base62(number: int, digits: int) -> str:
    out = []
    for _ in range(digits):
        number, value = divmod(number, 62)
        out.append(_ALPHABET[value])
    return "".join(reversed(out))


def _check(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECK_DIGITS)


_LARGEST: Final = PREFIX + _base62((1 << 8 * RANDOM_BYTES) - 1, _BODY_DIGITS)
"""Digits of one number compare as the numbers do: the alphabet is in the order of ASCII."""
