"""SECURITY.md row 14, and rows 1, 2, 5 and 13 where there is no CONNECT: the network's redirect brings anything here."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import pytest
from cryptography import x509
from tests.support.attack import GET, HOST, Attacked, get, watched
from tests.support.hello import hello, with_extension
from tests.support.inproc import PROJECT, Inside, open_inside
from tests.support.raw import Closed, RawClient

OTHER = "us.api.openai.com"


@pytest.fixture(scope="module")
def redirected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    settings = {
        "listen": {"transparent": "127.0.0.1:0"},
        f"projects.{PROJECT}": {"limits": ["10 usd/day"]},
    }
    with open_inside(tmp_path_factory.mktemp("transparent"), settings) as inside:
        yield inside


@pytest.fixture
def caught(redirected: Inside, caplog: pytest.LogCaptureFixture) -> Iterator[Attacked]:
    yield from watched(redirected, caplog)


def token(caught: Attacked) -> str:
    return f"Authorization: Bearer {caught.inside.token}"


def connected(caught: Attacked, sni: str | None = HOST) -> RawClient:
    client = caught.client("transparent")
    client.tls(sni)
    return client


def test_the_original_address_is_ignored(caught: Attacked) -> None:
    """Row 14: a client dials an address of the attacker's (here: this listener's own) and says an allowed name: what is
    dialled is what the name stands for, as we are told."""
    with connected(caught) as client:
        assert client.ask(get(token(caught))).status == 200
    received = caught.clean()
    assert (received.sni, received.get("host")) == (HOST, HOST)
    [line] = caught.lines(1)
    assert (line["listener"], line["host"]) == ("transparent", HOST)


@pytest.mark.parametrize("sni", ["evil.test", "api.openai.com.evil.test", "localhost", None])
def test_a_name_of_nobodys(caught: Attacked, sni: str | None) -> None:
    """Row 2: no certificate is shown for it, and its address is not dialled either."""
    with caught.client("transparent") as client:
        with pytest.raises((ssl.SSLError, Closed)):
            client.tls(sni)
        assert client.rest() == b""
    why = "it names a host that may not be called here" if sni else "it names no host"
    assert caught.tls_refused()["why"] == why


def certificate(records: bytes) -> x509.Certificate:
    """The first one that a TLS 1.2 server shows (RFC 5246 7.4.2)."""
    messages = b""
    while records:
        assert records[0] == 0x16
        size = int.from_bytes(records[3:5])
        messages, records = messages + records[5 : 5 + size], records[5 + size :]
    kinds = {}
    while messages:
        size = int.from_bytes(messages[1:4])
        kinds[messages[0]], messages = messages[4 : 4 + size], messages[4 + size :]
    size = int.from_bytes(kinds[11][3:6])
    return x509.load_der_x509_certificate(kinds[11][6 : 6 + size])


@pytest.mark.parametrize("kind", [0xFE0D, 0xFFCE])
def test_an_encrypted_name(caught: Attacked, kind: int) -> None:
    """Row 51: real or not, it is not read here. The name outside decides, and its certificate is shown, in whatever pieces the
    hello comes."""
    first = with_extension(hello(HOST, ssl.TLSVersion.TLSv1_2), kind, b"\0" * 64)
    with caught.client("transparent") as client:
        for at in range(5):
            client.send(first[at : at + 1])
        client.send(first[5:])
        client.half_close()
        shown = certificate(client.rest())
    names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [HOST]
    caught.tls_refused()


def test_an_encrypted_name_beside_that_of_nobody(caught: Attacked) -> None:
    """Row 51: a front that is no provider's is refused, whoever stands behind it."""
    with caught.client("transparent") as client:
        client.send(with_extension(hello("cloudflare-ech.com"), 0xFE0D, b"\0" * 64))
        assert client.rest()[:1] in (b"", b"\x15")
    assert caught.tls_refused()["why"] == "it names a host that may not be called here"


def test_a_hello_without_an_end(caught: Attacked) -> None:
    """What promises a record of 16 KiB after another is read no further than one hello may be long."""
    with caught.client("transparent") as client:
        client.send(
            b"\x16\x03\x01\x40\x00\x01\x00\x7f\xff" + b"\0" * 16380 + b"\x16\x03\x01\x40\x00"
        )
        client.rest()
    assert caught.tls_refused()["why"] == "the ClientHello is too large"


@pytest.mark.parametrize("host", ["evil.test", OTHER, "127.0.0.1", f"{HOST}:8443"])
def test_the_host_is_another(caught: Attacked, host: str) -> None:
    """Row 1: SNI and Host differ."""
    with connected(caught) as client:
        answer = client.ask(get(token(caught), host=host))
    caught.refused(answer, 421, "authority_mismatch")


@pytest.mark.parametrize(
    "data", [GET, b"SSH-2.0-OpenSSH_9.9\r\n", b"CONNECT api.openai.com:443 HTTP/1.1\r\n\r\n"]
)
def test_no_tls(caught: Attacked, data: bytes) -> None:
    """Row 13: whatever is not a ClientHello ends the connection."""
    with caught.client("transparent") as client:
        client.send(data)
        assert client.rest() == b""
    assert caught.tls_refused()["why"] == "it is no TLS"


@pytest.mark.parametrize(
    "data",
    [
        b"CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n",
        f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n".encode(),
    ],
)
def test_a_connect_inside(caught: Attacked, data: bytes) -> None:
    """Row 34: there is no tunnel in here."""
    with connected(caught) as client:
        answer = client.ask(data)
    caught.refused(answer, 403, "path_not_allowed")


def test_no_token(caught: Attacked) -> None:
    """Row 16: the slot is the only place that there is, and a provider's own key in it is nobody's."""
    with connected(caught) as client:
        answer = client.ask(get("Authorization: Bearer sk-proj-the-workloads-own-key"))
    caught.refused(answer, 401, "identity_unknown")
