"""A client that writes bytes on purpose: CONNECT by hand, TLS with a chosen SNI or none, HTTP/2 frame by frame.

Nothing here repairs, retries or adds anything: what a test gives is what goes out.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import h2.config
import h2.connection
import h2.events

TIMEOUT_S = 20.0
"""How long one read may take before the test fails."""


@dataclass
class Answer:
    """One HTTP answer. Header names are lower case."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""

    def get(self, name: str) -> str:
        return next((value for key, value in self.headers if key == name), "")

    @property
    def reason(self) -> str:
        return self.get("x-tollhouse-reason")


class Closed(Exception):
    """The connection ended (orderly or by a reset) before what was waited for had come."""


class RawClient:
    """One TCP connection to a listener."""

    def __init__(self, address: tuple[str, int], ca_file: Path) -> None:
        self._socket = socket.create_connection(address, timeout=TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ca_file = ca_file
        self._tls: ssl.SSLObject | None = None
        self._up = True
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._buffer = bytearray()
        self._unsent = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def reset(self) -> None:
        """Close with a TCP RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def half_close(self) -> None:
        """FIN, with the other direction left open."""
        self._socket.shutdown(socket.SHUT_WR)

    def send_and_end(self, data: bytes) -> None:
        """``data`` and the end of our direction behind it: a close_notify inside TLS, which leaves
        TCP open, else FIN."""
        if self._tls is None:
            self.send_plain(data)
            self.half_close()
            return
        self._tls.write(data)
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            pass  # The other side's close_notify is not waited for.
        self.send_plain(self._outgoing.read())

    # Bytes.

    def send(self, data: bytes) -> None:
        """Raises `Closed` if the other side has ended the connection."""
        if self._tls is not None:
            self._tls.write(data)
            data = self._outgoing.read()
        self.send_plain(data)

    def send_within(self, data: bytes, seconds: float) -> bool:
        """Whether all of ``data`` was taken, with no wait for longer than this. What was not is sent by `flush`."""
        assert self._tls is not None
        self._tls.write(data)
        self._unsent = self._outgoing.read()
        self._socket.settimeout(seconds)
        try:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except TimeoutError:
            pass
        finally:
            self._socket.settimeout(TIMEOUT_S)
        return not self._unsent

    def flush(self) -> None:
        """What `send_within` has left."""
        self.send_plain(self._unsent)
        self._unsent = b""

    def send_plain(self, data: bytes) -> None:
        """Past TLS, even if it is up."""
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise Closed(str(error)) from None

    def take_plain(self, size: int) -> bytes:
        """At most ``size`` bytes that have come, past TLS."""
        return self._socket.recv(size)

    def _read_plain(self) -> bytes:
        try:
            return self._socket.recv(65536)
        except ConnectionError:
            return b""

    def receive(self) -> bytes:
        """The next bytes, b"" at the end. A reset is an end."""
        while True:
            if self._tls is None:
                return self._read_plain()
            try:
                return self._tls.read(65536)
            except ssl.SSLWantReadError:
                data = self._read_plain()
                if not data:
                    return b""
                self._incoming.write(data)
            except ssl.SSLError:
                return b""

    def rest(self) -> bytes:
        """All that comes until the other side ends the connection; bytes of a handshake that is not done are as they
        are."""
        while data := self.receive() if self._up else self._read_plain():
            self._buffer += data
        taken = bytes(self._buffer)
        self._buffer.clear()
        return taken

    # TLS.

    def hello(
        self,
        sni: str | None,
        alpn: Sequence[str] = ("http/1.1",),
        context: ssl.SSLContext | None = None,
    ) -> bytes:
        """Begin TLS: the ClientHello, not sent yet."""
        context = context or ssl.create_default_context(cafile=str(self._ca_file))
        context.check_hostname = False
        context.set_alpn_protocols(list(alpn))
        self._up = False
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=sni)
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        return self._outgoing.read()

    def handshake(self) -> None:
        """Finish what `hello` began. Raises `ssl.SSLError` for an alert, `Closed` for an end."""
        assert self._tls is not None
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self.send_plain(self._outgoing.read())
                data = self._read_plain()
                if not data:
                    raise Closed("in the handshake") from None
                self._incoming.write(data)
            else:
                self._up = True
                self.send_plain(self._outgoing.read())
                return

    def tls(self, sni: str | None, alpn: Sequence[str] = ("http/1.1",)) -> None:
        self.send_plain(self.hello(sni, alpn))
        self.handshake()

    # HTTP/1.

    def connect(self, target: str | bytes, *headers: str) -> Answer:
        """CONNECT, and what is said to it."""
        raw = target.encode() if isinstance(target, str) else target
        lines = [
            b"CONNECT " + raw + b" HTTP/1.1",
            b"Host: " + raw,
            *(header.encode() for header in headers),
            b"",
            b"",
        ]
        self.send(b"\r\n".join(lines))
        return self.answer(method="CONNECT")

    def ask(self, data: bytes, method: str = "") -> Answer:
        """Send these bytes and read one answer."""
        self.send(data)
        return self.answer(method or data.split(b" ", 1)[0].decode("latin-1"))

    def pour(self, data: bytes) -> Answer:
        """Send as much of ``data`` as is taken until an answer comes, and read it. One thread does both: a TLS object is not
        for two."""
        if self._tls is not None:
            self._tls.write(data)
            data = self._outgoing.read()
        left = memoryview(data)
        while True:
            sent_to = [self._socket] if left else []
            readable, writable, _ = select.select([self._socket], sent_to, [], TIMEOUT_S)
            if readable and self._came():
                return self.answer()
            if not readable and not writable:
                raise Closed(f"{len(left)} bytes were not taken, and nothing was said")
            try:
                if writable:
                    left = left[self._socket.send(left[:65_536], socket.MSG_DONTWAIT) :]
            except OSError as error:
                raise Closed(str(error)) from None

    def _came(self) -> bool:
        """Read what the socket has, and whether that was more than TLS's own (a session ticket). An end counts."""
        data = self._read_plain()
        if self._tls is None or not data:
            self._buffer += data
            return True
        self._incoming.write(data)
        try:
            self._buffer += self._tls.read(65_536)
        except ssl.SSLWantReadError:
            return False
        return True

    def answer(self, method: str = "GET") -> Answer:
        """One answer, interim ones passed over. Raises `Closed`."""
        while (found := self._one_answer(method)).status < 200:
            pass
        return found

    def interim(self) -> Answer:
        """One answer, which may be an interim one."""
        return self._one_answer("GET")

    def _one_answer(self, method: str) -> Answer:
        head = self._until(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        pairs = (line.split(":", 1) for line in lines)
        answer = Answer(
            int(first.split(" ", 2)[1]), [(name.lower(), value.strip()) for name, value in pairs]
        )
        if (
            answer.status < 200
            or method == "HEAD"
            or (method == "CONNECT" and answer.status == 200)
        ):
            return answer
        if answer.get("transfer-encoding") == "chunked":
            while size := int(self._until(b"\r\n"), 16):
                answer.body += self._exactly(size + 2)[:-2]
            self._until(b"\r\n")
        elif length := answer.get("content-length"):
            answer.body = self._exactly(int(length))
        elif answer.status not in (204, 304):
            answer.body = self.rest()
        return answer

    def _until(self, mark: bytes) -> bytes:
        while (end := self._buffer.find(mark)) < 0:
            self._more()
        return self._take(end + len(mark))

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        return self._take(size)

    def _more(self) -> None:
        data = self.receive()
        if not data:
            raise Closed(f"after {bytes(self._buffer[:200])!r}")
        self._buffer += data

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken


@dataclass
class _Stream:
    answer: Answer | None = None
    ended: str = ""


@dataclass
class H2Client:
    """HTTP/2 over a connection whose TLS negotiated it. Headers go out as given, valid or not."""

    raw: RawClient
    connection: h2.connection.H2Connection = field(init=False)
    streams: dict[int, _Stream] = field(default_factory=dict)
    goaway: bool = False
    last_stream: int | None = None
    """What the GOAWAY says of the last stream that is answered."""

    def __post_init__(self) -> None:
        config: Any = h2.config.H2Configuration(
            client_side=True,
            header_encoding=False,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
            validate_inbound_headers=True,
        )
        self.connection = h2.connection.H2Connection(config)
        self.connection.initiate_connection()
        self.flush()

    def flush(self) -> None:
        data = self.connection.data_to_send()
        if data:
            self.raw.send(data)

    def request(
        self, headers: Sequence[tuple[str | bytes, str | bytes]], body: bytes | None = None
    ) -> int:
        """Opens a stream; ``body`` None ends it with its head, else the body does. The stream's id."""
        stream_id = self.connection.get_next_available_stream_id()
        pairs = [
            tuple(part.encode() if isinstance(part, str) else part for part in pair)
            for pair in headers
        ]
        self.connection.send_headers(stream_id, pairs, end_stream=body is None)  # type: ignore[arg-type]
        if body is not None:
            self.connection.send_data(stream_id, body, end_stream=True)
        self.streams[stream_id] = _Stream()
        self.flush()
        return stream_id

    def expect(self, stream_id: int) -> None:
        """Listen for an answer to a stream that was opened by hand."""
        self.streams[stream_id] = _Stream()

    def answer(self, stream_id: int) -> Answer:
        """The stream's answer, whole. Raises `Closed` with ``reset``, ``goaway`` or ``end`` if there is none."""
        stream = self.streams[stream_id]
        while not stream.ended:
            self._turn()
        if stream.ended != "done" or stream.answer is None:
            raise Closed(stream.ended)
        return stream.answer

    def until(self, stream_id: int, mark: bytes) -> Answer:
        """As much of the stream's answer as has come once ``mark`` is in its body. Raises `Closed` where it ends before."""
        stream = self.streams[stream_id]
        while stream.answer is None or mark not in stream.answer.body:
            if stream.ended:
                raise Closed(f"{stream.ended} after {stream.answer}")
            self._turn()
        return stream.answer

    def refusal(self, stream_id: int) -> tuple[Answer, bool]:
        """The whole answer to a request that is refused, and whether a stream error comes behind it (RFC 9113 8.1.1)."""
        stream = self.streams[stream_id]
        try:
            return self.answer(stream_id), False
        except Closed:
            if stream.ended != "reset PROTOCOL_ERROR":
                raise
        assert stream.answer is not None
        assert stream.answer.get("content-length") == str(len(stream.answer.body))
        return stream.answer, True

    def until_goaway(self) -> int | None:
        """Reads on. Gives the last stream that it names, None at an end without one."""
        while not self.goaway and self._turn():
            pass
        return self.last_stream

    def _turn(self) -> bool:
        """False at the end of the connection."""
        data = self.raw.receive()
        if not data:
            self._end_all("end")
            return False
        for event in self.connection.receive_data(data):
            stream = self.streams.get(getattr(event, "stream_id", None) or 0)
            if isinstance(event, h2.events.ConnectionTerminated):
                self.goaway, self.last_stream = True, event.last_stream_id
                self._end_all("goaway")
            elif stream is None:
                continue
            elif isinstance(event, h2.events.ResponseReceived):
                pairs = [(name.decode(), value.decode()) for name, value in event.headers or ()]  # type: ignore[misc]
                stream.answer = Answer(int(pairs[0][1]), pairs[1:])
            elif isinstance(event, h2.events.DataReceived):
                assert stream.answer is not None
                stream.answer.body += event.data or b""
                self.connection.acknowledge_received_data(
                    event.flow_controlled_length or 0, event.stream_id or 0
                )
            elif isinstance(event, h2.events.StreamEnded):
                stream.ended = "done"
            elif isinstance(event, h2.events.StreamReset):
                stream.ended = stream.ended or f"reset {event.error_code.name}"  # type: ignore[union-attr]
        try:
            self.flush()
        except Closed:
            self._end_all("end")
        return True

    def _end_all(self, how: str) -> None:
        for stream in self.streams.values():
            stream.ended = stream.ended or how
