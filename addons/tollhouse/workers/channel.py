"""Messages between the supervisor and a child: JSON objects, a line each, over a socket pair.

``kind`` says what a message is. From a worker: ``unwrapped``, ``prepared``, ``applied``, ``ready``, ``status``, ``report``,
``result``. To a worker: ``apply`` (the file's projects), ``open``, ``retire``, ``tell`` (asks for a report), ``conclude``,
``operation``. From the desk: ``beat``, ``ask``. To the desk: ``status``, ``answer``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections.abc import AsyncIterator
from typing import Any, Final

log = logging.getLogger(__name__)

Message = dict[str, Any]

_MOST_UNSENT: Final = 4 << 20
"""Bytes that wait for a child that does not read. It hangs then, and what more is sent to it is dropped."""
_LONGEST: Final = 64 << 20
"""Bytes of one message: the result of an operation may be long."""


def _encoded(message: Message) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def _decoded(line: bytes | bytearray) -> Message | None:
    """None for what is no message: the ones around it count."""
    try:
        message = json.loads(line)
    except ValueError:
        log.error("a process of the gateway has sent a line that is no message")
        return None
    return message if isinstance(message, dict) else None


class Channel:
    """The supervisor's end. No method blocks."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self.socket = end
        self._read = bytearray()
        self._unsent = bytearray()

    @classmethod
    def adopted(cls, descriptor: int, unread: bytes) -> Channel:
        """One that a former program of this process has opened."""
        os.set_inheritable(descriptor, False)
        channel = cls(socket.socket(fileno=descriptor))
        channel._read += unread
        return channel

    @property
    def wants_to_write(self) -> bool:
        return bool(self._unsent)

    @property
    def unread(self) -> bytes:
        """The beginning of a message whose end has not come."""
        return bytes(self._read)

    def send(self, message: Message) -> None:
        """Raises nothing: that a child is gone is seen elsewhere."""
        if len(self._unsent) < _MOST_UNSENT:
            self._unsent += _encoded(message)
        self.flush()

    def flush(self) -> None:
        try:
            while self._unsent:
                sent = self.socket.send(self._unsent)
                del self._unsent[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent.clear()

    def receive(self) -> tuple[list[Message], bool]:
        """The messages that have come, and whether there can be more."""
        more = True
        try:
            while chunk := self.socket.recv(1 << 16):
                self._read += chunk
                if len(self._read) > _LONGEST:
                    raise OSError("a message is too long")
            more = False
        except BlockingIOError:
            pass
        except OSError:
            more = False
        *lines, rest = self._read.split(b"\n")
        self._read = bytearray(rest)
        return [message for line in lines if (message := _decoded(line)) is not None], more

    def close(self) -> None:
        self.socket.close()


class ChildChannel:
    """A child's end, on its loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.closed = False
        """By `close`. A connection that is lost because the supervisor is gone is not closed in this sense."""

    @classmethod
    async def open(cls, end: socket.socket) -> ChildChannel:
        end.setblocking(False)
        return cls(*await asyncio.open_connection(sock=end, limit=_LONGEST))

    def send(self, message: Message) -> None:
        """If the supervisor does not read, messages are dropped."""
        transport = self._writer.transport
        if not transport.is_closing() and transport.get_write_buffer_size() < _MOST_UNSENT:
            self._writer.write(_encoded(message))

    async def messages(self) -> AsyncIterator[Message]:
        """Ends when the supervisor is gone."""
        try:
            while line := await self._reader.readline():
                yield json.loads(line)
        except (OSError, ValueError) as error:
            log.error("the supervisor can't be understood (%s)", error)

    async def close(self) -> None:
        """Sends what is unsent."""
        self.closed = True
        try:
            async with asyncio.timeout(2):
                await self._writer.drain()
        except (OSError, TimeoutError):
            pass
        self._writer.close()
