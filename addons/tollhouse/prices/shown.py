"""The prices of a model as a person reads them: USD for a million tokens, an hour, an image."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal, localcontext
from typing import Any, Final, NamedTuple

from tollhouse.prices import builtin, factors, sums
from tollhouse.prices.rates import PARTS_PER_NANO, Rate, Rates
from tollhouse.prices.table import Found, PriceTable

_PER: Final = {
    "milliseconds": (3_600_000, "hour"),
    "characters": (1_000_000, "million characters"),
    "images": (1, "image"),
    "pages": (1, "page"),
    "searches": (1, "search"),
    "requests": (1, "use"),
}
_TOKENS: Final = (1_000_000, "million tokens")
_PARTS_PER_USD: Final = PARTS_PER_NANO * 10**9


class ShownRate(NamedTuple):
    """One price. ``above`` is the size of the input, in tokens, over which it holds for the whole call."""

    unit: str
    usd: str
    per: str
    above: int = 0
    tier: str = ""
    models: str = ""
    """A pattern of the models that use a tool at this price, "" for all."""

    def as_json(self) -> dict[str, Any]:
        return {
            "unit": self.unit,
            "usd": self.usd,
            "per": self.per,
            "above_tokens": self.above or None,
            "tier": self.tier or None,
            "models": self.models or None,
        }


def rates_of(found: Found, at: float) -> list[ShownRate]:
    """What holds at ``at`` (seconds since the epoch): the standard rates, then what each tier changes. Empty if nothing is
    known but rates of 0 that nobody has filled in."""
    standard = sums.resolve(found.price, found.tier, at)
    shown = list(_rates(standard, found.believed))
    tiers = () if found.tier or not found.own else found.price.tiers
    for tier in dict.fromkeys(name for name, _, _ in tiers):
        resolved = sums.resolve(found.price, tier, at)
        changed = Rates(
            *(new if new != old else None for new, old in zip(resolved, standard, strict=True))
        )
        shown += [rate._replace(tier=tier) for rate in _rates(changed, found.believed)]
    return shown


def has_price(found: Found | None, at: float) -> bool:
    return found is not None and bool(rates_of(found, at))


def entry(
    table: PriceTable, provider: str, price_id: str, model: str, at: float
) -> dict[str, Any] | None:
    """One of ``prices show --json``; None if the model has no price at this provider."""
    found = table.found(price_id, model)
    if found is None or not (rates := rates_of(found, at)):
        return None
    if found.tool and found.source == builtin.NAME:
        rates = [
            rate._replace(models="" if models == "*" else models)
            for models, price in builtin.tools_of(price_id, model)
            for rate in rates_of(found._replace(price=price), at)
        ]
    url = builtin.source_of(price_id, model) if found.source == builtin.NAME else ""
    return {
        "provider": provider,
        "price_list": price_id,
        "model": model,
        "source": found.source,
        "source_url": url or None,
        "rates": [rate.as_json() for rate in rates],
        "factors": list(_factors(price_id, model)) if found.scaled else [],
    }


def _rates(rates: Rates, believed: bool) -> Iterator[ShownRate]:
    for unit, rate in zip(Rates._fields, rates, strict=True):
        if rate is None or (not believed and not _highest(rate)):
            continue
        size, per = _PER.get(unit, _TOKENS)
        steps = rate if isinstance(rate, tuple) else (rate,)
        name = "sound" if unit == "milliseconds" else unit
        yield ShownRate(name, _usd(steps[0], size), per)
        for start, above in zip(steps[1::2], steps[2::2], strict=True):
            yield ShownRate(name, _usd(above, size), per, above=start)


def _highest(rate: Rate) -> int:
    return max(rate[0::2]) if isinstance(rate, tuple) else rate or 0


def _usd(rate: int, per: int) -> str:
    with localcontext(prec=40):
        return format((Decimal(rate * per) / _PARTS_PER_USD).normalize(), "f")


def _factors(price_id: str, model: str) -> Iterator[dict[str, str]]:
    for row in factors.REGIONAL:
        if row.price_id == price_id and row.holds_for(model.lower()):
            where = row.hosts.pattern if row.hosts is not None else f"tier {row.tier}"
            yield {"where": where, "factor": factors.shown(row.ratio), "source": row.source}
    for (owner, tier), (ratio, source) in factors.TIERS.items():
        if owner == price_id:
            where = f"tier {tier}, where it has no price of its own"
            yield {"where": where, "factor": factors.shown(ratio), "source": source}
