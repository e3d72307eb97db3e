"""A family whose operations differ: what is done for each kind of operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tollhouse.families.asked import Asked, Dialect, Limits, Mode, Request
from tollhouse.families.formats.content import sent_as_json
from tollhouse.families.meters import AnswerHead, Meter
from tollhouse.families.units import Estimate
from tollhouse.headers import Headers


def unchanged(body: bytes, asked: Asked) -> bytes:
    """The rewrite of a request in which nothing is ever changed."""
    return body


@dataclass(frozen=True, slots=True)
class Kind:
    """The parts of `Family` that one kind of operation has; each as described there."""

    read: Callable[[Request, Dialect], Asked]
    estimate: Callable[[Asked, Mode, Limits, Dialect], Estimate]
    meter: Callable[[Asked, AnswerHead], Meter]
    rewrite: Callable[[bytes, Asked], bytes] = unchanged
    sent_headers: Callable[[Headers, Asked], Headers] = sent_as_json


class Kinds:
    """The same parts for all of a family's operations that have them, by `Operation.kind`. `read`
    sets ``Asked.kind``."""

    def __init__(self, kinds: Mapping[str, Kind]) -> None:
        self._kinds = dict(kinds)

    def plus(self, more: Mapping[str, Kind]) -> Kinds:
        """These and ``more``. No kind may be in both."""
        assert not self._kinds.keys() & more.keys()
        return Kinds({**self._kinds, **more})

    def read(self, request: Request, dialect: Dialect) -> Asked:
        kind = request.operation.kind
        asked = self._kinds[kind].read(request, dialect)
        return asked if asked.kind == kind else asked._replace(kind=kind)

    def estimate(self, asked: Asked, mode: Mode, limits: Limits, dialect: Dialect) -> Estimate:
        return self._kinds[asked.kind].estimate(asked, mode, limits, dialect)

    def meter(self, asked: Asked, head: AnswerHead) -> Meter:
        return self._kinds[asked.kind].meter(asked, head)

    def rewrite(self, body: bytes, asked: Asked) -> bytes:
        return self._kinds[asked.kind].rewrite(body, asked)

    def sent_headers(self, headers: Headers, asked: Asked) -> Headers:
        return self._kinds[asked.kind].sent_headers(headers, asked)
