"""What the sessions over a WebSocket have in common: the Realtime API, and the Responses API."""

from __future__ import annotations

from typing import Final

from tollhouse.denial import Denial
from tollhouse.families.asked import Asked
from tollhouse.families.dialogue import Dialogue, Terms
from tollhouse.families.formats.errors import as_json
from tollhouse.families.formats.kinds import Kind
from tollhouse.families.meters import AnswerHead, Meter, PassThrough
from tollhouse.families.openai import (
    realtime_dialogue,
    realtime_handshake,
    responses_dialogue,
)
from tollhouse.families.openai.errors import error_object, socket_failure
from tollhouse.families.openai.realtime_dialogue import RealtimeDialogue
from tollhouse.families.openai.responses_dialogue import ResponsesDialogue


def _unread(asked: Asked, head: AnswerHead) -> Meter:
    """Of the answer that refuses a handshake."""
    return PassThrough()


SOCKETS: Final[dict[str, Kind]] = {
    "realtime": Kind(realtime_handshake.read, realtime_dialogue.estimate, _unread),
    responses_dialogue.KIND: Kind(responses_dialogue.read, responses_dialogue.estimate, _unread),
}


def dialogue(asked: Asked, terms: Terms) -> Dialogue:
    if asked.kind == responses_dialogue.KIND:
        return ResponsesDialogue(asked, terms)
    return RealtimeDialogue(asked, terms)


def socket_error(denial: Denial, call_id: str, asked: Asked) -> bytes:
    """openai-python gives it as a `ResponseFailedEvent`, or as a `RealtimeErrorEvent`."""
    if asked.kind == responses_dialogue.KIND:
        return socket_failure(denial, call_id, asked)
    error = {**error_object(denial, call_id), "event_id": None}
    return as_json({"type": "error", "event_id": f"event_{call_id}", "error": error})
