"""What the usage of images, sound and decisions means."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tollhouse.families.formats.counts import is_uneven
from tollhouse.families.openai.answers import Members
from tollhouse.families.openai.paid import paid_alone, paid_of
from tollhouse.families.openai.usage import count_of, usage_of
from tollhouse.families.units import Charge, Units


def media_units(usage: object) -> Units | None:
    """A ``usage`` of tokens or of a duration; None for what has no count.

    The details of images say ``input_tokens_details``, those of sound ``input_token_details``: both
    are parts of their totals.
    """
    if not isinstance(usage, Mapping):
        return None
    if usage.get("type") == "duration":
        return duration(usage.get("seconds"))
    given = count_of(usage.get("input_tokens"))
    if given is None:
        # OpenRouter tells the seconds of a transcription without a type.
        return usage_of(usage) or duration(usage.get("seconds"))
    output = count_of(usage.get("output_tokens")) or 0
    if not given and not output:
        return duration(usage.get("seconds"))
    into, out = _details(usage, "input"), _details(usage, "output")
    return Units(
        input=given,
        output=output,
        cached=min(_part(into, "cached_tokens"), given),
        cache_write=min(_part(into, "cache_write_tokens"), given),
        reasoning=min(_part(out, "reasoning_tokens"), output),
        input_audio=min(_part(into, "audio_tokens"), given),
        input_image=min(_part(into, "image_tokens"), given),
        output_image=min(_part(out, "image_tokens"), output),
        requests=1,
    )


def duration(seconds: object) -> Units | None:
    """Seconds of sound as units, rounded up to a millisecond."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    if not math.isfinite(seconds) or not 0 < seconds < 1e9:
        return None
    return Units(milliseconds=math.ceil(round(seconds * 1000, 6)), requests=1)


def told(found: Members, units: Units | None) -> tuple[Charge, ...]:
    """The charge of an answer that has these members and came to ``units``. What it says is paid
    stands without them."""
    units = units or paid_alone(found.get("usage"))
    if units is None:
        return ()
    model, tier, usage = found.get("model"), found.get("service_tier"), found.get("usage")
    total = usage.get("total_tokens") if isinstance(usage, Mapping) else None
    return (
        Charge(
            model[:256] if isinstance(model, str) and model.isprintable() else "",
            units,
            tier[:32] if isinstance(tier, str) else "",
            paid_of(usage),
            uneven=is_uneven(total, units.tokens),
        ),
    )


def _details(usage: Mapping[str, Any], side: str) -> Mapping[str, Any]:
    for name in (f"{side}_tokens_details", f"{side}_token_details"):
        found = usage.get(name)
        if isinstance(found, Mapping):
            return found
    return {}


def _part(details: Mapping[str, Any], name: str) -> int:
    return count_of(details.get(name)) or 0
