"""What a call costs: whole nano-dollars, exact, rounded up once a call.

The prices are those of genai-prices (see `price_file`), or the configuration's own. The sums are genai-prices' too: a
part that has a rate of its own is taken out of what it is a part of, and a rate may rise for the whole call above a
number of tokens of input.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Final

from tollhouse.call import Usage
from tollhouse.prices.file import PricedModel, PricedProvider, Rate, Rates, find, load
from tollhouse.prices.format import CACHED, INPUT, OUTPUT, REQUESTS, UNITS, femto
from tollhouse.prices.sums import charge, most, nano, resolve, steps
from tollhouse.providers import BUILT_IN

_CACHED_NAMES: Final = 2048
_LONGEST_NAME: Final = 256
_PRICE_IDS: Final = {provider.name: provider.price_id for provider in BUILT_IN}
_STANDARD_ONLY: Final = frozenset({"default", "standard"})
_STANDARD_TIERS: Final = _STANDARD_ONLY | {"", "auto"}

Found = tuple[Rates | PricedModel, bool]
"""A configured price and True, or a model of the table and whether it is the provider's own."""


class PriceTable:
    """Prices by provider and model.

    A provider is named as in the configuration (``bedrock``) or as in genai-prices (``aws``). Every answer is in
    nano-dollars; None is "no price known": the model is unknown, or has no rate above 0 for a side (input, output) on
    which there are tokens. A configured price is believed as it stands, also if it is 0.
    """

    def __init__(
        self,
        providers: Mapping[str, PricedProvider],
        overrides: Mapping[str, Mapping[str, str | None]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._table = dict(providers)
        self._clock = clock
        rates = {key.lower(): _override(key, values) for key, values in (overrides or {}).items()}
        self._exact = {key: value for key, value in rates.items() if not _is_glob(key)}
        # The longest pattern is the most particular one.
        self._globs = sorted(((k, v) for k, v in rates.items() if _is_glob(k)), key=lambda item: -len(item[0]))
        self._configured = lru_cache(_CACHED_NAMES)(self._find_configured)
        self._listed = lru_cache(_CACHED_NAMES)(self._find_listed)
        self._highest = lru_cache(64)(self._find_highest)

    @classmethod
    def load(cls, state_directory: Path, overrides: Mapping[str, Mapping[str, str | None]] | None = None) -> PriceTable:
        """The table of the installed genai-prices, with ``overrides`` before it: ``{"provider/model": {"input": "2.50",
        "output": "10", "cached": "1.25"}}``, USD for a million tokens; ``*`` and ``?`` in a model stand for more and
        for one character. Without ``cached`` a cached token costs what any input does; without ``output`` there is no
        price for output.

        Blocks; raises price_file.PriceFileError, and ValueError for an override that is not an exact price.
        """
        return cls(load(state_directory), overrides)

    def cost(
        self,
        provider_id: str,
        model: str,
        usage: Usage,
        tier: str = "",
        at: float | None = None,
        *,
        requested: str = "",
    ) -> int | None:
        """What ``usage`` costs at ``at`` (seconds since the epoch, default now).

        ``model`` and ``tier`` are those that were served. ``requested``, the model that was asked for, is looked for
        where ``model`` has no price, and its configured price goes before the table's.
        """
        found = self._find(provider_id, model, requested)
        if found is None:
            return None
        rates, believed = self._rates(found, tier, at)
        return charge(rates, usage, believed)

    def ceiling(
        self,
        provider_id: str,
        model: str,
        input_tokens: int,
        output_tokens: int,
        *,
        tier: str = "",
        audio: bool = False,
        at: float | None = None,
        worst: bool = False,
    ) -> int | None:
        """The most that a call with up to so many tokens can cost: the dearest of the rates that fewer tokens could
        meet, input counted as written to the cache where that is dearer, and with ``audio`` as audio.

        ``tier`` is the ``service_tier`` asked for: its rate if it is dearer than the standard one (a tier may be served
        as standard). Of a tier that the table has not for any model, the dearest. With ``worst`` the dearest of all,
        unless the standard one is asked for by name: ``auto``, or none, is what the settings at the provider say
        (https://platform.openai.com/docs/api-reference/chat/create#chat-create-service_tier).
        """
        found = self._find(provider_id, model, "")
        if found is None:
            return None
        choices = [self._rates(found, "", at)]
        asked = tier not in (_STANDARD_ONLY if worst else _STANDARD_TIERS)
        if asked and isinstance(found[0], PricedModel):
            known = [name for name, _, _ in found[0].tiers]
            choices += [self._rates(found, name, at) for name in ([tier] if tier in known and not worst else known)]
        highest: int | None = None
        for rates, believed in choices:
            amount = most(rates, input_tokens, output_tokens, audio, believed)
            if amount is None:
                return None
            highest = amount if highest is None else max(highest, amount)
        return highest

    def window(self, provider_id: str, model: str) -> int | None:
        """The context window of a model of the table in tokens; None if it is not known."""
        listed = self._listed(provider_id, model) if len(model) <= _LONGEST_NAME else None
        return None if listed is None else listed[0].window

    def dearest(self, provider_id: str, input_tokens: int, output_tokens: int) -> int | None:
        """So many tokens at the highest rate for input and the highest for output of any model of the provider,
        whatever its tier and date; for calls to a model without a price where the project says ``unpriced =
        "dearest"``. None if the provider has no prices at all."""
        highest_input, highest_output = self._highest(provider_id)
        if not highest_input and not highest_output:
            return None
        return nano(highest_input * input_tokens + highest_output * output_tokens)

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
            rates = next((value for pattern, value in self._globs if fnmatchcase(key, pattern)), None)
        return rates

    def _find_listed(self, provider: str, model: str) -> tuple[PricedModel, bool] | None:
        return find(self._table, _PRICE_IDS.get(provider, provider), model)

    def _rates(self, found: Found, tier: str, at: float | None) -> tuple[Rates, bool]:
        """The rates that hold, and whether they are believed even if they come to 0."""
        price, own = found
        if not isinstance(price, PricedModel):
            return price, True
        if at is None and (len(price.rows) > 1 or price.tiers):
            at = self._clock()
        # A model of a provider that is fallen back to has no tiers here: genai_prices drops the context in that case.
        return resolve(price, tier if own else "", at or 0.0), False

    def _find_highest(self, provider: str) -> tuple[int, int]:
        start = self._table.get(_PRICE_IDS.get(provider, provider))
        owners = (
            () if start is None else (start, *(self._table[name] for name in start.fallback if name in self._table))
        )
        every = [rates for owner in owners for model in owner.models for rates in _all_rates(model)]
        every += [
            rates for key, rates in (*self._exact.items(), *self._globs) if key.startswith(f"{provider.lower()}/")
        ]
        inputs = (top for rates in every for rate in rates[:OUTPUT] for top in steps(rate))
        outputs = (top for rates in every for rate in rates[OUTPUT:REQUESTS] for top in steps(rate))
        return max(inputs, default=0), max(outputs, default=0)


def _all_rates(model: PricedModel) -> Iterable[Rates]:
    yield from (rates for _, rates in model.rows)
    yield from (rates for _, _, rates in model.tiers)


def _is_glob(key: str) -> bool:
    return "*" in key or "?" in key


def _override(key: str, values: Mapping[str, str | None]) -> Rates:
    units = {"input": INPUT, "output": OUTPUT, "cached": CACHED}
    rates: list[Rate] = [None] * len(UNITS)
    for name, text in values.items():
        if text is None:
            continue
        if name not in units:
            raise ValueError(f'[prices."{key}"]: {name} is not a price; there are input, output and cached')
        try:
            rates[units[name]] = femto(Decimal(text), 1_000_000)
        except (ValueError, InvalidOperation, TypeError) as error:
            raise ValueError(
                f'[prices."{key}"] {name} = {text!r} is not an exact price: write USD for a million tokens, '
                'as in "2.50", with at most 9 decimals'
            ) from error
    return tuple(rates)
