"""The prices of what a call used, by the terms under which it was made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from tollhouse.call import Amount, Requested
from tollhouse.families.units import Charge, Units
from tollhouse.prices.table import PAID, TOOLS, PriceTable, Quote


class PriceTerms(NamedTuple):
    """By which prices a call is charged."""

    price_id: str
    host: str
    model: str
    """That was asked for."""
    at: float
    dearest: bool

    @classmethod
    def of(cls, requested: Requested) -> PriceTerms:
        """Those of a call."""
        admitted = requested.admitted
        return cls(
            admitted.provider.price_id,
            admitted.host,
            requested.asked.model,
            admitted.arrival.timestamp,
            admitted.project.unpriced == "dearest",
        )


def amount_of(
    prices: PriceTable, terms: PriceTerms, charges: tuple[Charge, ...], held: int
) -> Amount:
    """The prices of ``charges`` together; at least ``held`` nano-dollars where one has none."""
    quotes = [
        quoted_beside(prices, terms, item)
        if index and _is_use(item)
        else quoted(prices, terms, item)
        for index, item in enumerate(charges)
    ]
    total = sum(quote.nano_usd for quote in quotes if quote is not None)
    if None in quotes:
        total = max(total, held)
    return Amount(total, sum(charge.units.tokens for charge in charges), 1, tables_of(quotes))


def quoted(prices: PriceTable, terms: PriceTerms, charge: Charge) -> Quote | None:
    """The price of ``charge``. None where it has none."""
    if charge.paid is not None:
        return Quote(charge.paid, PAID)
    served = charge if charge.model else charge._replace(model=terms.model)
    quote = prices.quote(
        terms.price_id, served, at=terms.at, requested=terms.model, host=terms.host
    )
    if quote is None and served.model not in TOOLS and terms.dearest:
        nano_usd = prices.dearest(terms.price_id, charge.units, tier=charge.tier, host=terms.host)
        return None if nano_usd is None else Quote(nano_usd, f"dearest of {prices.name}")
    return quote


def quoted_beside(prices: PriceTable, terms: PriceTerms, item: Charge) -> Quote | None:
    """The price of what is charged beside the model: of `Estimate.beside`, and of the uses of a tool. Nothing here has
    the price of the model that was asked for."""
    if item.model in TOOLS or item.paid is not None:
        return quoted(prices, terms, item)
    return prices.quote(terms.price_id, item, at=terms.at, host=terms.host)


def by_model(charges: tuple[Charge, ...], deployment: str, model: str) -> tuple[Charge, ...]:
    """The charges of a deployment at the price of ``model``, which the entry tells. The first is the model's own. Of the others
    these are, too, that have its name or the deployment's (another pass over the input); the rest are tools and other models."""
    names = {charges[0].model, deployment} - TOOLS
    return tuple(
        charge._replace(model=model) if not index or charge.model in names else charge
        for index, charge in enumerate(charges)
    )


def _is_use(charge: Charge) -> bool:
    """It counts uses and nothing else, as a tool's charge does. At a model's price they would cost nothing."""
    return charge.units == Units(requests=charge.units.requests)


def tables_of(quotes: Iterable[Quote | None]) -> str:
    """The names of the tables that ``quotes`` are from, each once, in their order."""
    return ", ".join(dict.fromkeys(quote.source for quote in quotes if quote is not None))
