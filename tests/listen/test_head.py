"""Request heads: how many lines one may have, what each costs, and which bytes a value may have."""

from __future__ import annotations

import sys
import time
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.listen.mitm.head import parse_http1, parse_http2
from tollhouse.listen.request_head import (
    MAX_HEADERS,
    UNSAFE_HEAD,
    Defect,
    HeadFinder,
    Http1Head,
    parse_head,
)

H2 = [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/"), (b":authority", b"x")]


def head(*lines: bytes) -> bytes:
    return b"GET / HTTP/1.1\r\n" + b"".join(line + b"\r\n" for line in lines)


@pytest.mark.parametrize("protocol", ["1", "2"])
def test_the_lines_of_a_head_are_bounded(protocol: str) -> None:
    """200 are read, 201 are refused."""

    def parse(count: int) -> int:
        if protocol == "1":
            return len(parse_head(head(*[b"a:"] * count)).headers)
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
            parse_head(text)
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
    assert parse_head(head(line)).headers == (("a", value.decode("utf-8", "surrogateescape")),)
    request, size = parse_http1(head(line))
    assert (request.headers.fields, size) == (((b"a", value),), 0)


@pytest.mark.parametrize(
    "line", [b"", b":", b"a", b"a b:c", b" a:b", b"a :b", b"a:b\x01", b"a:b\x7f", b"\xfc:b"]
)
def test_malformed_lines(line: bytes) -> None:
    """What is no `name: value` is refused."""
    with pytest.raises(Defect) as refused:
        parse_head(head(line))
    assert refused.value.denial.code == "bad_request"


@pytest.mark.parametrize(
    ("lines", "size"),
    [
        ((), 0),
        ((b"Content-Length: 7",), 7),
        ((b"Content-Length: 0",), 0),
        ((b"Content-Length: 1" + b"0" * 99,), 10**99),
        ((b"Transfer-Encoding: Chunked",), None),
    ],
)
def test_how_long_a_body_is(lines: tuple[bytes, ...], size: int | None) -> None:
    """RFC 9112 6.3. What no body can have is no fault of the head: it is more than the bound."""
    assert parse_head(b"POST / HTTP/1.1\r\n" + b"".join(x + b"\r\n" for x in lines)).size == size


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 07",
        b"Content-Length: +7",
        b"Content-Length: 7, 7",
        b"Content-Length: \xb2",
        b"Content-Length: 1" + b"0" * 100,
        b"Content-Length:",
        b"Content-Length: 7\r\nContent-Length: 7",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: chun\xe2\x84\xaaed",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 7",
    ],
)
def test_a_body_whose_end_two_servers_may_see_apart(lines: bytes) -> None:
    """It is refused."""
    with pytest.raises(Defect) as refused:
        parse_head(b"POST / HTTP/1.1\r\n" + lines + b"\r\n")
    assert refused.value.denial.code == "bad_request"


def test_no_chunks_in_http_1_0() -> None:
    """RFC 9112 6.1."""
    with pytest.raises(Defect):
        parse_head(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n")


@pytest.mark.parametrize(
    ("target", "read"),
    [
        ("/a?b", ("", "", "/a?b")),
        ("*", ("", "", "*")),
        ("http://h", ("http", "h", "/")),
        ("HTTPS://u@h:1/a?b", ("https", "u@h:1", "/a?b")),
        ("http://h?b", ("http", "h", "?b")),
        ("/é", ("", "", "/é")),
    ],
)
def test_targets(target: str, read: tuple[str, str, str]) -> None:
    """Scheme, authority and target, each as it was sent."""
    found = parse_head(f"GET {target} HTTP/1.1\r\n".encode())
    assert (found.scheme, found.authority, found.target) == read
    assert parse_head(b"CONNECT h:1 HTTP/1.0\r\n") == Http1Head(
        "CONNECT", "", "1.0", "", "h:1", (), 0
    )


@pytest.mark.parametrize("target", ["a", "ftp://h/", "http:///a", "http:h", "h:1", "http://"])
def test_malformed_targets(target: str) -> None:
    with pytest.raises(Defect):
        parse_head(f"GET {target} HTTP/1.1\r\n".encode())


@pytest.mark.parametrize("line", [b"a" * 60_000, b"a: " + b"a" * 60_000 + b"\x01", b":" * 60_000])
def test_a_long_line_that_is_no_header(line: bytes) -> None:
    """It is read once, and not again from each of its characters: that took 10 s before it was known who asks."""
    since = time.process_time()
    with pytest.raises(Defect):
        parse_head(b"GET / HTTP/1.1\r\n" + line + b"\r\n")
    assert time.process_time() - since < 0.5


@given(
    st.lists(
        st.sampled_from([b"\r\n", b"\r", b"\n", b"\0", b" ", b"\t", b"a: b", b"x"]), max_size=12
    )
)
def test_what_no_head_may_have_is_found_wherever_it_stands(pieces: list[bytes]) -> None:
    """The quick look at a whole head lets nothing through that the search would find."""
    data = b"GET / HTTP/1.1\r\n" + b"".join(pieces) + b"\r\n\r\n"
    end = data.find(b"\r\n\r\n") + 2
    if UNSAFE_HEAD.search(data, 0, end):
        with pytest.raises(Defect):
            HeadFinder(65_536).end(bytearray(data))
    else:
        assert HeadFinder(65_536).end(bytearray(data)) == end
