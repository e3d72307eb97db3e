"""Batches: https://docs.mistral.ai/capabilities/batch/. Half the price is charged. No count stands in the job itself.

What each request has used stands in a line of the output file, or with ``?inline=true`` in the job's ``outputs``
(mistralai-python `batchjob.py`). A line has ``response.status_code`` and ``response.body``, or an ``error``:
https://docs.mistral.ai/inference/quickstarts/run-a-batch-job.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from tollhouse.families.asked import Asked, Dialect, Request
from tollhouse.families.formats.checked import known_case, name, optional
from tollhouse.families.formats.counts import count
from tollhouse.families.formats.document import parsed, refuse
from tollhouse.families.formats.generic import objects_of
from tollhouse.families.formats.result_lines import BATCH, ResultLines
from tollhouse.families.formats.shown_job import ShownJob
from tollhouse.families.meters import AnswerHead, LateMeter, Later
from tollhouse.families.mistral.request import ANNOTATED
from tollhouse.families.mistral.transcription import ToldSeconds
from tollhouse.families.mistral.usage import ToldByMistral, ToldPages
from tollhouse.families.units import Charge

_OUTPUT: Final = "output"
"""The facts of an output file."""
_IN_PLACE: Final = "in place"
"""The facts of a job whose requests stood in the body: its results stand in the job, where they are asked for."""
_OVER: Final = frozenset({"SUCCESS", "FAILED", "TIMEOUT_EXCEEDED", "CANCELLED"})
"""mistralai-python `batchjobstatus.py`."""
_ID: Final = re.compile("[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_KNOWN: Final = frozenset(
    {"endpoint", "input_files", "requests", "model", "agent_id", "metadata", "timeout_hours"}
)
_MAX_MODELS: Final = 32
_OUTPUTS: Final = ("outputs",)


def read(request: Request, dialect: Dialect) -> Asked:
    """The models of the job and of the requests that stand in it. Those of an agent, and of a file whose job names none, are
    not known. ``detail`` is where jobs are asked for, and whether requests stand in the body."""
    document = parsed(request.body)
    tree = document.tree
    known_case(tree, _KNOWN)
    models = {name(document, "model"): None, **dict.fromkeys(_models(document.tree, document.name))}
    models.pop("", None)
    hidden = name(document, "agent_id") != "" or not models or len(models) > _MAX_MODELS
    first, *others = models or ("",)
    return Asked(
        first,
        tuple(others[:_MAX_MODELS]),
        models_unknown=hidden,
        writes=False,
        reasons=False,
        objects=objects_of(document),
        detail=(request.path, bool(tree.get("requests"))),
    )


def _models(tree: dict[str, Any], named: Any) -> list[str]:
    found = []
    for one in optional(tree, "requests", list) or ():
        body = one.get("body") if isinstance(one, dict) else None
        if not isinstance(body, dict):
            refuse('A request of the batch has no "body".')
        model = named(body.get("model"))
        if model is not None and not (isinstance(model, str) and 0 < len(model) <= 256):
            refuse('"requests.body.model" must be a string of at most 256 characters.')
        if model:
            found.append(model)
    return found


def meter(asked: Asked, head: AnswerHead) -> _NewJob:
    return _NewJob(*asked.detail)


def shown_meter(asked: Asked, head: AnswerHead) -> _Job:
    """Of a job that nobody waits for: its files are told."""
    return _Job(None)


def late_meter(later: Later, head: AnswerHead) -> LateMeter:
    return ResultLines(read_line) if later.facts == _OUTPUT else _Job(later)


class _Job(ShownJob):
    """Reads a job. ``shown`` is where it is; None reads the ids of its files alone."""

    def __init__(self, shown: Later | None) -> None:
        wanted = [(key,) for key in ("id", "status", "output_file", "error_file")]
        counts = [("succeeded_requests",), ("completed_requests",)]
        super().__init__([*wanted, *counts], [_OUTPUTS], None if shown is None else read_line)
        self._shown = shown

    @property
    def created(self) -> tuple[str, ...]:  # type: ignore[override]
        found = (self._id(key) for key in ("id", "output_file", "error_file"))
        return tuple(one for one in found if one)

    @property
    def over(self) -> bool:
        """A job of requests in the body may be shown without its results. Then it is asked for again, with them."""
        asks = self._shown is not None and self._shown.facts == _IN_PLACE
        unshown = asks and not (self.nothing_done or self._results or self._id("output_file"))
        return self._id("status") in _OVER and not unshown

    @property
    def nothing_done(self) -> bool:
        done = self._member("succeeded_requests")
        return type(done) is int and done == 0

    @property
    def output(self) -> Later | None:
        file = self._id("output_file")
        start, mark, _ = ("" if self._shown is None else self._shown.path).partition("/batch/jobs/")
        if not mark or not _ID.fullmatch(file):
            return None
        return Later(file, f"{start}/files/{file}/content", _OUTPUT)


class _NewJob(_Job):
    """Reads the answer to a request that starts a job."""

    def __init__(self, path: str, in_place: bool) -> None:
        super().__init__(None)
        self._path_of_jobs = path
        self._in_place = in_place

    @property
    def later(self) -> Later | None:  # type: ignore[override]
        found = self._id("id")
        if not _ID.fullmatch(found):
            return None
        path = f"{self._path_of_jobs}/{found}"
        return (
            Later(found, f"{path}?inline=true", _IN_PLACE) if self._in_place else Later(found, path)
        )


def read_line(line: Mapping[str, Any]) -> tuple[Charge, ...] | None:
    """`formats.result_lines.LineReader`."""
    response = line.get("response")
    response = response if isinstance(response, Mapping) else {}
    body = response.get("body")
    if isinstance(body, Mapping) and (charges := _charges(body)):
        return charges
    return () if line.get("error") or count(response.get("status_code")) >= 400 else None


def _charges(body: Mapping[str, Any]) -> tuple[Charge, ...]:
    if isinstance(body.get("usage_info"), Mapping):
        pages = ToldPages(f"{BATCH}+{ANNOTATED}" if _annotated(body) else BATCH)
        pages.event(body)
        return pages.charges()
    usage = body.get("usage")
    sound = isinstance(usage, Mapping) and usage.get("prompt_audio_seconds") is not None
    told = (
        ToldSeconds()
        if sound and "choices" not in body and "outputs" not in body
        else ToldByMistral()
    )
    told.event(body)
    # The tier that a line names says nothing beside the batch.
    return tuple(
        charge._replace(
            tier=BATCH if charge.units.tokens or charge.units.milliseconds else charge.tier
        )
        for charge in told.charges()
    )


def _annotated(body: Mapping[str, Any]) -> bool:
    """The pages were annotated: mistralai-python `ocrresponse.py`, `ocrimageobject.py`."""
    if body.get("document_annotation") is not None:
        return True
    pages = body.get("pages")
    return any(
        isinstance(image, Mapping) and image.get("image_annotation") is not None
        for page in (pages if isinstance(pages, list) else ())
        if isinstance(page, Mapping)
        for image in (page.get("images") or ())
    )
