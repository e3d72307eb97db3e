"""Where prices come from: the data of genai-prices, made into `rates` once, at start.

genai-prices' code stays loaded. Its data is dropped, which gives most of its memory back.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, time
from decimal import Decimal
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from tollhouse.prices.rates import (
    PARTS_PER_NANO,
    Constraint,
    Match,
    PricedModel,
    PricedProvider,
    Rate,
    Rates,
    exact,
)
from tollhouse.providers import BUILT_IN

_KEYS: Final = {
    "input": ("input_mtok",),
    "output": ("output_mtok",),
    "cached": ("cache_read_mtok",),
    "cache_write": ("cache_write_mtok",),
    "reasoning": ("output_reasoning_mtok",),
    "input_audio": ("input_audio_mtok",),
    "output_audio": ("output_audio_mtok",),
    "cached_audio": ("cache_audio_read_mtok",),
    "input_image": ("input_image_mtok",),
    "output_image": ("output_image_mtok",),
    # Where a model has two prices for sound, the seconds that are counted are those of the input.
    "milliseconds": ("input_audio_hours", "audio_hours"),
    "characters": ("input_mchars",),
    "pages": ("input_document_kpages",),
    "searches": ("web_searches_kcount", "rerank_searches_kcount"),
    "requests": ("requests_kcount",),
    "cache_write_1h": ("cache_write_1h_mtok",),
}
"""genai-prices' price keys by unit. The first key that a model has is taken. genai-prices has no
key for images."""
_WORDS: Final = {
    "annotated": {"pages": "input_annotated_document_kpages"},
}
"""Further words of a charge's tier: annotated pages. Each is the price of a unit under another key."""
_PER: Final = {"mtok": 10**6, "mchars": 10**6, "hours": 3_600_000, "kpages": 1000, "kcount": 1000}
"""How many of our units a price covers, by the last word of its key."""
_DATA: Final = "genai_prices.data"


class PriceSourceError(Exception):
    """The table of prices cannot be read; the text says why and what to do."""


def read() -> dict[str, PricedProvider]:
    """The prices of the built-in providers and of those that they fall back to. Raises
    PriceSourceError.

    Blocks for about 0.1 seconds, for more where the package's bytecode is not kept.
    """
    return translated(lambda: convert(_providers(), {provider.price_id for provider in BUILT_IN}))


