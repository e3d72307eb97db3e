"""What a unit costs, and of which model: the values that `source` makes, `table` looks up and
`sums` multiplies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, NamedTuple

Rate = int | tuple[int, ...] | None
"""What one unit costs: a whole number of ninths of a femto-dollar (1e-15 USD). A price for an hour
is exact for a millisecond so. A tuple is ``(rate, start, rate, start, rate...)``: with more than
``start`` tokens of input the rate behind it holds for the whole call
(genai_prices.types.TieredPrices). None: no price of its own."""

PARTS_PER_NANO: Final = 9_000_000
"""Ninths of a femto-dollar in a nano-dollar."""
_PARTS_PER_USD: Final = PARTS_PER_NANO * 10**9
_MOST_DIGITS: Final = 30
"""On each side of the decimal point."""


class Rates(NamedTuple):
    """One rate for each field of `families.units.Units`, by its name and in its order."""

    input: Rate = None
    output: Rate = None
    cached: Rate = None
    cache_write: Rate = None
    reasoning: Rate = None
    input_audio: Rate = None
    output_audio: Rate = None
    cached_audio: Rate = None
    input_image: Rate = None
    output_image: Rate = None
    milliseconds: Rate = None
    characters: Rate = None
    images: Rate = None
    pages: Rate = None
    searches: Rate = None
    requests: Rate = None
    cache_write_1h: Rate = None


Constraint = tuple[Any, ...] | None
"""When rates hold: always, ``("from", seconds since the epoch)``, or ``("daily", start, end)`` in
seconds of the UTC day."""

Match = tuple[str, Any]
"""Which names are meant: ``("in", texts)``, ``("starts" | "ends" | "contains" | "regex", text)``,
or ``("or" | "and", matches)``. Texts are in lower case."""


@dataclass(frozen=True, slots=True)
class PricedModel:
    """``rows``: the last whose constraint holds is taken, else the first. ``tiers``: what a
    ``service_tier`` changes in them; of each unit the first that fits decides. ``window``: tokens
    of context, None if they are not known."""

    match: Match
    rows: tuple[tuple[Constraint, Rates], ...]
    tiers: tuple[tuple[str, Constraint, Rates], ...]
    window: int | None = None


@dataclass(frozen=True, slots=True)
class PricedProvider:
    """A provider's models, in the order in which they are tried, then the providers that it falls
    back to."""

    fallback: tuple[str, ...]
    models: tuple[PricedModel, ...]


def exact(price: Decimal, per: int) -> int:
    """A price in USD for ``per`` units as the rate for one; ValueError if that is not exact, finite
    and at least 0."""
    if not price.is_finite() or price < 0:
        raise ValueError(f"a price must be a number of at least 0, not {price}")
    if price and not -_MOST_DIGITS < price.adjusted() < _MOST_DIGITS:
        # The whole numbers that it would be made of have as many digits as its exponent says.
        raise ValueError(f"a price has at most {_MOST_DIGITS} digits, and this is {price}")
    numerator, denominator = price.as_integer_ratio()
    rate, rest = divmod(numerator * _PARTS_PER_USD, denominator * per)
    if rest:
        raise ValueError(f"the price {price} has more decimals than can be kept exactly")
    return rate


_COMPACT_DATE: Final = re.compile(r"-(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")


def find(
    table: Mapping[str, PricedProvider], provider: str, name: str
) -> tuple[PricedModel, bool] | None:
    """The model of ``provider`` that ``name`` means, and whether it is the provider's own (not one
    it falls back to).

    The rules are genai_prices' (`Provider.find_model`): the first match wins, then those of the
    providers it falls back to; then ``-20251211`` is read as ``-2025-12-11``.
    """
    name = name.lower()
    found = _find(table, provider, name)
    if found is None:
        dashed = _COMPACT_DATE.sub(_dashed, name)
        found = _find(table, provider, dashed) if dashed != name else None
    return found


def _find(
    table: Mapping[str, PricedProvider], provider: str, name: str
) -> tuple[PricedModel, bool] | None:
    start = table.get(provider)
    if start is None:
        return None
    for owner in (provider, *start.fallback):
        for model in table[owner].models if owner in table else ():
            if matches(model.match, name):
                return model, owner == provider
    return None


def _dashed(match: re.Match[str]) -> str:
    year, month, day = (int(part) for part in match.groups())
    longest = (
        29
        if month == 2 and year % 4 == 0
        else 28
        if month == 2
        else 30
        if month in (4, 6, 9, 11)
        else 31
    )
    return f"-{year}-{month:02d}-{day:02d}" if day <= longest else match.group(0)


def matches(match: Match, name: str) -> bool:
    """Whether ``name``, in lower case, is meant by ``match``."""
    kind, what = match
    if kind == "in":
        return name in what
    if kind == "or":
        return any(matches(part, name) for part in what)
    if kind == "and":
        return all(matches(part, name) for part in what)
    if kind == "starts":
        return name.startswith(what)
    if kind == "ends":
        return name.endswith(what)
    if kind == "contains":
        return what in name
    return _regex(what).search(name) is not None


@lru_cache(maxsize=256)
def _regex(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
