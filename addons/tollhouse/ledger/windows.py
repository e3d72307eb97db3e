"""The windows of a limit: when the one that holds a moment began and when it ends.

All are UTC and begin on the calendar's own boundaries; weeks begin on Monday (ISO 8601). The scripts count with the
same rule (``periods`` in ledger/scripts/common.lua).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

WINDOWS: Final = ("minute", "hour", "day", "week", "month", "total")
"""From the shortest to the longest; ``total`` never ends."""

_FIXED: Final = {"minute": 60, "hour": 3600, "day": 86_400}


def bounds(window: str, now_s: float) -> tuple[float, float | None]:
    """The first second of the ``window`` that holds ``now_s`` (seconds since the epoch), and the first one after it.

    ``total`` is ``(0.0, None)``. Raises `ValueError` for a window that does not exist.
    """
    if window == "total":
        return 0.0, None
    length = _FIXED.get(window)
    if length is not None:
        start = now_s // length * length
        return start, start + length
    midnight = datetime.fromtimestamp(now_s, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if window == "week":
        monday = midnight - timedelta(days=midnight.weekday())
        return monday.timestamp(), (monday + timedelta(days=7)).timestamp()
    if window == "month":
        first = midnight.replace(day=1)
        following = (first + timedelta(days=32)).replace(day=1)
        return first.timestamp(), following.timestamp()
    raise ValueError(f"{window!r} is not a window; there are {', '.join(WINDOWS)}")
