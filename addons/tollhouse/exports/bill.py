"""The items of a call's bill, worked out again from its line: by unit, and together exactly what the ledger was charged.

The prices are those of now, and a dated price is that of the call's day. Where they do not come to the charge any more, as
after a change of the configuration, the counts stay and the charge is one item.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from fractions import Fraction
from typing import Any, Final, NamedTuple

from tollhouse.exports.record import nano
from tollhouse.families.units import TOKEN_PARTS, Charge, Units
from tollhouse.prices.itemised import PricedPart
from tollhouse.prices.rates import PARTS_PER_NANO
from tollhouse.prices.table import PAID, TOOLS, PriceTable
from tollhouse.providers import Catalog

FEMTO: Final = 10**6
"""Amounts of items are in millionths of a nano-dollar, so that what rounding adds to a charge has a place."""
UNMETERED: Final = "unmetered"
"""In a unit's place: the charge goes by no count (a hold, an estimate, a sweep)."""
TOKENS: Final = "tokens"
"""In a unit's place: tokens were counted, and what each kind came to is not known."""
_PARTS_PER_USD: Final = PARTS_PER_NANO * 10**9


class Item(NamedTuple):
    """``number`` of ``unit``, a field of `Units` or one of the two above."""

    model: str
    unit: str
    number: int
    femto_usd: int
    unit_price: Fraction | None = None
    """US dollars for one; None where there is none."""


class Biller:
    """By the prices of ``prices``."""

    def __init__(self, catalog: Catalog, prices: PriceTable) -> None:
        self._catalog = catalog
        self._prices = prices

    def items(self, line: Mapping[str, Any]) -> list[Item]:
        """``line`` is `Record.line`. Empty for a call that was charged nothing and counted nothing."""
        cost = nano(line["cost_usd"])
        model = line["model_served"] or line["model"]
        if not cost and "notional_usd" in line:
            # With a login of the workload's own: nobody here pays.
            return []
        charges = _charges(line)
        if line.get("price") != PAID:
            for renamed in ("", line["model"]):
                found = self._priced(line, charges, renamed)
                if found is not None and (cost or line["charged_by"] == "usage"):
                    items, total = found
                    if total == cost:
                        return items
        tokens = sum(charge.units.tokens for charge in charges)
        if line["charged_by"] == "usage" and tokens:
            return [Item(model, TOKENS, tokens, cost * FEMTO)]
        return [Item(model, UNMETERED, 1, cost * FEMTO)] if cost else []

    def _priced(
        self, line: Mapping[str, Any], charges: list[Charge], renamed: str
    ) -> tuple[list[Item], int] | None:
        """The items of all charges and their sum in nano-dollars. ``renamed`` is the model of a deployment, whose price it is
        whatever the answer calls itself. None where one has no price."""
        provider = self._catalog.by_name(line["provider"])
        if provider is None or not charges or not line["ts"]:
            return None
        at = datetime.fromisoformat(line["ts"]).timestamp()
        found: list[Item] = []
        total = 0
        own = charges[0].model
        for index, charge in enumerate(charges):
            if renamed and (not index or charge.model == own):
                charge = charge._replace(model=renamed)
            if charge.paid is not None:
                found.append(_whole(charge, charge.paid))
                total += charge.paid
                continue
            use = index and charge.units == Units(requests=charge.units.requests)
            requested = "" if use and charge.model not in TOOLS else line["model"]
            asked = charge if charge.model else charge._replace(model=line["model"])
            terms = {"at": at, "requested": requested, "host": line["host"]}
            quoted = self._prices.quote(provider.price_id, asked, **terms)
            parts = self._prices.itemised(provider.price_id, asked, **terms)
            if quoted is None or parts is None:
                return None
            found += _rounded(asked.model, parts, quoted.nano_usd)
            total += quoted.nano_usd
        return found, total


def _whole(charge: Charge, nano_usd: int) -> Item:
    unit = TOKENS if charge.units.tokens else UNMETERED
    return Item(charge.model, unit, charge.units.tokens or 1, nano_usd * FEMTO)


def _rounded(model: str, parts: list[PricedPart], nano_usd: int) -> Iterator[Item]:
    """What the sum was rounded up by belongs to the dearest part."""
    rest = nano_usd * FEMTO - sum(part.femto_usd for part in parts)
    dearest = max(range(len(parts)), key=lambda n: parts[n].femto_usd, default=0)
    for n, part in enumerate(parts):
        times, over = part.factor
        price = Fraction(part.rate * times, _PARTS_PER_USD * over)
        yield Item(
            model, part.unit, part.number, part.femto_usd + (rest if n == dearest else 0), price
        )


def _charges(line: Mapping[str, Any]) -> list[Charge]:
    """As the call was charged, as far as its line has it."""
    listed = line.get("charges")
    if listed:
        return [
            Charge(
                each["model"],
                _units(each, each),
                each.get("tier", ""),
                nano(each["paid_usd"]) if "paid_usd" in each else None,
                each.get("of_requests", 1),
            )
            for each in listed
        ]
    if "charges" in line.get("cut", ()) or not (line["tokens"] or line.get("units")):
        return []
    units = _units(line["tokens"], line.get("units") or {})
    return [Charge(line["model_served"], units, line.get("tier", ""))]


def _units(tokens: Mapping[str, Any], beside: Mapping[str, Any]) -> Units:
    counts = {name: tokens[name] for name in ("input", "output", *TOKEN_PARTS) if name in tokens}
    names = ("characters", "images", "pages", "searches")
    others = {name: beside[name] for name in names if name in beside}
    seconds = beside.get("seconds", 0)
    return Units(
        **counts,
        **others,
        milliseconds=round(seconds * 1000),
        # A single use is left out of the line, for every call is one.
        requests=beside.get("requests", 1),
    )
