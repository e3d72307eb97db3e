"""Text in a CSV that no spreadsheet runs as a formula."""

from __future__ import annotations

from typing import Final

_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
"""A cell that begins so may be run: https://owasp.org/www-community/attacks/CSV_Injection."""


def guarded(text: str) -> str:
    """``text`` with an apostrophe before it where a spreadsheet would run it. Numbers are given to the writer as they are."""
    return f"'{text}" if text.startswith(_STARTS) else text
