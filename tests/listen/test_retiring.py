"""HTTP/2 of a process whose place another one takes: when the client is told, and what is answered still."""

from __future__ import annotations

import asyncio
from typing import Any

import h2.config
import h2.connection
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, PingFrame
from tests.listen.client import Client, Played, connected, until
from tests.support.clock import Clock

from tollhouse.listen.exchange import Exchange

HEAD = [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "x")]


class Frames:
    """The client's side. A GOAWAY does not end it, as it would end hyper-h2."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self._h2.initiate_connection()
        self._read = b""
        self._send()

    def _send(self) -> None:
        self._client.send(self._h2.data_to_send())

    def ask(self, stream: int) -> None:
        self._h2.send_headers(stream, HEAD, end_stream=True)
        self._send()

    def ping(self) -> None:
        self._h2.ping(b"12345678")
        self._send()

    async def until(self, kind: type[Frame], stream: int = 0) -> list[Any]:
        """The frames up to one of this kind: of a stream, the one that ends it."""
        seen: list[Any] = []
        while True:
            while len(self._read) >= 9:
                frame, length = Frame.parse_frame_header(memoryview(self._read[:9]))
                if len(self._read) < 9 + length:
                    break
                frame.parse_body(memoryview(self._read[9 : 9 + length]))
                self._read = self._read[9 + length :]
                seen.append(frame)
                ends = not stream or "END_STREAM" in frame.flags
                if isinstance(frame, kind) and frame.stream_id == stream and ends:
                    return seen
            more = await asyncio.wait_for(self._client.reader.read(65_536), 60)
            assert more, "the connection has ended"
            self._read += more


def waiting() -> tuple[asyncio.Event, Played]:
    """An owner that begins its answer, and ends it when it may."""
    may = asyncio.Event()

    async def answer(exchange: Exchange) -> None:
        exchange.start(200, [])
        await exchange.send(b"one ")
        await may.wait()
        await exchange.send(b"two")
        exchange.end()

    return may, Played(answer)


async def test_a_client_is_told_when_its_last_answer_ends() -> None:
    """Not before: some clients give up what is under way when they read it."""
    may, addon = waiting()
    async with connected(addon, alpn="h2") as client:
        frames = Frames(client)
        frames.ask(1)
        await until(lambda: bool(addon.exchanges))
        await client.listeners.retire(10)
        may.set()
        seen = await frames.until(GoAwayFrame)
    assert b"".join(frame.data for frame in seen if isinstance(frame, DataFrame)) == b"one two"
    assert "END_STREAM" in seen[-2].flags
    assert seen[-1].last_stream_id == 1


async def test_a_client_that_rests_is_told_at_once() -> None:
    """And once; what it has sent meanwhile is not looked at: it sends it again elsewhere."""
    addon = Played()
    async with connected(addon, alpn="h2") as client:
        frames = Frames(client)
        frames.ask(1)
        await frames.until(DataFrame, 1)
        await client.listeners.retire(10)
        [*_, told] = await frames.until(GoAwayFrame)
        frames.ask(3)
        frames.ping()
        seen = await frames.until(PingFrame)
    assert told.last_stream_id == 1
    assert [frame for frame in seen if isinstance(frame, GoAwayFrame)] == []
    assert len(addon.exchanges) == 1


async def test_a_client_that_never_rests_is_told_in_the_end() -> None:
    """The answers under way go on."""
    clock = Clock()
    may, addon = waiting()
    async with connected(addon, alpn="h2", clock=clock) as client:
        frames = Frames(client)
        frames.ask(1)
        await until(lambda: bool(addon.exchanges))
        await client.listeners.retire(10)
        clock.now += 9
        assert not client.connection.overdue(clock.now)
        frames.ask(3)
        await until(lambda: len(addon.exchanges) == 2)
        clock.now += 1
        assert not client.connection.overdue(clock.now)
        [*_, told] = await frames.until(GoAwayFrame)
        frames.ask(5)
        may.set()
        await frames.until(DataFrame, 3)
    assert told.last_stream_id == 3
    assert len(addon.exchanges) == 2


async def test_a_client_that_has_asked_nothing_yet_is_answered_first() -> None:
    """Its first request may be on its way."""
    addon = Played()
    async with connected(addon, alpn="h2") as client:
        frames = Frames(client)
        await client.listeners.retire(10)
        frames.ask(1)
        [*_, told] = await frames.until(GoAwayFrame)
    assert told.last_stream_id == 1
    assert len(addon.exchanges) == 1
