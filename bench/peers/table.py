"""The rows of the race, as Markdown and as JSON."""

from __future__ import annotations

import dataclasses
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from typing import Final

from bench.peers.measure import RATE
from bench.peers.peer import CALLS_PAID, Peer
from bench.peers.race import CALLS, Raced

Round = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Row:
    peer: Peer
    rounds: tuple[Round, ...] = ()
    races: tuple[Raced, ...] = ()
    why: str = ""
    """Why there are no figures."""

    def medians(self) -> Round:
        return {key: statistics.median(one[key] for one in self.rounds) for key in self.rounds[0]}


def _time(microseconds: float) -> str:
    if abs(microseconds) >= 1_000:
        return f"{microseconds / 1_000:.2f} ms"
    return f"{microseconds:.0f} us"


COLUMNS: Final[dict[str, tuple[str, Callable[[float], str], bool]]] = {
    "request_us": ("CPU a request", _time, True),
    "chunk_us": ("CPU a chunk", _time, True),
    "redis_us": ("its Redis, a request", _time, False),
    "memory_mb": ("memory", lambda value: f"{value:.0f} MB", True),
    "p50_ms": ("p50 added", lambda value: f"{value:.2f} ms", False),
    "p99_ms": ("p99 added", lambda value: f"{value:.1f} ms", False),
    "of_a_core": ("calls a second of one core", lambda value: f"{value:,.0f}", True),
}
"""What stands above it, how it is written, and whether a ratio stands beside it."""


def ratios(row: Row, rows: Sequence[Row]) -> Round:
    """To the Tollhouse that calls reach by the same way: the median of the rounds' ratios."""
    beside = next((one for one in rows if one.peer.key == row.peer.beside and one.rounds), None)
    if beside is None or beside is row:
        return {}
    pairs = list(zip(row.rounds, beside.rounds, strict=True))
    return {
        key: statistics.median(one[key] / other[key] for one, other in pairs)
        for key, (_, _, compared) in COLUMNS.items()
        if compared and all(other[key] > 0 for _, other in pairs)
    }


def as_markdown(rows: Sequence[Row], straight: Round, redis: str) -> str:
    head = [
        "",
        "calls reach it by",
        *(title for title, _, _ in COLUMNS.values()),
        f"{CALLS} calls against money for {CALLS_PAID}",
    ]
    cells = [head] + [_cells(row, rows) for row in rows]
    widths = [max(len(one[at]) for one in cells) for at in range(len(head))]
    lines = [
        " | ".join(cell.ljust(width) for cell, width in zip(one, widths, strict=True))
        for one in cells
    ]
    lines.insert(1, " | ".join("-" * width for width in widths))
    settings = "\n".join(
        f"- {row.peer.name}, {row.peer.way}: {row.peer.settings}"
        + (f" **{row.why}**" if row.why else "")
        for row in rows
    )
    return (
        f"{about(redis)}\n\n"
        + "\n".join(f"| {line} |" for line in lines)
        + f"\n\nA call with no gateway took {straight['p50']:.2f} ms (p50) and {straight['p99']:.1f} ms (p99) at {RATE:g} a "
        "second. `x` is the ratio to the Tollhouse that is reached by the same way.\n\n" + settings
    )


def about(redis: str) -> str:
    return (
        f"{os.cpu_count()} cores, Python {platform.python_version()}, {redis}, {platform.machine()}"
    )


def _cells(row: Row, rows: Sequence[Row]) -> list[str]:
    if not row.rounds:
        return [row.peer.name, row.peer.way, "not measured", *[""] * len(COLUMNS)]
    medians, compared = row.medians(), ratios(row, rows)
    cells = [row.peer.name, row.peer.way]
    for key, (_, written, _) in COLUMNS.items():
        if key not in medians:
            cells.append("none")
        else:
            ratio = f", {compared[key]:.2f}x" if key in compared else ""
            cells.append(written(medians[key]) + ratio)
    return [*cells, _races(row) or "failed"]


def _races(row: Row) -> str:
    return "; ".join(
        f"{one.served} served" + (f", {one.budget}" if one.budget else "") for one in row.races
    )


def as_documents(rows: Sequence[Row]) -> list[dict[str, object]]:
    return [
        {
            "key": row.peer.key,
            "name": row.peer.name,
            "way": row.peer.way,
            "settings": row.peer.settings,
            "why": row.why,
            "found": row.medians() if row.rounds else {},
            "ratios": ratios(row, rows) if row.rounds else {},
            "to": row.peer.beside,
            "rounds": row.rounds,
            "races": [dataclasses.asdict(one) for one in row.races],
        }
        for row in rows
    ]
