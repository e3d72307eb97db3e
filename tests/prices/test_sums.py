import pytest

from tollhouse.families.units import Estimate, Units
from tollhouse.prices.rates import PricedModel, Rates
from tollhouse.prices.sums import charge, dearest, highest, most, resolve

NANO = 9_000_000
"""A rate of one nano-dollar."""

_DAY, _NIGHT, _FLEX = Rates(input=10), Rates(input=5), Rates(input=3)


@pytest.mark.parametrize(
    ("hour", "expected"), [(22.9, _DAY), (23, _NIGHT), (24, _NIGHT), (25.99, _NIGHT), (26, _DAY)]
)
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
    standard = Rates(input=10, output=40)
    tiers = (
        ("flex", ("from", 500), Rates(input=1)),
        ("flex", None, _FLEX),
        ("flex", None, Rates(input=9, output=20)),
    )
    model = PricedModel(("in", ()), ((None, standard),), tiers)
    assert resolve(model, "flex", 100) == Rates(input=3, output=20)
    assert resolve(model, "flex", 500) == Rates(input=1, output=20)
    assert resolve(model, "other", 500) == standard


FULL = Rates(
    input=10 * NANO,
    output=20 * NANO,
    cached=1 * NANO,
    cache_write=12 * NANO,
    reasoning=25 * NANO,
    input_audio=100 * NANO,
    output_audio=200 * NANO,
    cached_audio=5 * NANO,
    input_image=30 * NANO,
    output_image=40 * NANO,
    milliseconds=3 * NANO,
    characters=4 * NANO,
    images=1000 * NANO,
    pages=2000 * NANO,
    searches=7000 * NANO,
    requests=500 * NANO,
    cache_write_1h=20 * NANO,
)
PLAIN = Rates(input=10 * NANO, output=20 * NANO)


@pytest.mark.parametrize(
    ("units", "full", "plain"),
    [
        (Units(input=100), 1_000, 1_000),
        (Units(output=100), 2_000, 2_000),
        (Units(input=100, cached=40), 600 + 40, 1_000),
        (Units(input=100, cache_write=40), 600 + 480, 1_000),
        # 30 tokens are kept for an hour, and 10 for less; no more can be than are written.
        (Units(input=100, cache_write=40, cache_write_1h=30), 600 + 120 + 600, 1_000),
        (Units(input=100, cache_write=40, cache_write_1h=90), 600 + 800, 1_000),
        (Units(output=100, reasoning=40), 1_200 + 1_000, 2_000),
        (Units(input=100, input_audio=40), 600 + 4_000, None),
        (Units(output=100, output_audio=40), 1_200 + 8_000, None),
        # 30 tokens of audio and 10 of text from the cache, 10 more of audio.
        (
            Units(input=100, cached=40, input_audio=40, cached_audio=30),
            500 + 10 + 1_000 + 150,
            None,
        ),
        (Units(input=100, input_image=40), 600 + 1_200, 1_000),
        (Units(output=100, output_image=40), 1_200 + 1_600, 2_000),
        (Units(milliseconds=1_500), 4_500, None),
        (Units(characters=7), 28, None),
        (Units(images=2), 2_000, None),
        (Units(pages=3), 6_000, None),
        (Units(searches=2), 14_000, None),
        (Units(requests=2), 1_000, 0),
        (
            Units(
                input=1,
                output=1,
                milliseconds=1,
                characters=1,
                images=1,
                pages=1,
                searches=1,
                requests=1,
            ),
            10_537,
            None,
        ),
    ],
)
def test_each_unit_is_charged_at_its_price(units: Units, full: int, plain: int | None) -> None:
    """In nano-dollars. Without a price of its own a part costs what its whole does, a request
    nothing; audio and what is beside the tokens have no price then."""
    assert charge(FULL, units, believed=False) == full
    assert charge(PLAIN, units, believed=False) == plain
    assert charge(PLAIN, units, believed=True) == plain


def test_what_is_kept_for_an_hour_is_a_price_of_its_own() -> None:
    """Without one it costs what is kept for less. It is held for where a call may ask for it."""
    units = Units(input=100, cache_write=40, cache_write_1h=30)
    assert charge(FULL._replace(cache_write_1h=None), units, believed=False) == 600 + 480
    held = Estimate(Units(input=100))
    assert most(FULL, held, believed=False) == 1_200
    may = held._replace(may=frozenset({"cache_write_1h"}))
    assert most(FULL, may, believed=False) == 2_000
    assert most(FULL._replace(cache_write_1h=None), may, believed=False) == 1_200


def test_cached_audio_without_a_price_costs_what_audio_costs() -> None:
    """And is not charged as cached text as well."""
    units = Units(input=100, cached=40, input_audio=40, cached_audio=30)
    assert charge(FULL._replace(cached_audio=None), units, believed=False) == 500 + 10 + 4_000
    assert charge(FULL._replace(cached_audio=None, input_audio=None), units, believed=False) is None


@pytest.mark.parametrize(
    "unit", ["milliseconds", "characters", "images", "pages", "searches", "input_audio"]
)
def test_a_price_of_nothing_is_believed_of_the_configuration_alone(unit: str) -> None:
    """In the table a 0 is a gap."""
    rates, units = PLAIN._replace(**{unit: 0}), Units(**{"input": 1, unit: 1})
    assert charge(rates, units, believed=False) is None
    assert charge(rates, units, believed=True) == (0 if unit == "input_audio" else 10)
    assert most(rates, Estimate(units), believed=False) is None
    assert most(rates, Estimate(units), believed=True) == 10


