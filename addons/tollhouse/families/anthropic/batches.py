"""Batches of messages: their usage stands in their results, a line for each request.

Results are there when the batch has ended:
https://platform.claude.com/docs/en/api/retrieving-message-batch-results. Requests that have not
succeeded cost nothing: https://platform.claude.com/docs/en/build-with-claude/batch-processing.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from tollhouse.families.anthropic.objects import Made, read_batch
from tollhouse.families.anthropic.usage import Reported
from tollhouse.families.base import AnswerHead, Asked, Dialect, Later, PassThrough, Request
from tollhouse.families.units import Charge, Units

BATCH: Final = "batch"
"""The word of `usage.service_tier`, and of the table of prices."""
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,200}")
_LONGEST: Final = 1 << 20
"""Bytes of a line of results: an answer of 128,000 tokens has half of it."""
_MOST: Final = 256
"""Items of the bill. Lines of all lengths up to a million tokens make 95 of them for each model."""
_SHORT: Final = 32_000
_LONG: Final = 320_000
_STEP, _LONG_STEP = 4_000, 32_000
"""Lines whose inputs lie between the same two steps are one item. Up to `_SHORT` tokens there is one step,
from `_LONG` on they are longer. A price that goes by the length of a request changes at a step: those of
genai-prices do at 32,000, 100,000, 128,000, 200,000, 256,000, 272,000 and 512,000 tokens."""
_EXECUTES: Final = "executes"
"""The facts of a batch in which a container is charged by its time."""


class BatchAsked(NamedTuple):
    """What the meter has to know of the request."""

    path: str
    executes: bool


def read(request: Request, dialect: Dialect) -> Asked:
    asked = read_batch(request, dialect)
    return asked._replace(detail=BatchAsked(request.path, asked.detail))


def meter(asked: Asked, head: AnswerHead) -> _NewBatch:
    return _NewBatch(asked.detail)


def late_meter(facts: str, head: AnswerHead) -> BatchResults:
    """The meter of the results of a batch; ``facts`` are those of its `Later`."""
    return BatchResults(executes=facts == _EXECUTES)


class _NewBatch(Made):
    """Reads the answer to a request that starts a batch."""

    def __init__(self, asked: BatchAsked) -> None:
        super().__init__()
        self._asked = asked

    @property
    def later(self) -> Later | None:  # type: ignore[override]
        found = next(iter(self.created), "")
        if not _ID.fullmatch(found):
            return None
        facts = _EXECUTES if self._asked.executes else ""
        return Later(found, f"{self._asked.path}/{found}/results", facts)


class BatchResults(PassThrough):
    """Reads the lines, one at a time. ``ended`` is True when all of them were read. ``executes``: a
    container that a line names is charged by its time. No line says which tools its request had, so
    that this holds for all of them if it holds for one."""

    def __init__(self, *, executes: bool = False) -> None:
        self._executes = executes
        self._line = bytearray()
        self._items: dict[tuple[str, str, int], Charge] = {}
        self._lost = False
        """A line could not be read: what the batch costs is not known."""
        self._lines = 0
        self._over = False

    @property
    def ended(self) -> bool:  # type: ignore[override]
        return self._over and not self._lost and self._lines > 0

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
        self._lost = len(line) > _LONGEST
        with contextlib.suppress(ValueError, RecursionError):
            told = json.loads(line)
            result = told.get("result") if isinstance(told, Mapping) else None
            if isinstance(result, Mapping) and isinstance(result.get("type"), str):
                self._lines += 1
                self._read(result)
                return
        self._lost = True

    def _read(self, result: Mapping[str, object]) -> None:
        if result["type"] != "succeeded":
            return
        message = result.get("message")
        reported = Reported(executes=self._executes)
        if isinstance(message, Mapping):
            reported.message(message)
        charges = reported.charges()
        self._lost = self._lost or not charges
        for charge in charges:
            self._add(charge)

    def _add(self, charge: Charge) -> None:
        tier = charge.tier
        if charge.units.tokens and BATCH not in tier.split("+"):
            tier = f"{BATCH}+{tier}" if tier else BATCH
        key = (charge.model, tier, _size(charge.units.input))
        before = self._items.get(key)
        if before is None and len(self._items) >= _MOST:
            self._lost = True
        elif before is None:
            self._items[key] = charge._replace(tier=tier)
        else:
            units = Units(*map(sum, zip(before.units, charge.units, strict=True)))
            self._items[key] = before._replace(units=units, calls=before.calls + 1)


def _size(tokens: int) -> int:
    """The step at which an input of so many tokens ends. A price with a step there holds above it."""
    if tokens <= _SHORT:
        return _SHORT
    step = _STEP if tokens <= _LONG else _LONG_STEP
    return -(-tokens // step) * step
