from decimal import Decimal

import pytest

from tollhouse.families.units import Units
from tollhouse.prices.rates import Rates, exact, matches


def test_there_is_a_rate_for_each_unit() -> None:
    """By the same name and in the same order, so that none is left out when units are added."""
    assert Rates._fields == Units._fields


@pytest.mark.parametrize(
    ("price", "per", "expected"),
    [
        ("2.50", 1_000_000, 9 * 2_500_000_000),
        ("0.00875", 1_000_000, 9 * 8_750_000),
        ("5", 1_000, 9 * 5_000_000_000_000),
        ("0.000000001", 1_000_000, 9),
        ("0.000000001", 1_000, 9_000),
        ("1.02", 3_600_000, 2_550_000_000),
    ],
    ids=[
        "tokens",
        "tokens at a fraction",
        "requests",
        "least for a token",
        "least for a second",
        "hours",
    ],
)
def test_a_price_is_kept_exactly(price: str, per: int, expected: int) -> None:
    """USD for so many units becomes a whole number of ninths of a femto-dollar for one: a
    millisecond of 1.02 USD an hour has no end in decimals."""
    assert exact(Decimal(price), per) == expected


@pytest.mark.parametrize(
    "price", ["0.0000000001", "-1", "NaN", "Infinity", "1e999999", "1e-999999"]
)
def test_what_cannot_be_kept_exactly_is_an_error(price: str) -> None:
    """Never rounded in silence."""
    with pytest.raises(ValueError, match="price"):
        exact(Decimal(price), 1_000_000)


@pytest.mark.parametrize(
    ("match", "name", "expected"),
    [
        (("in", ("gpt-4o", "x")), "gpt-4o", True),
        (("in", ("gpt-4o",)), "gpt-4o-mini", False),
        (("starts", "gpt-"), "gpt-4o", True),
        (("ends", "-mini"), "gpt-4o", False),
        (("contains", "4o"), "gpt-4o-mini", True),
        (("regex", r"^gpt-\d$"), "gpt-5", True),
        (("regex", r"^gpt-\d$"), "gpt-5x", False),
        (("and", (("starts", "a"), ("ends", "z"))), "abc", False),
        (("or", (("starts", "a"), ("ends", "z"))), "abc", True),
    ],
)
def test_match_rules(match: tuple[str, object], name: str, expected: bool) -> None:
    """Each rule of genai-prices' matching."""
    assert matches(match, name) is expected