def test_a_price_for_each_request_is_added_once() -> None:
    """A fee for the call comes on top of its tokens, whatever their number."""
    rates = Rates(input=2 * NANO, requests=7 * NANO)
    assert charge(rates, Units(input=3, requests=1), believed=False) == 13


def test_a_charge_is_rounded_up_once() -> None:
    """Of sums below a nano-dollar none is rounded by itself."""
    rates = Rates(input=NANO // 3, output=NANO // 3, milliseconds=NANO // 3)
    assert charge(rates, Units(input=1, output=1, milliseconds=1), believed=False) == 1
    assert charge(rates, Units(input=1, output=1, milliseconds=2), believed=False) == 2


def test_the_most_counts_every_step_that_fewer_tokens_reach() -> None:
    """A rate that falls with size is held at its highest."""
    falling = Rates(input=(9 * NANO, 100, 4 * NANO))
    assert charge(falling, Units(input=200), believed=False) == 800
    assert most(falling, Estimate(Units(input=200)), believed=False) == 1800


def parts(*names: str) -> frozenset[str]:
    return frozenset(names)


@pytest.mark.parametrize(
    ("estimate", "full", "plain"),
    [
        (Estimate(Units(input=10)), 120, 100),
        (Estimate(Units(output=10)), 250, 200),
        (Estimate(Units(input=10), may=parts("input_audio")), 1_000, 100),
        (Estimate(Units(input=10), asks=parts("input_audio")), 1_000, None),
        (Estimate(Units(input=10, input_audio=1)), 1_000, None),
        (Estimate(Units(output=10), may=parts("output_audio", "input_audio")), 2_000, 200),
        (Estimate(Units(output=10), asks=parts("output_audio")), 2_000, None),
        (Estimate(Units(input=10), asks=parts("cached_audio")), 120, None),
        (Estimate(Units(input=10), asks=parts("input_image")), 300, 100),
        (Estimate(Units(output=10), asks=parts("output_image")), 400, 200),
        (Estimate(Units(output=10), may=parts("output_image")), 400, 200),
        (Estimate(Units(output=10), asks=parts("reasoning")), 250, 200),
        (Estimate(Units(milliseconds=1_500, characters=7, images=2)), 4_500 + 28 + 2_000, None),
        (Estimate(Units(pages=3, searches=2, requests=1)), 6_000 + 14_000 + 500, None),
        (Estimate(Units(input=10, requests=1)), 120 + 500, 100),
    ],
)
def test_the_most_is_at_the_dearest_part_that_a_token_may_be(
    estimate: Estimate, full: int, plain: int | None
) -> None:
    """Audio that is asked for needs a price of its own, audio that may come does not; an image is a
    token like others where it has none."""
    assert most(FULL, estimate, believed=False) == full
    assert most(PLAIN, estimate, believed=False) == plain
    assert most(PLAIN, estimate, believed=True) == plain


def test_the_highest_of_many() -> None:
    """Unit by unit, over all steps; what none of them has stays without a price."""
    every = [Rates(input=5, output=(1, 100, 9)), Rates(input=7, searches=2), Rates(output=3)]
    assert highest(every) == Rates(input=7, output=9, searches=2)
    assert highest([]) == Rates()


@pytest.mark.parametrize(
    ("units", "full", "plain"),
    [
        (Units(input=10, output=10), 1_000 + 2_000, 100 + 200),
        (Units(input=10, input_audio=4), 600 + 400, None),
        (Units(input=10, input_audio=4, cached_audio=6), 400 + 600, None),
        (Units(output=10, output_audio=4), 1_200 + 800, None),
        (Units(input=10, input_image=4), 600 + 120, 100),
        (Units(output=10, output_image=4), 1_200 + 160, 200),
        (Units(milliseconds=1_500, characters=7, images=2), 4_500 + 28 + 2_000, None),
        (Units(pages=3, searches=2, requests=1), 6_000 + 14_000 + 500, None),
        (Units(requests=1), 500, 0),
    ],
)
def test_the_dearest_of_a_provider(units: Units, full: int, plain: int | None) -> None:
    """A token of no known kind costs what the dearest kind does, one of audio or of an image what
    those do."""
    assert dearest(FULL, units) == full
    assert dearest(PLAIN, units) == plain


def test_without_any_price_there_is_no_dearest() -> None:
    """Not even for nothing at all."""
    assert dearest(Rates(), Units()) is None
    assert dearest(Rates(input=0, output=0), Units(input=1)) is None


@pytest.mark.parametrize(("calls", "nano_usd"), [(1, 600), (2, 600), (3, 300), (300, 300)])
def test_a_sum_of_calls_is_charged_by_their_mean(calls: int, nano_usd: int) -> None:
    """300 tokens in a batch of three are 100 each: not above a start of 100, as 150 are."""
    rates = Rates(input=(NANO, 100, 2 * NANO), output=NANO)
    assert charge(rates, Units(input=300), False, calls=calls) == nano_usd
