"""What a part of the bench finds: rows of one table."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

COLUMNS: Final = ("direct", "mitmdump", "tollhouse")


@dataclasses.dataclass(frozen=True)
class Figure:
    """One row. ``found`` has a value for some of `COLUMNS`."""

    key: str
    what: str
    unit: str
    found: Mapping[str, float]
    ratio: float | None = None
    to: str = ""
    """What the ratio is to."""
    wanted: str = ""
    notes: tuple[str, ...] = ()
    """Stand below the table."""


def of_rounds(
    key: str,
    what: str,
    unit: str,
    rounds: Sequence[Mapping[str, float]],
    *,
    to: str = "mitmdump",
    wanted: str = "",
) -> Figure:
    """The medians of the rounds' values, and the median of their ratios of ``tollhouse`` to the column ``to``."""
    found = {
        column: statistics.median(one[column] for one in rounds)
        for column in COLUMNS
        if column in rounds[0]
    }
    if to not in found:
        return Figure(key, what, unit, found, wanted=wanted)
    ratio = statistics.median(one["tollhouse"] / one[to] for one in rounds if one[to])
    return Figure(key, what, unit, found, ratio, to, wanted)


def as_table(figures: Iterable[Figure]) -> str:
    """As docs/figures.md shows it: a table of Markdown whose columns stand one below the other, and the notes."""
    figures = list(figures)
    rows = [["", *COLUMNS, "ratio", "wanted"]]
    for one in figures:
        cells = [
            f"{_number(one.found[column])} {one.unit}" if column in one.found else ""
            for column in COLUMNS
        ]
        ratio = "" if one.ratio is None else f"{one.ratio:.2f} of {one.to}"
        rows.append([one.what, *cells, ratio, one.wanted])
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = [
        " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    lines.insert(1, " | ".join("-" * width for width in widths))
    table = "\n".join(f"| {line} |" for line in lines)
    return "\n\n".join([table, *(note for one in figures for note in one.notes)])


def as_documents(figures: Iterable[Figure]) -> list[dict[str, object]]:
    return [dataclasses.asdict(one) for one in figures]


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
