"""Moments as text, wherever a record or a command shows one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal


def rfc3339(seconds: float, precision: Literal["seconds", "milliseconds"] = "seconds") -> str:
    """Seconds since the epoch in UTC (RFC 3339 5.6): ``2026-11-23T16:00:00Z``, or ``2026-11-23T16:00:00.123Z``. What is finer
    is cut off. Raises ValueError or OverflowError beyond the year 9999."""
    return (
        datetime.fromtimestamp(seconds, UTC).isoformat(timespec=precision).removesuffix("+00:00")
        + "Z"
    )
