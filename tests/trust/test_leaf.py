"""The server contexts: real handshakes over loopback, what is sent, how long one context serves."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from dataclasses import dataclass
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.support.clock import Clock
from tests.trust.company import company_ca

from tollhouse.trust.ca import CaError, CertificateAuthority
from tollhouse.trust.leaf import CONTEXT_LIFETIME_S, MAX_CONTEXTS, LeafStore

HOST = "api.openai.com"


@pytest.fixture(scope="module")
def ca() -> CertificateAuthority:
    return CertificateAuthority.create([HOST, "*.openai.azure.com"])


@dataclass
class Seen:
    """What the client saw of one connection."""

    version: str | None
    alpn: str | None
    cipher: str
    reused: bool | None
    session: ssl.SSLSession | None
    certificate: x509.Certificate
    chain_sent: int


def client_context(ca: CertificateAuthority, *alpn: str) -> ssl.SSLContext:
    """Python's own defaults (X509_STRICT among them from 3.13 on), trusting our CA alone."""
    context = ssl.create_default_context(cadata=ca.cert_pem)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def connect(
    server: ssl.SSLContext,
    client: ssl.SSLContext,
    host: str = HOST,
    session: ssl.SSLSession | None = None,
) -> Seen:
    """One connection over 127.0.0.1, with a byte each way so that TLS 1.3's tickets have come."""
    failures: list[Exception] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            raw, _ = listener.accept()
            raw.settimeout(None)
            try:
                connection = server.wrap_socket(raw, server_side=True)
                connection.send(connection.recv(1))
                connection.close()
            except OSError as error:
                failures.append(error)
            raw.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with (
                socket.create_connection(listener.getsockname(), timeout=10) as raw,
                client.wrap_socket(
                    raw, server_hostname=host, session=session, suppress_ragged_eofs=True
                ) as tls,
            ):
                tls.send(b"x")
                assert tls.recv(1) == b"x"
                der = tls.getpeercert(binary_form=True)
                cipher = tls.cipher()
                assert der is not None
                assert cipher is not None
                # Public from Python 3.13 on.
                chain = (
                    getattr(tls, "get_unverified_chain", None) or tls._sslobj.get_unverified_chain
                )  # type: ignore[attr-defined]
                sent = len(chain() or ())  # a resumed session has no chain there
                return Seen(
                    tls.version(),
                    tls.selected_alpn_protocol(),
                    cipher[0],
                    tls.session_reused,
                    tls.session,
                    x509.load_der_x509_certificate(der),
                    sent,
                )
        finally:
            thread.join(timeout=10)


@pytest.mark.parametrize("host", [HOST, "eu.api.openai.com", "mine.openai.azure.com"])
def test_python_client_with_its_defaults(ca: CertificateAuthority, host: str) -> None:
    """An ssl client with default settings accepts the leaf for its host, over TLS 1.3, and gets the leaf alone."""
    seen = connect(LeafStore(ca).context(host), client_context(ca), host)
    assert (seen.version, seen.alpn, seen.chain_sent) == ("TLSv1.3", None, 1)
    assert seen.certificate.extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    ).value == (x509.SubjectAlternativeName([x509.DNSName(host)]))


def test_python_client_refuses_it_for_another_name(ca: CertificateAuthority) -> None:
    """The leaf is of one host."""
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        connect(LeafStore(ca).context(HOST), client_context(ca), "eu.api.openai.com")


def test_python_client_without_our_ca_refuses(ca: CertificateAuthority) -> None:
    """Who does not trust the CA gets no connection."""
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(LeafStore(ca).context(HOST), ssl.create_default_context())


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (("h2", "http/1.1"), "h2"),
        (("http/1.1", "h2"), "h2"),
        (("h2",), "h2"),
        (("http/1.1",), "http/1.1"),
        (("spdy/3", "h2"), "h2"),
        (("spdy/3",), None),
        ((), None),
    ],
)
def test_alpn(ca: CertificateAuthority, offered: tuple[str, ...], chosen: str | None) -> None:
    """HTTP/2 where the client knows it, else HTTP/1.1; none of the two means none."""
    assert connect(LeafStore(ca).context(HOST), client_context(ca, *offered)).alpn == chosen


