"""Batches of the Gemini API: https://ai.google.dev/gemini-api/docs/batch-api. Half the price is charged.

A batch is shown as a long-running operation. What was answered to each request stands in it, or in the file that it names:
a line for each request. The batch itself counts requests, and no tokens: https://ai.google.dev/api/batch-api.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Final

from tollhouse.families.asked import Asked, Dialect, Request
from tollhouse.families.formats.document import parsed
from tollhouse.families.formats.inlined import Path
from tollhouse.families.formats.result_lines import ResultLines
from tollhouse.families.formats.shown_job import ShownJob
from tollhouse.families.google.free import read_job
from tollhouse.families.google.kept_names import ID, name_of
from tollhouse.families.google.models import plain
from tollhouse.families.google.request import Detail
from tollhouse.families.google.told import Embedded, Metadata
from tollhouse.families.google.usage import count
from tollhouse.families.meters import AnswerHead, LateMeter, Later
from tollhouse.families.units import Charge, Units

BATCH: Final = "batch"
OUTPUT: Final = "output"
_EMBEDS: Final = " of vectors"
"""The facts of a batch and of its file. A batch of vectors has this word behind."""
_OVER: Final = frozenset({"SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"})
"""``BATCH_STATE_...`` in the API, ``JOB_STATE_...`` in `types.py` of google-genai."""
_AT: Final[tuple[Path, ...]] = (("metadata",), ("response",), ())
"""Where the members of a batch stand: the operation repeats its output in ``response`` when it is done."""
_BEFORE_OUTPUT: Final[tuple[Path, ...]] = (
    ("metadata", "output"),
    ("response",),
    ("response", "output"),
    ("output",),
)
_INLINED: Final = ("inlinedResponses", "inlinedEmbedContentResponses")
_ARRAYS: Final = tuple(
    (*before, name, "inlinedResponses") for before in _BEFORE_OUTPUT for name in _INLINED
)
_COUNTS: Final = ("requestCount", "successfulRequestCount")
_WANTED: Final[tuple[Path, ...]] = (
    ("name",),
    ("done",),
    *((*at, "state") for at in _AT),
    *((*at, "batchStats", key) for at in _AT for key in _COUNTS),
    *((*before, "responsesFile") for before in _BEFORE_OUTPUT),
)
_BATCH: Final = re.compile(rf"batches/{ID}")
_FILE: Final = re.compile(rf"files/{ID}")
_PATH: Final = re.compile(r"(/v1(?:beta|alpha)?)/.*")
_TO_MODEL: Final = ("batch", "inputconfig", "requests", "requests", "request", "model")
_MAX_MODELS: Final = 32
_HEAD: Final = AnswerHead(200, ())


def read(request: Request, dialect: Dialect) -> Asked:
    """The models of requests that stand in the body count beside that of the path."""
    embeds = _EMBEDS if request.path.endswith(":asyncBatchEmbedContent") else ""
    asked = read_job(request, dialect)
    document = parsed(request.body)
    named = (document.name(model) for model in _inside(document.tree, _TO_MODEL))
    models = dict.fromkeys(plain(name) for name in named if isinstance(name, str) and name)
    models.pop(asked.model, None)
    return asked._replace(
        other_models=tuple(models)[:_MAX_MODELS],
        models_unknown=len(models) > _MAX_MODELS,
        detail=(request.path, embeds),
    )


def _inside(value: Any, keys: tuple[str, ...]) -> Iterator[Any]:
    """The values at these keys, in either spelling, of each object of a list."""
    if isinstance(value, list):
        for one in value:
            yield from _inside(one, keys)
    elif not keys:
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key.replace("_", "").lower() == keys[0]:
                yield from _inside(inner, keys[1:])


def meter(asked: Asked, head: AnswerHead) -> _NewBatch:
    return _NewBatch(*asked.detail)


def shown_meter(asked: Asked, head: AnswerHead) -> _Batch:
    """Of a batch that nobody waits for: its file is told."""
    return _Batch("", None)


def is_of_batch(later: Later) -> bool:
    return later.facts.removesuffix(_EMBEDS) in (BATCH, OUTPUT)


def late_meter(later: Later, head: AnswerHead) -> LateMeter:
    embeds = _EMBEDS if later.facts.endswith(_EMBEDS) else ""
    if later.facts.startswith(OUTPUT):
        return ResultLines(partial(read_line, embeds=bool(embeds)))
    return _Batch(embeds, later)


class _Batch(ShownJob):
    """Reads a batch. ``shown`` is where it is; None reads the names of its objects alone."""

    def __init__(self, embeds: str, shown: Later | None) -> None:
        read_it = None if shown is None else partial(read_line, embeds=bool(embeds))
        super().__init__(_WANTED, _ARRAYS, read_it)
        self._embeds = embeds
        self._shown_at = "" if shown is None else shown.path

    @property
    def created(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(name for name in (name_of(self._id("name")), self._file) if name)

    @property
    def over(self) -> bool:
        return self._state in _OVER or (not self._state and self._member("done") is True)

    @property
    def nothing_done(self) -> bool:
        """A count of 0 is missing, as in all JSON of proto3. A file is read all the same."""
        return not self._file and self._requests(_COUNTS[0]) > 0 and self._requests(_COUNTS[1]) == 0

    @property
    def output(self) -> Later | None:
        match = _PATH.fullmatch(self._shown_at)
        if not self._file or match is None:
            return None
        path = f"/download{match[1]}/{self._file}:download?alt=media"
        return Later(self._file, path, OUTPUT + self._embeds)

    @property
    def _state(self) -> str:
        found = (self._id(*at, "state") for at in _AT)
        return next(filter(None, found), "").rpartition("_STATE_")[2]

    @property
    def _file(self) -> str:
        found = (self._id(*before, "responsesFile") for before in _BEFORE_OUTPUT)
        return next((name for name in found if _FILE.fullmatch(name)), "")

    def _requests(self, key: str) -> int:
        return max(count(self._member(*at, "batchStats", key)) or 0 for at in _AT)


class _NewBatch(_Batch):
    """Reads the answer to a request that starts a batch."""

    def __init__(self, path: str, embeds: str) -> None:
        super().__init__(embeds, None)
        self._asked_at = path

    @property
    def later(self) -> Later | None:  # type: ignore[override]
        name, match = self._id("name"), _PATH.fullmatch(self._asked_at)
        if match is None or not _BATCH.fullmatch(name):
            return None
        return Later(name, f"{match[1]}/{name}", BATCH + self._embeds)


def read_line(line: Mapping[str, Any], *, embeds: bool) -> tuple[Charge, ...] | None:
    """`formats.result_lines.LineReader`. What was answered stands in ``response``, and in some files alone. A request that has
    failed has an ``error``, or is a status: `InlinedResponse` in `types.py` of google-genai."""
    response = line.get("response")
    answered = response if isinstance(response, Mapping) else line
    told = (Embedded if embeds else Metadata)(Asked(detail=Detail()), _HEAD)
    told.read(answered)
    # The tier that an answer names says nothing beside the batch.
    charges = tuple(
        charge._replace(tier="") if charge.units.tokens else charge for charge in told.charges()
    )
    if charges:
        return charges
    tokens = count(answered.get("tokenCount"))
    if embeds and tokens:
        return (Charge("", Units(input=tokens, requests=1)),)
    failed = isinstance(line.get("error"), Mapping) or count(line.get("code"))
    return () if failed else None
