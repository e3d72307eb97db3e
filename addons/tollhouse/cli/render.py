"""How a command's result looks to a person: plain tables on stdout, cut to nothing, ready for a pipe."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from itertools import chain, islice
from textwrap import indent
from typing import Any, Final

from tollhouse.exports.guarded import guarded

_MEASURED: Final = 1000
"""Rows of a table by which its columns get their widths."""


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def json_lines(values: Iterable[Any]) -> Iterator[str]:
    """A list of at least one value as `as_json` has it, piece by piece."""
    before = "["
    for value in values:
        yield before
        text = indent(as_json(value), "  ")
        before = f"{text},"
    yield text
    yield "]"


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Columns two spaces apart; None shows as ``-``; a column of numbers is set to the right."""
    return "\n".join(table_lines(headings, rows))


def table_lines(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """The lines of a table. The widths are those of the first `_MEASURED` rows, so that it holds no more of them."""
    texts = ([cell(value) for value in row] for row in rows)
    first = list(islice(texts, _MEASURED))
    widths = [
        max(len(heading), *(len(row[i]) for row in first), 0) for i, heading in enumerate(headings)
    ]
    right = [_numeric([row[i] for row in first if row[i] != "-"]) for i in range(len(headings))]
    for line in chain([list(headings)], first, texts):
        yield "  ".join(
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()


def as_csv(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Without the last line's end. No cell is one that a spreadsheet runs."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(headings)
    for row in rows:
        writer.writerow([guarded(value) if isinstance(value, str) else value for value in row])
    return out.getvalue().removesuffix("\n")


_BLOCKS = "▁▂▃▄▅▆▇█"
_MOST_DAYS = 30


def spent(rows: Sequence[Mapping[str, Any]], one_day_each: bool) -> list[str]:
    """What each row of `usage` spent, as a picture: day by day, the latest `_MOST_DAYS`, each row by its own largest; or, where
    a row is a day, as a bar."""
    if one_day_each:
        most = max((Decimal(row["usd"]) for row in rows), default=Decimal(0))
        return ["█" * _share(Decimal(row["usd"]), most, 20) for row in rows]
    days = sorted({day for row in rows for day in row["days"]})
    if not days:
        return ["" for _ in rows]
    last = date.fromisoformat(days[-1])
    first = max(date.fromisoformat(days[0]), last - timedelta(days=_MOST_DAYS - 1))
    span = [(first + timedelta(days=n)).isoformat() for n in range((last - first).days + 1)]
    return [_line([Decimal(row["days"].get(day, 0)) for day in span]) for row in rows]


def _line(amounts: Sequence[Decimal]) -> str:
    most = max(amounts)
    return "".join(_BLOCKS[_share(amount, most, len(_BLOCKS) - 1)] for amount in amounts)


def _share(amount: Decimal, most: Decimal, steps: int) -> int:
    return round(max(amount, Decimal(0)) / most * steps) if most > 0 else 0


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
