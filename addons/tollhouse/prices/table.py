"""What a call costs: whole nano-dollars, exact, rounded up once a charge.

The prices are those of genai-prices (see `source`), or the configuration's own. Providers go by
their ids in genai-prices: `Provider.price_id`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Final, NamedTuple

from tollhouse.families.units import Charge, Estimate, Units
from tollhouse.prices import sums
from tollhouse.prices.rates import PricedModel, PricedProvider, Rates, exact, find

CACHED_NAMES: Final = 2048
_LONGEST_NAME: Final = 256
_STANDARD_ONLY: Final = frozenset({"default", "standard"})
_STANDARD_TIERS: Final = _STANDARD_ONLY | {"", "auto"}

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
_OWN: Final = {
    **{name: (name, 1_000_000, "a million") for name in _PER_MILLION},
    "second": ("milliseconds", 1000, "one second"),
    "image": ("images", 1, "one image"),
    "page": ("pages", 1, "one page"),
    "search": ("searches", 1, "one search"),
    "request": ("requests", 1, "one request"),
}
"""The keys of a configured price: the unit, for how many of it a price is, and how one says
that."""

Found = tuple[Rates | PricedModel, bool]
"""A configured price and True, or a model of the table and whether it is the provider's own."""


class Lookups(NamedTuple):
    """Of the models that were looked for, found or not."""

    hits: int
    """Times that one was remembered."""
    held: int
    """How many are remembered; `CACHED_NAMES` at the most."""


