"""What Cohere's usages say."""

from __future__ import annotations

from typing import Any

import pytest

from tollhouse.families.cohere.usage import units_of
from tollhouse.families.units import Units


@pytest.mark.parametrize(
    ("billed", "units"),
    [
        (
            {"input_tokens": 8.2, "output_tokens": 4.0},
            Units(input=9, output=4, requests=1),
        ),
        ({"search_units": 1.0}, Units(searches=1, requests=1)),
        ({"classifications": 3}, Units(requests=3)),
        ({"images": 2, "input_tokens": None}, Units(images=2, requests=1)),
        (
            {"input_tokens": 30, "text_tokens": 10, "image_tokens": 20},
            Units(input=30, input_image=20, requests=1),
        ),
        ({"text_tokens": 10, "image_tokens": 20}, Units(input=30, input_image=20, requests=1)),
        ({"input_tokens": 10, "image_tokens": 20}, Units(input=30, input_image=20, requests=1)),
        ({"pages": 2}, Units(pages=2, requests=1)),
        ({"input_tokens": 0.0, "output_tokens": 0}, None),
        ({"input_tokens": float("inf")}, None),
        ({"input_tokens": "8", "output_tokens": True}, None),
        (None, None),
    ],
)
def test_billed_units(billed: Any, units: Units | None) -> None:
    """Floats are rounded up. Null is not zero, and zeros are no count."""
    usage = {"billed_units": billed, "tokens": {"input_tokens": 500.0, "output_tokens": 9.0}}
    assert units_of(usage) == units


def test_cached_tokens_are_inside() -> None:
    """And no more than the input that is billed."""
    billed = {"input_tokens": 9.0}
    assert units_of({"billed_units": billed, "cached_tokens": 4.0}) == Units(
        input=9, cached=4, requests=1
    )
    assert units_of({"billed_units": billed, "cached_tokens": 500.0}) == Units(
        input=9, cached=9, requests=1
    )


@pytest.mark.parametrize("usage", [None, [], 1, {}, {"tokens": {"input_tokens": 5.0}}])
def test_what_is_no_count(usage: Any) -> None:
    """Tokens alone are not billed."""
    assert units_of(usage) is None
