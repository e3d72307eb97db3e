"""The parts of the family for each kind of operation of the Responses and Conversations APIs."""

from __future__ import annotations

from typing import Final

from tollhouse.families.asked import Asked, Dialect, Limits, Mode, Request
from tollhouse.families.formats.kinds import Kind
from tollhouse.families.formats.lowered import lower_cap
from tollhouse.families.meters import AnswerHead, Meter, PassThrough
from tollhouse.families.openai.responses_estimate import estimate, estimate_compact
from tollhouse.families.openai.responses_meter import meter, shown
from tollhouse.families.openai.responses_request import (
    CAP,
    read,
    read_compact,
    read_conversation,
    read_count,
)
from tollhouse.families.units import Estimate, Units


def _rewrite(body: bytes, asked: Asked) -> bytes:
    return body if asked.lowered_to is None else lower_cap(body, asked.lowered_to, CAP)


def _nothing(asked: Asked, mode: Mode, limits: Limits, dialect: Dialect) -> Estimate:
    return Estimate(Units())


def _unasked(request: Request, dialect: Dialect) -> Asked:
    return Asked(writes=False, reasons=False)


def _unread(asked: Asked, head: AnswerHead) -> Meter:
    return PassThrough()


KINDS: Final = {
    "responses": Kind(read, estimate, meter, _rewrite),
    "responses_compact": Kind(read_compact, estimate_compact, meter),
    "responses_count": Kind(read_count, _nothing, _unread),
    "conversation": Kind(read_conversation, _nothing, meter),
    "conversation_change": Kind(read_conversation, _nothing, _unread),
    "kept": Kind(_unasked, _nothing, shown),
}
"""By `Operation.kind`."""
