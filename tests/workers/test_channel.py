"""Messages between the supervisor and a child, and how each learns that the other is gone."""

from __future__ import annotations

import asyncio
import socket

from tollhouse.workers.channel import Channel, ChildChannel


async def test_there_and_back() -> None:
    """A message arrives whole, however many there are."""
    ours, theirs = socket.socketpair()
    channel, child = Channel(ours), await ChildChannel.open(theirs)
    for number in range(3):
        child.send({"kind": "status", "number": number})
    await asyncio.sleep(0)
    found, more = channel.receive()
    assert [message["number"] for message in found] == [0, 1, 2]
    assert more
    channel.send({"kind": "retire"})
    assert [message async for message in _first(child)] == [{"kind": "retire"}]
    await child.close()
    assert child.closed
    await asyncio.sleep(0)
    assert channel.receive() == ([], False)
    channel.close()


async def _first(child: ChildChannel):  # type: ignore[no-untyped-def]
    async for message in child.messages():
        yield message
        return


async def test_a_supervisor_that_is_gone_while_it_is_told_something() -> None:
    """The write that fails closes the connection. That is not a channel which the child has closed: it has to end."""
    ours, theirs = socket.socketpair()
    child = await ChildChannel.open(theirs)
    ours.close()
    for _ in range(3):
        child.send({"kind": "status"})
        await asyncio.sleep(0)
    assert [message async for message in child.messages()] == []
    assert not child.closed
    await child.close()
