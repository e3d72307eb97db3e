"""Bars as SVG's geometry, for templates: numbers only, so that no text of a workload comes near them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Final, NamedTuple

WIDTH: Final = 640
HEIGHT: Final = 160
_GAP: Final = 0.2
"""Of a column's width."""
_LEAST: Final = 1.5
"""Height or width of the smallest amount that is not nothing, so that it can be seen."""


class Column(NamedTuple):
    """One day. Lengths are in the units of the view box (`WIDTH` x `HEIGHT`)."""

    label: str
    amount: Decimal
    x: float
    y: float
    width: float
    height: float


class Bar(NamedTuple):
    label: str
    amount: Decimal
    percent: float
    """Of the largest one's, for the length of the bar."""


def columns(days: Sequence[tuple[str, str]]) -> list[Column]:
    """``days`` are days and decimal amounts, in their order."""
    amounts = [(label, Decimal(amount)) for label, amount in days]
    most = max((amount for _, amount in amounts), default=Decimal())
    step = WIDTH / max(len(amounts), 1)
    found = []
    for n, (label, amount) in enumerate(amounts):
        height = _length(amount, most, HEIGHT)
        found.append(
            Column(
                label,
                amount,
                round(n * step + step * _GAP / 2, 2),
                round(HEIGHT - height, 2),
                round(step * (1 - _GAP), 2),
                height,
            )
        )
    return found


def rows(amounts: Sequence[tuple[str, str]]) -> list[Bar]:
    parsed = [(label, Decimal(amount)) for label, amount in amounts]
    most = max((amount for _, amount in parsed), default=Decimal())
    return [Bar(label, amount, _length(amount, most, 100)) for label, amount in parsed]


def _length(amount: Decimal, most: Decimal, of: int) -> float:
    if amount <= 0 or most <= 0:
        return 0.0
    return round(max(float(amount / most) * of, _LEAST), 2)
