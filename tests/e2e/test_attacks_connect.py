"""SECURITY.md rows 8, 11 to 13, 28, and the tunnel itself: what may be opened, and what may be said on the way in."""

from __future__ import annotations

import json

import pytest
from tests.support.attack import BODY, GET, HOST, Attacked, get, post
from tests.support.raw import Answer, Closed
from tests.support.raw_socket import RawSocket, handshake


def connect(attacked: Attacked, target: str | bytes, *headers: str) -> Answer:
    """A CONNECT's answer; a refused one ends the connection."""
    with attacked.client() as client:
        answer = client.connect(target, *(headers or (attacked.credentials,)))
        assert client.rest() == b""
    return answer


@pytest.mark.parametrize(
    "target",
    [
        "127.0.0.1:443",
        "10.0.0.1:443",
        "169.254.169.254:443",
        "100.64.0.1:443",
        "0.0.0.0:443",
        "[::1]:443",
        "[fc00::1]:443",
        "[fe80::1%25eth0]:443",
        "[::ffff:127.0.0.1]:443",
        "[::ffff:7f00:1]:443",
        "[64:ff9b::7f00:1]:443",
        "::1:443",
        "2130706433:443",
        "017700000001:443",
        "0x7f000001:443",
        "0x7f.0.0.1:443",
        "0177.0.0.1:443",
        "127.1:443",
        "127.0.0.1.:443",
        "1.1.1.1:443",
        "①②⑦.0.0.1:443",
    ],
)
def test_an_address_is_no_host(attacked: Attacked, target: str) -> None:
    """Row 8: IPv4, IPv6, decimal, octal, hexadecimal, v4-mapped and NAT64, before anything is looked up."""
    attacked.refused(connect(attacked, target), 403, "host_not_allowed")


@pytest.mark.parametrize("port", ["22", "80", "8443", "1", "65535"])
def test_another_port(attacked: Attacked, port: str) -> None:
    """Row 11: a provider's host on another port."""
    attacked.refused(connect(attacked, f"{HOST}:{port}"), 403, "port_not_allowed")


@pytest.mark.parametrize(
    "target", [HOST, f"{HOST}:", f"{HOST}:0", f"{HOST}:65979", f"{HOST}:443:443", f"{HOST}:+443"]
)
def test_no_port_or_no_number(attacked: Attacked, target: str) -> None:
    """Row 11: 65979 is 443 modulo 65536; a CONNECT without a port is for none."""
    answer = connect(attacked, target)
    attacked.refused(answer, 403, "port_not_allowed" if target == HOST else "host_not_allowed")


@pytest.mark.parametrize(
    ("target", "host", "reason"),
    [
        (f"http://{HOST}/v1/models", HOST, "plain_http"),
        (f"http://{HOST}:80/v1/models", HOST, "plain_http"),
        (f"http://{HOST}:443/v1/models", HOST, "plain_http"),
        (f"https://{HOST}/v1/models", HOST, "plain_http"),
        ("/v1/models", HOST, "plain_http"),
        ("http://evil.test/", "evil.test", "host_not_allowed"),
        ("http://evil.test/", HOST, "host_not_allowed"),
        ("http://169.254.169.254/latest/meta-data/", "169.254.169.254", "host_not_allowed"),
        ("http://mitm.it/", "mitm.it", "host_not_allowed"),
        ("/cert/pem", "mitm.it", "host_not_allowed"),
    ],
)
def test_plain_http(attacked: Attacked, target: str, host: str, reason: str) -> None:
    """Rows 12 and 28: a request that is no CONNECT goes nowhere, to a provider or to anybody else."""
    with attacked.client() as client:
        answer = client.ask(get(attacked.credentials, path=target, host=host))
    attacked.refused(answer, 403, reason)


def test_plain_http_with_a_body(attacked: Attacked) -> None:
    """Row 12: the body is not waited for before the refusal."""
    with attacked.client() as client:
        data = post(BODY, attacked.credentials, path=f"http://{HOST}/v1/chat/completions")
        answer = client.ask(data[: -len(BODY)])
    attacked.refused(answer, 403, "plain_http")


