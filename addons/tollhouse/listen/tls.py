"""TLS with a client over memory: bytes in, bytes out, and no socket.

`asyncio`'s own TLS loses a ClientHello that comes in the segment of the CONNECT before it, sends no alert for a refused name,
calls nobody when a handshake fails, and ends a connection whose client has only said that it sends no more
(https://github.com/python/cpython/issues/98078).
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Final

from tollhouse.listen.client_hello import BadHello, read_hello

MAX_HELLO: Final = 16_384
"""Bytes of a ClientHello; one with post-quantum key shares has about 2,000."""
MAX_HELLO_READS: Final = 64
_HANDSHAKE: Final = 0x16
"""The first byte of TLS: a handshake record, RFC 8446 5.1."""
UNRECOGNIZED_NAME: Final = b"\x15\x03\x03\x00\x02\x02\x70"
"""A fatal alert, RFC 8446 6.2."""
_READ: Final = 65_536
_SLICE: Final = 16_384
"""Bytes that are encrypted or decrypted at once. A `MemoryBIO` keeps the room of the most that was ever in it."""

Choose = Callable[[str | None], ssl.SSLContext | None]
"""The context for a name (SNI, None without one); None refuses the handshake."""


class TlsError(Exception):
    """The handshake or the connection can't go on. The text has none of the client's bytes."""


class _Object(ssl.SSLObject):
    """OpenSSL's end of one connection. It does not know its `TlsStream`: a cycle would keep the memory of both."""

    choose: Choose
    judged = False
    sni: str | None = None


def choosing(context: ssl.SSLContext) -> ssl.SSLContext:
    """Makes ``context`` the one that each handshake begins with. The certificate and the protocols are those of the context
    that is chosen by the name in the ClientHello."""
    context.sslobject_class = _Object
    context.sni_callback = _chosen
    return context


def _chosen(tls: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
    assert isinstance(tls, _Object)
    tls.judged, tls.sni = True, name
    context = tls.choose(name)
    if context is None:
        return ssl.AlertDescription.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    tls.context = context
    return None


class TlsStream:
    """One TLS connection. ``first`` is a context that `choosing` has made; ``choose`` must not raise. With ``refuses_ech`` the
    ClientHello is read before OpenSSL sees it."""

    __slots__ = (
        "_fed",
        "_hello",
        "_in",
        "_made",
        "_out",
        "_reads",
        "_tls",
        "ended",
        "established",
    )

    def __init__(self, first: ssl.SSLContext, choose: Choose, *, refuses_ech: bool = False) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = first.wrap_bio(self._in, self._out, server_side=True)
        assert isinstance(tls, _Object)
        tls.choose = choose
        self._tls = tls
        self._fed = self._reads = 0
        self._hello = bytearray() if refuses_ech else None
        """The ClientHello until it is whole; None once it was read."""
        self._made: list[bytes] = []
        """Taken out of ``_out``, and to be sent before what is in it."""
        self.established = False
        self.ended = False
        """The client has said that it sends no more (close_notify, RFC 8446 6.1)."""

    @property
    def sni(self) -> str | None:
        return self._tls.sni

    @property
    def certificate(self) -> bytes | None:
        """The client's, DER; None if it showed none. It is verified where the context asks for one, and not sent elsewhere."""
        return self._tls.getpeercert(binary_form=True)

    @property
    def alpn(self) -> str | None:
        return self._tls.selected_alpn_protocol()

    def receive(self, data: bytes) -> bytes:
        """What the client says in ``data``. What `pending` gives then is to be sent, also after an exception. Raises
        `TlsError`, and `BadHello` of a ClientHello that is read here."""
        if not self._tls.judged:
            self._bound(data)
        if self._hello is not None:
            data = self._without_ech(data)
        if len(data) <= _SLICE:
            return self._take(data)
        parts: list[bytes] = []
        with memoryview(data) as view:
            for at in range(0, len(data), _SLICE):
                parts.append(self._take(view[at : at + _SLICE]))
        return b"".join(parts)

    def _without_ech(self, data: bytes) -> bytes:
        """All that has come, once the ClientHello is whole and has no encrypted name; b"" before."""
        assert self._hello is not None
        self._hello += data
        try:
            hello = read_hello(self._hello)
            if hello is None:
                return b""
            if hello.encrypted:
                raise BadHello("it hides whom it names (ECH), and [listen] refuse_ech is on")
        except BadHello:
            self._made.append(UNRECOGNIZED_NAME)
            raise
        whole, self._hello = bytes(self._hello), None
        return whole

    def _take(self, data: bytes | memoryview) -> bytes:
        self._in.write(data)
        try:
            if not self.established:
                self._tls.do_handshake()
                self.established = True
            return self._read()
        except ssl.SSLWantReadError:
            return b""
        except ssl.SSLError as error:
            raise TlsError(error.reason or "TLS failed") from None

    def _bound(self, data: bytes) -> None:
        """OpenSSL keeps up to 131,000 bytes of a hello, and each read parses them all again."""
        if not self._fed and data and data[0] != _HANDSHAKE:
            raise TlsError("this is no TLS")
        self._fed += len(data)
        self._reads += 1
        if self._fed > MAX_HELLO or self._reads > MAX_HELLO_READS:
            raise TlsError("the ClientHello has no end")

    def _read(self) -> bytes:
        parts: list[bytes] = []
        try:
            while part := self._tls.read(_READ):
                parts.append(part)
                if not self._in.pending:
                    # Each record was taken whole. To ask OpenSSL costs an exception, with each request.
                    return parts[0] if len(parts) == 1 else b"".join(parts)
            self.ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def send(self, data: bytes) -> None:
        """Encrypts ``data``. Raises `TlsError`."""
        try:
            if len(data) <= _SLICE:
                self._tls.write(data)
                return
            with memoryview(data) as view:
                for at in range(0, len(data), _SLICE):
                    self._tls.write(view[at : at + _SLICE])
                    self._made.append(self._out.read())
        except ssl.SSLError as error:
            raise TlsError(error.reason or "TLS failed") from None

    def close(self) -> None:
        """Says that nothing more is sent."""
        if self.established:
            try:
                self._tls.unwrap()
            except ssl.SSLError:
                pass  # The client's own word is still to come, or TLS has failed before.

    def pending(self) -> bytes:
        """What is to be sent now."""
        if not self._made:
            return self._out.read()
        self._made.append(self._out.read())
        made = b"".join(self._made)
        self._made.clear()
        return made
