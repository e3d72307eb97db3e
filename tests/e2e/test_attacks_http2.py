"""HTTP/2 beyond the heads of tests/data/smuggling: malformed frames, floods, and two streams of which one is attacked."""

from __future__ import annotations

import struct

import pytest
from tests.support.attack import BODY, HOST, Attacked
from tests.support.raw import Closed

HEAD = [(":method", "GET"), (":scheme", "https"), (":path", "/v1/models"), (":authority", HOST)]
POST = [
    (":method", "POST"),
    (":scheme", "https"),
    (":path", "/v1/chat/completions"),
    (":authority", HOST),
    ("content-type", "application/json"),
]


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """RFC 9113 4.1."""
    return (
        struct.pack(">I", len(payload))[1:]
        + bytes((kind, flags))
        + struct.pack(">I", stream)
        + payload
    )


def without(name: str) -> list[tuple[str, str]]:
    return [pair for pair in HEAD if pair[0] != name]


def test_the_way_is_open(attacked: Attacked) -> None:
    """A call with a body over HTTP/2 arrives: the refusals below can fail."""
    client = attacked.http2()
    with client.raw:
        assert client.answer(client.request(POST, BODY)).status == 200
    assert attacked.clean().body == BODY
    attacked.lines(1)


@pytest.mark.parametrize("name", [b"J\xfcrgen", "J\u00fcrgen".encode(), b"\xe2\x82"])
def test_obs_text_goes_on(attacked: Attacked, name: bytes) -> None:
    """RFC 9110 5.5: the provider gets the bytes of a header's value, whatever they mean."""
    client = attacked.http2()
    with client.raw:
        answer = client.answer(
            client.request([*POST, ("x-name", name), ("x-coreason-trace-id", name)], BODY)
        )
    assert answer.status == 200
    received = attacked.clean()
    assert [value for key, value in received.headers if key.lower() == b"x-name"] == [name]
    [line] = attacked.lines(1)
    assert line["trace_id"] == name.decode("utf-8", "replace")


def test_a_malformed_head_is_a_stream_error(attacked: Attacked) -> None:
    """RFC 9113 8.1.1: behind the answer."""
    client = attacked.http2()
    with client.raw:
        answer, reset = client.refusal(client.request([*HEAD, ("connection", "close")]))
    assert (answer.status, reset) == (400, True)
    attacked.lines(1)


def test_a_head_that_is_not_utf8(attacked: Attacked) -> None:
    """A path that nobody can spell is malformed."""
    client = attacked.http2()
    with client.raw:
        pairs: list[tuple[str | bytes, str | bytes]] = [
            *without(":path"),
            (":path", b"/v1/m\xfcdels"),
        ]
        answer, _ = client.refusal(client.request(pairs))
    attacked.refused(answer, 400, "bad_request")


@pytest.mark.parametrize("authority", ["evil.test:443", f"{HOST}:443"])
def test_connect(attacked: Attacked, authority: str) -> None:
    """Row 34: CONNECT has neither :scheme nor :path in HTTP/2, and is refused there as well."""
    client = attacked.http2()
    with client.raw:
        answer = client.answer(client.request([(":method", "CONNECT"), (":authority", authority)]))
    attacked.refused(answer, 403, "path_not_allowed")


@pytest.mark.parametrize("protocol", ["websocket", "connect-udp"])
def test_extended_connect(attacked: Attacked, protocol: str) -> None:
    """A WebSocket over HTTP/2 (RFC 8441), which no SDK asks for: a clear answer at once, and the connection goes on."""
    client = attacked.http2()
    head = [(":method", "CONNECT"), (":protocol", protocol), *without(":method")]
    with client.raw:
        answer, _ = client.refusal(client.request(head))
        attacked.refused(answer, 426, "upgrade_required")
        assert "over HTTP/1.1" in answer.body.decode()
        assert client.answer(client.request(HEAD)).status == 200


def test_head_has_no_body(attacked: Attacked) -> None:
    """A refused HEAD is answered by a head alone."""
    client = attacked.http2()
    with client.raw:
        answer = client.answer(client.request([(":method", "HEAD"), *without(":method")]))
    assert (answer.status, answer.body) == (403, b"")
    attacked.lines(1)
    attacked.nothing_left()


def test_one_of_two_is_attacked(attacked: Attacked) -> None:
    """Two streams at once, one for another host: one is refused, the other arrives."""
    client = attacked.http2()
    with client.raw:
        bad = client.request(
            [(":authority", "evil.test") if pair[0] == ":authority" else pair for pair in POST],
            BODY,
        )
        good = client.request(POST, BODY)
        assert client.answer(bad).reason == "authority_mismatch"
        assert client.answer(good).status == 200
    attacked.clean()
    assert sorted(line["status"] for line in attacked.lines(2)) == [200, 421]


def test_a_body_longer_than_its_length(attacked: Attacked) -> None:
    """RFC 9113 8.1.1: content-length and DATA disagree; nothing is sent on."""
    client = attacked.http2()
    with client.raw:
        stream = client.request([*POST, ("content-length", "3")], BODY)
        with pytest.raises(Closed):
            client.answer(stream)
    attacked.alone()
    attacked.nothing_left()