@pytest.mark.parametrize("name", ["mitm.it:443", "mitm.it:80", "localhost:443"])
def test_a_host_of_our_own(attacked: Attacked, name: str) -> None:
    """Row 28: names that mitmproxy or this machine would answer to."""
    attacked.refused(connect(attacked, name), 403, "host_not_allowed")


@pytest.mark.parametrize("listener", ["admin", "proxy", "base_url"])
def test_a_listener_of_our_own(attacked: Attacked, listener: str) -> None:
    """Row 28: the gateway is no way into itself."""
    attacked.refused(
        connect(attacked, attacked.inside.gateway.addresses[listener]), 403, "host_not_allowed"
    )


def test_a_listener_of_our_own_over_plain_http(attacked: Attacked) -> None:
    """Row 28: the same without a tunnel."""
    own = attacked.inside.gateway.addresses["admin"]
    with attacked.client() as client:
        answer = client.ask(get(attacked.credentials, path=f"http://{own}/readyz", host=own))
    attacked.refused(answer, 403, "host_not_allowed")


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.9\r\n",
        GET,
        b"\x05\x01\x00",
        b"\x00" * 64,
        b"EHLO evil.test\r\n",
        b"\x16\x03\x01\xff\xff" + b"\xff" * 70,
        b"\x16\x03\x01\x00\x00",
    ],
)
def test_no_tls_in_the_tunnel(attacked: Attacked, data: bytes) -> None:
    """Row 13: whatever is not a ClientHello ends the tunnel, at most with TLS's own alert; nothing is relayed."""
    with attacked.client() as client:
        assert client.connect(f"{HOST}:443", attacked.credentials).status == 200
        client.send(data)
        if data[:1] == b"\x16":
            client.half_close()
        rest = client.rest()
        assert rest == b"" or (data[:1] == b"\x16" and rest[:1] == b"\x15" and len(rest) == 7)
    attacked.tls_refused()


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\r\n\r\n",
        b"GET /v1/models\r\n\r\n",
        b"GET /v1/models HTTP/9.9\r\nHost: api.openai.com\r\n\r\n",
        b"{}\r\n\r\n",
    ],
)
def test_no_http_inside_tls(attacked: Attacked, data: bytes) -> None:
    """Row 13: inside the tunnel's TLS what is no HTTP/1 request is a 400, and the connection ends."""
    with attacked.tunnel() as client:
        answer = client.ask(data)
        assert client.rest() == b""
    attacked.refused(answer, 400, "bad_request")


def test_a_hello_together_with_connect(attacked: Attacked) -> None:
    """A client that does not wait for the 200 loses nothing of its handshake."""
    with attacked.client() as client:
        head = f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n{attacked.credentials}\r\n\r\n".encode()
        client.send_plain(head + client.hello(HOST))
        plain = b""
        while not plain.endswith(b"\r\n\r\n"):
            plain += client.take_plain(1)
        assert plain.startswith(b"HTTP/1.1 200 ")
        client.handshake()
        assert client.ask(GET).status == 200
    attacked.clean()
    attacked.lines(1)


def test_a_hello_byte_by_byte(attacked: Attacked) -> None:
    """A hello in a thousand pieces would be parsed a thousand times: it is ended instead."""
    with attacked.client() as client:
        assert client.connect(f"{HOST}:443", attacked.credentials).status == 200
        hello = client.hello(HOST)
        try:
            for byte in hello[:-1]:
                client.send_plain(bytes((byte,)))
                attacked.turn()
        except Closed:
            pass
        assert client.rest() == b""
    attacked.tls_refused()


def test_a_hello_without_end(attacked: Attacked) -> None:
    """A ClientHello that says it has 16 MB is not kept."""
    with attacked.client() as client:
        assert client.connect(f"{HOST}:443", attacked.credentials).status == 200
        record = b"\x16\x03\x01\x40\x00" + b"\x01\xff\xff\xff" + b"\x00" * (0x4000 - 4)
        try:
            client.send_plain(record)
            for _ in range(1000):
                client.send_plain(b"\x16\x03\x01\x40\x00" + b"\x00" * 0x4000)
        except Closed:
            pass
        assert client.rest() == b""
    attacked.tls_refused()


