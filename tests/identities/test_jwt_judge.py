"""Verified JWTs that are remembered, and the keys of their issuer, by clocks of the test."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.support.clock import Clock
from tests.support.issuer import AUDIENCE, b64, ec_key, jwk, jwks, rsa_key, signed

from tollhouse.denial import Refused
from tollhouse.identities.jwks import JwksError, parse_jwks
from tollhouse.identities.jwt_judge import Issuer, JwtJudge
from tollhouse.identities.key_sets import LIFE_S, REFETCH_S, IssuerKeys, KeysAway
from tollhouse.identities.templates import ClaimPath, ProjectRule
from tollhouse.parties import Identity

ISSUER = "https://issuer.example.com"
KEY = rsa_key("issuer")
OTHER = rsa_key("other")


class Source:
    """An issuer's keys. None: it is away."""

    place = "the test"

    def __init__(self) -> None:
        self.text: bytes | None = jwks(jwk(KEY, "one"))
        self.open = asyncio.Event()
        self.open.set()

    async def read(self) -> bytes:
        await self.open.wait()
        if self.text is None:
            raise KeysAway("it is away")
        return self.text

    async def close(self) -> None: ...


class Bench:
    def __init__(self) -> None:
        self.source, self.clock, self.now = Source(), Clock(), Clock(10_000.0)
        self.keys = IssuerKeys(self.source, ("RS256", "ES256"), self.clock)
        rule = ProjectRule("project")
        entry = Issuer(
            ISSUER,
            (AUDIENCE,),
            ("RS256", "ES256"),
            rule,
            "acme",
            self.keys,
            claims={ClaimPath("/of/pod"): ("a", "b"), ClaimPath("verified"): ("true",)},
        )
        self.judge = JwtJudge([entry], self.now)

    async def show(self, key: Any = KEY, kid: str | None = "one", **changed: Any) -> Identity:
        made = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "s",
            "project": "p",
            "of": {"pod": "b"},
            "verified": True,
            "exp": 10_600,
            **changed,
        }
        alg = (
            "RS256"
            if hasattr(key, "private_numbers") and hasattr(key, "key_size") and key.key_size > 1000
            else "ES256"
        )
        return await self.judge.identify(signed(made, key, alg, kid=kid))

    async def refused(self, code: str, why: str = "", **how: Any) -> None:
        with pytest.raises(Refused) as caught:
            await self.show(**how)
        assert caught.value.denial.code == code
        assert why in caught.value.denial.message


async def test_a_token_is_remembered_until_it_expires() -> None:
    """Once it was good it costs no signature, and it ends with its leeway all the same."""
    bench = Bench()
    first = await bench.show()
    assert await bench.show() is first
    assert bench.judge.remembered == 1
    assert bench.judge.names_issuer(signed({"iss": ISSUER}, OTHER))
    assert not bench.judge.names_issuer(signed({"iss": "https://auth.openai.com"}, OTHER))
    assert not bench.judge.names_issuer("eyJ.eyJ.x")
    bench.now.advance(629)
    assert await bench.show() is first
    bench.now.advance(2)
    await bench.refused("identity_expired", "expired 31 s ago")
    assert bench.judge.remembered == 0
    await bench.refused("identity_unknown", "valid only in 31 s", nbf=10_662, exp=20_000)
    assert (await bench.show(nbf=10_660, exp=20_000)).subject == "s"


async def test_claims_that_are_demanded() -> None:
    """By a JSON Pointer as well; a boolean is its word. What is elsewhere, of another kind, or in a list counts for nothing."""
    bench = Bench()
    assert (await bench.show(verified="true")).subject == "s"
    for wrong in (
        {"of": {}},
        {"of": "b"},
        {"of": {"pod": ["b"]}},
        {"of": {"pod": None}},
        {"of": None, "/of/pod": "b"},
        {"verified": False},
        {"verified": 1},
        {"verified": ["true"]},
    ):
        await bench.refused("identity_unknown", "which is not let in", **wrong)


