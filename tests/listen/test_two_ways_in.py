"""The same bytes to our HTTP/1 and to mitmproxy's: both have one verdict, and give the road one request."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.listen import client as played
from tests.listen.client import Played, connected

from tollhouse.call import RequestHead
from tollhouse.denial import Refused
from tollhouse.listen.exchange import Exchange
from tollhouse.listen.interruption import ClientGone

GET = b"GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
CHUNKS = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


class Seen(NamedTuple):
    """What came of one connection."""

    requests: list[tuple[RequestHead, bytes | str]]
    """Each with its body, or with the code of the refusal."""
    answers: bytes | None
    """None if a reset has taken them."""


async def seen(own: bool, data: bytes, cuts: list[int], close: bool) -> Seen:
    requests: list[tuple[RequestHead, bytes | str]] = []

    async def read(exchange: Exchange) -> None:
        if exchange.head.target == "/early":
            requests.append((exchange.head, "not read"))
            exchange.answer(403, [], b"no")
            return
        body: bytes | str
        try:
            async with exchange.interruptible():
                body = await exchange.read_all(10_000, 5)
        except Refused as refused:
            body = refused.denial.code
        except ClientGone:
            requests.append((exchange.head, "gone"))
            return
        requests.append((exchange.head, body))
        if isinstance(body, str):
            exchange.answer(400, [], b"no")
        elif exchange.head.target == "/stream":
            exchange.start(200, [])
            await exchange.send(b"one")
            exchange.end()
        else:
            exchange.answer(200, [], b"ok")

    class Noting(Played):
        async def tollhouse_call(self, exchange: Exchange) -> None:
            if exchange.defect is not None:
                requests.append((exchange.head, exchange.defect.code))
            await super().tollhouse_call(exchange)

    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(played, "OWN_HTTP1", own)
        async with connected(Noting(read)) as client:
            for start, end in pairwise(places):
                client.send(data[start:end])
                for _ in range(5):
                    await asyncio.sleep(0)
            if close:
                client.writer.write_eof()
            answers: bytes | None
            try:
                answers = await client.rest()
            except OSError:
                # It was closed before all was sent.
                answers = None
    return Seen(requests, answers)


_PIECES = st.sampled_from(
    [
        *(GET, POST, CHUNKS, GET.replace(b"1.1", b"1.0"), GET.replace(b"/a?b", b"/stream")),
        *(POST.replace(b" / ", b" /early "), CHUNKS.replace(b" / ", b" /early ")),
        *(b"5\r\nhello\r\n", b"0\r\n\r\n", b"5;a=b\r\nhello\r\n", b"0\r\nTrailer: x\r\n\r\n"),
        *(b"g\r\n", b"-1\r\n", b"5 \r\nhello\r\n", b"5\r\nhelloX\r\n", b"05\r\nhello\r\n"),
        *(b"GET", b" ", b"/", b"*", b"http://h/", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"PRI"),
        *(b"Host: x\r\n", b"Connection: close\r\n", b"Connection: keep-alive\r\n"),
        *(b"Content-Length: 5\r\n", b"Content-Length: 05\r\n", b"Content-Length: 5, 5\r\n"),
        *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n"),
        *(b"Expect: 100-continue\r\n", b"X: \xff\r\n", b"X : y\r\n", b" X: y\r\n", b"X: a\tb\r\n"),
        *(b"\r\n", b"\n", b"\r", b"\0", b"hello", b"\x16\x03\x01", b":", b"X" * 3_000),
    ]
)
_DATA = st.lists(_PIECES, min_size=1, max_size=8).map(b"".join)


@given(data=_DATA, cuts=st.lists(st.integers(0, 3_000), max_size=4))
@example(data=GET + POST + CHUNKS + b"5\r\nhello\r\n0\r\n\r\n" + GET, cuts=[])
@example(data=CHUNKS + b"5\r\nhello\r\n0\r\nContent-Length: 3\r\n\r\n" + GET, cuts=[60, 61, 62])
@example(data=POST.replace(b" / ", b" /early ") + GET, cuts=[56])
@example(data=POST[:-5] + b"Expect: 100-continue\r\n\r\nhello", cuts=[])
def test_one_verdict(data: bytes, cuts: list[int]) -> None:
    """However the bytes are cut, and whatever they are."""

    async def both() -> tuple[Seen, Seen]:
        return await seen(True, data, cuts, True), await seen(False, data, cuts, True)

    ours, theirs = asyncio.run(both())
    assert ours.requests == theirs.requests
    if ours.answers is not None and theirs.answers is not None:
        assert ours.answers == theirs.answers
