"""Moments as text: in UTC, and never later than the moment itself."""

from __future__ import annotations

import pytest

from tollhouse.timestamps import rfc3339


@pytest.mark.parametrize(
    ("seconds", "whole", "fine"),
    [
        (0, "1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z"),
        (1_445_412_480.0, "2015-10-21T07:28:00Z", "2015-10-21T07:28:00.000Z"),
        (1_445_412_480.9999, "2015-10-21T07:28:00Z", "2015-10-21T07:28:00.999Z"),
    ],
)
def test_moments(seconds: float, whole: str, fine: str) -> None:
    """Whole seconds, or milliseconds, and what is finer is cut off."""
    assert (rfc3339(seconds), rfc3339(seconds, "milliseconds")) == (whole, fine)