class PriceTable:
    """Prices by a provider's price id and model.

    Every answer is in nano-dollars. None is "no price known": the model is unknown, has no rate
    above 0 for a side (input, output) on which there are tokens, or has none for another unit that
    is counted (see `sums`). A configured price is believed as it stands, also if it is 0.
    """

    def __init__(
        self,
        providers: Mapping[str, PricedProvider],
        overrides: Mapping[str, Mapping[str, str | None]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``overrides`` go before ``providers``: ``{"price id/model": {"input": "2.50", "output":
        "10"}}``, with the keys of `config.models.PriceConfig`; ``*`` and ``?`` in a model stand for
        more and for one character. Without ``output`` there is no price for output.

        Raises ValueError for an override that is not an exact price.
        """
        self._table = dict(providers)
        self._clock = clock
        rates = {key.lower(): _override(key, values) for key, values in (overrides or {}).items()}
        self._exact = {key: value for key, value in rates.items() if not _is_glob(key)}
        # The longest pattern is the most particular one.
        self._globs = sorted(
            ((k, v) for k, v in rates.items() if _is_glob(k)), key=lambda item: -len(item[0])
        )
        self._configured = lru_cache(CACHED_NAMES)(self._find_configured)
        self._listed = lru_cache(CACHED_NAMES)(self._find_listed)
        self._highest = lru_cache(64)(self._find_highest)

    def cost(
        self, provider_id: str, charge: Charge, *, at: float | None = None, requested: str = ""
    ) -> int | None:
        """What ``charge`` costs at ``at`` (seconds since the epoch, default now).

        ``requested``, the model that was asked for, is looked for where the model that served has
        no price, and its configured price goes before the table's.
        """
        found = self._find(provider_id, charge.model, requested)
        if found is None:
            return None
        rates, believed = self._rates(found, charge.tier, at)
        return sums.charge(rates, charge.units, believed)

    def ceiling(
        self,
        provider_id: str,
        model: str,
        estimate: Estimate,
        *,
        tier: str = "",
        at: float | None = None,
        worst: bool = False,
    ) -> int | None:
        """The most that a call of ``estimate`` can cost: the dearest of the rates that fewer tokens
        could meet, input counted as written to the cache where that is dearer. None as well where
        there is no price for audio that it asks for.

        ``tier`` is the ``service_tier`` asked for: its rate if it is dearer than the standard one
        (a tier may be served as standard). Of a tier that the table has not for any model, the
        dearest. With ``worst`` the dearest of all, unless the standard one is asked for by name:
        ``auto``, or none, is what the settings at the provider say
        (https://platform.openai.com/docs/api-reference/chat/create#chat-create-service_tier).
        """
        found = self._find(provider_id, model, "")
        if found is None:
            return None
        choices = [self._rates(found, "", at)]
        asked = tier not in (_STANDARD_ONLY if worst else _STANDARD_TIERS)
        if asked and isinstance(found[0], PricedModel):
            known = [name for name, _, _ in found[0].tiers]
            choices += [
                self._rates(found, name, at)
                for name in ([tier] if tier in known and not worst else known)
            ]
        highest: int | None = None
        for rates, believed in choices:
            amount = sums.most(rates, estimate, believed)
            if amount is None:
                return None
            highest = amount if highest is None else max(highest, amount)
        return highest

    def lookups(self) -> Lookups:
        """What is remembered of the table's models."""
        info = self._listed.cache_info()
        return Lookups(info.hits, info.currsize)

    def window(self, provider_id: str, model: str) -> int | None:
        """The context window of a model of the table in tokens; None if it is not known."""
        listed = self._listed(provider_id, model) if len(model) <= _LONGEST_NAME else None
        return None if listed is None else listed[0].window

    def dearest(self, provider_id: str, units: Units) -> int | None:
        """``units`` at the highest rates of any model of the provider, whatever its tier and date;
        for calls to a model without a price where the project says ``unpriced = "dearest"``. Audio
        and images count at the highest rate of their kind, all other tokens at the highest of any.
        None if the provider has no prices at all, or none for a unit beside the tokens or for audio
        that is counted."""
        return sums.dearest(self._highest(provider_id), units)

    def _find(self, provider: str, model: str, requested: str) -> Found | None:
        names = [name for name in (model, requested) if name and len(name) <= _LONGEST_NAME]
        for name in names if self._exact or self._globs else ():
            if (rates := self._configured(provider, name)) is not None:
                return rates, True
        for name in names:
            if (listed := self._listed(provider, name)) is not None:
                return listed
        return None

    def _find_configured(self, provider: str, model: str) -> Rates | None:
        key = f"{provider}/{model}".lower()
        rates = self._exact.get(key)
        if rates is None:
            rates = next(
                (value for pattern, value in self._globs if fnmatchcase(key, pattern)), None
            )
        return rates

    def _find_listed(self, provider: str, model: str) -> tuple[PricedModel, bool] | None:
        return find(self._table, provider, model)

    def _rates(self, found: Found, tier: str, at: float | None) -> tuple[Rates, bool]:
        """The rates that hold, and whether they are believed even if they come to 0."""
        price, own = found
        if not isinstance(price, PricedModel):
            return price, True
        if at is None and (len(price.rows) > 1 or price.tiers):
            at = self._clock()
        # A model of a provider that is fallen back to has no tiers here: genai_prices drops the context in that case.
        return sums.resolve(price, tier if own else "", at or 0.0), False

    def _find_highest(self, provider: str) -> Rates:
        start = self._table.get(provider)
        owners = (
            ()
            if start is None
            else (start, *(self._table[name] for name in start.fallback if name in self._table))
        )
        every = [rates for owner in owners for model in owner.models for rates in _all_rates(model)]
        # A 0 of the table is a gap; a configured one is a price.
        every = [Rates(*(rate or None for rate in rates)) for rates in every]
        every += [
            rates
            for key, rates in (*self._exact.items(), *self._globs)
            if key.startswith(f"{provider.lower()}/")
        ]
        return sums.highest(every)


def _all_rates(model: PricedModel) -> Iterable[Rates]:
    yield from (rates for _, rates in model.rows)
    yield from (rates for _, _, rates in model.tiers)


def _is_glob(key: str) -> bool:
    return "*" in key or "?" in key


def _override(key: str, values: Mapping[str, str | None]) -> Rates:
    rates: dict[str, int] = {}
    for name, text in values.items():
        if text is None:
            continue
        if name not in _OWN:
            raise ValueError(
                f'[prices."{key}"]: {name} is not a price; there are {", ".join(_OWN)}'
            )
        unit, per, said = _OWN[name]
        try:
            rates[unit] = exact(Decimal(text), per)
        except (ValueError, InvalidOperation, TypeError) as error:
            raise ValueError(
                f'[prices."{key}"] {name} = {text!r} is not an exact price: write USD for {said}, '
                'as in "2.50", with at most 9 decimals'
            ) from error
    return Rates(**rates)
