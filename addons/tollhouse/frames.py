"""WebSocket (RFC 6455) between bytes and whole messages, for either side of a connection. wsproto reads and writes the frames.

Messages are judged whole, and so they are passed on whole: a message goes out with the bytes and the kind that it came with. It may
be divided into other frames than it came in, which RFC 6455 5.4 allows where no extension was negotiated. None is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Final, Literal, NamedTuple, Protocol

from wsproto.frame_protocol import CloseReason, Frame, FrameProtocol, Opcode, ParseFailed

GOING_AWAY: Final = 1001
PROTOCOL_ERROR: Final = 1002
NO_CODE: Final = 1005
POLICY: Final = 1008
TOO_BIG: Final = 1009
FAULT: Final = 1011

_SLICE: Final = 8_192
"""Bytes that are read in one step. They may be a thousand empty frames."""
_PIECE: Final = 262_144
"""Bytes of one frame that goes out: to mask more takes too long for one step."""
_MOST_FRAGMENTS: Final = 16_384
"""Frames of one message."""
_CONTROLS: Final = 200
"""Pings and pongs that may come at once between two messages."""
_CONTROLS_A_S: Final = 2.0
"""How many more may come in a second: a session without messages is kept open by a ping and a pong every few seconds."""

Kind = Literal["text", "binary", "ping", "pong", "close"]


class Message(NamedTuple):
    """``code`` is that of a close, and its reason is ``data``."""

    kind: Kind
    data: bytes
    code: int = 0

    @property
    def is_data(self) -> bool:
        return self.kind in ("text", "binary")


class BadFrames(Exception):
    """What came is no WebSocket, or more than is taken. ``code`` is to close with."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(code, why)
        self.code = code
        self.why = why


class Room(Protocol):
    """Counts the bytes of messages that are kept. `extend` raises where there is no room for more."""

    def extend(self, count: int) -> None: ...
    def release(self) -> None: ...


class Frames:
    """One direction is read by `receive`, the other is written by the methods that give bytes. ``client``: we are the client, who
    masks and takes no masks. ``longest`` is the most bytes of a message that is taken, and ``room`` counts them."""

    def __init__(
        self,
        *,
        client: bool,
        longest: int,
        room: Room,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._room = room
        self._clock = clock
        self._protocol = FrameProtocol(client, [])
        self._longest = longest
        self._kept = bytearray()
        """What has come of a message. It is not a list of its pieces: a piece of two bytes would take thirty times as many."""
        self._fragments = 0
        self._controls = float(_CONTROLS)
        """How many pings and pongs may come, at the time of the last one."""
        self._controlled = clock()
        self.closed = False
        """A close has come. Nothing behind it is read."""

    def release(self) -> None:
        """The last message is not needed any more."""
        self._room.release()

    def receive(self, data: bytes) -> Iterator[Message | None]:
        """The messages in ``data``, and None wherever others may take their turn. Raises `BadFrames`."""
        for start in range(0, len(data), _SLICE):
            if self.closed:
                return
            self._protocol.receive_bytes(data[start : start + _SLICE])
            try:
                for frame in self._protocol.received_frames():
                    message = self._take(frame)
                    if message is not None:
                        yield message
            except ParseFailed as error:
                raise BadFrames(int(error.code), str(error)) from None
            if start + _SLICE < len(data):
                yield None

    def _take(self, frame: Frame) -> Message | None:
        payload = frame.payload
        if frame.opcode is Opcode.CLOSE:
            assert isinstance(payload, tuple)
            self.closed = True
            return Message("close", payload[1].encode(), int(payload[0]))
        if frame.opcode in (Opcode.PING, Opcode.PONG):
            assert isinstance(payload, bytes)
            now = self._clock()
            more = (now - self._controlled) * _CONTROLS_A_S
            self._controls, self._controlled = min(_CONTROLS, self._controls + more) - 1, now
            if self._controls < 0:
                raise BadFrames(PROTOCOL_ERROR, "there are too many pings")
            return Message("ping" if frame.opcode is Opcode.PING else "pong", payload)
        assert isinstance(payload, str | bytes)
        data = payload.encode() if isinstance(payload, str) else payload
        if data:
            self._room.extend(len(data))
            self._kept += data
        self._fragments += frame.frame_finished
        if len(self._kept) > self._longest:
            raise BadFrames(TOO_BIG, f"a message may have {self._longest} bytes")
        if self._fragments > _MOST_FRAGMENTS:
            raise BadFrames(TOO_BIG, f"a message may have {_MOST_FRAGMENTS} fragments")
        if not frame.message_finished:
            return None
        whole, self._kept, self._fragments = bytes(self._kept), bytearray(), 0
        self._controls = _CONTROLS
        return Message("text" if frame.opcode is Opcode.TEXT else "binary", whole)

    def pieces(self, message: Message) -> Iterator[bytes]:
        """The bytes of a message of data, or of a ping or pong, in pieces that are each quickly made."""
        if message.kind == "ping":
            yield bytes(self._protocol.ping(message.data))
        elif message.kind == "pong":
            yield bytes(self._protocol.pong(message.data))
        elif message.kind == "text":
            text = message.data.decode()
            for start in range(0, len(text) or 1, _PIECE):
                last = start + _PIECE >= len(text)
                yield bytes(self._protocol.send_data(text[start : start + _PIECE], last))
        else:
            data = message.data
            for start in range(0, len(data) or 1, _PIECE):
                last = start + _PIECE >= len(data)
                yield bytes(self._protocol.send_data(data[start : start + _PIECE], last))

    def close(self, code: int, reason: str = "") -> bytes:
        """`NO_CODE` closes without one."""
        if code == NO_CODE:
            return bytes(self._protocol.close(CloseReason.NO_STATUS_RCVD))
        return bytes(self._protocol.close(code, reason or None))


class SideLost(Exception):
    """The connection of a side has ended without a close."""


class Side:
    """One side of a session. ``read`` gives bytes, b"" at the end; ``write`` waits until the connection takes more."""

    def __init__(
        self,
        read: Callable[[], Awaitable[bytes]],
        write: Callable[[bytes], Awaitable[None]],
        frames: Frames,
    ) -> None:
        self._read = read
        self._write = write
        self._frames = frames
        self._come: Iterator[Message | None] = iter(())
        """What has come and was not given yet."""
        self.closed = False
        """We have sent a close."""
        self.midway = False
        """A message was begun and not sent to its end: nothing but a close may follow."""

    async def messages(self) -> AsyncIterator[Message]:
        """Up to a close. Raises `SideLost`, `BadFrames`, and what ``read`` raises."""
        while True:
            for message in self._come:
                if message is None:
                    await asyncio.sleep(0)
                    continue
                yield message
                if message.is_data:
                    self._frames.release()
                elif message.kind == "close":
                    return
            data = await self._read()
            if not data:
                raise SideLost
            self._come = self._frames.receive(data)

    async def send(self, message: Message) -> None:
        """Raises what ``write`` raises. Nothing goes out behind a close."""
        data = message.is_data
        self.midway = self.midway or data
        for piece in self._frames.pieces(message):
            if self.closed:
                return
            await self._write(piece)
        self.midway = self.midway and not data

    async def close(self, code: int, reason: str = "") -> None:
        """Once. Raises what ``write`` raises."""
        if not self.closed:
            self.closed = True
            await self._write(self._frames.close(code, reason))
