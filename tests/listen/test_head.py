"""Request heads: how many lines one may have, what each costs, and which bytes a value may have."""

from __future__ import annotations

import sys
from types import FrameType

import pytest

from tollhouse.listen.mitm.head import MAX_HEADERS, Defect, parse_http1, parse_http2

H2 = [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/"), (b":authority", b"x")]


def head(*lines: bytes) -> bytes:
    return b"GET / HTTP/1.1\r\n" + b"".join(line + b"\r\n" for line in lines)


@pytest.mark.parametrize("protocol", ["1", "2"])
def test_the_lines_of_a_head_are_bounded(protocol: str) -> None:
    """200 are read, 201 are refused."""

    def parse(count: int) -> int:
        if protocol == "1":
            return len(parse_http1(head(*[b"a:"] * count)).headers.fields)
        return len(parse_http2([*H2, *[(b"a", b"")] * (count - len(H2))]).headers.fields) + len(H2)

    assert parse(MAX_HEADERS) == MAX_HEADERS == 200
    with pytest.raises(Defect) as refused:
        parse(MAX_HEADERS + 1)
    assert refused.value.denial.code == "headers_too_large"
    assert refused.value.denial.why == "It has 201 header lines, the limit is 200."


def test_lines_that_are_too_many_are_not_read() -> None:
    """The work of 16,000 lines is that of counting them: no call for each."""
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    text = head(*[b"a:"] * 16_000)
    sys.setprofile(count)
    try:
        with pytest.raises(Defect):
            parse_http1(text)
    finally:
        sys.setprofile(None)
    assert calls < 1_000


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b"a:x" + b" " * 60_000 + b"y", b"x" + b" " * 60_000 + b"y"),
        (b"a:" + b"\t " * 30_000, b""),
        (b"a: \t b c\t ", b"b c"),
        (b"a:J\xfcrgen", b"J\xfcrgen"),
        (b"a:::", b"::"),
    ],
    ids=["spaces within", "spaces alone", "spaces around", "obs-text", "colons"],
)
def test_a_value_is_what_stands_between_its_spaces(line: bytes, value: bytes) -> None:
    """RFC 9112 5.1. Spaces inside cost no more than they are long."""
    assert parse_http1(head(line)).headers.fields == ((b"a", value),)


@pytest.mark.parametrize(
    "line", [b"", b":", b"a", b"a b:c", b" a:b", b"a :b", b"a:b\x01", b"a:b\x7f", b"\xfc:b"]
)
def test_malformed_lines(line: bytes) -> None:
    """What is no `name: value` is refused."""
    with pytest.raises(Defect) as refused:
        parse_http1(head(line))
    assert refused.value.denial.code == "bad_request"
