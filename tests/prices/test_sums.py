import pytest

from tollhouse.call import Usage
from tollhouse.prices.file import PricedModel, Rate, Rates
from tollhouse.prices.format import INPUT, OUTPUT, REQUESTS, UNITS
from tollhouse.prices.sums import charge, most, resolve


def _rates(**units: Rate) -> Rates:
    places = {"input": INPUT, "output": OUTPUT, "requests": REQUESTS}
    made: list[Rate] = [None] * len(UNITS)
    for name, rate in units.items():
        made[places[name]] = rate
    return tuple(made)


_DAY, _NIGHT, _FLEX = _rates(input=10), _rates(input=5), _rates(input=3)


@pytest.mark.parametrize(("hour", "expected"), [(22.9, _DAY), (23, _NIGHT), (24, _NIGHT), (25.99, _NIGHT), (26, _DAY)])
def test_a_daily_price_may_span_midnight(hour: float, expected: Rates):
    """From 23:00 to 02:00 UTC, the start included and the end not."""
    model = PricedModel(("in", ()), ((None, _DAY), (("daily", 23 * 3600, 2 * 3600), _NIGHT)), ())
    assert resolve(model, "", hour * 3600) == expected


def test_the_last_price_whose_time_has_come_holds():
    """Later rows go before earlier ones; if none holds the first is taken."""
    rows = ((("from", 100), _DAY), (("from", 200), _NIGHT), (("from", 300), _FLEX))
    model = PricedModel(("in", ()), rows, ())
    assert [resolve(model, "", at) for at in (0, 199, 200, 300)] == [_DAY, _DAY, _NIGHT, _FLEX]


def test_a_tier_changes_only_what_it_names_and_the_first_that_fits_decides():
    """Other units keep the standard rate; a tier whose time has not come is passed over."""
    standard = _rates(input=10, output=40)
    tiers = (
        ("flex", ("from", 500), _rates(input=1)),
        ("flex", None, _FLEX),
        ("flex", None, _rates(input=9, output=20)),
    )
    model = PricedModel(("in", ()), ((None, standard),), tiers)
    assert resolve(model, "flex", 100) == _rates(input=3, output=20)
    assert resolve(model, "flex", 500) == _rates(input=1, output=20)
    assert resolve(model, "other", 500) == standard


def test_a_price_for_each_request_is_added_once():
    """A fee for the call comes on top of its tokens, whatever their number."""
    rates = _rates(input=2_000_000, requests=7_000_000)
    assert charge(rates, Usage(input=3), believed=False) == 13


def test_the_most_counts_every_step_that_fewer_tokens_reach():
    """A rate that falls with size is held at its highest."""
    falling = _rates(input=(9_000_000, 100, 4_000_000))
    assert charge(falling, Usage(input=200), believed=False) == 800
    assert most(falling, 200, 0, audio=False, believed=False) == 1800
