import re
from itertools import pairwise
from sys import getsizeof

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tollhouse.families.formats.sse import EventData, EventSplitter

_streams = st.lists(
    st.sampled_from(
        [
            b"data: x",
            b"data:",
            b"\n",
            b"\r",
            b"\r\n",
            b"\n\n",
            b"\r\r",
            b"\r\n\r\n",
            b": c",
            b"\xc3",
            b"\xa9",
        ]
    )
).map(b"".join)
_cuts = st.lists(st.integers(0, 60), max_size=12)


def _split(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    return [stream[a:b] for a, b in pairwise(places)]


def _events(stream: bytes) -> list[bytes]:
    """Events with their ends, and what is left, of a stream seen as a whole."""
    lines = re.findall(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", stream)
    events, event, ended = [], b"", False
    for line in lines:
        event += line
        blank = not line.strip(b"\r\n")
        if blank and ended:
            events.append(event)
            event, ended = b"", False
        else:
            ended = line[-1:] in b"\r\n"
    return [*events, event]


@given(_streams, _cuts)
@example(b"data: x\r\n\r\n\ndata: x\r\r\n", [10, 11])
def test_events_are_the_same_however_the_stream_is_cut(stream: bytes, cuts: list[int]):
    """A stream in any pieces gives the events of the stream in one, and not one byte more or less."""
    splitter = EventSplitter()
    pieces = [piece for chunk in _split(stream, cuts) for piece in splitter.feed(chunk)]
    assert b"".join(raw for raw, _ in pieces) + splitter.rest() == stream
    joined: list[bytes] = []
    for raw, whole in pieces:
        if whole:
            joined.append(raw)
        else:
            assert raw == b"\n"
            assert joined[-1].endswith(b"\r")
            joined[-1] += raw
    whole_stream = EventSplitter().feed(stream)
    expected = [raw for raw, _ in whole_stream]
    assert joined == expected
    assert joined == _events(stream)[:-1]


@given(st.lists(st.sampled_from([b"data: a\n\n", b"data: b\r\n\r\n", b"data: c\r\r"])), _cuts)
def test_a_complete_event_is_never_held(events: list[bytes], cuts: list[int]):
    """After each chunk, all events that have ended are out, also one whose CR may yet be followed by a LF."""
    splitter = EventSplitter()
    stream = b"".join(events)
    ends = [sum(map(len, events[: n + 1])) for n in range(len(events))]
    fed = given_out = 0
    for chunk in _split(stream, cuts):
        fed += len(chunk)
        given_out += sum(len(raw) for raw, _ in splitter.feed(chunk))
        assert given_out >= max((end for end in ends if end <= fed), default=0)


@given(
    st.integers(1, 200),
    st.lists(st.integers(0, 300), max_size=12),
    st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r"]),
)
def test_an_event_above_the_limit_passes_in_pieces(size: int, cuts: list[int], end: bytes):
    """A long event is not kept, and the next one is an event again."""
    stream = b"data: " + b"x" * size + end + b"data: after" + end
    splitter = EventSplitter(limit=50)
    pieces = []
    for chunk in _split(stream, cuts):
        pieces += splitter.feed(chunk)
        assert len(splitter.rest()) <= 50
    assert b"".join(raw for raw, _ in pieces) == stream
    wholes = [raw for raw, whole in pieces if whole]
    assert wholes[-1].startswith(b"data: after")


def test_data_lines_make_one_text_with_places():
    """Other fields and comments are left out, one space is taken off, lines join, and places point into the event."""
    raw = b"\xef\xbb\xbf: hi\r\nevent: x\rdata:  one\ndata\ndata:\xc3\xa9two\n\n"
    data = EventData(raw)
    assert data.text is not None
    assert data.text.encode("latin-1") == b" one\n\n\xc3\xa9two"
    start = data.text.index("two")
    assert raw[slice(*data.raw_span(start, start + 3))] == b"two"
    assert raw[slice(*data.raw_span(1, start + 3))] == b"one\ndata\ndata:\xc3\xa9two"
    assert EventData(b": only a comment\n\n").text is None


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n"])
def test_events_without_anything_in_them(end: bytes) -> None:
    """Each of them is one, however many a piece has."""
    splitter = EventSplitter()
    assert splitter.feed(b"a" + end + end * 1000) == [(b"a" + end, True)] + [(end, True)] * 1000
    assert splitter.rest() == b""


def test_an_event_in_small_pieces_takes_no_more_memory_than_its_bytes() -> None:
    """Each piece is an object of its own, which would take several times its bytes."""
    splitter = EventSplitter()
    for number in range(50_000):
        splitter.feed(b"%07d" % number)
    kept = [getsizeof(part) for part in vars(splitter).values()]
    assert len(splitter.rest()) == 350_000
    assert sum(kept) < 700_000
    assert not any(isinstance(part, list | tuple | dict) for part in vars(splitter).values())
