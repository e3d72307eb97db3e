"""The two sides of a WebSocket session, played: the client's wire, the provider's connection, and what goes over them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

from tests.support.wire import FakeWire
from tollhouse.families.asked import Dialect, Limits, Request
from tollhouse.families.dialogue import Terms
from tollhouse.families.openai.routes import REALTIME
from tollhouse.frames import Message, Side

KEY = "sk-the-real-key-of-the-provider"
REQUEST = Request(REALTIME, "/v1/realtime", (), query="model=gpt-realtime")
TERMS = Terms(
    REQUEST, "typical", Dialect(), lambda asked: Limits(32_000, 4_096), lambda asked: asked
)
ASKS = b'{"type": "response.create"}'


def event(kind: str, **members: Any) -> Message:
    return Message("text", json.dumps({"type": kind, **members}).encode())


STARTED = event("response.created", response={"id": "resp_1"})
DONE = event(
    "response.done",
    response={
        "id": "resp_1",
        "status": "completed",
        "usage": {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15},
    },
)


class Room:
    def extend(self, count: int) -> None:
        pass

    def release(self) -> None:
        pass


class Switching(FakeWire):
    """A client's wire that becomes a WebSocket's. ``sent`` is called with what it is sent."""

    switches = True

    def __init__(self) -> None:
        super().__init__()
        self.sent: Callable[[bytes], None] = lambda data: None

    def switch(self, headers: Sequence[tuple[str, str]]) -> None:
        self.status = 101

    def send_data(self, data: bytes) -> None:
        self.sent(data)


class ProviderConnection:
    """Of `RawConnection`, what a session uses."""

    def __init__(self) -> None:
        self.comes: asyncio.Queue[bytes] = asyncio.Queue()
        self.went: asyncio.Queue[bytes] = asyncio.Queue()
        self.full = False
        """It takes nothing more."""

    async def read(self) -> bytes:
        return await self.comes.get()

    async def write(self, data: bytes) -> None:
        if self.full:
            await asyncio.get_running_loop().create_future()
        self.went.put_nowait(data)


async def next_of(side: Side) -> Message:
    async for message in side.messages():
        return message
    raise AssertionError("it is closed")
