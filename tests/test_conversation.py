"""A call that becomes a WebSocket session: whoever ends it, and how the call is left. Both sides are played."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from tests.support.calls import admitted, arrival, covered, head, requested
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
from tollhouse.conversation import Conversations, SocketParts
from tollhouse.credential.redact import Redactor
from tollhouse.denial import Denial, Refused
from tollhouse.dispatch.delivery import Delivery
from tollhouse.dispatch.http_client import RawConnection
from tollhouse.dispatch.relay import Relay
from tollhouse.dispatch.upstreamed import Upstreamed
from tollhouse.families.asked import Asked, Dialect
from tollhouse.families.dialogue import Dialogue
from tollhouse.families.openai import OPENAI
from tollhouse.frames import GOING_AWAY, POLICY, Frames, Message, Side
from tollhouse.lasting import Lasting
from tollhouse.listen.exchange import Exchange
from tollhouse.listen.interruption import ClientGone
from tollhouse.outcome import End
from tollhouse.socket_ties import SocketBounds
from tollhouse.trip import Rest, Trip

PATH = "/v1/realtime"


class Played:
    """Everything around `Conversations`: the client, the provider that ``connect`` reaches or that ``fault`` is raised for, the
    reader of messages, and a budget that ends with ``over``."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault = fault
        self.over: Denial | None = None
        self.enlarging = self
        """That of the purse."""
        self.abandoned_read_s = 30.0
        self.held = 0
        """Bytes of messages that are in memory."""
        self.wire, to_client = Switching(), asyncio.Queue[bytes]()
        self.wire.sent = to_client.put_nowait
        self.exchange = Exchange(head("GET", f"{PATH}?model=gpt-realtime"), self.wire)
        self.exchange.feed_end()
        self.client = Side(
            to_client.get, self._feed, Frames(client=True, longest=1 << 20, room=Room())
        )
        connection = ProviderConnection()
        self.upstreamed = Upstreamed(
            cast(RawConnection, connection), "", Redactor([KEY]), 1 << 20, Room()
        )
        self.provider = Side(
            connection.went.get,
            connection.comes.put,
            Frames(client=False, longest=1 << 20, room=Room()),
        )
        matched = OPENAI.match("GET", PATH, "model=gpt-realtime", "api.openai.com", socket=True)
        assert matched is not None
        there = admitted()._replace(path=PATH, operation=matched.operation)
        call = requested(None, there)._replace(asked=OPENAI.read(REQUEST, Dialect()))
        nothing: Any = None
        self.trip = Trip(arrival(), self.exchange, nothing, nothing, nothing, Lasting(Clock()))
        self.trip.stage = covered(call)
        self.conversations = Conversations(
            SocketParts(self, self._models, SocketBounds(1 << 20, 600, 7200), Clock()),  # type: ignore[arg-type]
            (),
            cast(Any, self),
            cast(Relay, self),
            nothing,
            None,
        )

    async def _feed(self, data: bytes) -> None:
        self.exchange.feed(data)

    async def _models(self, stage: Any, exchange: Any) -> Any:
        return stage

    # The delivery.

    async def connect(self, longest: int, room: Any) -> Upstreamed:
        if self.fault is not None:
            raise self.fault
        return self.upstreamed

    attempts = 1

    # The reader of messages.

    def room(self, _: Any) -> Played:
        return self

    def extend(self, count: int) -> None:
        self.held += count

    def release(self) -> None:
        self.held = 0

    def dialogue(self, call: Any) -> Dialogue:
        return OPENAI.dialogue(call.asked, TERMS)

    async def heard(
        self, dialogue: Dialogue, tenant: str, message: bytes, now: float
    ) -> Asked | None:
        assert tenant == "acme"
        return dialogue.heard(message, now)

    # The purse.

    async def cover(self, call_id: str, *owing: Any) -> int | Denial | None:
        return self.over

    @contextlib.asynccontextmanager
    async def conversing(self) -> AsyncIterator[asyncio.Task[Rest | None]]:
        """Until the call has left `Conversations`, which it has at the end of the block."""
        task = asyncio.create_task(
            self.conversations.converse(self.trip, cast(Delivery, self))  # type: ignore[arg-type]
        )
        async with asyncio.timeout(30):
            yield task
            await asyncio.wait([task])
        assert self.held == 0


