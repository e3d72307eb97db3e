"""What the members of Bedrock's answers mean: counts of tokens, the tier, the model that served."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tollhouse.families.formats.counts import count, count_of
from tollhouse.families.units import Units

_STANDARD: Final = ("", "default", "standard")


def converse_usage(value: object) -> Units | None:
    """A ``TokenUsage`` in the one normal form. ``inputTokens`` has neither the tokens that were read
    from the cache nor those that were written to it:
    https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html. Nova's own answers name
    the same counts ``...TokenCount``."""
    if not isinstance(value, Mapping):
        return None
    told, output = count_of(value.get("inputTokens")), count_of(value.get("outputTokens"))
    if told is None and output is None:
        return None
    if told == 0 == output:
        # A guardrail has stopped the request before the model saw it.
        return Units(requests=1)
    read = _first(value, "cacheReadInputTokens", "cacheReadInputTokenCount")
    written = max(
        _first(value, "cacheWriteInputTokens", "cacheWriteInputTokenCount"),
        _of_details(value.get("cacheDetails")),
    )
    hour = min(_of_details(value.get("cacheDetails"), "1h"), written)
    units = counted((told or 0) + read + written, output or 0, read, written)
    return units if units is None else units._replace(cache_write_1h=hour)


def counted(tokens_in: int, output: int, read: int = 0, written: int = 0) -> Units | None:
    """Units of a call; None for zeros alone, because every request has input."""
    if not tokens_in and not output:
        return None
    return Units(input=tokens_in, cached=read, cache_write=written, output=output, requests=1)


def _first(value: Mapping[str, Any], *names: str) -> int:
    return next((found for name in names if (found := count_of(value.get(name))) is not None), 0)


def _of_details(value: object, ttl: str = "") -> int:
    """The sum of ``cacheDetails``: the tokens that were written, or those kept for ``ttl``."""
    if not isinstance(value, list):
        return 0
    return sum(
        count(item.get("inputTokens"))
        for item in value
        if isinstance(item, Mapping) and ttl in ("", item.get("ttl"))
    )


def tier(service: object, latency: object) -> str:
    """The tier of a ``serviceTier`` and a ``performanceConfig``, joined by ``+`` where both differ
    from the standard. They are objects in Converse, and words in the headers of the other calls."""
    kind, speed = _word(service, "type"), _word(latency, "latency")
    if speed in _STANDARD:
        return kind
    return speed if kind in _STANDARD else f"{kind}+{speed}"


def _word(value: object, key: str) -> str:
    if isinstance(value, Mapping):
        value = value.get(key)
    return value[:32] if isinstance(value, str) and value.isprintable() else ""
