"""`tollhouse check`: whether a fallback has a price for what it may be asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator

from tollhouse.check.finding import Finding
from tollhouse.config.load import Config, catalog, own_prices
from tollhouse.prices import kept
from tollhouse.prices.shown import has_price
from tollhouse.prices.source import PriceSourceError
from tollhouse.prices.table import PriceTable
from tollhouse.providers import Provider

_SHOWN = 5
"""Models that a finding names."""


def check_fallbacks(config: Config) -> Iterator[Finding]:
    """A model is looked at if the configuration names it: in a price, in a project's list, or behind a deployment."""
    providers = catalog(config)
    pairs = [
        (first, second)
        for first in providers.providers
        if (second := providers.by_name(first.fallback)) is not None
    ]
    if not pairs:
        return
    try:
        found = kept.current(config.state.directory, time.time())
    except PriceSourceError as error:
        yield Finding("error", "The prices can't be read.", str(error))
        return
    table = PriceTable(found.providers, own_prices(config), name=found.name)
    for first, second in pairs:
        why = (
            f"A project whose budget is in money gets no answer from {second.name} for it: the call ends with what {first.name} "
            "has answered."
        )
        if not table.fits(second.price_id, "*"):
            yield Finding(
                "warn",
                f"No model has a price at {second.name}, the fallback of {first.name}.",
                why,
                f'Write its prices: [prices."{second.name}/MODEL"].',
            )
            continue
        missing = [
            name
            for name in _names(config, first)
            if _priced(table, first, name) and not _priced(table, second, name)
        ]
        if missing:
            more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
            yield Finding(
                "warn",
                f"{second.name}, the fallback of {first.name}, has no price for {', '.join(missing[:_SHOWN])}{more}.",
                why,
                f'Write one: [prices."{second.name}/{missing[0]}"].',
            )


def _names(config: Config, provider: Provider) -> list[str]:
    """Models and patterns of models that the provider may be asked for, by the configuration's word."""
    written = [*config.prices]
    for project in config.projects.values():
        written += project.models
    names = [*provider.models]
    for text in written:
        owner, slash, name = text.partition("/")
        if not slash:
            names.append(text)
        elif owner == provider.name:
            names.append(name)
    return list(dict.fromkeys(names))


def _priced(table: PriceTable, provider: Provider, name: str) -> bool:
    """``name`` may be that of a deployment."""
    model = provider.models.get(name, name)
    if any(sign in model for sign in "*?["):
        return table.fits(provider.price_id, model)
    return has_price(table.found(provider.price_id, model), time.time())
