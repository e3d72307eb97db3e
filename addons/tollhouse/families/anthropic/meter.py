"""What an answer of Anthropic's Messages API says of its usage, read as it streams by.

https://platform.claude.com/docs/en/build-with-claude/streaming. Every byte is passed on at once and
unchanged. The meter knows no host: Foundry, Vertex and Bedrock give the same messages and events.
"""

from __future__ import annotations

from typing import Final

from tollhouse.families.anthropic.extras import Extras
from tollhouse.families.anthropic.usage import Reported
from tollhouse.families.asked import Asked
from tollhouse.families.formats.sniffed import Sniffed
from tollhouse.families.formats.sse import EventData
from tollhouse.families.formats.text_tokens import raw_tokens
from tollhouse.families.formats.watched import SMALL, WatchedJson, WatchedStream, texts_of
from tollhouse.families.meters import AnswerHead

TOKENS_MORE: Final = 1.55
"""So many times more tokens than `formats.text_tokens` counts, which are OpenAI's: a token of Claude
has 3.5 characters of English (https://platform.claude.com/docs/en/about-claude/glossary), and from
Opus 4.7 on a text has up to 1.35 times as many
(https://platform.claude.com/docs/en/about-claude/models/whats-new-claude-4-7)."""
_WANTED: Final = ("type", "usage", "model", "error", "container", "id", "content")
_DELTA: Final = b"content_block_delta"
_NAMED_DELTA: Final = b"event: content_block_delta"
_SIGNS: Final = (
    *(b'"usage"', b"message_stop", b'"error"', b'"fallback"', b'"container"'),
    *(b'"server_tool_use"', b'"file_id"'),
)
"""One of them is in each event that is to be read. No text of a message can have one with its quotes:
inside a string of JSON each quote is escaped."""
_TEXTS: Final = texts_of("text", "thinking", "partial_json", "content")
_WITH_FILES: Final = 1 << 20
"""The content names files that the provider's tools have made. An answer of 128,000 tokens has half of
these bytes."""
_LEAST: Final = len(b"data:{}\n\n")


def meter(asked: Asked, head: AnswerHead) -> Sniffed:
    """The meter of an answer of status 2xx."""
    runs = isinstance(asked.detail, Extras) and bool(asked.detail.runs)
    return Sniffed(
        asked.stream,
        head.get("content-type"),
        of_json=lambda: WatchedJson(report_of(asked), _WANTED, _WITH_FILES if runs else SMALL),
        of_events=lambda: MessageEvents(report_of(asked)),
        may_edit=False,
    )


def report_of(asked: Asked) -> Reported:
    """What is to be looked for in the answer to ``asked``."""
    extras = asked.detail if isinstance(asked.detail, Extras) else Extras()
    return Reported(executes=extras.executes, keeps_thread=extras.keeps_thread)


class MessageEvents(WatchedStream):
    """Reads the events of a message. Only the pieces of its content are text of the model's."""

    def __init__(self, told: Reported) -> None:
        super().__init__(told, _SIGNS, _TEXTS, names_model=False)

    @property
    def output_seen(self) -> int:
        by_text = max(self._count, -int(-self._tokens * TOKENS_MORE // 1))
        return max(by_text, self._told.output)

    def _event(self, raw: bytes) -> None:
        # `find` takes a fifth of the time of `in`.
        if raw.startswith(_NAMED_DELTA) and raw.find(b'"usage"') < 0:
            self._count_text(raw)
            return
        if len(raw) < _LEAST:
            return
        if any(raw.find(sign) >= 0 for sign in _SIGNS) and (text := EventData(raw).text):
            self._read(text.encode("latin-1"))
        if raw.find(_DELTA) >= 0:
            self._count_text(raw)

    def _count_text(self, raw: bytes) -> None:
        for text in _TEXTS.findall(raw):
            self._count += 1
            self._tokens += raw_tokens(text)
