"""[listen] refuse_ech: no handshake with an encrypted name, behind the redirect and in a tunnel, for either HTTP and whoever
reads HTTP/1."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.attack import GET, HOST, Attacked, get, watched
from tests.support.hello import with_extension
from tests.support.inproc import PROJECT, Inside, open_inside

HTTP1, HTTP2 = ("http/1.1",), ("h2",)
ECH, ESNI = 0xFE0D, 0xFFCE


@pytest.fixture(scope="module", params=["own", "mitmproxy"])
def refusing(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Inside]:
    settings = {
        "listen": {
            "http1": request.param,
            "transparent": "127.0.0.1:0",
            "refuse_ech": True,
        },
        f"projects.{PROJECT}": {"limits": ["10 usd/day"]},
    }
    with open_inside(tmp_path_factory.mktemp("ech"), settings) as inside:
        yield inside


@pytest.fixture
def attacked(refusing: Inside, caplog: pytest.LogCaptureFixture) -> Iterator[Attacked]:
    yield from watched(refusing, caplog)


@pytest.mark.parametrize(("alpn", "kind"), [(HTTP1, ECH), (HTTP1, ESNI), (HTTP2, ECH)], ids=str)
@pytest.mark.parametrize("listener", ["proxy", "transparent"])
def test_an_encrypted_name_is_refused(
    attacked: Attacked, listener: str, alpn: tuple[str, ...], kind: int
) -> None:
    """Row 51: with the name of a provider outside, in whatever pieces it comes."""
    with attacked.client(listener) as client:
        if listener == "proxy":
            assert client.connect(f"{HOST}:443", attacked.credentials).status == 200
        first = with_extension(client.hello(HOST, alpn), kind, b"\0" * 64)
        for at in range(5):
            client.send_plain(first[at : at + 1])
        client.send_plain(first[5:])
        assert client.rest() == b"\x15\x03\x03\x00\x02\x02\x70"
    assert attacked.tls_refused()["why"] == (
        "it hides whom it names (ECH), and [listen] refuse_ech is on"
    )


def test_other_handshakes(attacked: Attacked) -> None:
    """Without the extension all goes on, over both HTTPs and in pieces."""
    authorization = f"Authorization: Bearer {attacked.inside.token}"
    with attacked.tunnel() as client:
        assert client.ask(GET).status == 200
    with attacked.client("transparent") as client:
        first = client.hello(HOST)
        client.send_plain(first[:100])
        attacked.turn()
        client.send_plain(first[100:])
        client.handshake()
        assert client.ask(get(authorization)).status == 200
    h2 = attacked.http2()
    stream = h2.request(
        [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", HOST),
            (":path", "/v1/models"),
        ]
    )
    assert h2.answer(stream).status == 200
    attacked.lines(3)
