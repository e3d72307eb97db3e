"""A client's connection: what it may use up of the process."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import sys
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import pytest
from tests.listen.client import BOUNDS, Owner, Played, connected, say_ok, until
from tests.support.clock import Clock

from tollhouse.call import ListenerKind, RequestHead
from tollhouse.listen.client_connection import ClientConnection
from tollhouse.listen.doors import ConnectRequest
from tollhouse.listen.exchange import Exchange
from tollhouse.listen.mitm import GateMaster
from tollhouse.listen.sockets import ListenerParts, Listeners
from tollhouse.loop import eager_task_factory
from tollhouse.trust.ca import CertificateAuthority
from tollhouse.trust.leaf import LeafStore, server_context

HOST = "api.openai.com"
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


async def test_an_idle_connection_keeps_nothing_of_its_last_request() -> None:
    """The listeners look after theirs, once a second."""
    clock, played = Clock(), Played(say_ok)
    parts = ListenerParts(
        GateMaster([played]), played, played, BOUNDS, 100, partial(server_context, ()), clock=clock
    )
    listeners = Listeners(parts)
    address = await listeners.open("base_url", "127.0.0.1", tls=False)
    reader, writer = await asyncio.open_connection(*address)
    try:
        for _ in range(2):
            writer.write(GET)
            await reader.readuntil(b"ok")
        head = played.exchanges[0].head
        assert played.exchanges[1].head is head
        played.exchanges.clear()
        kept = sys.getrefcount(head)
        clock.advance(6)
        async with asyncio.timeout(60):
            while sys.getrefcount(head) == kept:  # noqa: ASYNC110 - the sweep has a time of its own
                await asyncio.sleep(0.05)
        writer.write(GET)
        await reader.readuntil(b"ok")
        assert played.exchanges[0].head == head
        assert played.exchanges[0].head is not head
    finally:
        writer.close()
        await listeners.close()
        await listeners.close_connections()


@dataclass
class Answering(Played):
    """Answers the handshakes of `HOST`."""

    leaves: LeafStore = field(kw_only=True)

    def context(
        self, listener: ListenerKind, connect: ConnectRequest | None, sni: str | None
    ) -> ssl.SSLContext | None:
        return self.leaves.context(HOST) if sni == HOST else None


@pytest.fixture(scope="module")
def ca() -> CertificateAuthority:
    return CertificateAuthority.create([HOST])


class Listening:
    """A transparent listener with connections over socket pairs."""

    def __init__(self, played: Played, leaves: LeafStore, trusted: ssl.SSLContext) -> None:
        self.played = played
        self.listeners = Listeners(
            ListenerParts(GateMaster([played]), played, played, BOUNDS, 100, leaves.first)
        )
        self._trusted = trusted

    async def accept(self) -> tuple[socket.socket, ClientConnection]:
        """A client's socket, and our end."""
        ours, theirs = socket.socketpair()
        connection = self.listeners.connection("transparent")
        await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, ours)
        return theirs, connection

    async def in_tls(self, theirs: socket.socket) -> ssl.SSLSocket:
        """Tells an end without TLS's word for it (close_notify) from one with it."""
        return await asyncio.to_thread(
            partial(
                self._trusted.wrap_socket,
                theirs,
                server_hostname=HOST,
                suppress_ragged_eofs=False,
            )
        )


@asynccontextmanager
async def listening(ca: CertificateAuthority, owner: Owner = say_ok) -> AsyncIterator[Listening]:
    leaves = LeafStore(ca)
    trusted = ssl.create_default_context(cadata=ca.cert_pem)
    found = Listening(Answering(owner, leaves=leaves), leaves, trusted)
    try:
        yield found
    finally:
        await found.listeners.close_connections()


def read(client: ssl.SSLSocket) -> bytes:
    """All that comes until the end. Raises `ssl.SSLEOFError` where TLS did not end before TCP."""
    parts = b""
    while part := client.recv(65_536):
        parts += part
    return parts


@pytest.mark.parametrize("how", ["ends", "returns", "stops"])
async def test_a_cut_answer_has_no_end_in_tls(ca: CertificateAuthority, how: str) -> None:
    """Else a client of HTTP/1.0 takes it for a whole one (RFC 9112 9.8)."""
    begun = asyncio.Event()

    async def owner(exchange: Exchange) -> None:
        exchange.start(200, [])
        await exchange.send(b"half")
        begun.set()
        if how == "ends":
            exchange.end()
        elif how == "stops":
            async with exchange.interruptible():
                await asyncio.Event().wait()

    async with listening(ca, owner) as found:
        theirs, connection = await found.accept()
        with await found.in_tls(theirs) as client:
            client.sendall(GET.replace(b"1.1", b"1.0"))
            await begun.wait()
            if how == "stops":
                connection.end()
            if how == "ends":
                assert (await asyncio.to_thread(read, client)).endswith(b"half")
            else:
                with pytest.raises(ssl.SSLEOFError):
                    await asyncio.to_thread(read, client)


async def test_a_record_that_fails(ca: CertificateAuthority) -> None:
    """A handshake that can't be recorded is closed like any other, and so are the connections beside it."""

    class Full(Answering):
        def tls_refused(self, head: RequestHead, why: str) -> None:
            raise OSError("injected fault")

    async with listening(ca) as found:
        leaves = LeafStore(ca)
        full = Full(leaves=leaves)
        found.listeners = Listeners(
            ListenerParts(GateMaster([full]), full, full, BOUNDS, 100, leaves.first)
        )
        clients = [(await found.accept())[0] for _ in range(3)]
        await found.listeners.close_connections()
        for client in clients:
            with client:
                assert client.recv(1) == b""


async def test_what_a_connection_leaves(ca: CertificateAuthority) -> None:
    """Nothing that waits for the collector: OpenSSL's memory is in no count of the collector's."""
    left: list[weakref.ref[ClientConnection]] = []
    async with listening(ca) as found:
        gc.disable()
        try:
            for _ in range(3):
                theirs, connection = await found.accept()
                left.append(weakref.ref(connection))
                del connection
                with await found.in_tls(theirs) as client:
                    client.sendall(GET)
                    await asyncio.to_thread(client.recv, 100)
            found.played.exchanges.clear()
            await until(lambda: not found.listeners.connections)
            await until(lambda: not any(one() for one in left))
        finally:
            gc.enable()
