"""Bytes of a TLS client's first message."""

from __future__ import annotations

import ssl


def hello(name: str | None, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    """What OpenSSL sends first to ``name``; None names nobody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.maximum_version = newest
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def with_extension(first: bytes, kind: int, content: bytes) -> bytes:
    """The same hello, of one record, with one more extension."""
    body = first[9:]
    at = 34
    for size in (1, 2, 1):
        at += size + int.from_bytes(body[at : at + size])
    extensions = body[at + 2 :] + kind.to_bytes(2) + len(content).to_bytes(2) + content
    body = body[:at] + len(extensions).to_bytes(2) + extensions
    message = b"\x01" + len(body).to_bytes(3) + body
    return b"\x16\x03\x01" + len(message).to_bytes(2) + message
