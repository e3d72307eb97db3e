"""A data file as genai-prices publishes it, with round prices."""

from __future__ import annotations

import json
from typing import Any

from tollhouse.providers import BUILT_IN

IDS = sorted({provider.price_id for provider in BUILT_IN})
STARTS = "2026-11-20"
"""From this day on the prices of `price_file` hold."""


def price_file(usd: float, *, starts: str = STARTS) -> bytes:
    """For each built-in provider gpt-4o, gpt-4o-DATE and 200 other models. Input costs ``usd`` for a million tokens, output
    twice that."""
    names = ["gpt-4o", *(f"m{number}" for number in range(200))]
    models = [
        {"id": name, "match": {"starts_with": name}, "prices": _prices(usd, starts)}
        for name in names
    ]
    return json.dumps([{"id": name, "name": name, "models": models} for name in IDS]).encode()


def _prices(usd: float, starts: str) -> list[dict[str, Any]]:
    now = {"input_mtok": usd, "output_mtok": 2 * usd}
    return [
        {"prices": {"input_mtok": 1}},
        {"constraint": {"start_date": starts}, "prices": now},
    ]
