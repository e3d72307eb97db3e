import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.ledger.limits import MAX_AMOUNT, LimitError, format_usd, parse_limit, parse_limits


@pytest.mark.parametrize(
    ("text", "unit", "amount", "window", "canonical"),
    [
        ("10 usd/day", "usd", 10**10, "day", "10 usd/day"),
        ("0.000000001 USD/total", "usd", 1, "total", "0.000000001 usd/total"),
        ("2.50 usd / month", "usd", 2_500_000_000, "month", "2.5 usd/month"),
        ("200_000 tokens/minute", "tokens", 200_000, "minute", "200000 tokens/minute"),
        ("1 request/hour", "requests", 1, "hour", "1 requests/hour"),
        ("0 usd/week", "usd", 0, "week", "0 usd/week"),
        ("8 concurrent", "concurrent", 8, "", "8 concurrent"),
        ("2 usd/Session", "usd", 2 * 10**9, "session", "2 usd/session"),
    ],
)
def test_limits_are_read(text: str, unit: str, amount: int, window: str, canonical: str) -> None:
    """Each form that the configuration may spell, and how it is written back."""
    limit = parse_limit(text)
    assert (limit.unit, limit.amount, limit.window, limit.text) == (unit, amount, window, canonical)
    assert parse_limit(limit.text) == limit


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "needs an amount"),
        ("10 usd", "window is missing"),
        ("10 eur/day", "unit 'eur' is unknown"),
        ("10 usd/fortnight", "window 'fortnight' is unknown"),
        ("-1 usd/day", "not a plain number"),
        ("1e3 usd/day", "not a plain number"),
        ("nan usd/day", "not a plain number"),
        ("inf tokens/day", "not a plain number"),
        ("٣ usd/day", "not a plain number"),
        ("1.5 tokens/day", "smallest step"),
        ("0.0000000001 usd/day", "smallest step"),
        ("8 concurrent/day", "no window"),
        ("8 concurrent/session", "no window"),
        ("9007200 usd/day", "exact up to 2^53"),
        ("9007199254740992 tokens/day", "exact up to 2^53"),
        ("1" * 40 + " tokens/day", "too long"),
    ],
)
def test_bad_limits_say_why(text: str, why: str) -> None:
    """A limit that can't be kept is refused with the reason and the text that was given."""
    with pytest.raises(LimitError) as error:
        parse_limit(text)
    assert why in str(error.value)
    assert repr(text) in str(error.value)


def test_the_largest_limit_is_allowed() -> None:
    """2^53 - 1 is the last amount that the scripts compare exactly."""
    assert parse_limit(f"{MAX_AMOUNT} tokens/day").amount == MAX_AMOUNT
    assert parse_limit(f"{format_usd(MAX_AMOUNT)} usd/day").amount == MAX_AMOUNT


def test_two_limits_of_one_kind_are_refused() -> None:
    """Two amounts for the same unit and window leave open which one counts."""
    with pytest.raises(LimitError, match="limit the same thing"):
        parse_limits(["10 usd/day", "20 usd/day"])


@given(st.integers(-(10**20), 10**20))
def test_money_is_written_exactly(nano_usd: int) -> None:
    """Dollars as text keep every nano-dollar, without exponent or trailing zeros."""
    text = format_usd(nano_usd)
    whole, _, part = text.partition(".")
    assert "e" not in text.lower()
    assert not part.endswith("0")
    assert int(whole + part.ljust(9, "0")) == nano_usd
