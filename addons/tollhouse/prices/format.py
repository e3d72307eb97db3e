"""The table of prices as a file: what its rows mean. `price_export` writes it, `price_file` reads it, `prices`
computes.

JSON: ``{"source": "genai-prices 0.2.3", "providers": {id: {"fallback": [id], "models": [model]}}}``.
``model`` is ``[match, [[constraint, rates]...], [[tier, constraint, rates]...], window]``: the prices, of which the last
whose constraint holds is taken (else the first), what a ``service_tier`` changes in them, the first that fits a unit
deciding, and the context window in tokens, null if it is not known. ``match`` is ``["in", [text...]]``,
``["starts"|"ends"|"contains"|"regex", text]`` or ``["or"|"and", [match...]]``, texts in lower case. ``constraint`` is
null, ``["from", seconds since the epoch]`` or ``["daily", start, end]`` (seconds of the UTC day). ``rates`` follow
`UNITS`; each is null, a rate, or ``[rate, start, rate, start, rate...]``: with more than ``start`` tokens of input the
rate behind it holds for all tokens of the call (genai_prices.types.TieredPrices). A rate is a whole number of
femto-dollars (1e-15 USD) for one unit.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

UNITS: Final = (
    ("input_mtok", 1_000_000),
    ("cache_read_mtok", 1_000_000),
    ("cache_write_mtok", 1_000_000),
    ("input_audio_mtok", 1_000_000),
    ("cache_audio_read_mtok", 1_000_000),
    ("output_mtok", 1_000_000),
    ("output_reasoning_mtok", 1_000_000),
    ("output_audio_mtok", 1_000_000),
    ("requests_kcount", 1_000),
)
"""genai-prices' price key, and how many units its price is for."""
INPUT, CACHED, CACHE_WRITE, INPUT_AUDIO, CACHED_AUDIO, OUTPUT, REASONING, OUTPUT_AUDIO, REQUESTS = range(len(UNITS))

PROVIDERS: Final = ("openai", "anthropic", "google", "azure", "aws", "mistral", "cohere")
"""genai-prices' ids of the providers known by name; those they fall back to come along."""

FEMTO_PER_NANO: Final = 1_000_000


def femto(price: Decimal, per: int) -> int:
    """A price in USD for ``per`` units as femto-dollars for one; ValueError if that is not exact, finite and >= 0."""
    if not price.is_finite() or price < 0:
        raise ValueError(f"a price must be a number of at least 0, not {price}")
    numerator, denominator = price.as_integer_ratio()
    rate, rest = divmod(numerator * 10**15, denominator * per)
    if rest:
        raise ValueError(f"the price {price} has more decimals than can be kept exactly")
    return rate
