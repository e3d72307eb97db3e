"""Text that somebody else chose, made short enough to be kept."""

from __future__ import annotations

from typing import Final

CUT: Final = "..."


def clipped(text: str, limit: int = 512) -> str:
    """``text`` in at most ``limit`` bytes of UTF-8; what was cut ends in ``...``. No character is
    cut in two; ``limit`` is at least 3."""
    # A character is 4 bytes at most.
    if len(text) * 4 <= limit:
        return text
    # A lone surrogate is written as "?", as the ledger's connection writes it.
    encoded = text[: limit + 1].encode("utf-8", "replace")
    if len(encoded) <= limit:
        return text
    return encoded[: limit - len(CUT)].decode("utf-8", "ignore") + CUT
