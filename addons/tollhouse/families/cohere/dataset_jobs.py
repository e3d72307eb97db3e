"""Work on datasets: embed jobs, and batches. Both are shown with what they have used when they are over.

An embed job has ``meta`` (cohere-python `embed_job.py`), a batch ``input_tokens`` and ``output_tokens``, whole numbers as strings
(`batches/types/batch.py`). Cohere publishes no price of a batch, so that the whole price is charged: https://cohere.com/pricing.
"""

from __future__ import annotations

import re
from typing import Any, Final

from tollhouse.families.asked import Asked, Dialect, Request
from tollhouse.families.cohere.request import read_job
from tollhouse.families.cohere.usage import units_of
from tollhouse.families.formats.counts import count_of
from tollhouse.families.formats.inlined import Path
from tollhouse.families.formats.shown_job import ShownJob
from tollhouse.families.meters import AnswerHead, Later
from tollhouse.families.units import Charge, Units

_OVER: Final = frozenset({"complete", "completed", "cancelled", "canceled", "failed"})
"""cohere-python `embed_job_status.py`; `batch_status.py` after ``BATCH_STATUS_``, in lower case."""
_KEYS: Final = ("status", "model", "output_dataset_id")
_COUNTS: Final = ("input_tokens", "output_tokens", "num_records", "num_successful_records")
_WANTED: Final[tuple[Path, ...]] = (
    *((key,) for key in ("job_id", "meta", *_KEYS)),
    *(("batch", key) for key in ("id", *_KEYS, *_COUNTS)),
)
_ID: Final = re.compile("[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_DIGITS: Final = re.compile("[0-9]{1,15}")


def read(request: Request, dialect: Dialect) -> Asked:
    return read_job(request, dialect)._replace(detail=request.path)


def meter(asked: Asked, head: AnswerHead) -> _NewJob:
    return _NewJob(asked.detail)


def shown_meter(asked: Asked, head: AnswerHead) -> _Job:
    return _Job()


def late_meter(later: Later, head: AnswerHead) -> _Job:
    return _Job()


class _Job(ShownJob):
    """Reads an embed job or a batch."""

    def __init__(self) -> None:
        super().__init__(_WANTED)

    @property
    def created(self) -> tuple[str, ...]:  # type: ignore[override]
        found = (self._made, self._id("output_dataset_id"), self._id("batch", "output_dataset_id"))
        return tuple(one for one in found if one)

    @property
    def over(self) -> bool:
        return self._status in _OVER

    @property
    def nothing_done(self) -> bool:
        """A batch says how many of its requests have succeeded. An embed job does not, and charges what it has done when it is
        cancelled: https://docs.cohere.com/reference/cancel-embed-job."""
        if self.finish():
            return False
        done = self._count("num_successful_records")
        return done == 0 if done is not None else self._status == "failed"

    def finish(self) -> tuple[Charge, ...]:
        units = units_of(self._member("meta"))
        calls = 1
        if units is None:
            read, written = self._count("input_tokens") or 0, self._count("output_tokens") or 0
            units = Units(input=read, output=written, requests=1) if read or written else None
            calls = max(self._count("num_successful_records") or 0, 1)
        model = self._id("model") or self._id("batch", "model")
        return () if units is None else (Charge(model, units, calls=calls),)

    @property
    def _made(self) -> str:
        return self._id("job_id") or self._id("batch", "id")

    @property
    def _status(self) -> str:
        word = self._id("status") or self._id("batch", "status")
        return word.removeprefix("BATCH_STATUS_").lower()

    def _count(self, key: str) -> int | None:
        value: Any = self._member("batch", key)
        if isinstance(value, str) and _DIGITS.fullmatch(value):
            return int(value)
        return count_of(value)


class _NewJob(_Job):
    """Reads the answer to a request that starts one."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path_of_jobs = path

    @property
    def later(self) -> Later | None:  # type: ignore[override]
        found = self._made
        return Later(found, f"{self._path_of_jobs}/{found}") if _ID.fullmatch(found) else None

    def finish(self) -> tuple[Charge, ...]:
        """What it has used by now is a part."""
        return ()
