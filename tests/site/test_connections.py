"""A connection on which nothing is asked is closed, and there are not more than so many."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from tollhouse.site.connections import IDLE_S, Connections

WHOLE = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - after each turn
            await asyncio.sleep(0)


async def test_idle_connections() -> None:
    """Half a head is nothing asked; a request that is answered keeps its connection, and has its time again behind it."""
    now = 0.0
    connections = Connections(lambda: now, most=3)
    answer, asked = asyncio.Event(), 0

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        with connections.busy(request):
            await answer.wait()
            return web.Response(text="here")

    server = web.Server(handle)
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    opened = []

    async def connect(sent: bytes) -> asyncio.StreamReader:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        opened.append(writer)
        return reader

    slow = await connect(b"GET / HTTP/1.1\r\nHost:")
    asking = await connect(WHOLE)
    await until(lambda: len(server.connections) == 2 and asked == 1)
    connections.look(server)
    now = IDLE_S + 1
    connections.look(server)
    assert await ended(slow)
    answer.set()
    assert b"here" in await asking.readuntil(b"here")
    opened[1].write(WHOLE)
    assert b"here" in await asking.readuntil(b"here")
    now = 2 * IDLE_S + 3
    connections.look(server)
    assert await ended(asking)
    for _ in range(5):
        await connect(b"")
    await until(lambda: len(server.connections) == 5)
    connections.look(server)
    await until(lambda: len(server.connections) == 3)
    for writer in opened:
        writer.close()
    listening.close()
    await server.shutdown(0)


async def ended(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(10):
            return await reader.read() == b""
    except ConnectionError:
        return True
