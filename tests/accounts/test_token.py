import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.accounts.token import (
    carries_token,
    digest,
    mint,
    token_id,
    well_formed,
    without_tokens,
)

TOKENS = st.binary(min_size=32, max_size=32).map(mint)
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@given(TOKENS)
def test_a_minted_token_is_well_formed(token: str) -> None:
    """``gate_``, 43 digits for 256 bits and 6 for the checksum, of one length always."""
    assert re.fullmatch("gate_[0-9A-Za-z]{49}", token)
    assert well_formed(token)


@given(TOKENS, st.integers(0, 53), st.sampled_from(ALPHABET))
def test_one_wrong_character_is_noticed(token: str, place: int, character: str) -> None:
    """A CRC-32 finds every change within 32 bits, so every typing error."""
    changed = token[:place] + character + token[place + 1 :]
    assert well_formed(changed) == (changed == token)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "gate_",
        "sk-proj-abcdef",
        "gate_" + "0" * 49,
        "gate_" + "z" * 49,
        mint(bytes(32)) + "\n",
        mint(bytes(32)).upper(),
    ],
    ids=["nothing", "prefix", "a-key", "zeros", "too-large", "newline", "upper-case"],
)
def test_what_is_no_token(text: str) -> None:
    """Another key, a prefix alone, more than 256 bits, a line end too many."""
    assert not well_formed(text)


@given(st.text())
def test_any_text_is_judged(text: str) -> None:
    """Whatever a client puts into a header is judged, hashed and never raises."""
    assert not well_formed(text)
    assert len(digest(text)) == 64
    assert token_id(text).startswith("tok_")


def test_the_bits_are_all_there() -> None:
    """Tokens of different bits differ, and the smallest and largest value keep their length."""
    assert len({mint(bytes([n]) + bytes(31)) for n in range(256)}) == 256
    assert len(mint(bytes(32))) == len(mint(b"\xff" * 32)) == 54


def test_other_lengths_are_refused() -> None:
    """Fewer random bits would make a weaker token."""
    with pytest.raises(ValueError, match="32 random bytes"):
        mint(bytes(16))


def test_what_is_stored_is_sha256() -> None:
    """The digest is the plain SHA-256; the public id tells nothing of it."""
    token = mint(bytes(range(32)))
    assert digest(token) == hashlib.sha256(token.encode()).hexdigest()
    assert token_id(token)[4:] not in digest(token)
    assert token_id(token) == token_id(token)


HEADER, CLAIMS = "eyJhbGciOiJSUzI1NiJ9", "eyJzdWIiOiJhIn0x"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (f"{HEADER}.{CLAIMS}.sig-_1", "eyJ[removed]"),
        (f"a {HEADER}.{CLAIMS} b", "a eyJ[removed] b"),
        (f"x_{HEADER}.{CLAIMS}.s/{HEADER}.{CLAIMS}.s", "x_eyJ[removed]/eyJ[removed]"),
        (f"{HEADER}.eyAic3ViIjoiYSJ9.s", "eyJ[removed]"),
        (f"{HEADER}.ewogICJzdWIiOiJhIn0.s", "eyJ[removed]"),
        (f"{HEADER}.{CLAIMS}.{HEADER}.{CLAIMS}.s", "eyJ[removed]"),
        (f"{HEADER}.{CLAIMS[:8]}", None),
        (f"eyJshort.{CLAIMS}", None),
        (HEADER, None),
    ],
)
def test_a_jwt_within_a_text(text: str, written: str | None) -> None:
    """Wherever it stands, and however its claims begin: with `{"`, `{ ` or a line end."""
    assert carries_token(text) == (written is not None)
    assert without_tokens(text) == (text if written is None else written)


@pytest.mark.parametrize("piece", ["eyJ", "eyJ.", "eyJaaaaaaaaaaaaa.", "eyJ-", "gate_", "x.eyJ"])
def test_a_long_text_is_looked_through_once(piece: str) -> None:
    """Two megabytes. In quadratic time this test would not end."""
    text = piece * (2_000_000 // len(piece))
    carries_token(text)
    without_tokens(text)
