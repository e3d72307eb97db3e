"""Moments as text, wherever a record or a command shows one."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from math import floor
from typing import Literal


def rfc3339(seconds: float, precision: Literal["seconds", "milliseconds"] = "seconds") -> str:
    """Seconds since the epoch in UTC (RFC 3339 5.6): ``2026-11-23T16:00:00Z``, or ``2026-11-23T16:00:00.123Z``. What is finer
    is cut off. Raises ValueError or OverflowError beyond the year 9999."""
    whole = floor(seconds)
    # As `datetime` does: 1.1 is a little less than 1.1 in binary.
    micros = round((seconds - whole) * 1_000_000)
    if micros == 1_000_000:
        whole, micros = whole + 1, 0
    if precision == "seconds":
        return _second(whole) + "Z"
    return f"{_second(whole)}.{micros // 1000:03d}Z"


@lru_cache(maxsize=16)
def _second(whole: int) -> str:
    """Many calls share a second, and it is written twice for each."""
    return datetime.fromtimestamp(whole, UTC).isoformat(timespec="seconds").removesuffix("+00:00")
