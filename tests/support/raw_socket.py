"""A WebSocket client that writes its frames on purpose, over a raw connection."""

from __future__ import annotations

import base64
import json
import struct
from dataclasses import dataclass
from typing import Any, Final

from wsproto.frame_protocol import FrameProtocol, Opcode

from tests.support.raw import Answer, Closed, RawClient

KEY: Final = base64.b64encode(bytes(range(16))).decode()
REALTIME: Final = "/v1/realtime?model=gpt-realtime"


def handshake(
    *headers: str, path: str = REALTIME, host: str = "api.openai.com", key: str | None = KEY
) -> bytes:
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", *headers]
    if key is not None:
        lines += [
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {key}",
        ]
    return "\r\n".join([*lines, "", ""]).encode()


def frame(
    opcode: int, payload: bytes, *, fin: bool = True, mask: bool = True, rsv: int = 0
) -> bytes:
    """One frame, right or wrong. Its mask is of zeros."""
    head = bytes([(fin << 7) | rsv << 4 | opcode])
    size, bit = len(payload), 0x80 if mask else 0
    if size < 126:
        head += bytes([bit | size])
    elif size < 1 << 16:
        head += bytes([bit | 126]) + struct.pack("!H", size)
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", size)
    return head + (bytes(4) if mask else b"") + payload


def text(**event: Any) -> bytes:
    """One message of the client's."""
    return frame(1, json.dumps(event).encode())


@dataclass
class Came:
    """A message of the server's. ``code`` is that of a close."""

    kind: str
    data: str | bytes
    code: int = 0

    @property
    def event(self) -> dict[str, Any]:
        return dict(json.loads(self.data))


class RawSocket:
    """Behind a handshake that was accepted."""

    def __init__(self, client: RawClient, request: bytes) -> None:
        self.client = client
        client.send(request)
        head = b""
        while b"\r\n\r\n" not in head:
            data = client.receive()
            if not data:
                raise Closed("in the handshake")
            head += data
        lines, _, rest = head.partition(b"\r\n\r\n")
        first, *fields = lines.decode().split("\r\n")
        pairs = [field.split(": ", 1) for field in fields]
        self.answer = Answer(int(first.split(" ")[1]), [(k.lower(), v) for k, v in pairs], rest)
        self._frames = FrameProtocol(client=True, extensions=[])
        self._frames.receive_bytes(rest)
        self._come = self._all()

    def _all(self) -> Any:
        parts: list[Any] = []
        while True:
            for one in self._frames.received_frames():
                if one.opcode is Opcode.CLOSE:
                    yield Came("close", one.payload[1], int(one.payload[0]))
                    return
                if one.opcode in (Opcode.PING, Opcode.PONG):
                    yield Came(one.opcode.name.lower(), bytes(one.payload))
                    continue
                parts.append(one.payload)
                if one.message_finished and one.frame_finished:
                    whole = parts[0][:0].join(parts)
                    parts.clear()
                    yield Came("text" if isinstance(whole, str) else "binary", whole)
            data = self.client.receive()
            if not data:
                raise Closed("without a close")
            self._frames.receive_bytes(data)

    def next(self) -> Came:
        found: Came = next(self._come)
        return found

    def until(self, kind: str) -> Came:
        """The next message whose event is of this type, or that is of this kind."""
        while True:
            came = self.next()
            if came.kind == kind or (came.kind == "text" and came.event.get("type") == kind):
                return came
