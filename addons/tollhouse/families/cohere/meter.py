"""Which reader an answer gets.

A stream of v2 is events, and its last tells the usage. One of v1 is lines, or events where the client accepts them by name.
"""

from __future__ import annotations

from typing import Final

from tollhouse.families.asked import Asked
from tollhouse.families.cohere.usage import ToldByCohere, ToldObject
from tollhouse.families.formats.sniffed import Sniffed
from tollhouse.families.formats.watched import WatchedJson, WatchedStream, texts_of
from tollhouse.families.meters import AnswerHead

_MEMBERS: Final = ("usage", "meta", "message", "type", "event_type", "finish_reason")
_WANTED: Final = (b'"message-end"', b'"stream-end"', b'"stream-error"', b"[DONE]")
_TEXTS: Final = texts_of("text", "thinking", "tool_plan", "arguments", "parameters")


def meter(asked: Asked, head: AnswerHead) -> Sniffed:
    told = ToldByCohere()
    lines = asked.stream and asked.detail.lines

    def of_json() -> WatchedJson | WatchedStream:
        if lines:
            return WatchedStream(
                told, (*_WANTED, b'"message"'), _TEXTS, lines=True, names_model=False
            )
        return WatchedJson(told, _MEMBERS)

    return Sniffed(
        asked.stream,
        head.get("content-type"),
        of_json=of_json,
        of_events=lambda: WatchedStream(told, _WANTED, _TEXTS, names_model=False),
        may_edit=False,
    )


def meter_object(asked: Asked, head: AnswerHead) -> WatchedJson:
    return WatchedJson(ToldObject(), ("id", "connector"))