async def test_unknown_keys_make_one_request_in_30_seconds() -> None:
    """However many come, and together; a known key does not wait for it."""
    bench = Bench()
    await bench.show()
    assert bench.keys.reads == 1
    bench.source.open.clear()
    waiting = [
        asyncio.create_task(bench.refused("identity_unknown", "no such key", kid=f"g{n}"))
        for n in range(50)
    ]
    await asyncio.sleep(0)
    assert await bench.show(sub="another")
    bench.source.open.set()
    await asyncio.gather(*waiting)
    for n in range(50):
        await bench.refused("identity_unknown", "no such key", kid=f"h{n}")
    assert bench.keys.reads == 2
    bench.source.text = jwks(jwk(OTHER, "two"))
    bench.clock.advance(REFETCH_S)
    assert await bench.show(OTHER, "two")
    # The key that verified it is gone, and so is what was remembered.
    await bench.refused("identity_unknown", "no such key")
    assert bench.keys.reads == 3
    await bench.keys.close()


async def test_an_issuer_that_is_away() -> None:
    """Known keys serve for an hour beyond theirs; an unknown one is 503, for it may be new. What is no JWKS is an issuer that
    is away, and takes no key from it."""
    bench = Bench()
    bench.source.text = None
    await bench.refused("identity_unavailable")
    bench.source.text = jwks(jwk(KEY, "one"))
    await bench.keys.close()
    bench = Bench()
    await bench.show()
    for poison in (
        b"<html>",
        b'{"keys": {}}',
        b"[]",
        None,
    ):
        bench.source.text = poison
        bench.clock.advance(REFETCH_S)
        await bench.refused("identity_unavailable", "not known yet", kid="new")
        assert await bench.show()
    bench.clock.advance(2 * LIFE_S - 5 * REFETCH_S)
    assert await bench.show()
    bench.clock.advance(5 * REFETCH_S)
    await bench.refused("identity_unavailable")
    # It would have ended by now, whatever its keys are: an open stream ends with it.
    bench.now.advance(631)
    await bench.refused("identity_expired", "expired 31 s ago")
    await bench.keys.close()


@pytest.mark.parametrize(
    "emptied", [b'{"keys": []}', jwks({"kty": "oct", "k": "AA", "kid": "one"})]
)
async def test_an_issuer_that_has_taken_its_keys_away(emptied: bytes) -> None:
    """That is an answer, and no outage: what the keys had verified ends with them. A new key counts when it is there."""
    bench = Bench()
    await bench.show()
    bench.source.text = emptied
    bench.clock.advance(REFETCH_S)
    await bench.refused("identity_unknown", "no such key", kid="new")
    await bench.refused("identity_unknown", "no such key")
    assert bench.judge.remembered == 1
    bench.source.text = jwks(jwk(OTHER, "two"))
    bench.clock.advance(REFETCH_S)
    assert await bench.show(OTHER, "two")
    await bench.keys.close()


def test_what_a_jwks_is_read_for() -> None:
    """Public keys for signatures, of the algorithms asked for, each bound to its own."""
    key = jwk(KEY, "one")
    private = {**key, "d": "AQAB"}
    for left_out in (
        private,
        {**key, "use": "enc"},
        {**key, "use": "x509-svid"},
        {**key, "key_ops": ["sign"]},
        {**key, "alg": "RS512"},
        {**key, "kid": 7},
        {**key, "n": b64(b"\x01" * 128)},
        {**key, "n": b64(b"\x01" * 1200)},
        {"kty": "oct", "k": "AAAA", "kid": "one", "alg": "HS256"},
        jwk(ec_key("p"), "e", crv="P-384"),
    ):
        assert not parse_jwks(jwks(left_out), ("RS256", "ES256")).ids
    found = parse_jwks(jwks(private, key, jwk(OTHER, "one"), {"kty": "XX"}, 7), ("RS256", "PS256"))  # type: ignore[arg-type]
    assert len(found.fitting("one", "RS256")) == 2
    assert found.fitting("one", "PS256")
    assert not found.fitting("one", "ES256")
    assert not found.fitting("two", "RS256")
    assert len(found.fitting(None, "RS256")) == 2
    for text, why in (
        (jwks(*[key] * 65), "at most 64"),
        (b'{"issuer": "https://a.test", "jwks_uri": "https://a.test/keys"}', "discovery document"),
        (json.dumps(key).encode(), "it is one key"),
        (b"-----BEGIN PUBLIC KEY-----\nMIIB", "it is PEM"),
        (b"<html>", "no JSON object with a list"),
    ):
        with pytest.raises(JwksError, match=why):
            parse_jwks(text, ("RS256",))