def test_tls_1_2_has_forward_secrecy_and_aead(ca: CertificateAuthority) -> None:
    """A TLS 1.2 client gets ECDHE and an AEAD cipher, and one that offers neither gets nothing."""
    client = client_context(ca)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    seen = connect(LeafStore(ca).context(HOST), client)
    assert seen.version == "TLSv1.2"
    assert seen.cipher.startswith("ECDHE-ECDSA-")
    assert "GCM" in seen.cipher or "CHACHA" in seen.cipher
    client.set_ciphers("ECDHE-ECDSA-AES128-SHA256")
    with pytest.raises(ssl.SSLError):
        connect(LeafStore(ca).context(HOST), client)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_tls_1_1_is_refused(ca: CertificateAuthority) -> None:
    """Below TLS 1.2 there is no connection, even for a client that allows it."""
    client = client_context(ca)
    client.set_ciphers("ALL:@SECLEVEL=0")
    client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        connect(LeafStore(ca).context(HOST), client)


def test_tickets_resume_on_the_same_host_only(ca: CertificateAuthority) -> None:
    """A ticket saves the second handshake; another host's context does not take it."""
    store, client = LeafStore(ca), client_context(ca)
    first = connect(store.context(HOST), client)
    assert first.reused is False
    assert connect(store.context(HOST), client, session=first.session).reused is True
    other = connect(
        store.context("eu.api.openai.com"), client, "eu.api.openai.com", session=first.session
    )
    assert other.reused is False


def test_leaf_has_a_p256_key_that_is_not_the_cas(ca: CertificateAuthority) -> None:
    """The leaf's key is P-256 and another one than the CA's; an old client that reads the common name finds none."""
    leaf = connect(LeafStore(ca).context(HOST), client_context(ca)).certificate
    key, ca_key = leaf.public_key(), ca.certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    info = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert key.public_bytes(*info) != ca_key.public_bytes(*info)
    assert not leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)


def test_one_context_a_host_for_a_day(ca: CertificateAuthority) -> None:
    """The same context is given for a day, then a new one with a new leaf, long before the old leaf ends."""
    clock = Clock(int(time.time()) - CONTEXT_LIFETIME_S)
    store = LeafStore(ca, clock)
    client = client_context(ca)
    first, leaf = store.context(HOST), connect(store.context(HOST), client).certificate
    assert store.context("eu.api.openai.com") is not first
    clock.now += CONTEXT_LIFETIME_S - 1
    assert store.context(HOST) is first
    clock.now += 1
    second = connect(store.context(HOST), client).certificate
    assert store.context(HOST) is not first
    assert second.not_valid_after_utc - leaf.not_valid_after_utc == timedelta(days=1)
    assert leaf.not_valid_after_utc.timestamp() - clock.now == timedelta(days=6).total_seconds()
    assert leaf.not_valid_before_utc.timestamp() == clock.now - 2 * CONTEXT_LIFETIME_S


def test_a_clock_set_back_makes_a_new_one(ca: CertificateAuthority) -> None:
    """A leaf from the future of a corrected clock is not kept."""
    clock = Clock(ca.certificate.not_valid_before_utc.timestamp() + 90_000)
    store = LeafStore(ca, clock)
    first = store.context(HOST)
    clock.now -= 10
    assert store.context(HOST) is not first


def test_expired_ca_gives_no_context(ca: CertificateAuthority) -> None:
    """When the CA ends in the middle of a context's day, the context ends as well."""
    clock = Clock(ca.not_after.timestamp() - 60)
    store = LeafStore(ca, clock)
    store.context(HOST)
    clock.now += 60
    with pytest.raises(CaError, match="expired"):
        store.context(HOST)


@pytest.mark.parametrize(
    "host", ["github.com", "10.0.0.1", "*.openai.azure.com", "", "API.OPENAI.COM"]
)
def test_no_context_beyond_the_ca(ca: CertificateAuthority, host: str) -> None:
    """A host that the CA does not cover is a ValueError that says what to do."""
    with pytest.raises(ValueError, match=r"does not cover.*tollhouse ca renew"):
        LeafStore(ca).context(host)


def test_contexts_are_bounded(ca: CertificateAuthority) -> None:
    """A workload that asks for ever new names under a wildcard drops the ones used longest ago."""
    store = LeafStore(ca)
    kept, dropped = store.context(HOST), store.context("eu.api.openai.com")
    for number in range(MAX_CONTEXTS - 1):
        store.context(f"r{number}.openai.azure.com")
        assert store.context(HOST) is kept
    assert store.context("eu.api.openai.com") is not dropped


def test_a_ca_below_a_company_root_is_sent() -> None:
    """When a company's root signed the CA, clients trust the root, so leaf and CA are sent, the root is not."""
    ca = company_ca(HOST)
    seen = connect(LeafStore(ca).context(HOST), client_context(ca))
    assert seen.chain_sent == 2