async def told(rest: Rest | None) -> None:
    """The client gets its last bytes."""
    assert rest is not None
    if (writing := rest()) is not None:
        await writing


async def test_a_session() -> None:
    """It is up once the provider is, with what was said by both, and is closed as it was closed by the client."""
    played = Played()
    async with played.conversing() as task:
        await played.client.send(Message("text", ASKS))
        assert (await next_of(played.provider)).data == ASKS
        for message in (STARTED, DONE):
            await played.provider.send(message)
            assert (await next_of(played.client)).data == message.data
        await played.client.close(1000, "done")
        assert (await next_of(played.provider)).code == 1000
        await played.provider.close(1000)
    await told(task.result())
    assert (await next_of(played.client)).code == 1000
    trip = played.trip
    assert (trip.status, trip.denial, trip.left) == (101, None, None)
    dialogue = played.upstreamed.dialogue
    assert dialogue is not None
    assert [charge.units.tokens for charge in dialogue.charges] == [15]


@pytest.mark.parametrize(
    ("message", "over", "left"),
    [
        (ASKS, Denial("budget_exceeded", "It is used up."), End.OVER_BUDGET),
        (b'{"type": "nothing.known"}', None, End.LEFT),
        (ASKS, Denial("internal", "A fault of ours."), End.CUT),
    ],
)
async def test_a_message_that_is_refused(message: bytes, over: Denial | None, left: End) -> None:
    """The call is ended by whoever is to blame: its budget, its client, or us. The client is told, and then closed."""
    played = Played()
    async with played.conversing() as task:
        played.over = over
        await played.client.send(Message("text", message))
        assert json.loads((await next_of(played.client)).data)["type"] == "error"
        assert (await next_of(played.provider)).code == GOING_AWAY
    await told(task.result())
    assert (await next_of(played.client)).code == POLICY
    trip = played.trip
    assert trip.denial is not None
    assert trip.denial.code == (over.code if over is not None else "bad_request")
    assert (trip.gate, trip.left) == ("session", left)


@pytest.mark.parametrize(
    ("fault", "code"),
    [(Refused("upstream_unreachable"), "upstream_unreachable"), (KeyError("x"), "internal")],
)
async def test_a_handshake_that_fails(fault: Exception, code: str) -> None:
    """The client is answered as over HTTP, and there is no session."""
    played = Played(fault)
    sent: list[bytes] = []
    played.wire.sent = sent.append
    async with played.conversing() as task:
        pass
    await told(task.result())
    assert json.loads(b"".join(sent))["error"]["code"] == code
    assert (played.trip.denial, played.trip.left) != (None, End.LEFT)
    assert played.trip.denial is not None
    assert (played.trip.denial.code, played.trip.gate) == (code, "dispatch")
    assert played.wire.status == played.trip.status == played.trip.denial.status


async def test_a_client_that_goes() -> None:
    """The answer under way is read to its end, and the provider hears that we go."""
    played = Played()
    async with played.conversing() as task:
        await played.client.send(Message("text", ASKS))
        await next_of(played.provider)
        await played.provider.send(STARTED)
        await next_of(played.client)
        played.exchange.lose("the connection ended")
        await played.provider.send(DONE)
        assert (await next_of(played.provider)).code == GOING_AWAY
    assert isinstance(task.exception(), ClientGone)
    dialogue = played.upstreamed.dialogue
    assert dialogue is not None
    assert [charge.units.tokens for charge in dialogue.charges] == [15]


async def test_a_gateway_that_stops() -> None:
    """Both sides are told that we go, and the call is ended by us."""
    played = Played()
    async with played.conversing() as task:
        await played.client.send(Message("text", ASKS))
        await next_of(played.provider)
        played.exchange.stop("the gateway stops")
        assert (await next_of(played.client)).code == GOING_AWAY
        assert (await next_of(played.provider)).code == GOING_AWAY
    assert task.result() is not None
    assert played.trip.left is End.STOPPED
