"""How each kind of operation is read, estimated and metered."""

from __future__ import annotations

from typing import Final, NoReturn

from tollhouse.families.asked import Asked
from tollhouse.families.formats.kinds import Kind, Kinds
from tollhouse.families.formats.lowered import lower_cap
from tollhouse.families.mistral import batch_jobs, estimate, meter, request
from tollhouse.families.mistral.transcription import TRANSCRIPTION
from tollhouse.headers import Headers


def lower(body: bytes, asked: Asked) -> bytes:
    return body if asked.lowered_to is None else lower_cap(body, asked.lowered_to, "max_tokens")


def lower_in_arguments(body: bytes, asked: Asked) -> bytes:
    if asked.lowered_to is None:
        return body
    return lower_cap(body, asked.lowered_to, "max_tokens", inside="completion_args")


def as_they_came(headers: Headers, asked: Asked) -> Headers:
    """An upload is sent under the content type that has its boundary."""
    return headers


def _free(*_: object) -> NoReturn:
    raise AssertionError("it is not metered")


_CHAT: Final = Kind(request.read_chat, estimate.estimate_text, meter.meter_text, lower)
_TALK: Final = Kind(
    request.read_conversation, estimate.estimate_text, meter.meter_text, lower_in_arguments
)
_INPUT: Final = Kind(request.read_input, estimate.estimate_text, meter.meter_text)

KINDS: Final = Kinds(
    {
        "chat": _CHAT,
        "fim": _CHAT,
        "agent": _CHAT,
        "conversation": _TALK,
        "append": _TALK,
        "embeddings": _INPUT,
        "classify": _INPUT,
        "ocr": Kind(request.read_ocr, estimate.estimate_pages, meter.meter_pages),
        "speech": Kind(request.read_speech, estimate.estimate_speech, meter.meter_speech),
        "transcription": TRANSCRIPTION,
        "batch": Kind(batch_jobs.read, _free, batch_jobs.meter),
        "batches": Kind(batch_jobs.read, _free, batch_jobs.shown_meter),
        "upload": Kind(request.read_upload, _free, meter.meter_upload, sent_headers=as_they_came),
    }
)
