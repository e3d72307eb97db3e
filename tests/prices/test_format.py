from decimal import Decimal

import pytest

from tollhouse.prices.format import femto


def test_a_price_is_kept_exactly():
    """USD for so many units becomes a whole number of femto-dollars for one."""
    assert femto(Decimal("2.50"), 1_000_000) == 2_500_000_000
    assert femto(Decimal("0.00875"), 1_000_000) == 8_750_000
    assert femto(Decimal("5"), 1_000) == 5_000_000_000_000


@pytest.mark.parametrize("price", ["0.0000000001", "-1", "NaN", "Infinity"])
def test_what_cannot_be_kept_exactly_is_an_error(price: str):
    """Never rounded in silence."""
    with pytest.raises(ValueError, match="price"):
        femto(Decimal(price), 1_000_000)
