"""The arithmetic of prices: which rates hold, and what units come to at them. Integers only.

A part with a rate of its own is subtracted from its whole. Above a number of input tokens a rate
may rise for the whole call. Both rules are genai_prices' (``decompose.compute_leaf_values``,
``types.TieredPrices``).

A part without a rate of its own costs what its whole costs. A request without a rate costs nothing.
Audio, and every other unit beside the tokens, has no price without a rate. Sums are in the unit of
`rates.Rate` until they are rounded up, once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from tollhouse.families.units import INPUT_PARTS, OUTPUT_PARTS, Estimate, Units
from tollhouse.prices.rates import PARTS_PER_NANO, Constraint, PricedModel, Rate, Rates

_AUDIO: Final = ("input_audio", "output_audio", "cached_audio")
_INPUT_KINDS: Final = ("input_audio", "cached_audio", "input_image", "cache_write_1h")
_OUTPUT_KINDS: Final = ("output_audio", "output_image")


def resolve(model: PricedModel, tier: str, at: float) -> Rates:
    """The rates of ``model`` at ``at`` (seconds since the epoch) with what the service ``tier``
    changes; "" is none."""
    rates = model.rows[0][1]
    if len(model.rows) > 1:
        rates = next(
            (values for constraint, values in reversed(model.rows) if holds(constraint, at)), rates
        )
    return served_at(rates, model, tier, at) if tier and model.tiers else rates


def served_at(rates: Rates, model: PricedModel, tier: str, at: float) -> Rates:
    """``rates`` with what ``tier`` changes in them."""
    changed = list(rates)
    taken: set[int] = set()
    for name, constraint, values in model.tiers:
        if name == tier and holds(constraint, at):
            for unit, rate in enumerate(values):
                if rate is not None and unit not in taken:
                    changed[unit] = rate
                    taken.add(unit)
    return Rates(*changed)


def holds(constraint: Constraint, at: float) -> bool:
    """Whether ``at`` (seconds since the epoch) is in the time of ``constraint``."""
    if constraint is None:
        return True
    if constraint[0] == "from":
        return bool(at >= constraint[1])
    second, start, end = at % 86_400, constraint[1], constraint[2]
    return bool(second >= start or second < end) if end < start else bool(start <= second < end)


def charge(
    rates: Rates,
    units: Units,
    believed: bool,
    factor: tuple[int, int] = (1, 1),
    calls: int = 1,
) -> int | None:
    """Nano-dollars for ``units`` at these rates times ``factor``; None if they give no price for
    them. ``believed``: a rate of 0 is a price (a configured one) and no gap in the table. Counts
    that contradict each other (a part greater than its whole) never lower the price. ``calls``: the
    units are the sum of so many, and the rates are those of their mean."""
    size, cached_audio = -(-units.input // max(calls, 1)), units.cached_audio
    hour = min(units.cache_write_1h, units.cache_write)
    parts_in = (
        (units.cached - cached_audio, rates.cached),
        (units.cache_write - hour, rates.cache_write),
        (hour, rates.cache_write if rates.cache_write_1h is None else rates.cache_write_1h),
        (units.input_audio - cached_audio, rates.input_audio),
        (cached_audio, rates.input_audio if rates.cached_audio is None else rates.cached_audio),
        (units.input_image, rates.input_image),
    )
    parts_out = (
        (units.reasoning, rates.reasoning),
        (units.output_audio, rates.output_audio),
        (units.output_image, rates.output_image),
    )
    side_in = _side(parts_in, units.input, rates.input, size)
    side_out = _side(parts_out, units.output, rates.output, size)
    return _judged(rates, units, side_in, side_out, believed, at_size, factor)


def _side(parts: Iterable[tuple[int, Rate]], whole: int, rate: Rate, size: int) -> int:
    """The sum of a whole: its parts with a rate at their own rates, the rest at the rate of the
    whole."""
    amount = 0
    for count, own in parts:
        if count > 0 and own is not None:
            amount += count * at_size(own, size)
            whole -= count
    return amount + whole * at_size(rate, size) if whole > 0 else amount


def most(
    rates: Rates, estimate: Estimate, believed: bool, factor: tuple[int, int] = (1, 1)
) -> int | None:
    """Nano-dollars that ``estimate`` can come to at most, times ``factor``; None if there is no price for one of its
    units, or for audio that it asks for.

    Each token counts as the dearest part that it may be. Any token of input may be read from the
    cache or written to it, and any of output may be reasoning. A token may be of audio or of an
    image, or be kept in the cache for an hour, where the estimate asks for that part, says that it
    may come, or counts it.
    """
    units, asks = estimate.units, estimate.asks
    if not asks.isdisjoint(_AUDIO) and any(
        _is_gap(_own(rates, part), believed) for part in _AUDIO if part in asks
    ):
        return None
    size = units.input
    rate_in = max(
        _reach(rates.input, size), _reach(rates.cached, size), _reach(rates.cache_write, size)
    )
    rate_out = max(_reach(rates.output, size), _reach(rates.reasoning, size))
    for part in _INPUT_KINDS:
        if part in asks or part in estimate.may or getattr(units, part) > 0:
            rate_in = max(rate_in, _reach(_own(rates, part), size))
    for part in _OUTPUT_KINDS:
        if part in asks or part in estimate.may or getattr(units, part) > 0:
            rate_out = max(rate_out, _reach(getattr(rates, part), size))
    return _judged(rates, units, rate_in * size, rate_out * units.output, believed, _reach, factor)


def dearest(highest: Rates, units: Units, factor: tuple[int, int] = (1, 1)) -> int | None:
    """Nano-dollars for ``units`` of a model that nobody knows, times ``factor``; ``highest`` has the highest rate of
    any model for each unit. Audio and images count at the highest rate of their kind, all other
    tokens at the highest of any kind."""
    if not any(highest):
        return None
    rate_in = max(at_size(getattr(highest, part), 0) for part in ("input", *INPUT_PARTS))
    rate_out = max(at_size(getattr(highest, part), 0) for part in ("output", *OUTPUT_PARTS))
    audio_in = max(at_size(highest.input_audio, 0), at_size(highest.cached_audio, 0))
    parts_in = (
        (max(units.input_audio, units.cached_audio), audio_in),
        (units.input_image, highest.input_image),
    )
    parts_out = (
        (units.output_audio, highest.output_audio),
        (units.output_image, highest.output_image),
    )
    side_in = _side(parts_in, units.input, rate_in, 0)
    side_out = _side(parts_out, units.output, rate_out, 0)
    beside = _priced(highest, units, True, at_size)
    return None if beside is None else nano(side_in + side_out + beside, factor)


def _judged(
    rates: Rates,
    units: Units,
    side_in: int,
    side_out: int,
    believed: bool,
    rate_of: Callable[[Rate, int], int],
    factor: tuple[int, int],
) -> int | None:
    """The sides of the tokens and what is beside them, unless there is no price for something."""
    if believed:
        unpriced = (units.input > 0 and rates.input is None) or (
            units.output > 0 and rates.output is None
        )
    else:
        unpriced = (
            (units.input > 0 and not side_in)
            or (units.output > 0 and not side_out)
            or not any(rates)
        )
    if unpriced:
        return None
    beside = _priced(rates, units, believed, rate_of)
    return None if beside is None else nano(side_in + side_out + beside, factor)


def _priced(
    rates: Rates, units: Units, believed: bool, rate_of: Callable[[Rate, int], int]
) -> int | None:
    """What the units beside the tokens come to. None if one of them, or counted audio, has no
    price."""
    if units.input_audio > 0 or units.output_audio > 0 or units.cached_audio > 0:
        for part in _AUDIO:
            if getattr(units, part) > 0 and _is_gap(_own(rates, part), believed):
                return None
    amount = units.requests * rate_of(rates.requests, units.input) if units.requests > 0 else 0
    if not (
        units.milliseconds or units.characters or units.images or units.pages or units.searches
    ):
        return amount
    for count, rate in (
        (units.milliseconds, rates.milliseconds),
        (units.characters, rates.characters),
        (units.images, rates.images),
        (units.pages, rates.pages),
        (units.searches, rates.searches),
    ):
        if count > 0:
            if _is_gap(rate, believed):
                return None
            amount += count * rate_of(rate, units.input)
    return amount


def _is_gap(rate: Rate, believed: bool) -> bool:
    """Whether a unit has no price: in the table a rate of 0 is one that nobody has filled in."""
    return rate is None if believed else not rate


def _own(rates: Rates, part: str) -> Rate:
    """The rate of a part of the tokens. Audio from the cache costs what audio costs where nothing
    else is said."""
    rate: Rate = getattr(rates, part)
    return rates.input_audio if rate is None and part == "cached_audio" else rate


def nano(amount: int, factor: tuple[int, int] = (1, 1)) -> int:
    """An amount in the unit of `rates.Rate`, times ``factor``, as nano-dollars, rounded up."""
    times, over = factor
    return -(-amount * times // (PARTS_PER_NANO * over))


def at_size(rate: Rate, input_tokens: int) -> int:
    """The rate for a call with so many tokens of input."""
    if rate is None or isinstance(rate, int):
        return rate or 0
    chosen = rate[0]
    for start, above in zip(rate[1::2], rate[2::2], strict=True):
        if input_tokens > start:
            chosen = above
    return chosen


def _reach(rate: Rate, input_tokens: int) -> int:
    """The highest rate that a call with up to so many tokens of input can meet."""
    if rate is None or isinstance(rate, int):
        return rate or 0
    return max(
        rate[0],
        *(
            above
            for start, above in zip(rate[1::2], rate[2::2], strict=True)
            if input_tokens > start
        ),
        0,
    )


def highest(every: Iterable[Rates]) -> Rates:
    """The highest value that any of the rates has, unit by unit, whatever the number of tokens."""
    return Rates(*(_top(rates) for rates in zip(*every, strict=True)))


def _top(rates: Iterable[Rate]) -> Rate:
    """None where none of them says anything."""
    said = [
        max(rate[0::2]) if isinstance(rate, tuple) else rate for rate in rates if rate is not None
    ]
    return max(said, default=None)
