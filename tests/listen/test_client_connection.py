"""A client's connection: what it may use up of the process."""

from __future__ import annotations

import asyncio

from tests.listen.client import Played, connected

from tollhouse.listen.exchange import Exchange
from tollhouse.process import eager_task_factory

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_many_requests_in_one_piece() -> None:
    """Each is answered in a turn of its own, so that other clients are served between them."""
    turns = 0
    answered: list[int] = []

    async def note(exchange: Exchange) -> None:
        answered.append(turns)
        exchange.answer(403, [], b"")

    asyncio.get_running_loop().set_task_factory(eager_task_factory)
    async with connected(Played(note)) as client:
        client.send(GET * 200 + GET.replace(b"Host", b"Connection: close\r\nHost"))
        end = asyncio.ensure_future(client.rest())
        while not end.done():
            turns += 1
            await asyncio.sleep(0)
    assert end.result().count(b"HTTP/1.1 403 ") == 201
    assert max(answered.count(turn) for turn in answered) <= 2
