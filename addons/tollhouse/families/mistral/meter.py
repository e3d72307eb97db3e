"""Which reader an answer gets.

A stream tells its usage with its last text, always: a request that asks for it is refused. Its end is ``[DONE]``, of a conversation
the event `usage.DONE`.
"""

from __future__ import annotations

from typing import Final

from tollhouse.families.asked import Asked
from tollhouse.families.formats.sniffed import Sniffed
from tollhouse.families.formats.watched import WatchedJson, WatchedStream, texts_of
from tollhouse.families.meters import AnswerHead, Boundary
from tollhouse.families.mistral.usage import ToldByMistral, ToldFile, ToldPages
from tollhouse.families.units import Charge, Units

_MEMBERS: Final = (
    "usage",
    "model",
    "object",
    "type",
    "code",
    "error",
    "conversation_id",
    "outputs",
)
_WANTED: Final = (b'"usage"', b'"error"', b'"conversation.response.', b"[DONE]", b'"message.output')
_TEXTS: Final = texts_of("content", "text", "arguments")


def meter_text(asked: Asked, head: AnswerHead) -> Sniffed:
    told = ToldByMistral(asked.detail.tools, makes=asked.kind in ("conversation", "append"))
    return Sniffed(
        asked.stream,
        head.get("content-type"),
        of_json=lambda: WatchedJson(told, _MEMBERS),
        of_events=lambda: WatchedStream(told, _WANTED, _TEXTS),
        may_edit=False,
    )


def meter_pages(asked: Asked, head: AnswerHead) -> WatchedJson:
    return WatchedJson(ToldPages(asked.tier), ("usage_info", "model", "object", "type", "code"))


def meter_upload(asked: Asked, head: AnswerHead) -> WatchedJson:
    return WatchedJson(ToldFile(), ("id",))


class SpeechMeter:
    """Speech costs what its text has in characters. The answer has no usage, or tokens that nothing is charged by
    (mistralai-python `speechstreamdone.py`)."""

    edits = False
    error = ""
    output_seen = 0
    done = False
    boundary: Boundary | None = None
    """What it costs is known from the beginning, so that no budget ends it."""
    created: tuple[str, ...] = ()

    def __init__(self, asked: Asked) -> None:
        self._characters: int = asked.detail
        self._begun = False

    def feed(self, data: bytes) -> bytes:
        self._begun = self._begun or bool(data)
        return data

    def flush(self) -> bytes:
        return b""

    def finish(self) -> tuple[Charge, ...]:
        return (Charge("", Units(characters=self._characters, requests=1)),) if self._begun else ()


def meter_speech(asked: Asked, head: AnswerHead) -> SpeechMeter:
    return SpeechMeter(asked)
