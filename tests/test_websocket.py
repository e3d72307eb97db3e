"""A session between two sides that the test plays: what waits for what, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import cast

import pytest

from tests.support.calls import head
from tests.support.clock import Clock
from tests.support.socket_sides import (
    ASKS,
    DONE,
    KEY,
    REQUEST,
    STARTED,
    TERMS,
    ProviderConnection,
    Room,
    Switching,
    next_of,
)
from tollhouse.credential.redact import Redactor
from tollhouse.denial import Denial, Refused
from tollhouse.dispatch.http_client import RawConnection
from tollhouse.dispatch.upstreamed import Upstreamed
from tollhouse.families.asked import Asked, Dialect
from tollhouse.families.openai import OPENAI
from tollhouse.frames import GOING_AWAY, POLICY, Frames, Message, Side
from tollhouse.listen.exchange import Exchange
from tollhouse.listen.interruption import ClientGone
from tollhouse.socket_ties import Owing, SocketBounds, Ties
from tollhouse.websocket import Session


class Played:
    """Both sides, and the gates. ``covers`` has one answer of the budget for each question, None once it is empty."""

    def __init__(self, *covers: Refused | None) -> None:
        self.wire = Switching()
        self.exchange = Exchange(head("GET", "/v1/realtime?model=gpt-realtime"), self.wire)
        self.exchange.feed_end()
        self.exchange.switch([])
        self.connection = connection = ProviderConnection()
        self.upstreamed = Upstreamed(
            cast(RawConnection, connection), "", Redactor([KEY]), 1 << 20, Room()
        )
        self.covers = list(covers)
        self.most_requests = 1000
        """The budget covers so many."""
        self.owing: list[Owing] = []
        self.noted = 0
        self.dialogue = OPENAI.dialogue(OPENAI.read(REQUEST, Dialect()), TERMS)
        self.upstreamed.dialogue = self.dialogue
        to_client: asyncio.Queue[bytes] = asyncio.Queue()
        self.wire.sent = to_client.put_nowait
        self.provider = Side(
            connection.went.get,
            connection.comes.put,
            Frames(client=False, longest=1 << 20, room=Room()),
        )
        self.client = Side(
            to_client.get, self._feed, Frames(client=True, longest=1 << 20, room=Room())
        )
        self.comes = connection.comes
        self.clock = Clock()
        self.session = Session(
            self.exchange,
            self.upstreamed,
            self.dialogue,
            Ties(self._heard, self._judge, self._cover, self._note, self._check, self._error),
            SocketBounds(1 << 20, 600, 7200),
            Room(),
            self.clock,
            tick_s=0,
        )

    async def _feed(self, data: bytes) -> None:
        self.exchange.feed(data)

    async def _heard(self, message: bytes, now: float) -> Asked | None:
        return self.dialogue.heard(message, now)

    async def _judge(self, asked: Asked) -> None:
        if asked.model == "forbidden":
            raise Refused("model_not_allowed", "It is not on the list.")

    async def _cover(self, owing: Owing) -> int | None:
        self.owing.append(owing)
        if owing.requests > self.most_requests:
            raise Refused("budget_exceeded", "It is used up.")
        refused = self.covers.pop(0) if self.covers else None
        if refused is not None:
            raise refused
        return None

    async def _note(self) -> None:
        self.noted += 1

    async def _check(self) -> None:
        pass

    @staticmethod
    def _error(denial: Denial) -> bytes:
        return json.dumps({"type": "error", "error": {"code": denial.code}}).encode()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[bool]]:
        """The session, which has ended at the end of the block."""

        async def owned() -> bool:
            async with self.exchange.interruptible():
                return await self.session.run()

        task = asyncio.create_task(owned())
        async with asyncio.timeout(10):
            yield task
            await asyncio.wait([task])

    async def looked_at_the_clock(self) -> None:
        """Returns when the session has done what there is to do by now."""
        for _ in range(50):
            await asyncio.sleep(0)


async def test_messages_and_a_close() -> None:
    """Untouched and in order, but for the key; a client's is covered before it leaves. The close goes on to the other side, and
    the client's own comes behind what is settled."""
    played = Played()
    async with played.running() as task:
        await played.client.send(Message("text", ASKS))
        assert (await next_of(played.provider)).data == ASKS
        assert [owing.requests for owing in played.owing] == [1]
        for message in (STARTED, Message("ping", KEY.encode()), DONE):
            await played.provider.send(message)
        came = [await next_of(played.client) for _ in range(3)]
        assert [one.kind for one in came] == ["text", "ping", "text"]
        assert (came[0].data, came[2].data) == (STARTED.data, DONE.data)
        assert KEY.encode() not in came[1].data
        assert len(came[1].data) == len(KEY)
        assert played.noted == 2
        await played.client.close(1000, "done")
        close = await next_of(played.provider)
        assert (close.code, close.data) == (1000, b"done")
        await played.provider.close(1000)
    assert task.result() is True
    assert (played.session.denial, played.session.left) == (None, False)
    await played.session.farewell()
    assert (await next_of(played.client)).code == 1000
    assert [charge.units.tokens for charge in played.dialogue.charges] == [15]


