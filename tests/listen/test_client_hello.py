"""The first message of a TLS client: whom it names, and that what is odd is refused."""

from __future__ import annotations

import ssl

import pytest
from tests.support.hello import hello, with_extension

from tollhouse.listen.client_hello import BadHello, read_hello

NAME = "artifacts.example"


def record(message: bytes) -> bytes:
    return b"\x16\x03\x01" + len(message).to_bytes(2) + message


def test_openssl() -> None:
    found = read_hello(hello(NAME))
    assert found is not None
    assert found.name == NAME


def test_byte_by_byte() -> None:
    """Nothing is said before it is whole."""
    whole = hello(NAME)
    assert all(read_hello(whole[:count]) is None for count in range(len(whole)))


def test_in_many_records() -> None:
    message = hello(NAME)[5:]
    split = b"".join(record(message[at : at + 16]) for at in range(0, len(message), 16))
    found = read_hello(split)
    assert found is not None
    assert found.name == NAME


def test_in_too_many_records() -> None:
    """Each would be looked at again with each byte that comes."""
    message = hello(NAME)[5:]
    split = b"".join(record(message[at : at + 1]) for at in range(len(message)))
    with pytest.raises(BadHello, match="too many records"):
        read_hello(split)


def test_old_tls() -> None:
    """TLS 1.2 alone has a shorter hello."""
    found = read_hello(hello(NAME, ssl.TLSVersion.TLSv1_2))
    assert found is not None
    assert found.name == NAME


@pytest.mark.parametrize(("kind", "encrypted"), [(0xFE0D, True), (0xFFCE, True), (0x0A0A, False)])
def test_an_encrypted_name(kind: int, encrypted: bool) -> None:
    """It is told, beside the name that can be read."""
    found = read_hello(with_extension(hello(NAME), kind, b"\x00" * 8))
    assert found is not None
    assert (found.name, found.encrypted) == (NAME, encrypted)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "it is no TLS"),
        (b"SSH-2.0-OpenSSH\r\n", "it is no TLS"),
        (b"\x16\x02\x00", "it is no TLS"),
        # SSLv2, which names no host, and what a load balancer would put before a hello.
        (b"\x80\x2e\x01\x03\x03\x00\x15\x00\x00\x00\x10" + bytes(37), "it is no TLS"),
        (b"PROXY TCP4 10.1.2.3 192.0.2.1 1 443\r\n" + hello(NAME), "it is no TLS"),
        (b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes(12) + hello(NAME), "it is no TLS"),
        (b"\x16\x03\x01\x00\x00", "length"),
        (record(b"\x02\x00\x00\x00"), "no ClientHello"),
        (record(b"\x01\x00\xff\xff" + b"x" * 100), "too large"),
        (hello(None), "names no host"),
        (with_extension(hello(NAME), 0, b"\x00\x04\x00\x00\x01a"), "comes twice"),
        (
            with_extension(hello(None), 0, b"\x00\x08\x00\x00\x01a\x00\x00\x01b"),
            "belong to nothing",
        ),
        (with_extension(hello(None), 0, b"\x00\x04\x01\x00\x01a"), "another thing"),
        (with_extension(hello(None), 0, b"\x00\x04\x00\x00\x01\xff"), "no host's"),
        (with_extension(hello(None), 0, b"\x00\x04\x00\x00\x09a"), "too early"),
        (record(hello(NAME)[5:] + b"\x14"), "more follows"),
    ],
)
def test_refused(data: bytes, why: str) -> None:
    with pytest.raises(BadHello, match=why):
        read_hello(data)
