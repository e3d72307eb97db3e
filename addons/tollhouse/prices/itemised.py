"""The price of a charge, unit by unit: what a bill or an explanation shows. `sums.charge` has the sum of the same parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tollhouse.families.units import Units
from tollhouse.prices.factors import PLAIN, Ratio
from tollhouse.prices.rates import PARTS_PER_NANO, Rate, Rates
from tollhouse.prices.sums import at_size

_FEMTO_PER_NANO = 10**6


class PricedPart(NamedTuple):
    """So many of one unit, which no other part counts."""

    unit: str
    """A field of `Units`. ``input`` and ``output`` are the rest that no part with a rate of its own has."""
    number: int
    rate: int
    """For one, in the unit of `rates.Rate`."""
    factor: Ratio = PLAIN

    @property
    def femto_usd(self) -> int:
        """What it costs, in millionths of a nano-dollar, rounded down."""
        times, over = self.factor
        return self.number * self.rate * times * _FEMTO_PER_NANO // (PARTS_PER_NANO * over)


def parts(rates: Rates, units: Units, factor: Ratio = PLAIN, calls: int = 1) -> list[PricedPart]:
    """The arguments are those of `sums.charge`, which has said that there is a price."""
    size = -(-units.input // max(calls, 1))
    found = [*_side_in(rates, units), *_side_out(rates, units), *_beside(rates, units)]
    return [PricedPart(unit, count, at_size(rate, size), factor) for unit, count, rate in found]


_Found = Iterator[tuple[str, int, Rate]]


def _side_in(rates: Rates, units: Units) -> _Found:
    audio, hour = units.cached_audio, min(units.cache_write_1h, units.cache_write)
    return _side(
        "input",
        units.input,
        rates.input,
        ("cached", units.cached - audio, rates.cached),
        ("cache_write", units.cache_write - hour, rates.cache_write),
        (
            "cache_write_1h",
            hour,
            rates.cache_write if rates.cache_write_1h is None else rates.cache_write_1h,
        ),
        ("input_audio", units.input_audio - audio, rates.input_audio),
        (
            "cached_audio",
            audio,
            rates.input_audio if rates.cached_audio is None else rates.cached_audio,
        ),
        ("input_image", units.input_image, rates.input_image),
    )


def _side_out(rates: Rates, units: Units) -> _Found:
    return _side(
        "output",
        units.output,
        rates.output,
        ("reasoning", units.reasoning, rates.reasoning),
        ("output_audio", units.output_audio, rates.output_audio),
        ("output_image", units.output_image, rates.output_image),
    )


def _side(name: str, whole: int, rate: Rate, *among: tuple[str, int, Rate]) -> _Found:
    for unit, count, own in among:
        if count > 0 and own is not None:
            yield unit, count, own
            whole -= count
    if whole > 0:
        yield name, whole, rate


def _beside(rates: Rates, units: Units) -> _Found:
    for unit in ("milliseconds", "characters", "images", "pages", "searches", "requests"):
        count, rate = getattr(units, unit), getattr(rates, unit)
        # Each call is a request, and hardly any has a price for that.
        if count > 0 and (unit != "requests" or rate):
            yield unit, count, rate
