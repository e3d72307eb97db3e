"""Heads that a connection repeats: read as if each were the first, and judged once where the head alone decides."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.call import RequestHead
from tollhouse.denial import Denial
from tollhouse.listen.http1_connection import HeadMaker, Http1Connection
from tollhouse.listen.repeated_head import LONGEST, RepeatedHead
from tollhouse.listen.request_head import Defect, Http1Head, parse_head

MAKER = HeadMaker(
    cast(
        Http1Connection,
        SimpleNamespace(listener="proxy", client_ip="10.0.0.7", client_certificate=None),
    ),
    "https",
    "api.openai.com",
    None,
)


def head(length: bytes, *, name: bytes = b"Content-Length", more: bytes = b"") -> bytes:
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: api.openai.com\r\n"
        + more
        + name
        + b": "
        + length
        + b"\r\nAuthorization: Bearer gate_x\r\n"
    )


def read(reader: RepeatedHead, raw: bytes) -> tuple[Http1Head, RequestHead] | str:
    try:
        return reader.read(raw)
    except Defect as defect:
        return defect.denial.why


def fresh(raw: bytes) -> tuple[Http1Head, RequestHead] | str:
    return read(RepeatedHead(MAKER), raw)


PIECES = [
    b"Content-Length: ",
    b"content-length:\t",
    b"Content-Length: 10\r\n",
    b"X-Content-Length: 10\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: api.openai.com\r\n",
    b"Authorization: Bearer gate_x\r\n",
    b"1",
    b"0",
    b"12",
    b"007",
    b"+1",
    b"1_0",
    b"\xd9\xa1",
    b" ",
    b"\r\n",
    b"9" * 101,
]


@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=8), min_size=2, max_size=6))
def test_a_head_is_read_as_if_it_were_the_first(found: Sequence[Sequence[bytes]]) -> None:
    """Whatever came before it on its connection, and whatever stands in the place of the length's digits."""
    reader = RepeatedHead(MAKER)
    for pieces in found:
        raw = b"POST / HTTP/1.1\r\n" + b"".join(pieces) + b"\r\n"
        assert read(reader, raw) == fresh(raw)


@pytest.mark.parametrize(
    "digits",
    [
        b"",
        b"0",
        b"7",
        b"10",
        b"00",
        b"+7",
        b" 7",
        b"7 ",
        b"7, 7",
        b"7\r\nContent-Length: 8",
        b"\xb2",
    ],
)
def test_what_stands_for_a_length_is_judged_each_time(digits: bytes) -> None:
    reader = RepeatedHead(MAKER)
    reader.read(head(b"12"))
    assert read(reader, head(digits)) == fresh(head(digits))
    assert read(reader, head(b"12")) == fresh(head(b"12"))


def test_a_rule_is_asked_once_for_heads_that_differ_in_their_length_alone() -> None:
    asked: list[str] = []

    def rule(of: RequestHead) -> int:
        asked.append(of.get("content-length") or "")
        return 5

    reader = RepeatedHead(MAKER)
    for length in (b"12", b"12", b"400", b"12"):
        parsed, road = reader.read(head(length))
        assert (parsed.size, road.get("content-length")) == (int(length), length.decode())
        assert road.headers == parsed.headers == parse_head(head(length)).headers
        assert road.decide(rule, road) == 5
    assert asked == ["12"]
    for other in (head(b"12", more=b"X: 1\r\n"), head(b"12")):
        _, road = reader.read(other)
        road.decide(rule, road)
    assert asked == ["12"] * 3


def test_what_a_rule_raises_is_raised_each_time() -> None:
    reader = RepeatedHead(MAKER)

    def refuse() -> None:
        raise Defect(fault)

    fault = Denial("bad_request")
    for _ in range(2):
        _, road = reader.read(head(b"12"))
        with pytest.raises(Defect):
            road.decide(refuse)


def test_nothing_is_kept_of_a_long_head_and_of_one_that_is_forgotten() -> None:
    long = head(b"12", more=b"X: " + b"a" * LONGEST + b"\r\n")
    for raw, forgets in ((long, False), (head(b"12"), True)):
        reader = RepeatedHead(MAKER)
        first = reader.read(raw)[1]
        if forgets:
            assert reader.read(raw)[1] is first
            reader.forget()
        second = reader.read(raw)[1]
        assert second == first
        assert second is not first
