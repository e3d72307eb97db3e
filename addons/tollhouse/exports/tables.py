"""Rows as a file of CSV, or of Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import Any, BinaryIO, Final

from tollhouse.exports.guarded import guarded

_ROWS_AT_ONCE: Final = 5_000


class NoParquet(Exception):
    """pyarrow is not there."""


def write_csv(out: BinaryIO, columns: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> int:
    """UTF-8 with a row of names; gives the number of the others. None is an empty field; amounts have no exponent, and always a
    decimal point, so that no reader takes a column of them for whole numbers."""
    text = io.TextIOWrapper(out, encoding="utf-8", newline="", write_through=True)
    try:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        count = 0
        for row in rows:
            writer.writerow([_cell(row[name]) for name in columns])
            count += 1
        return count
    finally:
        text.detach()


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case Decimal():
            text = format(value, "f")
            text = text.rstrip("0") if "." in text else f"{text}."
            return f"{text}0" if text.endswith(".") else text
        case int():
            return str(value)
        case _:
            return guarded(str(value))


def write_parquet(
    out: BinaryIO, columns: Mapping[str, str], rows: Iterable[Mapping[str, Any]], scale: int
) -> int:
    """The same as typed columns: amounts are decimals, times are UTC. Raises `NoParquet`."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise NoParquet from None
    types = {
        "text": pa.string(),
        "amount": pa.decimal256(76, scale),
        "time": pa.timestamp("us", tz="UTC"),
        "count": pa.int64(),
    }
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
    count, waiting = 0, iter(rows)
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        while some := list(islice(waiting, _ROWS_AT_ONCE)):
            count += len(some)
            writer.write_table(pa.Table.from_pylist(some, schema=schema))
    return count
