"""The arithmetic of prices: which rates hold, and what a usage comes to at them. Integers only.

A part that has a rate of its own is taken out of what it is a part of; a rate may rise for the whole call above a
number of tokens of input. Both rules are genai_prices' (`decompose.compute_leaf_values`, `types.TieredPrices`). Rates
and constraints are described in `price_format`; sums are in femto-dollars until they are rounded up, once.
"""

from __future__ import annotations

from collections.abc import Iterable

from tollhouse.call import Usage
from tollhouse.prices.file import Constraint, PricedModel, Rate, Rates
from tollhouse.prices.format import (
    CACHE_WRITE,
    CACHED,
    CACHED_AUDIO,
    FEMTO_PER_NANO,
    INPUT,
    INPUT_AUDIO,
    OUTPUT,
    OUTPUT_AUDIO,
    REASONING,
    REQUESTS,
)


def resolve(model: PricedModel, tier: str, at: float) -> Rates:
    """The rates of ``model`` at ``at`` (seconds since the epoch) with what the service ``tier`` changes; "" is none."""
    rates = model.rows[0][1]
    if len(model.rows) > 1:
        rates = next((values for constraint, values in reversed(model.rows) if _holds(constraint, at)), rates)
    if not tier or not model.tiers:
        return rates
    changed = list(rates)
    taken: set[int] = set()
    for name, constraint, values in model.tiers:
        if name == tier and _holds(constraint, at):
            for unit, rate in enumerate(values):
                if rate is not None and unit not in taken:
                    changed[unit] = rate
                    taken.add(unit)
    return tuple(changed)


def _holds(constraint: Constraint, at: float) -> bool:
    if constraint is None:
        return True
    if constraint[0] == "from":
        return bool(at >= constraint[1])
    second, start, end = at % 86_400, constraint[1], constraint[2]
    return bool(second >= start or second < end) if end < start else bool(start <= second < end)


def charge(rates: Rates, usage: Usage, believed: bool) -> int | None:
    """Nano-dollars for ``usage`` at these rates; None if they give no price for it. ``believed``: a rate of 0 is a price (a
    configured one) and no gap in the table. Counts that contradict each other (a part greater than its whole) never lower
    the price."""
    total = usage.input
    priced_in = 0
    femto_in = 0
    cached_audio = usage.cached_audio if rates[CACHED_AUDIO] is not None else 0
    for unit, count in (
        (CACHED_AUDIO, usage.cached_audio),
        (CACHED, usage.cached - cached_audio),
        (CACHE_WRITE, usage.cache_write),
        (INPUT_AUDIO, usage.input_audio - cached_audio),
    ):
        rate = rates[unit]
        if rate is not None and count > 0:
            femto_in += count * _at(rate, total)
            priced_in += count
    femto_in += max(0, total - priced_in) * _at(rates[INPUT], total)
    priced_out = 0
    femto_out = 0
    for unit, count in ((REASONING, usage.reasoning), (OUTPUT_AUDIO, usage.output_audio)):
        rate = rates[unit]
        if rate is not None and count > 0:
            femto_out += count * _at(rate, total)
            priced_out += count
    femto_out += max(0, usage.output - priced_out) * _at(rates[OUTPUT], total)
    return _judged(rates, total, femto_in, usage.output, femto_out, believed)


def most(rates: Rates, input_tokens: int, output_tokens: int, audio: bool, believed: bool) -> int | None:
    """Nano-dollars that so many tokens can come to at most, each counted as the dearest part that it may be."""
    units_in = (INPUT, CACHED, CACHE_WRITE, INPUT_AUDIO, CACHED_AUDIO) if audio else (INPUT, CACHED, CACHE_WRITE)
    units_out = (OUTPUT, REASONING, OUTPUT_AUDIO) if audio else (OUTPUT, REASONING)
    rate_in = max(_reach(rates[unit], input_tokens) for unit in units_in)
    rate_out = max(_reach(rates[unit], input_tokens) for unit in units_out)
    return _judged(rates, input_tokens, rate_in * input_tokens, output_tokens, rate_out * output_tokens, believed)


def _judged(rates: Rates, tokens_in: int, femto_in: int, tokens_out: int, femto_out: int, believed: bool) -> int | None:
    if believed:
        unpriced = (tokens_in > 0 and rates[INPUT] is None) or (tokens_out > 0 and rates[OUTPUT] is None)
    else:
        unpriced = (tokens_in > 0 and femto_in == 0) or (tokens_out > 0 and femto_out == 0) or not any(rates)
    return None if unpriced else nano(femto_in + femto_out + _at(rates[REQUESTS], tokens_in))


def nano(amount: int) -> int:
    """Femto-dollars as nano-dollars, rounded up."""
    return -(-amount // FEMTO_PER_NANO)


def _at(rate: Rate, input_tokens: int) -> int:
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
        rate[0], *(above for start, above in zip(rate[1::2], rate[2::2], strict=True) if input_tokens > start), 0
    )


def steps(rate: Rate) -> Iterable[int]:
    """Every value that the rate has, whatever the number of tokens."""
    if rate is None or isinstance(rate, int):
        return (rate or 0,)
    return rate[0::2]
