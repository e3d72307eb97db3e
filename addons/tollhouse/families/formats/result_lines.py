"""The results of a batch as JSON Lines: a line for each request, with the usage of that request."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from tollhouse.families.meters import PassThrough
from tollhouse.families.units import Charge, Units

BATCH: Final = "batch"
"""The tier of a batch in the table of prices."""
_LONGEST: Final = 1 << 20
"""Bytes of a line: an answer of 128,000 tokens has half of it."""
_MOST: Final = 256
"""Items of the bill. Lines of all lengths up to a million tokens make 95 of them for each model."""
_SHORT: Final = 32_000
_LONG: Final = 320_000
_STEP, _LONG_STEP = 4_000, 32_000
"""Lines whose inputs lie between the same two steps are one item. Up to `_SHORT` tokens there is one step,
from `_LONG` on they are longer. A price that goes by the length of a request changes at a step: those of
genai-prices do at 32,000, 100,000, 128,000, 200,000, 256,000, 272,000 and 512,000 tokens."""

LineReader = Callable[[Mapping[str, Any]], tuple[Charge, ...] | None]
"""What a line costs: nothing where its request has failed; None for a line that can't be read."""


class ResultLines(PassThrough):
    """Reads the lines, one at a time. ``ended`` is True when all of them were read to the end of the
    answer, and ``read`` could read each."""

    def __init__(self, read: LineReader) -> None:
        self._read = read
        self._line = bytearray()
        self._items: dict[tuple[str, str, bool, int], Charge] = {}
        self._lost = False
        """A line could not be read: what the batch costs is not known."""
        self._lines = 0
        self._over = False

    @property
    def ended(self) -> bool:  # type: ignore[override]
        return self._over and not self._lost and self._lines > 0

    @property
    def begun(self) -> bool:
        """A line was seen, or a part of one."""
        return bool(self._lines or self._line or self._lost)

    @property
    def error(self) -> str:  # type: ignore[override]
        """Nothing of the batch has succeeded."""
        return "failed" if self.ended and not self._items else ""

    def feed(self, data: bytes) -> bytes:
        start = 0
        while not self._lost and (end := data.find(b"\n", start)) >= 0:
            self._line += data[start:end]
            self._end_line()
            start = end + 1
        if not self._lost:
            self._line += data[start:]
            self._lost = len(self._line) > _LONGEST
        return data

    def take(self, line: bytes | None) -> None:
        """One whole line, which came in another framing; None for one that was too long to be kept."""
        if line is None:
            self._lost = True
        elif not self._lost:
            self._line += line
            self._end_line()

    def flush(self) -> bytes:
        self._end_line()
        self._over = True
        return b""

    def finish(self) -> tuple[Charge, ...]:
        """The models' own items stand before those of tools."""
        return tuple(sorted(self._items.values(), key=lambda item: not item.units.tokens))

    def _end_line(self) -> None:
        line, self._line = self._line, bytearray()
        if not line.strip() or self._lost:
            return
        self._lost = True
        if len(line) > _LONGEST:
            return
        with contextlib.suppress(ValueError, RecursionError):
            told = json.loads(line)
            charges = self._read(told) if isinstance(told, Mapping) else None
            if charges is not None:
                self._lost = False
                self._lines += 1
                for charge in charges:
                    self._add(charge)

    def _add(self, charge: Charge) -> None:
        tier = charge.tier
        if charge.units.tokens and BATCH not in tier.split("+"):
            tier = f"{BATCH}+{tier}" if tier else BATCH
        key = (charge.model, tier, charge.paid is None, _size(charge.units.input))
        before = self._items.get(key)
        if before is None and len(self._items) >= _MOST:
            self._lost = True
        elif before is None:
            self._items[key] = charge._replace(tier=tier)
        else:
            paid = None if before.paid is None else before.paid + (charge.paid or 0)
            self._items[key] = before._replace(
                units=Units(*map(sum, zip(before.units, charge.units, strict=True))),
                paid=paid,
                calls=before.calls + charge.calls,
                uneven=before.uneven or charge.uneven,
            )


def _size(tokens: int) -> int:
    """The step at which an input of so many tokens ends. A price with a step there holds above it."""
    if tokens <= _SHORT:
        return _SHORT
    step = _STEP if tokens <= _LONG else _LONG_STEP
    return -(-tokens // step) * step
