"""Rules of the prices, and the name by which a table of prices knows one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tollhouse.config.entries import no_provider
from tollhouse.config.price_tables import PriceAboveConfig, PriceConfig, PriceTierConfig
from tollhouse.config.text import Broken, dotted
from tollhouse.providers import Catalog


def price_rules(prices: Mapping[str, PriceConfig], catalog: Catalog) -> Broken:
    """A price is of a provider that there is, is whole, and is the only one of its model."""
    seen: dict[str, str] = {}
    for key, price in prices.items():
        provider, separator, model = key.partition("/")
        if not separator or not model:
            yield (
                dotted(("prices", key)),
                'must be named "provider/model", for example [prices."openai/gpt-4o"]',
            )
            continue
        if catalog.by_name(provider) is None:
            yield dotted(("prices", key)), no_provider(provider, catalog)
            continue
        yield from _one_price(("prices", key), price)
        first = seen.setdefault(price_key(key, catalog), key)
        if prices[first] != price:
            yield (
                dotted(("prices", key)),
                f"is {price_key(key, catalog)} in the table of prices, as {dotted(('prices', first))} is, and of two "
                "prices only one could hold; remove one, or write both alike",
            )


_TOKEN_PRICES: Final = tuple(name for name in PriceAboveConfig.model_fields if name != "tokens")


def _one_price(here: tuple[str | int, ...], price: PriceConfig) -> Broken:
    """The rules inside one entry."""
    given = {name for name in PriceTierConfig.model_fields if getattr(price, name) is not None}
    if not given:
        yield (
            dotted(here),
            "has no price, and what it is for would be refused; add input and output, or what else it is charged by",
        )
        return
    if given.intersection(_TOKEN_PRICES):
        for name in ("input", "output"):
            if name not in given:
                yield dotted((*here, name)), "is missing and has no default; add it"
    last = 0
    for index, step in enumerate(price.above or ()):
        place = (*here, "above", index)
        dearer = [name for name in _TOKEN_PRICES if getattr(step, name) is not None]
        if step.tokens <= last:
            yield (
                dotted((*place, "tokens")),
                f"is {step.tokens}, and the step before it begins at {last}; put the steps in ascending order",
            )
        last = max(last, step.tokens)
        if not dearer:
            yield (
                dotted(place),
                "has no price, so nothing changes above it; add what changes, or remove it",
            )
        for name in dearer:
            if name not in given:
                yield (
                    dotted((*place, name)),
                    f"has no price below {step.tokens} tokens; give the entry itself {name} as well",
                )
    for tier, entry in (price.tier or {}).items():
        if all(getattr(entry, name) is None for name in PriceTierConfig.model_fields):
            yield (
                dotted((*here, "tier", tier)),
                "has no price, so nothing changes at this tier; add what changes, or remove it",
            )


def price_key(key: str, catalog: Catalog) -> str:
    """``provider/model`` of a sound file by the provider's price id, in lower case: how a `PriceTable` knows it."""
    name, _, model = key.partition("/")
    provider = catalog.by_name(name)
    assert provider is not None
    return f"{provider.price_id}/{model}".lower()
