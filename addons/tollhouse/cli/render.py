"""How a command's result looks to a person: plain tables on stdout, cut to nothing, ready for a pipe."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Columns two spaces apart; None shows as ``-``; a column of numbers is set to the right."""
    texts = [[cell(value) for value in row] for row in rows]
    lines = [list(headings), *texts]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headings))]
    right = [_numeric([row[i] for row in texts if row[i] != "-"]) for i in range(len(headings))]
    return "\n".join(
        "  ".join(
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def cell(value: Any) -> str:
    """One value as text that can't move the cursor or break the line: labels come from people."""
    if value is None or value == "" or value == []:
        return "-"
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _numeric(texts: Sequence[str]) -> bool:
    return bool(texts) and all(
        text.removeprefix("-").replace(".", "", 1).isdecimal() for text in texts
    )
