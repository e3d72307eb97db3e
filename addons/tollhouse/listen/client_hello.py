"""The first message of a TLS client, read as strictly as it can be: whom it names, and whether it may name another one in secret.

A proxy that forwards a handshake unread must know that the server reads the same name. So whatever is odd is refused:
RFC 8446 4.1.2, RFC 6066 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_HANDSHAKE: Final = 0x16
_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0
_HOST_NAME: Final = 0
_ENCRYPTED: Final = frozenset({0xFE0D, 0xFFCE})
"""encrypted_client_hello (RFC 9849), and encrypted_server_name, which was before it. Browsers send one that means nothing to
every server that has told them no key (GREASE); nobody but who has the key can tell the two apart."""
MAX_HELLO: Final = 16_384
_MAX_RECORD: Final = 16_384
_MOST_RECORDS: Final = 64
"""Of a hello. It is read anew with each piece that comes."""


class BadHello(Exception):
    """The text says what is wrong, and has none of the client's bytes."""


@dataclass(frozen=True, slots=True)
class ClientHello:
    name: str
    """As the client spells it."""
    encrypted: bool
    """There is an encrypted name, or what looks like one. A listener that ends TLS never reads it, and the client gets the
    certificate of ``name``. One that forwards the hello can't know whom it is for."""


def read_hello(data: bytes | bytearray) -> ClientHello | None:
    """The hello that ``data`` begins with, None while it is not whole. Raises `BadHello`."""
    message = bytearray()
    at = records = 0
    while True:
        if at < len(data) and data[at] != _HANDSHAKE:
            raise BadHello("it is no TLS")
        if at + 1 < len(data) and data[at + 1] != 3:
            raise BadHello("it is no TLS")
        if len(data) < at + 5:
            break
        length = int.from_bytes(data[at + 3 : at + 5])
        if not 0 < length <= _MAX_RECORD:
            raise BadHello("a record of it has no length that may be")
        message += data[at + 5 : at + 5 + length]
        at += 5 + length
        records += 1
        if records > _MOST_RECORDS:
            raise BadHello("the ClientHello is in too many records")
        if message and message[0] != _CLIENT_HELLO:
            raise BadHello("it is no ClientHello")
        if len(message) >= 4:
            size = int.from_bytes(message[1:4])
            if size > MAX_HELLO:
                raise BadHello("the ClientHello is too large")
            if len(message) > 4 + size:
                raise BadHello("more follows on the ClientHello")
            if len(message) == 4 + size:
                return _read(_Bytes(bytes(message[4:])))
        if at > len(data):
            break
    if len(data) > MAX_HELLO + 1024:
        raise BadHello("the ClientHello has no end")
    return None


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        piece = self._data[self._at : self._at + count]
        if len(piece) < count:
            raise BadHello("the ClientHello ends too early")
        self._at += count
        return piece

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def vector(self, size: int) -> _Bytes:
        """What stands behind its own length of ``size`` bytes."""
        return _Bytes(self.take(self.number(size)))

    def end(self) -> None:
        if self.left:
            raise BadHello("the ClientHello has bytes that belong to nothing")


def _read(body: _Bytes) -> ClientHello:
    body.take(2 + 32)
    body.vector(1)  # The session's id.
    body.vector(2)  # Cipher suites.
    body.vector(1)  # Compression methods.
    if not body.left:
        raise BadHello("it names no host")
    extensions = body.vector(2)
    body.end()
    name: str | None = None
    seen: set[int] = set()
    while extensions.left:
        kind, content = extensions.number(2), extensions.vector(2)
        if kind in seen:
            raise BadHello("an extension comes twice")
        seen.add(kind)
        if kind == _SERVER_NAME:
            name = _server_name(content)
    if name is None:
        raise BadHello("it names no host")
    return ClientHello(name, not _ENCRYPTED.isdisjoint(seen))


def _server_name(content: _Bytes) -> str:
    names = content.vector(2)
    content.end()
    if names.number(1) != _HOST_NAME:
        raise BadHello("it names another thing than a host")
    text = names.take(names.number(2))
    names.end()
    if not text.isascii() or not text:
        raise BadHello("the name is no host's")
    return text.decode()
