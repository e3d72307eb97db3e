"""Streams that are only read: where lines end, what of them is kept, and what is not parsed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tollhouse.families.formats.watched import (
    LineBoundary,
    LineSplitter,
    WatchedJson,
    WatchedStream,
    texts_of,
)
from tollhouse.families.units import Charge, Units


class Noted:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.model = self.error = ""
        self.done = False
        self.created: tuple[str, ...] = ()
        self.output = 0
        self.events: list[Mapping[str, Any]] = []

    def event(self, document: Mapping[str, Any]) -> bool:
        self.events.append(document)
        self.output = document.get("output", 0)
        return bool(document.get("again"))

    def charges(self) -> tuple[Charge, ...]:
        return (Charge("m", Units(output=self.output)),)


TEXTS = texts_of("text")


def stream(*, lines: bool = False) -> tuple[WatchedStream, Noted]:
    noted = Noted()
    return WatchedStream(noted, (b'"usage"',), TEXTS, lines=lines, names_model=False), noted


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_lines(size: int) -> None:
    """However they come; what has no end yet is the rest."""
    splitter = LineSplitter()
    whole = b"one\n\ntwo\r\nthree"
    pieces = [
        piece for at in range(0, len(whole), size) for piece in splitter.feed(whole[at : at + size])
    ]
    assert pieces == [(b"one", True), (b"", True), (b"two\r", True)]
    assert splitter.rest() == b"three"


def test_a_line_without_end_is_not_kept() -> None:
    """Above the limit it passes unread, and the next line is read again."""
    splitter = LineSplitter(limit=4)
    assert splitter.feed(b"12345") == []
    assert splitter.rest() == b""
    assert splitter.feed(b"6\nab\n") == [(b"6", False), (b"ab", True)]


def test_where_an_event_can_be_put_between_lines() -> None:
    """Behind the end of a line."""
    boundary = LineBoundary()
    assert boundary.between
    boundary.sent(b'{"a"')
    assert not boundary.between
    assert boundary.cut(b":1}\n{") == b":1}\n"
    assert boundary.cut(b":1}") == b":1}"
    boundary.sent(b":1}\n")
    assert boundary.between


def test_only_an_event_with_a_wanted_word_is_parsed() -> None:
    """All others have their texts counted: a token for each, and four characters for each further one."""
    meter, noted = stream()
    meter.feed(b'data: {"text":"a"}\n\ndata: {"text":"abcdefgh"}\n\n')
    assert (noted.events, meter.output_seen) == ([], 3)
    meter.feed(b'data: {"usage":1,"output":9}\n\n')
    assert noted.events == [{"usage": 1, "output": 9}]
    assert meter.output_seen == 9
    assert meter.finish() == (Charge("m", Units(output=9)),)


def test_a_text_that_is_told_again_counts_once() -> None:
    """As the last line of a stream repeats all of it."""
    meter, _ = stream(lines=True)
    meter.feed(b'{"text":"abcd"}\n{"text":"abcd","usage":1,"again":true}\n')
    assert meter.output_seen == 1


def test_what_is_no_json_says_nothing() -> None:
    """And the next event is read; `[DONE]` in an event that is read ends it."""
    noted = Noted()
    meter = WatchedStream(noted, (b'"usage"', b"[DONE]"), TEXTS)
    meter.feed(b'data: {"usage":\n\ndata: [1,"usage"]\n\ndata: {"usage":1}\n\n')
    assert noted.events == [{"usage": 1}]
    assert not meter.done
    meter.feed(b"data: [DONE]\n\n")
    assert meter.done


def test_a_last_line_without_its_end_is_read() -> None:
    """When the answer is over."""
    meter, noted = stream(lines=True)
    meter.feed(b'{"usage":1}')
    assert noted.events == []
    assert meter.flush() == b""
    assert noted.events == [{"usage": 1}]


@pytest.mark.parametrize("size", [10, 70_000])
def test_one_object(size: int) -> None:
    """A long one is read by its outermost members."""
    noted = Noted()
    meter = WatchedJson(noted, ("usage",))
    body = b'{"usage":{"a":1},"text":"%s"}' % (b"x" * size)
    for at in range(0, len(body), 4_096):
        assert meter.feed(body[at : at + 4_096]) == body[at : at + 4_096]
    meter.flush()
    [found] = noted.events
    assert found["usage"] == {"a": 1}
    assert ("text" in found) == (size == 10)