def translated(read: Callable[[], dict[str, PricedProvider]]) -> dict[str, PricedProvider]:
    """What ``read`` returns; what another release of genai-prices makes it raise is a
    PriceSourceError."""
    try:
        return read()
    except (ImportError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise PriceSourceError(
            f"The prices of genai-prices {version_of()} cannot be read: {type(error).__name__}: {error}. "
            "Install the release of it that this version of Tollhouse asks for: install tollhouse anew, with its "
            "dependencies."
        ) from error


def version_of() -> str:
    """The installed release of genai-prices."""
    try:
        return version("genai-prices")
    except PackageNotFoundError:
        return "(not installed)"


def _providers() -> Iterable[Any]:
    """genai-prices' providers. The module of its data is removed from memory, unless it had been
    loaded before. A later import loads it again."""
    loaded = _DATA in sys.modules
    providers: Iterable[Any] = import_module(_DATA).providers
    if not loaded:
        del sys.modules[_DATA]
        # The import system has put the submodule there. It is no name of the package's own.
        vars(sys.modules["genai_prices"]).pop("data", None)
    return providers


def convert(providers: Iterable[Any], wanted: Iterable[str]) -> dict[str, PricedProvider]:
    """The ``wanted`` among genai-prices' ``providers`` (`genai_prices.types.Provider`) and those
    that they fall back to.

    Raises what a lookup or a conversion raises where a provider is missing, a rule is not known or
    a price is not exact.
    """
    known = {provider.id: provider for provider in providers}
    names = sorted(wanted)
    for name in tuple(names):
        names += [
            other for other in known[name].fallback_model_providers or () if other not in names
        ]
    seen: dict[Rates, Rates] = {}
    return {
        name: PricedProvider(
            tuple(known[name].fallback_model_providers or ()),
            tuple(_model(model, seen) for model in known[name].models),
        )
        for name in names
    }


def _model(model: Any, seen: dict[Rates, Rates]) -> PricedModel:
    """Many models share their rates: ``seen`` has one value for each set."""

    def rates(prices: Any) -> Rates:
        made = Rates(**{unit: _rate(prices, keys) for unit, keys in _KEYS.items()})
        return seen.setdefault(made, made)

    conditional = model.prices if isinstance(model.prices, list) else None
    rows = (
        [(None, model.prices)]
        if conditional is None
        else [(row.constraint, row.prices) for row in conditional]
    )
    if not rows:
        raise ValueError(f"the model {model.id} has no row of prices")
    tiers = [
        (sys.intern(tier), _constraint(variant.constraint), changed)
        for variant in model.price_variants or ()
        if (tier := _tier(variant.when)) and (changed := rates(variant.prices)) != Rates()
    ]
    for constraint, prices in reversed(rows):
        for tier, keys in _WORDS.items():
            other = Rates(**{unit: _rate(prices, (key,)) for unit, key in keys.items()})
            if any(other):
                tiers.append((tier, _constraint(constraint), seen.setdefault(other, other)))
    window = model.context_window
    if window is not None and (type(window) is not int or window < 1):
        raise ValueError(f"the model {model.id} has a context window of {window!r}")
    return PricedModel(
        _match(model.match),
        tuple((_constraint(constraint), rates(prices)) for constraint, prices in rows),
        tuple(tiers),
        window,
    )


_CONTEXTS: Final = {("processing", "batch"), ("speed", "fast")}


def _tier(when: Mapping[str, str]) -> str:
    """The tier that a variant of prices is for: a service tier, ``batch``, or ``fast`` of Claude.
    "" for a variant that no charge can name."""
    key, value = next(iter(when.items())) if len(when) == 1 else ("", "")
    return value if key == "service_tier" or (key, value) in _CONTEXTS else ""


def _rate(prices: Any, keys: tuple[str, ...]) -> Rate:
    for key in keys:
        price, per = getattr(prices, key), _PER[key.rpartition("_")[2]]
        if price is None:
            continue
        if hasattr(price, "tiers"):
            steps: list[int] = [_kept(price.base, per)]
            for tier in price.tiers:
                steps += [tier.start, _kept(tier.price, per)]
            return tuple(steps)
        return _kept(price, per)
    return None


_DIVIDED: Final = 13
"""Decimals of a price that is what a division has left, as 0.0833333333333333 is of 1 / 12."""


def _kept(price: Decimal, per: int) -> int:
    """The rate of `exact`. One that a division has left is rounded up."""
    exponent = price.as_tuple().exponent
    if not isinstance(exponent, int) or -exponent < _DIVIDED or price < 0:
        return exact(price, per)
    numerator, denominator = price.as_integer_ratio()
    return -(-numerator * PARTS_PER_NANO * 10**9 // (denominator * per))


def _constraint(constraint: Any) -> Constraint:
    match type(constraint).__name__:
        case "NoneType":
            return None
        case "StartDateConstraint":
            start = datetime.combine(constraint.start_date, time(), UTC)
            return "from", int(start.timestamp())
        case "TimeOfDateConstraint":
            return (
                "daily",
                _second_of_day(constraint.start_time),
                _second_of_day(constraint.end_time),
            )
        case other:
            raise ValueError(f"unknown constraint {other}")


def _second_of_day(value: time) -> int:
    on_a_day = datetime(
        1970, 1, 2, value.hour, value.minute, value.second, tzinfo=value.tzinfo or UTC
    )
    return int(on_a_day.timestamp()) % 86_400


def _match(clause: Any) -> Match:
    match type(clause).__name__:
        case "ClauseEquals":
            return _one_of([clause.equals.lower()])
        case "ClauseStartsWith":
            return "starts", clause.starts_with.lower()
        case "ClauseEndsWith":
            return "ends", clause.ends_with.lower()
        case "ClauseContains":
            return "contains", clause.contains.lower()
        case "ClauseRegex":
            return "regex", clause.regex
        case "ClauseAnd":
            return "and", tuple(_match(part) for part in clause.and_)
        case "ClauseOr":
            parts = [_match(part) for part in clause.or_]
            equal = [text for kind, texts in parts if kind == "in" for text in texts]
            others = tuple(part for part in parts if part[0] != "in")
            if not others:
                return _one_of(equal)
            return "or", (_one_of(equal), *others) if equal else others
        case other:
            raise ValueError(f"unknown match {other}")


def check_pattern(pattern: str) -> None:
    """Raises ValueError for a regular expression that is none."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern[:40]!r} is no regular expression: {error}") from None


def _one_of(texts: list[str]) -> Match:
    return "in", frozenset(texts) if len(texts) > 8 else tuple(texts)
