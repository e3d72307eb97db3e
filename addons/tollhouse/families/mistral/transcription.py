"""Transcriptions: a form with a recording, charged by its seconds. The tokens of the text cost nothing beside them:
https://mistral.ai/pricing. The fields are those of mistralai-python `audiotranscriptionrequest.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tollhouse.families.asked import Asked, Dialect, Limits, Mode, Request
from tollhouse.families.formats.checked import MAX_NAME
from tollhouse.families.formats.document import refuse
from tollhouse.families.formats.kinds import Kind
from tollhouse.families.formats.multipart import Form, form_of, sent_as_it_came
from tollhouse.families.formats.sniffed import Sniffed
from tollhouse.families.formats.watched import WatchedJson, WatchedStream, texts_of
from tollhouse.families.meters import AnswerHead
from tollhouse.families.mistral.estimate import MAX_AUDIO_S, USUAL_AUDIO_S, seconds_of
from tollhouse.families.mistral.usage import ToldByMistral
from tollhouse.families.units import Charge, Estimate, Units

_LISTS: Final = frozenset({"context_bias", "timestamp_granularities", "speaker_references"})
_KNOWN: Final = _LISTS | {
    "model", "file", "file_url", "file_id", "language", "temperature", "stream", "diarize",
}  # fmt: skip
_MEMBERS: Final = ("usage", "model", "object", "type", "code", "error")
_WANTED: Final = (b'"usage"', b'"error"', b'"transcription.done"', b"[DONE]")


def read(request: Request, dialect: Dialect) -> Asked:
    """``detail`` is the most seconds of a recording that is in the body; None for one that is elsewhere."""
    body = form_of(request, _KNOWN, _LISTS)
    parts = {part.name: part for part in body.parts if part.name in _KNOWN - _LISTS}
    model = _text(body, "model")
    if not model:
        refuse('The body has no "model".')
    stream = _text(body, "stream")
    if stream not in ("", "true", "false"):
        refuse('"stream" must be true or false.')
    kept = _text(body, "file_id")
    file = parts.get("file")
    return Asked(
        model,
        stream=stream == "true",
        writes=False,
        reasons=False,
        objects=(kept,) if kept else (),
        detail=None if file is None else seconds_of(file.end - file.start),
    )


def estimate(asked: Asked, mode: Mode, limits: Limits, dialect: Dialect) -> Estimate:
    seconds = asked.detail
    if seconds is None:
        seconds = MAX_AUDIO_S if mode == "worst" else USUAL_AUDIO_S
    return Estimate(Units(milliseconds=1_000 * seconds, requests=1))


class ToldSeconds(ToldByMistral):
    """Of a transcription: seconds, and no tokens."""

    def event(self, document: Mapping[str, Any]) -> bool:
        super().event(document)
        self.done = self.done or document.get("type") == "transcription.done"
        return False

    def charges(self) -> tuple[Charge, ...]:
        return tuple(
            charge._replace(units=Units(milliseconds=charge.units.milliseconds, requests=1))
            for charge in super().charges()
            if charge.units.milliseconds
        )


def meter(asked: Asked, head: AnswerHead) -> Sniffed:
    told = ToldSeconds()
    return Sniffed(
        asked.stream,
        head.get("content-type"),
        of_json=lambda: WatchedJson(told, _MEMBERS),
        of_events=lambda: WatchedStream(told, _WANTED, texts_of("text")),
        may_edit=False,
    )


def _text(body: Form, name: str) -> str:
    for part in body.parts:
        if part.name == name:
            text = body.text(part)
            if len(text) > MAX_NAME or not text.isprintable():
                refuse(f'"{name}" must have at most {MAX_NAME} printable characters.')
            return text
    return ""


TRANSCRIPTION: Final = Kind(read, estimate, meter, sent_headers=sent_as_it_came)