def test_a_reset_in_the_body(attacked: Attacked) -> None:
    """RST_STREAM in the middle of the body: one line, nothing sent, and the connection goes on."""
    client = attacked.http2()
    with client.raw:
        stream = client.connection.get_next_available_stream_id()
        client.connection.send_headers(stream, POST)
        client.connection.send_data(stream, BODY[:10])
        client.connection.reset_stream(stream)
        client.flush()
        assert client.answer(client.request(HEAD)).status == 200
    assert attacked.clean().method == "GET"
    assert sorted(line["reason"] for line in attacked.lines(2)) == ["", "client_gone"]


def test_resets_at_once(attacked: Attacked) -> None:
    """A hundred streams, each reset as soon as it is open: a line each, no hold, nothing left running."""
    client = attacked.http2()
    with client.raw:
        for _ in range(100):
            stream = client.connection.get_next_available_stream_id()
            client.connection.send_headers(stream, POST)
            client.connection.send_data(stream, BODY, end_stream=True)
            client.connection.reset_stream(stream)
        client.flush()
        assert client.answer(client.request(HEAD)).status == 200
    assert len(attacked.lines(101)) == 101


def test_continuation_without_end(attacked: Attacked) -> None:
    """CVE-2024-27983's like: a header block that goes on and on is ended, what was kept of it is bounded."""
    client = attacked.http2()
    try:
        client.raw.send(frame(0x1, 0x0, 1, b"\x00"))
        for _ in range(1000):
            client.raw.send(frame(0x9, 0x0, 1, b"\x00" * 16_000))
    except Closed:
        pass
    client.raw.rest()
    client.raw.close()
    attacked.alone()
    attacked.lines(0)
    attacked.nothing_left()


def test_a_large_head(attacked: Attacked) -> None:
    """Headers past [limits] max_header_bytes end the connection: HPACK's state is lost with them."""
    client = attacked.http2()
    stream = client.request([*HEAD, *((f"x-{number}", "y" * 10_000) for number in range(8))])
    with client.raw, pytest.raises(Closed):
        client.answer(stream)
    attacked.lines(0)
    attacked.nothing_left()


def test_a_header_bomb(attacked: Attacked) -> None:
    """One large header in HPACK's table, referred to a thousand times: a few kB that would be 4 MB."""
    client = attacked.http2()
    with client.raw:
        block = client.connection.encoder.encode([*HEAD, ("x-bomb", "y" * 4000)])
        # 0xBE: the newest entry of the dynamic table, RFC 7541 6.1.
        client.raw.send(frame(0x1, 0x5, 1, block + b"\xbe" * 1000))
        client.expect(1)
        with pytest.raises(Closed):
            client.answer(1)
    attacked.lines(0)
    attacked.nothing_left()


@pytest.mark.parametrize(
    "data",
    [
        frame(0x0, 0x1, 1, b"data on a stream that is not open"),
        frame(0x1, 0x5, 2, b"\x82"),
        frame(0x5, 0x4, 1, b"\x00\x00\x00\x02\x82"),
        frame(0x4, 0x0, 0, b"\x00"),
        frame(0x6, 0x0, 0, b"short"),
        frame(0x8, 0x0, 0, b"\x00\x00\x00\x00"),
        frame(0x1, 0x5, 1, b"\xff\xff\xff\xff\xff\xff\xff"),
        frame(0x0, 0x0, 0, b"\x00" * 20_000),
        b"GET / HTTP/1.1\r\n" + b"x" * 20_000,
        b"\xff" * 20_000,
    ],
    ids=range(10),
)
def test_frames_that_are_none(attacked: Attacked, data: bytes) -> None:
    """A connection error ends the connection; no call was made, none is written down, nothing is sent."""
    client = attacked.http2()
    with client.raw:
        try:
            client.raw.send(data)
            client.raw.rest()
        except Closed:
            pass
    attacked.alone()
    attacked.lines(0)
    attacked.nothing_left()


def test_a_call_of_a_connection_that_breaks(attacked: Attacked) -> None:
    """A call whose body is still coming when the connection breaks: one line, nothing sent."""
    client = attacked.http2()
    with client.raw:
        client.connection.send_headers(1, POST)
        client.connection.send_data(1, BODY[:10])
        client.flush()
        attacked.under_way()
        client.raw.send(frame(0x6, 0x0, 0, b"short"))
        client.raw.rest()
    [line] = attacked.lines(1)
    assert line["reason"] == "client_gone"
    attacked.nothing_left()


def test_an_expectation(attacked: Attacked) -> None:
    """Expect: 100-continue over HTTP/2 is met with a 100 and the answer behind it."""
    client = attacked.http2()
    with client.raw:
        assert (
            client.answer(client.request([*POST, ("expect", "100-continue")], BODY)).status == 200
        )
    assert attacked.clean().get_all("expect") == []
    attacked.lines(1)


def test_trailers(attacked: Attacked) -> None:
    """Trailers of a request are not passed on."""
    client = attacked.http2()
    with client.raw:
        client.connection.send_headers(1, POST)
        client.connection.send_data(1, BODY)
        client.connection.send_headers(
            1, [("x-trailer", "gate_nothing"), ("host", "evil.test")], end_stream=True
        )
        client.expect(1)
        client.flush()
        assert client.answer(1).status == 200
    assert b"trailer" not in attacked.clean().everything().lower()
    attacked.lines(1)
