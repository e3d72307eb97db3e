"""Bytes changed at random: whatever comes in, nothing leaves but what was judged, and the gateway does not stumble."""

from __future__ import annotations

import random
import re
import ssl

import pytest
from tests.support.attack import BODY, GET, HOST, Attacked, get, post
from tests.support.gateway import REAL_KEY
from tests.support.raw import Closed, H2Client, RawClient

TRIES = 40
OPEN = re.compile(
    r"(POST /v1/(chat/completions|embeddings)|GET /v1/models(/[A-Za-z0-9._:-]+)?)(\?.*)?"
)
SPICE = (
    b"\r\n",
    b"\n",
    b"\r",
    b"\x00",
    b" ",
    b"\t",
    b":",
    b"0",
    b"\xff",
    b"\r\n\r\n",
    b"Host: evil.test\r\n",
    b"//",
    b"%2e",
)

SEEDS = {
    "get": get("X-A: b"),
    "post": post(BODY, "X-A: b"),
    "chunks": post(b"", "Transfer-Encoding: chunked")
    + b"%x;a=b\r\n%s\r\n0\r\nX-T: a\r\n\r\n" % (len(BODY), BODY),
    "absolute": get(path=f"https://{HOST}/v1/models?a=b"),
    "two": post() + GET,
}


def changed(data: bytes, rng: random.Random) -> bytes:
    """One to four bytes or runs of them replaced, put in, taken out or doubled."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at, end = sorted((rng.randrange(len(out) + 1), rng.randrange(len(out) + 1)))
        match rng.randrange(5):
            case 0 if at < len(out):
                out[at] = rng.randrange(256)
            case 1:
                out[at:at] = rng.choice(SPICE)
            case 2:
                del out[at : min(end, at + 8)]
            case 3:
                out[at:at] = out[at : min(end, at + 64)]
            case _:
                del out[at:]
        if not out:
            break
    return bytes(out)


def given_up(client: RawClient, data: bytes) -> None:
    """Send, say that nothing more comes, and wait for the end."""
    try:
        client.send(data)
        client.half_close()
        client.rest()
    except (Closed, ssl.SSLError):
        pass
    finally:
        client.close()


def only_what_was_judged(attacked: Attacked) -> None:
    """All that the stand-in got is an open endpoint of the right host, with our key and none of theirs; all is settled,
    and each request that arrived has its line."""
    attacked.alone()
    attacked.settle()
    book = attacked.inside.standin.snapshot()
    for received in book:
        assert OPEN.fullmatch(f"{received.method} {received.target}"), received.target
        assert (received.get_all("host"), received.sni) == ([HOST], HOST)
        assert received.get_all("authorization") == [f"Bearer {REAL_KEY}"]
        assert b"gate_" not in received.everything()
        assert b"evil" not in received.everything().split(b"\r\n", 1)[0]
    lines = attacked.inside.lines()[attacked.seen :]
    # A client that has left may have taken its call with it before the attempt was on the wire.
    tried = [line for line in lines if line["decision"] == "allow" and line["attempts"]]
    assert sum(line["reason"] == "" for line in tried) <= len(book) <= len(tried)
    assert len({line["call_id"] for line in lines}) == len(lines)


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("seed", SEEDS)
def test_http1(attacked: Attacked, seed: str, number: int) -> None:
    """Requests that are nearly right, inside a good tunnel."""
    rng = random.Random(f"{seed} {number}")
    for _ in range(TRIES):
        given_up(attacked.tunnel(), changed(SEEDS[seed], rng))
    only_what_was_judged(attacked)


@pytest.mark.parametrize("number", range(4))
def test_connect(attacked: Attacked, number: int) -> None:
    """CONNECTs that are nearly right, followed by a handshake."""
    rng = random.Random(number)
    head = f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n{attacked.credentials}\r\n\r\n".encode()
    for _ in range(TRIES):
        client = attacked.client()
        data = changed(head, rng)
        if rng.random() < 0.5:
            client.send_plain(data + client.hello(HOST))
            data = b""
        given_up(client, data)
    only_what_was_judged(attacked)
    attacked.nothing_left()


@pytest.mark.parametrize("number", range(4))
def test_client_hello(attacked: Attacked, number: int) -> None:
    """Handshakes that are nearly right."""
    rng = random.Random(number)
    for _ in range(TRIES):
        client = attacked.client()
        assert client.connect(f"{HOST}:443", attacked.credentials).status == 200
        hello = changed(client.hello(HOST), rng)
        try:
            client.send_plain(hello)
            client.half_close()
            client.rest()
        except Closed:
            pass
        client.close()
    only_what_was_judged(attacked)
    attacked.nothing_left()


class Kept:
    """In place of a connection: keeps what would be sent."""

    def __init__(self) -> None:
        self.sent = b""

    def send(self, data: bytes) -> None:
        self.sent += data


def frames() -> bytes:
    """Two calls of an HTTP/2 client, preface and all."""
    kept = Kept()
    client = H2Client(kept)  # type: ignore[arg-type]
    head = [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", "/v1/chat/completions"),
        (":authority", HOST),
    ]
    client.request([*head, ("content-type", "application/json")], BODY)
    client.request(
        [(":method", "GET"), (":scheme", "https"), (":path", "/v1/models"), (":authority", HOST)]
    )
    return kept.sent


@pytest.mark.parametrize("number", range(6))
def test_http2(attacked: Attacked, number: int) -> None:
    """Frames that are nearly right."""
    rng = random.Random(number)
    data = frames()
    for _ in range(TRIES):
        # The preface stays: without it there is nothing to parse.
        given_up(attacked.tunnel(alpn=("h2",)), data[:24] + changed(data[24:], rng))
    only_what_was_judged(attacked)