@pytest.mark.parametrize(
    ("message", "cover", "code"),
    [
        (b'{"type": "nothing.known"}', None, "bad_request"),
        (ASKS, Refused("budget_exceeded", "It is used up."), "budget_exceeded"),
    ],
)
async def test_a_message_that_is_refused(message: bytes, cover: Refused | None, code: str) -> None:
    """It does not leave. The client is told in the provider's words and is closed; the provider hears that we go."""
    played = Played(cover)
    async with played.running() as task:
        await played.client.send(Message("text", message))
        told = await next_of(played.client)
        assert json.loads(told.data)["error"]["code"] == code
        close = await next_of(played.provider)
        assert (close.kind, close.code) == ("close", GOING_AWAY)
    assert task.result() is True
    assert played.session.denial is not None
    assert played.session.denial.code == code
    await played.session.farewell()
    assert (await next_of(played.client)).code == POLICY


async def test_a_client_that_closes_in_the_middle() -> None:
    """It has left an answer that is under way."""
    played = Played()
    async with played.running():
        await played.client.send(Message("text", ASKS))
        await next_of(played.provider)
        await played.provider.send(STARTED)
        await next_of(played.client)
        await played.client.close(1000)
        await next_of(played.provider)
        await played.provider.close(1000)
    assert played.session.left


async def test_a_provider_that_is_lost() -> None:
    """The client finds its connection cut, as it would without a gateway."""
    played = Played()
    async with played.running() as task:
        played.comes.put_nowait(b"")
    assert task.result() is False
    assert played.upstreamed.cut


async def test_a_provider_whose_frames_are_wrong() -> None:
    played = Played()
    async with played.running() as task:
        played.comes.put_nowait(b"\xff\xff")
    assert task.result() is True
    assert played.upstreamed.cut
    assert played.session.denial is not None
    assert played.session.denial.code == "upstream_bad_answer"


async def test_a_client_that_is_lost() -> None:
    """Its answer is read on for its count, and the provider is closed."""
    played = Played()
    async with played.running() as task:
        await played.client.send(Message("text", ASKS))
        await next_of(played.provider)
        played.exchange.lose("the connection ended")
    assert isinstance(task.exception(), ClientGone)
    await played.provider.send(DONE)
    await played.session.read_on(5)
    assert [charge.units.tokens for charge in played.dialogue.charges] == [15]
    assert (await next_of(played.provider)).code == GOING_AWAY


async def test_a_client_that_takes_nothing() -> None:
    """The provider's next message is not read before the client has taken the one before."""
    played = Played()
    async with played.running():
        played.wire.full = True
        for _ in range(2):
            await played.provider.send(STARTED)
        await next_of(played.client)
        assert played.exchange.congested
        for _ in range(10):
            await asyncio.sleep(0)
        assert played.noted == 1
        played.wire.take()
        await next_of(played.client)
        assert played.noted == 2
        played.exchange.lose("the connection ended")


@pytest.mark.parametrize("first", ["client", "provider"])
async def test_a_side_that_gives_no_close_of_its_own(first: str) -> None:
    """It has 5 s for it. Then the session is over, with the close that came."""
    played = Played()
    closes, stays = played.client, played.provider
    if first == "provider":
        closes, stays = stays, closes
    async with played.running() as task:
        await closes.close(1000, "done")
        assert (await next_of(stays)).kind == "close"
        await played.looked_at_the_clock()
        played.clock.advance(4.9)
        await played.looked_at_the_clock()
        assert not task.done()
        played.clock.advance(0.2)
    assert task.result() is True
    assert played.session.denial is None
    if first == "client":
        await played.session.farewell()
        close = await next_of(played.client)
        assert (close.code, close.data) == (1000, b"done")


async def test_a_provider_that_takes_no_close() -> None:
    """It holds nobody up for longer than 5 s either."""
    played = Played(Refused("budget_exceeded", "It is used up."))
    played.connection.full = True
    async with played.running() as task:
        await played.client.send(Message("text", ASKS))
        assert json.loads((await next_of(played.client)).data)["error"]["code"] == "budget_exceeded"
        await played.looked_at_the_clock()
        played.clock.advance(4.9)
        await played.looked_at_the_clock()
        assert not task.done()
        played.clock.advance(0.2)
    assert task.result() is True
    assert played.connection.went.empty()


@pytest.mark.parametrize("ends", [True, False])
async def test_the_last_answer(ends: bool) -> None:
    """When no more can be held, the answer under way was held for. It has 30 s to end; then the client is told."""
    played = Played()
    played.most_requests = 1
    async with played.running() as task:
        await played.client.send(Message("text", ASKS))
        await next_of(played.provider)
        await played.provider.send(STARTED)
        await next_of(played.client)
        await played.client.send(Message("text", ASKS))
        await played.looked_at_the_clock()
        assert max(owing.requests for owing in played.owing) == 2
        played.clock.advance(29.9)
        await played.looked_at_the_clock()
        assert not task.done()
        if ends:
            await played.provider.send(DONE)
            assert (await next_of(played.client)).data == DONE.data
        else:
            played.clock.advance(0.2)
        assert json.loads((await next_of(played.client)).data)["error"]["code"] == "budget_exceeded"
    assert played.session.denial is not None
    assert [charge.units.tokens for charge in played.dialogue.charges] == [15] * ends
