"""The handshake of a WebSocket, against the example of RFC 6455 1.3. What is refused is in tests/e2e/test_attacks_websocket.py."""

from __future__ import annotations

from tollhouse.call import RequestHead
from tollhouse.listen.handshake import accepted, check_handshake

HEAD = RequestHead(
    listener="proxy",
    http_version="1.1",
    method="GET",
    target="/chat",
    scheme="https",
    absolute_authority=None,
    authority=None,
    headers=(
        ("host", "server.example.com"),
        ("upgrade", "websocket"),
        ("connection", "keep-alive, Upgrade"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
    ),
)


def test_the_example_of_the_rfc() -> None:
    check_handshake(HEAD)
    assert dict(accepted(HEAD, "chat")) == {
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        "sec-websocket-protocol": "chat",
    }
    assert "sec-websocket-protocol" not in dict(accepted(HEAD, ""))
