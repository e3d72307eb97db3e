"""The prices of the configuration, made into `rates`."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase
from typing import Any, Final

from tollhouse.prices.patterns import meet
from tollhouse.prices.rates import PricedModel, Rate, Rates, exact

_PER_MILLION: Final = (
    *(
        "input",
        "output",
        "cached",
        "cache_write",
        "reasoning",
        "input_audio",
        "output_audio",
        "cached_audio",
    ),
    *("input_image", "output_image", "characters"),
)
KEYS: Final = {
    **{name: (name, 1_000_000, "a million") for name in _PER_MILLION},
    "second": ("milliseconds", 1000, "one second"),
    "image": ("images", 1, "one image"),
    "page": ("pages", 1, "one page"),
    "search": ("searches", 1, "one search"),
    "request": ("requests", 1, "one request"),
}
"""The keys of a configured price: the unit, for how many of it a price is, and how one says
that."""
OF_NO_TOKENS: Final = ("milliseconds", "characters", "images", "pages", "searches", "requests")

Override = Mapping[str, Any]
"""An entry as the configuration has it (`config.price_tables.PriceConfig`): USD as text by key; under
``above`` a list of entries with ``tokens``; under ``tier`` entries by the name of a service tier."""


class OwnPrices:
    """By ``price id/model`` in lower case. ``*`` and ``?`` in a model stand for more and for one
    character; the longest pattern is the most particular one."""

    def __init__(self, overrides: Mapping[str, Override]) -> None:
        """Raises ValueError for an entry that is not an exact price."""
        made = {key.lower(): _priced(key, values) for key, values in overrides.items()}
        self._exact = {key: price for key, price in made.items() if not _is_glob(key)}
        self._globs = sorted(
            ((key, price) for key, price in made.items() if _is_glob(key)),
            key=lambda item: -len(item[0]),
        )

    def __bool__(self) -> bool:
        return bool(self._exact or self._globs)

    def find(self, price_id: str, model: str) -> PricedModel | None:
        key = f"{price_id}/{model}".lower()
        found = self._exact.get(key)
        if found is None:
            found = next((price for glob, price in self._globs if fnmatchcase(key, glob)), None)
        return found

    def fits(self, price_id: str, pattern: str) -> bool:
        """Whether an entry is for a model that ``pattern`` fits."""
        key = f"{price_id}/{pattern}".lower()
        return any(meet(own, key) for own in (*self._exact, *(glob for glob, _ in self._globs)))

    def of(self, price_id: str) -> list[Rates]:
        """All rates of a provider's entries."""
        return [
            rates
            for key, price in (*self._exact.items(), *self._globs)
            if key.startswith(f"{price_id.lower()}/")
            for rates in (price.rows[0][1], *(tier for _, _, tier in price.tiers))
        ]


def _is_glob(key: str) -> bool:
    return "*" in key or "?" in key


def _priced(key: str, values: Override) -> PricedModel:
    above, tiers = values.get("above") or (), values.get("tier") or {}
    flat = {name: text for name, text in values.items() if name not in ("above", "tier")}
    rates: dict[str, Rate] = dict(_rates(f'[prices."{key}"]', flat))
    for step in above:
        start = step["tokens"]
        dearer = _rates(
            f'[[prices."{key}".above]]', {k: v for k, v in step.items() if k != "tokens"}
        )
        for unit, rate in dearer.items():
            below = rates.get(unit)
            if below is None:
                raise ValueError(
                    f'[[prices."{key}".above]] has {unit}, and the entry has no price for it below'
                )
            rates[unit] = (*(below if isinstance(below, tuple) else (below,)), start, rate)
    named = tuple(
        (tier, None, Rates(**_rates(f'[prices."{key}".tier.{tier}]', entry)))
        for tier, entry in tiers.items()
    )
    return PricedModel(("in", ()), ((None, Rates(**rates)),), named)


def _rates(place: str, values: Mapping[str, str | None]) -> dict[str, int]:
    rates: dict[str, int] = {}
    for name, text in values.items():
        if text is None:
            continue
        if name not in KEYS:
            raise ValueError(f"{place}: {name} is not a price; there are {', '.join(KEYS)}")
        unit, per, said = KEYS[name]
        try:
            rates[unit] = exact(Decimal(text), per)
        except (ValueError, InvalidOperation, TypeError) as error:
            raise ValueError(
                f"{place} {name} = {text!r} is not an exact price: write USD for {said}, "
                'as in "2.50", with at most 9 decimals'
            ) from error
    return rates
