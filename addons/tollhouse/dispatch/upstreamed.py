"""The provider's side of a WebSocket session."""

from __future__ import annotations

from tollhouse.credential.redact import MARK, SHORTEST, Redactor
from tollhouse.dispatch.http_connection import RawConnection
from tollhouse.families.dialogue import Dialogue
from tollhouse.frames import Frames, Message, Room, Side, SideLost


class Upstreamed:
    """A handshake was accepted. ``side`` takes and gives the messages. `websocket.Session` sets what it finds out of
    the session, and the outcome tells it."""

    def __init__(
        self,
        connection: RawConnection,
        subprotocol: str,
        redactor: Redactor,
        longest: int,
        room: Room,
    ) -> None:
        self.subprotocol = subprotocol
        self.dialogue: Dialogue | None = None
        self.cut = False
        """The provider ended it without a close, or by what is no WebSocket."""
        self.meter_failed = False
        self.first_message: float | None = None
        """`time.monotonic()` when the first message came."""
        frames = Frames(client=True, longest=longest, room=room)
        self.side = Side(connection.read, self._write, frames)
        self._connection = connection
        self._redactor = redactor

    def redacted(self, message: Message) -> Message:
        """The message without our own key, be it data, a ping or the reason of a close. It is whole, and so a key can't be cut
        by the edge of a frame. The reason of a close has room for 123 bytes: the beginning of a key at its end is taken out."""
        data, rest = self._redactor.feed(message.data), self._redactor.finish()
        if not message.is_data and len(rest) >= SHORTEST:
            rest = (MARK + b"*" * len(rest))[: len(rest)]
        data += rest
        return message if data == message.data else message._replace(data=data)

    async def _write(self, data: bytes) -> None:
        try:
            await self._connection.write(data)
        except OSError:
            raise SideLost from None

    def close(self) -> None:
        """Lets go of the connection. May be called twice."""
        self._connection.close()
