from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.ledger.windows import WINDOWS, bounds


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("window", "start", "end"),
    [
        ("minute", "2026-12-31 23:59", "2027-01-01 00:00"),
        ("hour", "2026-12-31 23:00", "2027-01-01 00:00"),
        ("day", "2026-12-31", "2027-01-01"),
        ("week", "2026-12-28", "2027-01-04"),
        ("month", "2026-12-01", "2027-01-01"),
    ],
)
def test_windows_follow_the_calendar(window: str, start: str, end: str) -> None:
    """A moment at the end of a year lies in the windows that a calendar says, weeks beginning on Monday."""
    assert bounds(window, at("2026-12-31 23:59:59")) == (at(start), at(end))


def test_total_never_ends() -> None:
    """The total began with the epoch and has no end."""
    assert bounds("total", 5.0) == (0.0, None)


def test_unknown_window_is_refused() -> None:
    """A window that does not exist is an error, not a default."""
    with pytest.raises(ValueError, match="fortnight"):
        bounds("fortnight", 0.0)


@given(st.integers(0, 4_000_000_000), st.sampled_from([w for w in WINDOWS if w != "total"]))
def test_windows_meet_without_a_gap(now: int, window: str) -> None:
    """A moment lies inside its window, and the next window begins where this one ends."""
    start, end = bounds(window, now)
    assert end is not None
    assert start <= now < end
    assert bounds(window, end)[0] == end
    assert bounds(window, start) == (start, end)
