"""The messages of a WebSocket session as the addons have left them. A client's message is given to them before anything
judges it, a provider's when it was counted and our key was taken out."""

from __future__ import annotations

import asyncio
from typing import Final

from mitmproxy import http
from mitmproxy.websocket import WebSocketData, WebSocketMessage
from wsproto.frame_protocol import Opcode

from tollhouse.frames import Message, Room
from tollhouse.operators.flows import failed
from tollhouse.operators.hooks_run import Addons
from tollhouse.operators.loading import MESSAGE_HOOK

_OPCODES: Final = {"text": Opcode.TEXT, "binary": Opcode.BINARY}


class AlteredMessages:
    """Of one session. The flow has the message that is passing, and no other: a session may last for an hour. ``longest`` are
    the most bytes of a message, and ``room`` counts those that an addon adds."""

    def __init__(self, addons: Addons, flow: http.HTTPFlow, longest: int, room: Room) -> None:
        self._addons = addons
        self._flow = flow
        self._longest = longest
        self._room = room
        self._one = asyncio.Lock()
        """An addon finds its message at the end of the list, and so one message passes at a time, as in mitmproxy."""
        flow.websocket = WebSocketData()

    async def __call__(self, message: Message, from_client: bool) -> Message | None:
        """The message to send in its place; None if an addon dropped it. Raises `Refused`."""
        given = WebSocketMessage(_OPCODES[message.kind], from_client, message.data)
        async with self._one:
            self._flow.websocket = WebSocketData([given])
            try:
                await self._addons.ask(MESSAGE_HOOK, self._flow)
            finally:
                self._flow.websocket = WebSocketData()
        if given.dropped:
            return None
        data = given.content
        if data is message.data:
            return message
        if not isinstance(data, bytes):
            raise failed("set a message's content to something that is no bytes")
        if len(data) > self._longest:
            why = f"made a message {len(data)} bytes long; the limit is {self._longest}"
            raise failed(why)
        if message.kind == "text":
            _refuse_no_text(data)
        if (growth := len(data) - len(message.data)) > 0:
            self._room.extend(growth)
        return message._replace(data=data)


def _refuse_no_text(data: bytes) -> None:
    try:
        data.decode()
    except UnicodeDecodeError:
        raise failed("set the content of a message of text to what is no UTF-8") from None
