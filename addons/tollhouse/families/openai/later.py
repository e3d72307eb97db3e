"""Work whose usage comes later: responses in the background, and batches.

A batch shows its usage when it is over, and half the price is charged for it:
https://platform.openai.com/docs/api-reference/batch/object, https://platform.openai.com/docs/guides/batch.
Azure, Groq and Together show none there. It stands in the lines of the output.
"""

from __future__ import annotations

import re
from typing import Final

from tollhouse.families.asked import Asked, Dialect, Request
from tollhouse.families.formats.kinds import Kind
from tollhouse.families.formats.result_lines import ResultLines
from tollhouse.families.formats.topmost import Topmost
from tollhouse.families.meters import AnswerHead, LateMeter, Later
from tollhouse.families.openai import kept_objects, responses_meter
from tollhouse.families.openai.batch_output import read_line
from tollhouse.families.openai.form_fields import sent_headers
from tollhouse.families.openai.responses_request import asked_at, shown_at
from tollhouse.families.openai.responses_usage import count, details_of, id_of, usage_of
from tollhouse.families.units import Charge

_BATCH: Final = "batch"
"""The facts of a batch, and its tier in the table of prices."""
_OUTPUT: Final = "output"
"""The facts of the file with a batch's output."""
_OVER: Final = frozenset({"completed", "failed", "expired", "cancelled"})
"""`types/batch.py` of openai-python, ``status``. Together writes them in capitals:
https://docs.together.ai/docs/inference/batch/manage."""
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,200}")


def late_meter(later: Later, head: AnswerHead) -> LateMeter:
    """The meter of an answer that shows a batch, its output or a response."""
    if later.facts == _OUTPUT:
        return ResultLines(read_line)
    if later.facts == _BATCH:
        return _ShownBatch(later)
    return responses_meter.late_meter(later.facts, head)


def _read(request: Request, dialect: Dialect) -> Asked:
    return kept_objects.read(request, dialect)._replace(detail=asked_at(request))


def _meter(asked: Asked, head: AnswerHead) -> _NewBatch:
    return _NewBatch(str(asked.detail))


class _NewBatch(kept_objects.CreatedMeter):
    """Reads the answer to a request that starts a batch. At Together the batch is its ``job``:
    `types/batch_create_response.py` of together-py."""

    def __init__(self, at: str) -> None:
        super().__init__()
        self._at = at
        self._told = Topmost(("job",))

    @property
    def created(self) -> tuple[str, ...]:
        job = id_of(details_of(self._told.found.get("job")).get("id"))
        return (*super().created, *((job,) if job else ()))

    def feed(self, data: bytes) -> bytes:
        self._told.feed(data)
        return super().feed(data)

    @property
    def later(self) -> Later | None:
        found = next(iter(self.created), "")
        return Later(found, shown_at(self._at, found), _BATCH) if _ID.fullmatch(found) else None


class _ShownBatch(kept_objects.CreatedMeter):
    """Reads a batch."""

    def __init__(self, shown: Later) -> None:
        super().__init__()
        self._shown = shown
        self._told = Topmost(("status", "model", "usage", "request_counts", "output_file_id"))

    @property
    def _status(self) -> str:
        return id_of(self._told.found.get("status")).lower()

    @property
    def _nothing_done(self) -> bool:
        done = details_of(self._told.found.get("request_counts")).get("completed")
        return done is not None and count(done) == 0

    @property
    def ended(self) -> bool:
        return self._status in _OVER

    @property
    def later(self) -> Later | None:
        """The output, where the batch itself has no usage."""
        found = id_of(self._told.found.get("output_file_id"))
        path, mark, query = self._shown.path.partition("?")
        start = path.removesuffix(f"/batches/{self._shown.id}")
        here = not self.ended or self._nothing_done or self.finish() != ()
        if here or start == path or not _ID.fullmatch(found):
            return None
        return Later(found, f"{start}/files/{found}/content{mark}{query}", _OUTPUT)

    @property
    def error(self) -> str:  # type: ignore[override]
        """Of a batch in which nothing was done."""
        status = self._status
        return status if status == "failed" or (self.ended and self._nothing_done) else ""

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
