"""Chat completions in OpenAI's format at Bedrock, read by the readers of that family.

https://docs.aws.amazon.com/bedrock/latest/userguide/inference-chat-completions.html: the model
stands in the body, and a stream tells its usage only if the request asks for it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tollhouse.families.base import AnswerHead, Asked, Boundary, Dialect, Meter, Request
from tollhouse.families.formats.kinds import Kind
from tollhouse.families.openai import OPENAI
from tollhouse.families.units import Charge


def read(request: Request, dialect: Dialect) -> Asked:
    return OPENAI.read(request, replace(dialect, usage_in_stream="on_request"))


class _Nowhere:
    """A boundary between no two events: our own event is AWS's frame, and no client of this format
    can read one."""

    between = False

    def sent(self, data: bytes) -> None:
        return

    def cut(self, data: bytes) -> bytes:
        return data


class _Untold:
    """The meter of OpenAI's format. Its stream ends without a word where its budget ends."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    @property
    def boundary(self) -> Boundary | None:
        return None if self._meter.boundary is None else _NOWHERE

    @property
    def output_seen(self) -> int:
        return self._meter.output_seen

    @property
    def done(self) -> bool:
        return self._meter.done

    @property
    def error(self) -> str:
        return self._meter.error

    @property
    def edits(self) -> bool:
        return self._meter.edits

    @property
    def created(self) -> tuple[str, ...]:
        return self._meter.created

    def feed(self, data: bytes) -> bytes:
        return self._meter.feed(data)

    def flush(self) -> bytes:
        return self._meter.flush()

    def finish(self) -> tuple[Charge, ...]:
        return self._meter.finish()


_NOWHERE: Final = _Nowhere()


def meter(asked: Asked, head: AnswerHead) -> Meter:
    return _Untold(OPENAI.meter(asked, head))


CHAT: Final = Kind(read, OPENAI.estimate, meter, OPENAI.rewrite)
