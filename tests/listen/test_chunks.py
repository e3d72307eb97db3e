"""Bodies in chunks: what their framing costs."""

from __future__ import annotations

import time

from tollhouse.listen.chunks import MOST_LINES, ChunkedBody

LIMIT = 65_536


def test_a_line_that_comes_byte_by_byte() -> None:
    """Each byte is looked at once: 60,000 took 10 s."""
    body, buffer = ChunkedBody(LIMIT), bytearray()
    since = time.process_time()
    for byte in b"1;" + b"x" * 60_000 + b"\r\na\r\n0\r\n\r\n":
        buffer.append(byte)
        if taken := body.take(buffer):
            assert (taken, buffer) == (b"a", b"")
    assert (body.over, buffer) == (True, b"")
    assert time.process_time() - since < 1.0


def test_chunks_cut_anywhere() -> None:
    """The same bytes come out, however they come in."""
    framed = b"1\r\na\r\n2;x\r\nbc\r\n003 \r\ndef\r\n0\r\nA: b\r\n\r\nrest"
    for cut in range(len(framed) + 1):
        body, buffer = ChunkedBody(LIMIT), bytearray(framed[:cut])
        taken = body.take(buffer)
        buffer += framed[cut:]
        taken += body.take(buffer)
        assert (taken, bytes(buffer), body.over) == (b"abcdef", b"rest", True)


def test_many_small_chunks_are_taken_in_parts() -> None:
    """All of them at once would take 0.2 s."""
    body, buffer = ChunkedBody(LIMIT), bytearray(b"1\r\na\r\n" * 10_000 + b"0\r\n\r\n")
    sizes = []
    while not body.over:
        sizes.append(len(body.take(buffer)))
        assert body.more or body.over
    assert (sum(sizes), max(sizes), buffer) == (10_000, MOST_LINES, b"")
