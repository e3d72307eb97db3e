"""TLS with a client in memory: whose name is answered, how a handshake fails, and how a direction ends."""

from __future__ import annotations

import contextlib
import resource
import ssl
from pathlib import Path

import pytest

from tollhouse.listen.tls import MAX_HELLO, MAX_HELLO_READS, TlsError, TlsStream, choosing
from tollhouse.trust.ca import CertificateAuthority
from tollhouse.trust.leaf import LeafStore

HOST, OTHER = "api.openai.com", "eu.api.openai.com"
UNRECOGNIZED = b"\x15\x03\x03\x00\x02\x02\x70"
"""A fatal alert (RFC 8446 6, RFC 6066 3)."""


class Pair:
    """A client of Python's, and ours."""

    def __init__(
        self,
        leaves: LeafStore,
        trusted: ssl.SSLContext,
        host: str = HOST,
        session: ssl.SSLSession | None = None,
    ) -> None:
        self.asked: list[str | None] = []
        self._there, self._back = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = trusted.wrap_bio(
            self._back, self._there, server_hostname=host, session=session
        )

        def choose(name: str | None) -> ssl.SSLContext | None:
            self.asked.append(name)
            return leaves.context(name) if name in (HOST, OTHER) else None

        self.ours = TlsStream(choosing(leaves.first()), choose)
        self.alert = b""

    def receive(self) -> bytes:
        """What we read of all that the client has sent."""
        try:
            return self.ours.receive(self._there.read())
        finally:
            self.alert = self.ours.pending()
            self._back.write(self.alert)

    def send(self, data: bytes) -> None:
        self.ours.send(data)
        self._back.write(self.ours.pending())

    def shake(self) -> Pair:
        for _ in range(3):
            with contextlib.suppress(ssl.SSLWantReadError):
                self.client.do_handshake()
            self.receive()
        return self

    def take(self, size: int) -> bytes:
        parts = b""
        while len(parts) < size:
            parts += self.client.read(size)
        return parts


@pytest.fixture(scope="module")
def ca() -> CertificateAuthority:
    return CertificateAuthority.create([HOST])


@pytest.fixture
def leaves(ca: CertificateAuthority) -> LeafStore:
    return LeafStore(ca)


@pytest.fixture
def trusted(ca: CertificateAuthority) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=ca.cert_pem)


@pytest.mark.parametrize("host", [HOST, OTHER])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_it_is_the_host_that_was_asked_for(
    leaves: LeafStore, trusted: ssl.SSLContext, host: str, version: ssl.TLSVersion
) -> None:
    """Its certificate, its protocols, and bytes both ways however many they are."""
    trusted.maximum_version = version
    trusted.set_alpn_protocols(["http/1.1"])
    pair = Pair(leaves, trusted, host).shake()
    assert (pair.asked, pair.ours.sni, pair.ours.alpn) == ([host], host, "http/1.1")
    assert pair.client.version() == {771: "TLSv1.2", 772: "TLSv1.3"}[version]
    for size in (1, 16_384, 300_000):
        pair.client.write(b"a" * size)
        assert pair.receive() == b"a" * size
        pair.send(b"b" * size)
        assert pair.take(size) == b"b" * size


@pytest.mark.parametrize("host", ["evil.test", "API.OPENAI.COM.evil.test"])
def test_a_name_that_is_refused(leaves: LeafStore, trusted: ssl.SSLContext, host: str) -> None:
    """The client gets TLS's own word for it."""
    pair = Pair(leaves, trusted, host)
    with pytest.raises(TlsError):
        pair.shake()
    assert pair.alert == UNRECOGNIZED
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        pair.client.do_handshake()
    assert not pair.ours.established


def test_what_a_large_answer_leaves(leaves: LeafStore, trusted: ssl.SSLContext) -> None:
    """A connection that is kept alive does not keep the room for it."""
    pairs = [Pair(leaves, trusted).shake() for _ in range(30)]
    answer = bytes(4_000_000)
    pairs[0].ours.send(answer)
    pairs[0].ours.pending()
    before = resident()
    for pair in pairs:
        pair.ours.send(answer)
        assert len(pair.ours.pending()) > len(answer)
    assert resident() - before < 30_000_000


def resident() -> int:
    """Bytes of this process in memory; OpenSSL's are in no count of Python's."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def test_a_client_that_does_not_trust_us(leaves: LeafStore) -> None:
    """Its alert is the error's text."""
    pair = Pair(leaves, ssl.create_default_context())
    with contextlib.suppress(ssl.SSLWantReadError):
        pair.client.do_handshake()
    pair.receive()
    with pytest.raises(ssl.SSLCertVerificationError):
        pair.client.do_handshake()
    with pytest.raises(TlsError, match="UNKNOWN_CA"):
        pair.receive()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_that_sends_no_more(
    leaves: LeafStore, trusted: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    """It still gets its answer (RFC 8446 6.1), and then our own word that it was all."""
    trusted.maximum_version = version
    pair = Pair(leaves, trusted).shake()
    pair.client.write(b"asked")
    with contextlib.suppress(ssl.SSLWantReadError):
        pair.client.unwrap()
    assert pair.receive() == b"asked"
    assert pair.ours.ended
    pair.send(b"answered")
    if version is ssl.TLSVersion.TLSv1_3:
        # OpenSSL's client drops what comes behind its own word in TLS 1.2.
        assert pair.take(8) == b"answered"


def test_tickets_serve_for_each_host_and_the_name_is_judged_anew(
    leaves: LeafStore, trusted: ssl.SSLContext
) -> None:
    """A resumed handshake names its host as any other."""
    first = Pair(leaves, trusted).shake()
    first.send(b"x")
    first.take(1)
    again = Pair(leaves, trusted, HOST, first.client.session).shake()
    assert (again.client.session_reused, again.asked) == (True, [HOST])
    refused = Pair(leaves, trusted, "evil.test", first.client.session)
    with pytest.raises(TlsError):
        refused.shake()
    assert (refused.asked, refused.alert) == (["evil.test"], UNRECOGNIZED)


@pytest.mark.parametrize(
    ("pieces", "why"),
    [
        ([b"GET / HTTP/1.1\r\n\r\n"], "this is no TLS"),
        ([b"\x16\x03\x01\x3f\xff\x01\x00\xff\xff" + bytes(MAX_HELLO)], "no end"),
        ([b"\x16\x03\x01\x3f\xff\x01\x00\xff\xff", *[b"\0"] * MAX_HELLO_READS], "no end"),
    ],
    ids=["plain", "large", "in drops"],
)
def test_what_is_no_hello(leaves: LeafStore, pieces: list[bytes], why: str) -> None:
    """It is given up with bounded memory and work."""
    ours = TlsStream(choosing(leaves.first()), lambda name: None)
    *first, last = pieces
    for piece in first:
        ours.receive(piece)
    with pytest.raises(TlsError, match=why):
        ours.receive(last)


def test_a_judge_that_is_never_asked(leaves: LeafStore) -> None:
    """A hello that OpenSSL refuses by itself establishes nothing."""
    ours = TlsStream(choosing(leaves.first()), lambda name: None)
    with pytest.raises(TlsError):
        ours.receive(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00")
    assert not ours.established
