"""Rows of FOCUS 1.2 (https://focus.finops.org/focus-specification/v1-2/): what each hour's calls of a project and model cost, by
the kind of unit.

The hour is that in which a call was settled, by Redis's clock. A late settle takes the charge of a sweep back in a row of its
own. The rows of a range of time add up to what the ledger was charged in it, exactly.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any, Final, NamedTuple

from tollhouse.exports.bill import FEMTO, TOKENS, UNMETERED, Biller
from tollhouse.exports.record import Correction, Record
from tollhouse.providers import Catalog

METERS: Final = {
    "input": ("Input tokens", "Tokens"),
    "cached": ("Cached input tokens", "Tokens"),
    "cache_write": ("Cache write tokens", "Tokens"),
    "cache_write_1h": ("Cache write tokens (1 hour)", "Tokens"),
    "input_audio": ("Audio input tokens", "Tokens"),
    "cached_audio": ("Cached audio input tokens", "Tokens"),
    "input_image": ("Image input tokens", "Tokens"),
    "output": ("Output tokens", "Tokens"),
    "reasoning": ("Reasoning tokens", "Tokens"),
    "output_audio": ("Audio output tokens", "Tokens"),
    "output_image": ("Image output tokens", "Tokens"),
    "milliseconds": ("Seconds of media", "Seconds"),
    "characters": ("Characters", "Characters"),
    "images": ("Images", "Images"),
    "pages": ("Pages", "Pages"),
    "searches": ("Searches", "Searches"),
    "requests": ("Uses", "Requests"),
    TOKENS: ("Tokens", "Tokens"),
    UNMETERED: ("Unmetered", "Requests"),
}
"""SkuMeter and unit of what is counted."""

TEXT, AMOUNT, TIME, COUNT = "text", "amount", "time", "count"
COLUMNS: Final = {
    **dict.fromkeys(("BilledCost", "EffectiveCost", "ListCost", "ContractedCost"), AMOUNT),
    **dict.fromkeys(("BillingCurrency", "BillingAccountId", "BillingAccountName"), TEXT),
    **dict.fromkeys(("BillingPeriodStart", "BillingPeriodEnd"), TIME),
    **dict.fromkeys(("ChargePeriodStart", "ChargePeriodEnd"), TIME),
    **dict.fromkeys(("ChargeCategory", "ChargeClass", "ChargeDescription"), TEXT),
    "ChargeFrequency": TEXT,
    "ConsumedQuantity": AMOUNT,
    "ConsumedUnit": TEXT,
    "PricingQuantity": AMOUNT,
    "PricingUnit": TEXT,
    **dict.fromkeys(("ListUnitPrice", "ContractedUnitPrice"), AMOUNT),
    **dict.fromkeys(("PricingCategory", "InvoiceIssuerName", "InvoiceId"), TEXT),
    **dict.fromkeys(("ProviderName", "PublisherName"), TEXT),
    **dict.fromkeys(("ServiceCategory", "ServiceSubcategory", "ServiceName"), TEXT),
    **dict.fromkeys(("SkuId", "SkuPriceId", "SkuMeter", "SkuPriceDetails"), TEXT),
    **dict.fromkeys(("SubAccountId", "SubAccountName", "RegionId", "RegionName"), TEXT),
    **dict.fromkeys(("ResourceId", "ResourceName", "ResourceType", "Tags"), TEXT),
    "x_CallCount": COUNT,
    "x_ChargedBy": TEXT,
    "x_EstimatedCost": AMOUNT,
}
"""Name and type. Our own stand behind those of FOCUS, and begin with ``x_``."""
AMOUNT_SCALE: Final = 24
"""The most decimals of an amount."""

Row = dict[str, str | int | Decimal | datetime | None]


class _Key(NamedTuple):
    """What the calls of one row have in common."""

    project: str
    provider: str
    model: str
    unit: str
    charged_by: str
    price: str
    """The tables of prices."""
    unit_price: Fraction | None
    tier: str
    closed: bool
    """It takes back what was charged in an earlier month."""


@dataclass
class _Sum:
    count: int = 0
    femto_usd: int = 0
    calls: int = 0


class FocusRows:
    """Made of records in their order, an hour and a tenant at a time: no more than that is in memory."""

    def __init__(self, catalog: Catalog, biller: Biller) -> None:
        self._catalog = catalog
        self._biller = biller

    def of(self, records: Iterable[Record]) -> Iterator[Row]:
        """The records are of the stream of settled calls, each tenant's together and in order."""
        now: tuple[str, datetime] | None = None
        sums: dict[_Key, _Sum] = {}
        for record in records:
            at = (record.tenant, _hour(record.at))
            if at != now:
                if now is not None:
                    yield from self._rows(*now, sums)
                now, sums = at, {}
            self._add(sums, record, at[1])
        if now is not None:
            yield from self._rows(*now, sums)

    def _add(self, sums: dict[_Key, _Sum], record: Record, hour: datetime) -> None:
        line = record.line()
        terms = (line.get("price", ""), line.get("tier", ""))
        if (corrects := record.corrects) is not None:
            self._take_back(sums, record, corrects, hour)
        for n, item in enumerate(self._biller.items(line)):
            key = _Key(
                line["project"],
                line["provider"],
                item.model or line["model"],
                item.unit,
                line["charged_by"],
                terms[0],
                item.unit_price,
                terms[1],
                closed=False,
            )
            found = sums.setdefault(key, _Sum())
            found.count += item.number
            found.femto_usd += item.femto_usd
            found.calls += not n

    def _take_back(
        self, sums: dict[_Key, _Sum], record: Record, corrects: Correction, hour: datetime
    ) -> None:
        provider, slash, model = corrects.model.partition("/")
        swept_on = datetime.fromtimestamp(corrects.day * 86_400, UTC)
        closed = (swept_on.year, swept_on.month) != (hour.year, hour.month)
        key = _Key(
            record.fields.get("project", ""),
            provider if slash else record.fields.get("provider", ""),
            model if slash else corrects.model,
            UNMETERED,
            "sweep",
            "",
            None,
            "",
            closed,
        )
        found = sums.setdefault(key, _Sum())
        found.count -= 1
        found.femto_usd -= corrects.nano_usd * FEMTO
        found.calls -= 1

    def _rows(self, tenant: str, hour: datetime, sums: dict[_Key, _Sum]) -> Iterator[Row]:
        for key, of in sorted(sums.items(), key=lambda pair: pair[0][:6]):
            if of.count or of.femto_usd:
                yield self._row(tenant, hour, key, of)

    def _row(self, tenant: str, hour: datetime, key: _Key, of: _Sum) -> Row:
        month, following = _month(hour)
        meter, unit = METERS[key.unit]
        provider = self._catalog.by_name(key.provider)
        company = provider.company if provider is not None else ""
        service = provider.service if provider is not None else ""
        name = key.provider or "unknown"
        seconds = key.unit == "milliseconds"
        quantity = Decimal(of.count) / 1000 if seconds else Decimal(of.count)
        cost = Decimal(of.femto_usd).scaleb(-15)
        price = _unit_price(key.unit_price, 1000 if seconds else 1)
        sku = f"{name}/{key.model or '-'}/{key.unit}"
        details: dict[str, Any] = {"x_TokenKind": key.unit}
        if key.tier:
            details["x_Tier"] = key.tier
        if key.price:
            details["x_PriceTable"] = key.price
        return {
            **dict.fromkeys(("BilledCost", "EffectiveCost", "ListCost", "ContractedCost"), cost),
            "BillingCurrency": "USD",
            "BillingAccountId": tenant,
            "BillingAccountName": None,
            "BillingPeriodStart": month,
            "BillingPeriodEnd": following,
            "ChargePeriodStart": hour,
            "ChargePeriodEnd": hour + timedelta(hours=1),
            "ChargeCategory": "Usage",
            "ChargeClass": "Correction" if key.closed else None,
            "ChargeDescription": f"{key.model or name} {meter.lower()}",
            "ChargeFrequency": "Usage-Based",
            "ConsumedQuantity": quantity,
            "ConsumedUnit": unit,
            "PricingQuantity": quantity,
            "PricingUnit": unit,
            "ListUnitPrice": price,
            "ContractedUnitPrice": price,
            "PricingCategory": "Standard",
            "InvoiceIssuerName": company or name,
            "InvoiceId": None,
            "ProviderName": company or name,
            "PublisherName": company or name,
            "ServiceCategory": "AI and Machine Learning",
            "ServiceSubcategory": "Generative AI",
            "ServiceName": service or name,
            "SkuId": sku,
            "SkuPriceId": f"{sku}@{key.price or '-'}:{'-' if price is None else format(price, 'f')}",
            "SkuMeter": meter,
            "SkuPriceDetails": json.dumps(details, ensure_ascii=False),
            "SubAccountId": key.project or None,
            "SubAccountName": key.project or None,
            **dict.fromkeys(("RegionId", "RegionName"), None),
            **dict.fromkeys(("ResourceId", "ResourceName", "ResourceType"), None),
            "Tags": "{}",
            "x_CallCount": of.calls,
            "x_ChargedBy": key.charged_by,
            "x_EstimatedCost": Decimal(0) if key.charged_by == "usage" else cost,
        }


def _hour(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds // 3600 * 3600, UTC)


def _month(moment: datetime) -> tuple[datetime, datetime]:
    first = moment.replace(day=1, hour=0)
    return first, (first + timedelta(days=32)).replace(day=1)


def _unit_price(price: Fraction | None, times: int) -> Decimal | None:
    """Exact, or to `AMOUNT_SCALE` decimals where a price is for an hour."""
    if price is None:
        return None
    with localcontext(prec=60):
        found = Decimal(price.numerator * times) / price.denominator
        return round(found, AMOUNT_SCALE).normalize()