@pytest.mark.parametrize(
    "headers",
    [
        (f"Proxy-Authorization: Bearer {'x' * 10}", f"Proxy-Authorization: Bearer {'y' * 10}"),
        ("Host: api.openai.com:443",),
        ("Content-Length: 3", "Content-Length: 4"),
        ("Content-Length: 3", "Transfer-Encoding: chunked"),
        ("X: a\rb",),
        (" folded",),
    ],
)
def test_an_ambiguous_connect(attacked: Attacked, headers: tuple[str, ...]) -> None:
    """Row 5 for the CONNECT itself: what is given twice or malformed is refused before there is a tunnel."""
    attacked.refused(connect(attacked, f"{HOST}:443", *headers), 400, "bad_request")


@pytest.mark.parametrize("target", [b"api.openai.com\xff:443", b"\xc0\xae:443"])
def test_a_connect_that_is_not_utf8(attacked: Attacked, target: bytes) -> None:
    """A target that nobody can spell is malformed."""
    attacked.refused(connect(attacked, target), 400, "bad_request")


def test_a_connect_whose_headers_are_not_utf8(attacked: Attacked) -> None:
    """Credentials that can't be read are not passed over in favour of the next ones."""
    with attacked.client() as client:
        lines = [
            f"CONNECT {HOST}:443 HTTP/1.1".encode(),
            b"Host: x",
            b"Proxy-Authorization: Basic \xff",
            b"",
            b"",
        ]
        assert client.ask(b"\r\n".join(lines), "CONNECT").status == 200
        client.tls(HOST)
        answer = client.ask(get(f"Authorization: Bearer {attacked.inside.token}"))
    attacked.refused(answer, 401, "identity_unknown")


@pytest.mark.parametrize("listener", ["proxy", "base_url"])
def test_http2_on_a_plain_listener(attacked: Attacked, listener: str) -> None:
    """HTTP/2 with prior knowledge is not spoken here."""
    with attacked.client(listener) as client:
        answer = client.ask(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert client.rest() == b""
    attacked.refused(answer, 400, "bad_request")


def test_an_upgrade_to_http2(attacked: Attacked) -> None:
    """h2c is not taken up: the request is answered as what it is, and the provider hears nothing of it."""
    with attacked.tunnel() as client:
        answer = client.ask(
            get(
                "Connection: Upgrade, HTTP2-Settings",
                "Upgrade: h2c",
                "HTTP2-Settings: AAMAAABkAAQAAP__",
            )
        )
    assert answer.status == 200
    received = attacked.clean("http2-settings", "upgrade")
    assert received.get_all("connection") == []
    attacked.lines(1)


@pytest.mark.parametrize("credentials", [None, "Proxy-Authorization: Basic bm9ib2R5Om5vdGhpbmc="])
def test_an_upgrade_to_websocket(attacked: Attacked, credentials: str | None) -> None:
    """426 before any gate, whoever asks: it sends a client to HTTP at once."""
    with attacked.tunnel(headers=() if credentials is None else None) as client:
        answer = client.ask(
            get(
                *(() if credentials is None else (credentials,)),
                "Connection: Upgrade",
                "Upgrade: websocket",
                "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            )
        )
    attacked.refused(answer, 426, "upgrade_required")


def test_a_session_on_either_http1(attacked: Attacked) -> None:
    """mitmproxy's HTTP/1 is given no 101 by the gateway: the client is told at once, and why."""
    with attacked.tunnel() as client:
        if attacked.inside.gateway.config.listen.http1 == "own":
            assert RawSocket(client, handshake()).answer.status == 101
            client.reset()
            attacked.lines(1)
            return
        answer = client.ask(handshake())
    attacked.refused(answer, 426, "upgrade_required")
    assert "[listen] http1" in json.loads(answer.body)["error"]["message"]


def test_a_token_in_the_target_is_not_logged(attacked: Attacked) -> None:
    """A workload that puts its token where the host belongs does not find it in the line."""
    token = attacked.inside.token
    line = attacked.refused(connect(attacked, f"{token}@{HOST}:443"), 403, "host_not_allowed")
    assert token[:20] not in str(line)
