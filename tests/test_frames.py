"""WebSocket messages and their frames."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.frames import NO_CODE, BadFrames, Frames, Message, Side, SideLost


class Room:
    """Counts, and has room for ``most``."""

    def __init__(self, most: int = 1 << 30) -> None:
        self.most, self.kept, self.highest = most, 0, 0

    def extend(self, count: int) -> None:
        self.kept += count
        self.highest = max(self.highest, self.kept)
        if self.kept > self.most:
            raise MemoryError

    def release(self) -> None:
        self.kept = 0


def server(longest: int = 1 << 20, room: Room | None = None) -> Frames:
    return Frames(client=False, longest=longest, room=room or Room())


def client() -> Frames:
    return Frames(client=True, longest=1 << 20, room=Room())


def messages(frames: Frames, data: bytes) -> list[Message]:
    return [one for one in frames.receive(data) if one is not None]


def test_pings_of_a_session_that_is_quiet() -> None:
    """One ping and one pong every few seconds for hours are taken; a flood is not, nor behind a long silence."""
    now = [0.0]
    frames = Frames(client=False, longest=1 << 20, room=Room(), clock=lambda: now[0])
    pair = [b"".join(client().pieces(Message(kind, b"x"))) for kind in ("ping", "pong")]
    for _ in range(2_000):
        now[0] += 5.0
        assert [one.kind for sent in pair for one in messages(frames, sent)] == ["ping", "pong"]
    for _ in range(99):
        messages(frames, b"".join(pair))
    with pytest.raises(BadFrames, match="too many pings"):
        messages(frames, pair[0])


@given(st.one_of(st.text(max_size=5_000), st.binary(max_size=5_000)), st.integers(1, 4_000))
def test_a_message_comes_as_it_was_sent(content: str | bytes, cut: int) -> None:
    """In whatever pieces its bytes come."""
    kind = "text" if isinstance(content, str) else "binary"
    data = content.encode() if isinstance(content, str) else content
    sent = b"".join(client().pieces(Message(kind, data)))  # type: ignore[arg-type]
    frames = server()
    came = [one for at in range(0, len(sent), cut) for one in messages(frames, sent[at : at + cut])]
    assert came == [Message(kind, data)]  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["text", "binary"])
def test_a_long_message_goes_out_in_several_frames(kind: str) -> None:
    data = b"a" * 700_000
    pieces = list(client().pieces(Message(kind, data)))  # type: ignore[arg-type]
    assert len(pieces) == 3
    assert messages(server(), b"".join(pieces)) == [Message(kind, data)]  # type: ignore[arg-type]


def test_others_take_their_turn_between_many_frames() -> None:
    """So that a read full of tiny frames does not hold up the loop."""
    sent = b"".join(client().pieces(Message("text", b"a"))) * 5_000
    turns = [one for one in server().receive(sent) if one is None]
    assert len(turns) == len(sent) // 8_192


@pytest.mark.parametrize(("code", "reason"), [(1000, "bye"), (1008, "é" * 100), (NO_CODE, "")])
def test_a_close(code: int, reason: str) -> None:
    """A reason that is too long is cut at a whole character."""
    frames = server()
    sent = client().close(code, reason)
    [close] = messages(frames, sent)
    assert (close.kind, close.code) == ("close", code)
    assert reason.startswith(close.data.decode())
    assert frames.closed
    assert messages(frames, sent) == []


def test_what_is_kept_is_counted() -> None:
    """Also of a message whose end has not come; and no more is kept than there is room for."""
    room = Room(most=50_000)
    frames = server(room=room)
    sent = b"".join(client().pieces(Message("binary", bytes(100_000))))
    assert messages(frames, sent[:40_000]) == []
    assert 30_000 < room.kept <= 40_000
    with pytest.raises(MemoryError):
        messages(frames, sent[40_000:])


def test_pieces_of_two_bytes_take_no_more_room() -> None:
    """A client that sends a message two bytes at a time fills no more memory than the bytes that are counted."""
    [sent] = client().pieces(Message("text", "é".encode() * 10_000))
    frames = server()
    messages(frames, sent[:8])
    tracemalloc.start()
    try:
        for at in range(8, len(sent) - 2, 2):
            messages(frames, sent[at : at + 2])
        # Other threads of the tests' process take memory as well.
        ours = [tracemalloc.Filter(True, f"*{name}*") for name in ("tollhouse", "wsproto")]
        taken = tracemalloc.take_snapshot().filter_traces(ours)
    finally:
        tracemalloc.stop()
    assert sum(trace.size for trace in taken.traces) < 3 * len(sent)
    assert messages(frames, sent[-2:]) == [Message("text", "é".encode() * 10_000)]


async def test_a_side_goes_on_where_it_was_left() -> None:
    """Whoever stops reading between two messages of one read loses neither."""
    given_ = [b"".join(client().pieces(Message("text", word)).__next__() for word in (b"a", b"b"))]

    async def read() -> bytes:
        return given_.pop() if given_ else b""

    async def write(data: bytes) -> None:
        raise AssertionError

    side = Side(read, write, server())
    first = await anext(side.messages())
    second = await anext(side.messages())
    assert (first.data, second.data) == (b"a", b"b")
    with pytest.raises(SideLost):
        await anext(side.messages())


def test_too_long_by_its_declared_length() -> None:
    frames = server(longest=1_000)
    with pytest.raises(BadFrames) as caught:
        messages(frames, b"\x82\xfe\x27\x10" + bytes(4) + bytes(1_001))
    assert caught.value.code == 1009
