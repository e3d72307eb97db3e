"""The bytes of bodies that are kept: shares of a token, of an address and of a tenant, and the whole."""

from __future__ import annotations

import pytest

from tollhouse.admit.bodies import BodyBytes, KeptBody, KeptFor
from tollhouse.denial import Refused


def refusal(kept: KeptBody, count: int) -> tuple[str, int, tuple[tuple[str, str], ...]]:
    with pytest.raises(Refused) as refused:
        kept.extend(count)
    denial = refused.value.denial
    return denial.code, denial.status, denial.headers


def test_a_token_has_half() -> None:
    """Its last byte is taken, the next refused; another token is served, and what was refused takes
    nothing."""
    budget = BodyBytes(1000)
    one, again, other = (
        budget.reserve(KeptFor(token, f"10.0.0.{n}", f"t{n}")) for n, token in enumerate("aab")
    )
    one.extend(300)
    again.extend(200)
    assert refusal(one, 1) == ("concurrency_limited", 429, (("retry-after", "1"),))
    other.extend(500)
    assert (budget.kept_bytes, one.kept_bytes) == (1000, 300)


def test_an_address_has_three_quarters() -> None:
    """Many tokens of one address leave room for another."""
    budget = BodyBytes(1000)
    for token in "abc":
        budget.reserve(KeptFor(token, "10.0.0.1", token)).extend(250)
    assert refusal(budget.reserve(KeptFor("d", "10.0.0.1", "d")), 1) == (
        "concurrency_limited",
        429,
        (("retry-after", "1"),),
    )
    budget.reserve(KeptFor("d", "10.0.0.2", "d")).extend(250)


def test_a_tenant_has_three_quarters() -> None:
    """Many tokens of one tenant, each at an address of its own, leave room for another tenant."""
    budget = BodyBytes(1000)
    for number in range(3):
        budget.reserve(KeptFor(f"t{number}", f"10.0.0.{number}", "acme")).extend(250)
    assert refusal(budget.reserve(KeptFor("x", "10.0.0.9", "acme")), 1)[0] == "concurrency_limited"
    budget.reserve(KeptFor("x", "10.0.0.9", "other")).extend(250)


def test_the_whole() -> None:
    """503 when all is kept, by whomever."""
    budget = BodyBytes(1000)
    for number in range(4):
        budget.reserve(KeptFor(f"t{number}", f"10.0.0.{number}", f"{number}")).extend(250)
    assert refusal(budget.reserve(KeptFor("x", "10.0.0.9", "x")), 1) == (
        "too_many_connections",
        503,
        (("retry-after", "1"),),
    )


def test_what_is_released_is_there_again() -> None:
    """Once, however often it is released; nothing is remembered of whoever keeps nothing."""
    budget = BodyBytes(1000)
    kept = budget.reserve(KeptFor("a", "10.0.0.1", "acme"))
    kept.extend(500)
    kept.release()
    kept.release()
    assert (budget.kept_bytes, kept.kept_bytes) == (0, 0)
    budget.reserve(KeptFor("a", "10.0.0.1", "acme")).extend(500)


def test_the_largest_body_always_fits_a_share() -> None:
    """A share below one allowed body would refuse it for ever."""
    budget = BodyBytes(100, largest_bytes=80)
    assert (budget.limit_bytes, budget.token_bytes, budget.others_bytes) == (100, 80, 80)
    assert BodyBytes(10, largest_bytes=80).limit_bytes == 80
    budget.reserve(KeptFor("a", "10.0.0.1", "acme")).extend(80)
