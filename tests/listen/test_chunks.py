"""Bodies in chunks: what their framing costs."""

from __future__ import annotations

import time

from tollhouse.listen.chunks import ChunkedBody

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
