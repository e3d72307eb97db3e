"""A tunnel that is passed on, its host and its client played: what is read of it, what is counted, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from tests.support.calls import IDENTITY, PROJECT
from tests.support.clock import Clock
from tests.support.hello import hello
from tests.support.lines import lines_of

from tollhouse.book import Book
from tollhouse.call import Arrival, Passed
from tollhouse.companions import EVERY_PROJECT, PassableHost
from tollhouse.denial import Refused
from tollhouse.ledger.names import Scope
from tollhouse.listen.doors import ConnectRequest
from tollhouse.listen.passed_tunnel import PassedTunnel, PassedTunnels, TunnelBounds
from tollhouse.parties import Project

HOST = "artifacts.internal"
ENTRY = PassableHost(HOST, frozenset({EVERY_PROJECT}))
HELLO = hello(HOST)
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
BOUNDS = TunnelBounds(most=3, of_token=1, idle_s=10, longest_s=100, hello_s=5)


class Near:
    """The client's connection: what was written to it, and done with it."""

    def __init__(self) -> None:
        self.written = b""
        self.done: list[str] = []

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.done.append("close")

    def linger(self) -> None:
        self.done.append("linger")

    def end(self) -> None:
        self.done.append("end")

    def pause_reading(self) -> None:
        self.done.append("pause")

    def resume_reading(self) -> None:
        self.done.append("resume")


class Far(asyncio.Transport):
    """The connection to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.done: list[str] = []

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return "abort" in self.done

    def write(self, data: Any) -> None:
        self.written += data

    def write_eof(self) -> None:
        self.done.append("eof")

    def abort(self) -> None:
        self.done.append("abort")

    def pause_reading(self) -> None:
        self.done.append("pause")

    def resume_reading(self) -> None:
        self.done.append("resume")


class World:
    """The rest of the gateway. ``refusal`` is what is said of an identity."""

    def __init__(self, directory: Path) -> None:
        self.clock = Clock()
        self.refusal: Refused | None = None
        self.far = Far()
        self.protocol: asyncio.Protocol | None = None
        self.places: set[str] = set()
        self.file = directory / "lines"
        self.tunnels = PassedTunnels(
            self.judge, self, self, Book(self.file), BOUNDS, clock=self.clock, look_again_s=0.001
        )

    async def judge(self, arrival: Arrival, host: str, entry: PassableHost) -> Passed:
        if self.refusal is not None:
            raise self.refusal
        return Passed(arrival, host, IDENTITY, PROJECT)

    async def take(self, call_id: str, scopes: tuple[Scope, ...], project: Project) -> None:
        self.places.add(call_id)

    async def leave(self, call_id: str) -> None:
        self.places.discard(call_id)

    async def dial(
        self, host: str, entry: PassableHost, protocol: Callable[[], asyncio.Protocol]
    ) -> asyncio.Transport:
        self.protocol = protocol()
        self.protocol.connection_made(self.far)
        return self.far

    async def begun(self, rest: bytes = b"") -> tuple[PassedTunnel, Near]:
        """One, once it has gone as far as it goes by itself."""
        near = Near()
        asked = ConnectRequest(f"{HOST}:443", (), "10.0.0.9", host=HOST, passable=ENTRY)
        tunnel = self.tunnels.begin(near, asked, rest)
        async with asyncio.timeout(5):
            while not near.written:  # noqa: ASYNC110 - after each turn
                await asyncio.sleep(0)
        return tunnel, near

    async def line(self) -> dict[str, Any]:
        """The only one, of a tunnel that has ended."""
        await self.tunnels.ended()
        [line] = lines_of(self.file)
        assert (self.places, self.tunnels.count) == (set(), 0)
        return cast(dict[str, Any], line)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_bytes_both_ways(world: World) -> None:
    """The hello waits until it is whole; whoever takes nothing makes the other side wait; the end of one side is told to the
    other one; the line has what was counted."""
    tunnel, near = await world.begun(HELLO[:10])
    assert (near.written, world.far.written) == (ESTABLISHED, b"")
    tunnel.receive(HELLO[10:])
    tunnel.receive(b"secret")
    assert world.far.written == HELLO + b"secret"
    assert world.protocol is not None
    world.protocol.data_received(b"answer")
    assert near.written == ESTABLISHED + b"answer"
    tunnel.pause_writing()
    tunnel.resume_writing()
    assert world.far.done == ["pause", "resume"]
    world.protocol.pause_writing()
    world.protocol.resume_writing()
    assert near.done == ["pause", "resume"] * 2
    tunnel.receive_end()
    assert world.far.done[-1] == "eof"
    world.protocol.connection_lost(None)
    line = await world.line()
    assert near.done[-1] == "close"
    assert world.far.done[-1] == "abort"
    assert (line["status"], line["reason"], line["host"]) == (200, "", HOST)
    assert line["bytes"] == {"sent": len(HELLO) + 6, "received": 6}


@pytest.mark.parametrize("first", [hello("api.openai.com"), hello(None), b"GET / HTTP/1.1\r\n\r\n"])
async def test_what_is_no_hello_for_this_host(world: World, first: bytes) -> None:
    """Nothing of it goes on."""
    _, near = await world.begun(first)
    line = await world.line()
    assert world.far.written == b""
    assert near.done[-1] == "close"
    assert line["reason"] == "tls_refused"


async def test_who_may_not(world: World) -> None:
    """The host is not dialled, and the client is told."""
    world.refusal = Refused("project_not_allowed", "It is another's.")
    _, near = await world.begun()
    line = await world.line()
    assert near.written.startswith(b"HTTP/1.1 403 ")
    assert near.done[-1] == "linger"
    assert world.protocol is None
    assert line["reason"] == "project_not_allowed"


async def test_one_too_many_of_a_token(world: World) -> None:
    first, _ = await world.begun(HELLO)
    _, near = await world.begun(HELLO)
    assert near.written.startswith(b"HTTP/1.1 503 ")
    assert b"x-tollhouse-reason: too_many_connections" in near.written
    first.lose("the connection ended")
    await world.tunnels.ended()
    again, near = await world.begun(HELLO)
    assert near.written == ESTABLISHED
    again.lose("the connection ended")
    await world.tunnels.ended()
    assert world.tunnels.count == 0


async def test_an_identity_that_ends(world: World) -> None:
    """So does its tunnel. While nobody can say, it stays."""
    tunnel, near = await world.begun(HELLO)
    world.refusal = Refused("ledger_unavailable", "Redis is away.")
    for _ in range(3):
        tunnel.receive(b"more")
        await asyncio.sleep(0)
    assert "close" not in near.done
    world.refusal = Refused("identity_revoked", "It was revoked.")
    line = await world.line()
    assert near.done[-1] == "close"
    assert line["reason"] == "identity_revoked"


@pytest.mark.parametrize(
    ("first", "pieces", "ended"),
    [
        (b"", [5.1], "timeout"),
        (HELLO, [10.1], "tunnel_idle"),
        (HELLO, [9.5] * 11, "tunnel_too_long"),
    ],
)
async def test_time(world: World, first: bytes, pieces: list[float], ended: str) -> None:
    """For its hello, for a silence, and for the whole. Each of ``pieces`` are seconds, behind each but the last a byte comes."""
    tunnel, _ = await world.begun(first)
    for seconds in pieces[:-1]:
        world.clock.advance(seconds)
        assert not tunnel.overdue(world.clock())
        tunnel.receive(b".")
    world.clock.advance(pieces[-1])
    assert tunnel.overdue(world.clock())
    tunnel.lose("the connection ended")
    assert (await world.line())["reason"] == ended
