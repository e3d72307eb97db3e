"""Work whose usage comes later: responses in the background, and batches.

A batch shows its usage when it is over, and half the price is charged for it:
https://platform.openai.com/docs/api-reference/batch/object, https://platform.openai.com/docs/guides/batch.
"""

from __future__ import annotations

import re
from typing import Final

from tollhouse.families.base import AnswerHead, Asked, Dialect, LateMeter, Later, Request
from tollhouse.families.formats.kinds import Kind
from tollhouse.families.formats.topmost import Topmost
from tollhouse.families.openai import kept_objects, responses_meter
from tollhouse.families.openai.form_fields import sent_headers
from tollhouse.families.openai.responses_request import asked_at, shown_at
from tollhouse.families.openai.responses_usage import count, details_of, id_of, usage_of
from tollhouse.families.units import Charge

_BATCH: Final = "batch"
"""The facts of a batch, and its tier in the table of prices."""
_OVER: Final = frozenset({"completed", "failed", "expired", "cancelled"})
"""`types/batch.py` of openai-python, ``status``."""
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,200}")


def late_meter(facts: str, head: AnswerHead) -> LateMeter:
    """The meter of an answer that shows a batch or a response; ``facts`` are those of its `Later`."""
    return _ShownBatch() if facts == _BATCH else responses_meter.late_meter(facts, head)


def _read(request: Request, dialect: Dialect) -> Asked:
    return kept_objects.read(request, dialect)._replace(detail=asked_at(request))


def _meter(asked: Asked, head: AnswerHead) -> _NewBatch:
    return _NewBatch(str(asked.detail))


class _NewBatch(kept_objects.CreatedMeter):
    """Reads the answer to a request that starts a batch."""

    def __init__(self, at: str) -> None:
        super().__init__()
        self._at = at

    @property
    def later(self) -> Later | None:
        found = next(iter(self.created), "")
        return Later(found, shown_at(self._at, found), _BATCH) if _ID.fullmatch(found) else None


class _ShownBatch(kept_objects.CreatedMeter):
    """Reads a batch."""

    def __init__(self) -> None:
        super().__init__()
        self._told = Topmost(("status", "model", "usage", "request_counts"))

    @property
    def ended(self) -> bool:
        return id_of(self._told.found.get("status")) in _OVER

    @property
    def error(self) -> str:  # type: ignore[override]
        """Of a batch in which nothing was done."""
        done = details_of(self._told.found.get("request_counts")).get("completed")
        status = id_of(self._told.found.get("status"))
        nothing = done is not None and count(done) == 0
        return status if status == "failed" or (self.ended and nothing) else ""

    def feed(self, data: bytes) -> bytes:
        self._told.feed(data)
        return super().feed(data)

    def finish(self) -> tuple[Charge, ...]:
        units = usage_of(self._told.found.get("usage"))
        if units is None:
            return ()
        done = details_of(self._told.found.get("request_counts")).get("completed")
        model = id_of(self._told.found.get("model"))
        return (Charge(model, units, _BATCH, calls=max(count(done), 1)),)


BATCHES: Final = Kind(_read, kept_objects.nothing, _meter, sent_headers=sent_headers)
