"""Writes the prices of genai-prices into a small file: ``python -m tollhouse.prices.export FILE``.

A process of its own, because importing genai-prices costs its process 83 MB (see `price_file`).
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tollhouse import files
from tollhouse.prices.format import PROVIDERS, UNITS, femto


def export() -> dict[str, Any]:
    """The table as `price_format` describes it."""
    from genai_prices.data import providers

    known = {provider.id: provider for provider in providers}
    wanted = list(PROVIDERS)
    for name in PROVIDERS:
        wanted += [other for other in known[name].fallback_model_providers or () if other not in wanted]
    return {
        "source": f"genai-prices {version('genai-prices')}",
        "providers": {
            name: {
                "fallback": list(known[name].fallback_model_providers or ()),
                "models": [_model(model) for model in known[name].models],
            }
            for name in wanted
        },
    }


def _model(model: Any) -> list[Any]:
    conditional = model.prices if isinstance(model.prices, list) else None
    rows = [[None, _rates(model.prices)]] if conditional is None else [_row(row) for row in conditional]
    tiers = [
        [variant.when["service_tier"], _constraint(variant.constraint), _rates(variant.prices)]
        for variant in model.price_variants or ()
        if set(variant.when) == {"service_tier"}
    ]
    return [_match(model.match), rows, tiers, model.context_window]


def _row(row: Any) -> list[Any]:
    return [_constraint(row.constraint), _rates(row.prices)]


def _rates(prices: Any) -> list[Any]:
    return [_rate(getattr(prices, key), per) for key, per in UNITS]


def _rate(price: Any, per: int) -> Any:
    if price is None:
        return None
    if hasattr(price, "tiers"):
        steps: list[int] = [femto(price.base, per)]
        for tier in price.tiers:
            steps += [tier.start, femto(tier.price, per)]
        return steps
    return femto(price, per)


def _constraint(constraint: Any) -> list[Any] | None:
    match type(constraint).__name__:
        case "NoneType":
            return None
        case "StartDateConstraint":
            start = datetime.combine(constraint.start_date, time(), UTC)
            return ["from", int(start.timestamp())]
        case "TimeOfDateConstraint":
            return ["daily", _second_of_day(constraint.start_time), _second_of_day(constraint.end_time)]
        case other:
            raise ValueError(f"unknown constraint {other}")


def _second_of_day(value: time) -> int:
    on_a_day = datetime(1970, 1, 2, value.hour, value.minute, value.second, tzinfo=value.tzinfo or UTC)
    return int(on_a_day.timestamp()) % 86_400


def _match(clause: Any) -> list[Any]:
    match type(clause).__name__:
        case "ClauseEquals":
            return ["in", [clause.equals.lower()]]
        case "ClauseStartsWith":
            return ["starts", clause.starts_with.lower()]
        case "ClauseEndsWith":
            return ["ends", clause.ends_with.lower()]
        case "ClauseContains":
            return ["contains", clause.contains.lower()]
        case "ClauseRegex":
            return ["regex", clause.regex]
        case "ClauseAnd":
            return ["and", [_match(part) for part in clause.and_]]
        case "ClauseOr":
            parts = [_match(part) for part in clause.or_]
            equal = [text for part in parts if part[0] == "in" for text in part[1]]
            others = [part for part in parts if part[0] != "in"]
            if not others:
                return ["in", equal]
            return ["or", [["in", equal], *others] if equal else others]
        case other:
            raise ValueError(f"unknown match {other}")


def write(path: Path) -> None:
    """Writes the table to ``path``, mode 0600: whole or not at all, also when power fails."""
    files.replace(path, json.dumps(export(), separators=(",", ":")).encode())


if __name__ == "__main__":
    write(Path(sys.argv[1]))
