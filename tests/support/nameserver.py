"""A name server that knows the few names a test gives it."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Mapping

_A, _IN = 1, 1


class NameServer:
    """Answers A questions over UDP from ``names`` (lower case, to one IPv4 address) on a socket that is bound already;
    a known name has no other records, an unknown one does not exist (RFC 1035)."""

    def __init__(self, server: socket.socket, names: Mapping[str, str]) -> None:
        self.asked: list[str] = []
        self._server = server
        self._names = names
        self._thread = threading.Thread(target=self._serve, name="name server", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            question, peer = self._server.recvfrom(512)
            if not question:
                return
            answer = self._answer(question)
            if answer is not None:
                self._server.sendto(answer, peer)

    def _answer(self, question: bytes) -> bytes | None:
        labels, at = [], 12
        while at < len(question) and (size := question[at]):
            labels.append(question[at + 1 : at + 1 + size].decode("latin-1"))
            at += 1 + size
        if len(question) < at + 5:
            return None
        name = ".".join(labels).lower()
        (kind,) = struct.unpack_from("!H", question, at + 1)
        self.asked.append(name)
        address = self._names.get(name)
        found = address is not None and kind == _A
        flags = 0x8580 | (0 if address is not None else 3)
        head = question[:2] + struct.pack("!HHHHH", flags, 1, int(found), 0, 0)
        record = b""
        if address is not None and found:
            record = b"\xc0\x0c" + struct.pack("!HHIH", _A, _IN, 60, 4) + socket.inet_aton(address)
        return head + question[12 : at + 5] + record

    def close(self) -> None:
        """An empty datagram to itself ends the thread; nothing else sends one."""
        self._server.sendto(b"", self._server.getsockname())
        self._thread.join(5)
        self._server.close()
