"""One connection with a provider: what it refuses to read."""

from __future__ import annotations

import asyncio

import pytest
from tests.dispatch.conftest import Reach
from tests.dispatch.provider import Line, RawProvider, answer, body_of


@pytest.mark.parametrize(
    "surplus", [b"H", b"HTTP/1.1 ", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\nx: "]
)
@pytest.mark.parametrize("pause_s", [0, 0.05])
async def test_the_beginning_of_an_answer_that_nobody_asked_for(
    raw: RawProvider, reach: Reach, surplus: bytes, pause_s: float
) -> None:
    """Its end can't become the next call's answer: that call has a connection of its own, and is sent once."""

    async def say_more(line: Line) -> None:
        if pause_s:
            await line.say(answer())
            await asyncio.sleep(pause_s)
            await line.say(surplus)
        else:
            await line.say(answer() + surplus)

    raw.behaviours = [say_more]
    async with reach(raw.port) as to:
        assert await body_of(await to.send()) == b"{}"
        await asyncio.sleep(pause_s * 2)
        assert await body_of(await to.send()) == b"{}"
        assert await body_of(await to.send()) == b"{}"
    assert [request.connection for request in raw.received] == [1, 2, 2]
