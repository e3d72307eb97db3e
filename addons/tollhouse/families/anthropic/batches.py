"""Batches of messages: their usage stands in their results, a line for each request.

Results are there when the batch has ended:
https://platform.claude.com/docs/en/api/retrieving-message-batch-results. Requests that have not
succeeded cost nothing: https://platform.claude.com/docs/en/build-with-claude/batch-processing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from tollhouse.families.anthropic.objects import Made, read_batch
from tollhouse.families.anthropic.usage import Reported
from tollhouse.families.asked import Asked, Dialect, Request
from tollhouse.families.formats.result_lines import LineReader, ResultLines
from tollhouse.families.meters import AnswerHead, Later
from tollhouse.families.units import Charge

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,200}")
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


def late_meter(later: Later, head: AnswerHead) -> ResultLines:
    """The meter of the results of a batch."""
    return ResultLines(_reader(executes=later.facts == _EXECUTES))


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


def _reader(*, executes: bool) -> LineReader:
    """Reads a line of results. ``executes``: a container that the line names is charged by its time.
    No line says which tools its request had, so that this holds for all of them if it holds for one."""

    def read_line(told: Mapping[str, Any]) -> tuple[Charge, ...] | None:
        result = told.get("result")
        if not isinstance(result, Mapping) or not isinstance(result.get("type"), str):
            return None
        if result["type"] != "succeeded":
            return ()
        message = result.get("message")
        reported = Reported(executes=executes)
        if isinstance(message, Mapping):
            reported.message(message)
        return reported.charges() or None

    return read_line
