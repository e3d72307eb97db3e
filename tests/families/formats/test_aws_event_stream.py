"""AWS's frames, tried against botocore's own reader."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from zlib import crc32

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.families.formats.aws_event_stream import (
    BrokenFrame,
    Frame,
    FrameBoundary,
    FrameSplitter,
    exception_frame,
    frame,
)

_TEXTS = st.text(max_size=20)
_FRAMES = st.lists(
    st.tuples(
        st.dictionaries(st.text(min_size=1, max_size=12), _TEXTS, max_size=4),
        st.binary(max_size=80),
    ),
    min_size=1,
    max_size=5,
)


def made(frames: Sequence[tuple[dict[str, str], bytes]]) -> bytes:
    return b"".join(frame(tuple(headers.items()), payload) for headers, payload in frames)


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@given(_FRAMES)
def test_botocore_reads_what_is_written(frames: list[tuple[dict[str, str], bytes]]) -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(made(frames))
    assert [(message.headers, message.payload) for message in buffer] == frames


@given(_FRAMES, st.integers(1, 40))
def test_frames_are_cut_anywhere(frames: list[tuple[dict[str, str], bytes]], size: int) -> None:
    """The same frames come out, whatever the pieces are."""
    splitter = FrameSplitter()
    found = [one for piece in cut(made(frames), size) for one in splitter.feed(piece)]
    assert found == [Frame(headers, payload) for headers, payload in frames]


def test_the_bytes_of_one_frame() -> None:
    """Worked out by hand: 16 bytes around 7 of headers and 2 of payload."""
    lengths = b"\x00\x00\x00\x19\x00\x00\x00\x07"
    rest = b"\x01a\x07\x00\x02xy" + b"{}"
    head = lengths + struct.pack("!I", crc32(lengths)) + rest
    assert frame((("a", "xy"),), b"{}") == head + struct.pack("!I", crc32(head))


def test_headers_of_all_types() -> None:
    """Only texts are kept; what has another type is passed over by its size."""
    values = [
        (0, b""),
        (1, b""),
        (2, b"\x01"),
        (3, b"\x01\x02"),
        (4, bytes(4)),
        (5, bytes(8)),
        (6, b"\x00\x03abc"),
        (8, bytes(8)),
        (9, bytes(16)),
        (7, b"\x00\x02ok"),
    ]
    headers = b"".join(
        bytes((2,)) + f"h{kind}".encode() + bytes((kind,)) + value for kind, value in values
    )
    assert FrameSplitter().feed(raw(headers, b"x")) == [Frame({"h7": "ok"}, b"x")]


def raw(headers: bytes, payload: bytes) -> bytes:
    lengths = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    head = lengths + struct.pack("!I", crc32(lengths)) + headers + payload
    return head + struct.pack("!I", crc32(head))


@pytest.mark.parametrize(
    "headers",
    [b"\x05a", b"\x01a\x0a", b"\x01a\x07\x00", b"\x01\xff\x07\x00\x00", b"\x01a\x07\x00\x01\xff"],
)
def test_headers_that_cannot_be_read(headers: bytes) -> None:
    """The frame is left out, and the next one is read."""
    good = frame((), b"next")
    assert FrameSplitter().feed(raw(headers, b"x") + good) == [Frame({}, b"next")]


@pytest.mark.parametrize("at", [12, 30, -5, -1])
def test_a_frame_whose_own_checksum_is_wrong(at: int) -> None:
    """It is left out. Its length is sound, so the next one is read."""
    broken = bytearray(exception_frame("x", b"{}"))
    broken[at] ^= 1
    assert FrameSplitter().feed(bytes(broken) + frame((), b"next")) == [Frame({}, b"next")]


@pytest.mark.parametrize("at", range(12))
def test_a_prelude_whose_checksum_is_wrong(at: int) -> None:
    """Nobody can tell where the next frame begins."""
    broken = bytearray(frame((), b"x"))
    broken[at] ^= 1
    with pytest.raises(BrokenFrame):
        FrameSplitter().feed(bytes(broken))


def test_frames_before_a_broken_one_are_read() -> None:
    """They may have the usage. What follows is lost, as it is if it comes as a piece of its own."""
    splitter = FrameSplitter()
    assert splitter.feed(frame((), b"usage") + b"no frame at all") == [Frame({}, b"usage")]
    with pytest.raises(BrokenFrame):
        splitter.feed(frame((), b"more"))


@pytest.mark.parametrize(("total", "of_headers"), [(15, 0), (20, 5), (0xFFFFFFFF, 0), (16, 1)])
def test_lengths_that_cannot_be(total: int, of_headers: int) -> None:
    lengths = struct.pack("!II", total, of_headers)
    with pytest.raises(BrokenFrame):
        FrameSplitter().feed(lengths + struct.pack("!I", crc32(lengths)))


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_a_long_frame_is_passed_over(size: int) -> None:
    """Nothing of it is kept, and what comes behind it is read."""
    data = frame((), b"first") + frame((), bytes(100)) + frame((), b"last")
    splitter = FrameSplitter(limit=64)
    found = [one.payload for piece in cut(data, size) for one in splitter.feed(piece)]
    assert found == [b"first", b"last"]


@given(_FRAMES, st.integers(1, 40))
def test_between_frames(frames: list[tuple[dict[str, str], bytes]], size: int) -> None:
    """`between` is true exactly where a frame has ended, and `cut` gives the rest of the one under way."""
    data = made(frames)
    ends = {0}
    for headers, payload in frames:
        ends.add(max(ends) + len(frame(tuple(headers.items()), payload)))
    boundary, at = FrameBoundary(), 0
    for piece in cut(data, size):
        assert boundary.between == (at in ends)
        following = min(end for end in ends if end > at)
        assert boundary.cut(data[at:]) == data[at:following]
        boundary.sent(piece)
        at += len(piece)
    assert boundary.between


def test_between_no_frames() -> None:
    """In what is no stream of frames nothing of ours is put."""
    boundary = FrameBoundary()
    boundary.sent(b"\x00\x00\x00\x01more")
    assert not boundary.between
    assert boundary.cut(b"rest") == b"rest"
    boundary.sent(b"")
    assert not boundary.between
