"""SECURITY.md rows 19 and 21: bodies that say two things, and requests without an end."""

from __future__ import annotations

import json
from collections.abc import Iterator

import psutil
import pytest
from tests.support.attack import BODY, GET, HOST, Attacked, get, post, watched
from tests.support.gateway import Road, open_road
from tests.support.inproc import PROJECT, Inside, open_inside
from tests.support.raw import Closed, H2Client, RawClient

from tollhouse.demo.standin import StandIn

LIMIT = 100_000
CHUNKED = "Transfer-Encoding: chunked"
MESSAGES = '"messages":[{"role":"user","content":"hello"}]'


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """A gateway with small limits, and one second for what comes slowly."""
    limits = {"max_body_bytes": LIMIT, "request_timeout_s": 1}
    settings = {"limits": limits, f"projects.{PROJECT}": {"limits": ["10 usd/day"]}}
    with open_inside(tmp_path_factory.mktemp("tight"), settings) as inside:
        yield inside


@pytest.fixture
def bounded(tight: Inside, caplog: pytest.LogCaptureFixture) -> Iterator[Attacked]:
    yield from watched(tight, caplog)


@pytest.mark.parametrize(
    "body",
    [
        f'{{"model":"gpt-4o","model":"gpt-4o-mini",{MESSAGES}}}',
        f'{{"model":"gpt-4o","\\u006dodel":"gpt-4o-mini",{MESSAGES}}}',
        f'{{"model":"gpt-4o","Model":"gpt-4o-mini",{MESSAGES}}}',
        f'{{"MODEL":"gpt-4o",{MESSAGES}}}',
        f'{{"model":"gpt-4o","max_tokens":1,"max_tokens":100000,{MESSAGES}}}',
        f'{{"model":"gpt-4o","Max_Tokens":1,{MESSAGES}}}',
        f'{{"model":"gpt-4o","stream":true,"stream_options":{{"include_usage":true,"include_usage":false}},{MESSAGES}}}',
        f'{{"model":"gpt-4o","stream":true,"stream":false,{MESSAGES}}}',
        f'{{"model":"gpt-4o","n":-1,{MESSAGES}}}',
        f'{{"model":"gpt-4o","max_tokens":NaN,{MESSAGES}}}',
        f'{{"model":"gpt-4o","max_tokens":1e999,{MESSAGES}}}',
        f'{{"model":["gpt-4o"],{MESSAGES}}}',
        f"{{{MESSAGES}}}",
        f'{{"model":"gpt-4o",{MESSAGES}}} {{}}',
        f'\ufeff{{"model":"gpt-4o",{MESSAGES}}}',
        f'{{"model":"gpt-4o",{MESSAGES},}}',
        "[" * 50_000,
        "[]",
        "null",
        "",
        "model=gpt-4o",
    ],
)
def test_a_body_that_can_be_read_in_two_ways(attacked: Attacked, body: str) -> None:
    """Row 19: 400 for what two JSON parsers may read differently, and for what is no request."""
    with attacked.tunnel() as client:
        answer = client.ask(post(body.encode()))
    attacked.refused(answer, 400, "bad_request")


@pytest.mark.parametrize(
    ("encoding", "refused"),
    [
        ("compress", (415, "unsupported_encoding")),
        ("gzip, br", (415, "unsupported_encoding")),
        ("gzip", (400, "bad_request")),
        ("identity, zstd", (400, "bad_request")),
    ],
)
def test_a_compressed_body(attacked: Attacked, encoding: str, refused: tuple[int, str]) -> None:
    """A body that can't be read can't be estimated. This one is not compressed at all."""
    with attacked.tunnel() as client:
        answer = client.ask(post(BODY, f"Content-Encoding: {encoding}"))
    attacked.refused(answer, *refused)


def test_usage_that_was_switched_off(attacked: Attacked) -> None:
    """Row 19: `include_usage: false` is metered all the same, and the client does not see that it was."""
    document = {**json.loads(BODY), "stream": True, "stream_options": {"include_usage": False}}
    with attacked.tunnel() as client:
        answer = client.ask(post(json.dumps(document).encode()))
    assert answer.status == 200
    assert b"usage" not in answer.body
    assert attacked.clean().document()["stream_options"] == {"include_usage": True}
    [line] = attacked.lines(1)
    assert (line["charged_by"], line["tokens"]["output"] > 0) == ("usage", True)


def test_a_body_that_says_it_is_too_large(bounded: Attacked) -> None:
    """Row 21: 413 before a byte of it is read."""
    with bounded.tunnel() as client:
        answer = client.ask(post(b"", f"Content-Length: {LIMIT + 1}"))
    bounded.refused(answer, 413, "body_too_large")


@pytest.mark.parametrize("size", ["9" * 30, str(2**63), str(2**31)])
def test_a_body_that_says_it_is_huge(bounded: Attacked, size: str) -> None:
    """Row 21: numbers past any machine's word."""
    with bounded.tunnel() as client:
        answer = client.ask(post(b"", f"Content-Length: {size}"))
    bounded.refused(answer, 413, "body_too_large")


def test_a_body_too_large_with_expect(bounded: Attacked) -> None:
    """Row 21: a client that asks first is told before it sends."""
    with bounded.tunnel() as client:
        client.send(post(b"", f"Content-Length: {LIMIT + 1}", "Expect: 100-continue"))
        answer = client.interim()
    bounded.refused(answer, 413, "body_too_large")


@pytest.mark.parametrize("protocol", ["1", "2"])
def test_a_body_without_a_length_that_is_too_large(bounded: Attacked, protocol: str) -> None:
    """Row 21: chunks or frames past the limit; what comes behind it is read on, so that the answer is seen."""
    if protocol == "2":
        client = bounded.http2()
        head = [
            (":method", "POST"),
            (":scheme", "https"),
            (":path", "/v1/chat/completions"),
            (":authority", HOST),
        ]
        with client.raw:
            # An answered call first: by then the gateway's settings have opened the window.
            assert client.answer(client.request([(":method", "HEAD"), *head[1:]])).status == 403
            client.connection.send_headers(3, head)
            client.expect(3)
            for _ in range(8):
                client.connection.send_data(3, b"x" * 16_000)
            client.flush()
            answer = client.answer(3)
        assert (answer.status, answer.reason) == (413, "body_too_large")
        bounded.lines(2)
        bounded.nothing_left()
        return
    with bounded.tunnel() as raw:
        raw.send(post(b"", CHUNKED) + (b"4000\r\n" + b"x" * 0x4000 + b"\r\n") * 8)
        answer = raw.answer()
    bounded.refused(answer, 413, "body_too_large")


def test_a_body_exactly_as_large_as_allowed(bounded: Attacked) -> None:
    """The limit itself is allowed: the refusals above can fail."""
    with bounded.tunnel() as client:
        assert client.ask(post(BODY + b" " * (LIMIT - len(BODY)))).status == 200
    bounded.lines(1)


@pytest.mark.parametrize("framing", [CHUNKED, f"Content-Length: {LIMIT}"])
def test_a_slow_body(bounded: Attacked, framing: str) -> None:
    """Row 21: silence in the body is 408."""
    with bounded.tunnel() as client:
        answer = client.ask(
            post(b"", framing) + (b'5\r\n{"a":\r\n' if framing == CHUNKED else b"{")
        )
    bounded.refused(answer, 408, "timeout")


def test_a_slow_body_over_http2(bounded: Attacked) -> None:
    """Row 21: the same for a stream."""
    client = bounded.http2()
    head = [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", "/v1/chat/completions"),
        (":authority", HOST),
    ]
    with client.raw:
        client.connection.send_headers(1, head)
        client.expect(1)
        client.flush()
        answer = client.answer(1)
    bounded.refused(answer, 408, "timeout")


@pytest.mark.parametrize("listener", ["proxy", "tunnel", "base_url"])
def test_a_head_without_end(attacked: Attacked, listener: str) -> None:
    """Row 21: 431 as soon as the limit is passed, whatever has been said by then."""
    with attacked.tunnel() if listener == "tunnel" else attacked.client(listener) as client:
        try:
            client.send(GET[:-2])
            for number in range(200):
                client.send(f"X-{number}: {'y' * 1000}\r\n".encode())
        except Closed:
            pass
        answer = client.answer()
        assert client.rest() == b""
    attacked.refused(answer, 431, "headers_too_large")


def test_a_first_line_without_end(attacked: Attacked) -> None:
    """Row 21: no line end at all."""
    with attacked.tunnel() as client:
        answer = client.ask(b"GET /" + b"x" * 70_000)
    attacked.refused(answer, 431, "headers_too_large")


@pytest.mark.parametrize("sent", [b"", b"GET /v1/mod", GET[:-2]])
def test_a_slow_head(bounded: Attacked, sent: bytes) -> None:
    """A head that does not come is not waited for; nothing was asked, so nothing is written down."""
    with bounded.client() as client:
        if sent:
            client.send(sent)
            assert client.rest() == b""
        else:
            assert client.connect(f"{HOST}:443", bounded.credentials).status == 200
            # The handshake that does not come has a line: a host was named.
            assert client.rest() == b""
    bounded.alone()
    assert len(bounded.lines(0 if sent else 1)) == (0 if sent else 1)
    bounded.nothing_left()


@pytest.mark.parametrize("separator", ["&", ";"])
@pytest.mark.parametrize("protocol", ["1", "2"])
def test_a_query_of_many_pieces(attacked: Attacked, protocol: str, separator: str) -> None:
    """Row 40: nobody's query is taken apart into 15,000 pieces."""
    path = "/v1/models?" + f"%41{separator}" * 15_000
    if protocol == "1":
        with attacked.tunnel(headers=()) as raw:
            answer = raw.ask(get(path=path))
    else:
        client = H2Client(attacked.tunnel(headers=(), alpn=("h2",)))
        with client.raw:
            head = [(":method", "GET"), (":scheme", "https"), (":path", path), (":authority", HOST)]
            answer = client.answer(client.request(head))
    attacked.refused(answer, 400, "bad_request")


@pytest.mark.parametrize(
    ("protocol", "lines"), [("1", 16_000), ("1", 201), ("2", 1_900), ("2", 201)]
)
def test_a_head_of_many_lines(attacked: Attacked, protocol: str, lines: int) -> None:
    """Row 40: nobody's header lines are read one by one, and the connection of HTTP/2 goes on."""
    if protocol == "1":
        with attacked.tunnel(headers=()) as raw:
            answer = raw.ask(GET[:-2] + b"a:\r\n" * (lines - 1) + b"\r\n")
    else:
        client = H2Client(attacked.tunnel(headers=(), alpn=("h2",)))
        with client.raw:
            head = [
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/v1/models"),
                (":authority", HOST),
            ]
            answer, _ = client.refusal(client.request([*head, *[("a", "")] * (lines - len(head))]))
            assert client.answer(client.request(head)).reason == "identity_missing"
        assert (answer.status, answer.reason) == (431, "headers_too_large")
        assert [line["reason"] for line in attacked.lines(2)] == [
            "headers_too_large",
            "identity_missing",
        ]
        return
    attacked.refused(answer, 431, "headers_too_large")


def test_a_connect_of_many_lines(attacked: Attacked) -> None:
    """Row 40: the same of a CONNECT."""
    with attacked.client() as client:
        answer = client.connect(f"{HOST}:443", *["a:"] * 200)
    attacked.refused(answer, 431, "headers_too_large")


def test_what_is_pipelined_is_bounded(attacked: Attacked) -> None:
    """Requests sent ahead without end, while the first is still under way: the connection is ended."""
    with attacked.tunnel() as client:
        try:
            client.send(GET * 20_000)
            client.rest()
        except Closed:
            pass
    attacked.alone()
    attacked.settle()
    assert len(attacked.inside.standin.snapshot()) < 20_000


@pytest.fixture(scope="module")
def little(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """A gateway that keeps 2 MiB of bodies: 1 MiB of one token."""
    limits = {"max_body_bytes": 1_000_000, "max_bodies_mb": 2}
    with open_inside(tmp_path_factory.mktemp("little"), {"limits": limits}) as inside:
        yield inside


@pytest.fixture
def shared(little: Inside, caplog: pytest.LogCaptureFixture) -> Iterator[Attacked]:
    yield from watched(little, caplog)


def test_unfinished_bodies_of_one_token(shared: Attacked) -> None:
    """Row 39: a body whose last byte is held back is kept; those beside it are refused when the
    token's share is full, and what they said of their length takes nothing from others."""
    body = BODY + b" " * (900_000 - len(BODY))
    made = shared.inside.do(
        shared.inside.gateway.operations.perform("token_create", {"projects": [PROJECT]})
    )
    with shared.tunnel() as first, shared.tunnel() as idle, shared.tunnel(headers=()) as other:
        first.send(post(body)[:-1])
        shared.inside.until(lambda gateway: gateway.bodies.kept_bytes == len(body) - 1)
        idle.send(post(body)[: -len(body)])
        for _ in range(23):
            with shared.tunnel() as client:
                answer = client.ask(post(body)[:-1])
            assert (answer.status, answer.reason, answer.get("retry-after")) == (
                429,
                "concurrency_limited",
                "1",
            )
        assert other.ask(post(BODY, f"Authorization: Bearer {made['token']}")).status == 200
        assert first.ask(b" ", "POST").status == 200
    shared.inside.until(lambda gateway: gateway.bodies.kept_bytes == 0)
    reasons = [line["reason"] for line in shared.lines(26)]
    assert sorted(reasons) == ["", "", "client_gone", *["concurrency_limited"] * 23]


def flood(client: RawClient, piece: bytes, size: int) -> None:
    """Send ``piece`` until ``size`` bytes are out or the gateway has had enough."""
    try:
        for _ in range(size // len(piece)):
            client.send(piece)
    except (Closed, TimeoutError):
        pass


def flood_plain(client: RawClient, piece: bytes, size: int) -> None:
    """The same, past TLS."""
    try:
        for _ in range(size // len(piece)):
            client.send_plain(piece)
    except (Closed, TimeoutError):
        pass


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """A gateway process of its own, whose memory is its own."""
    settings = {"limits": {"max_body_bytes": 1_000_000}}
    with open_road(tmp_path_factory.mktemp("memory"), settings, standin=StandIn()) as road:
        yield road


@pytest.mark.parametrize(
    "what", ["body", "refused", "head", "extension", "trailers", "frame", "hello", "records"]
)
def test_memory_is_bounded(process: Road, what: str) -> None:
    """Row 21: 64 MB of a body, a head, a chunk's framing, a frame or a handshake leave less than 16 MB behind."""
    host, _, port = process.gateway.proxy.rpartition(":")
    token = f"Authorization: Bearer {process.token}"
    kilobytes = 64
    piece = b"x" * (kilobytes * 1024)
    [worker] = process.gateway.worker_pids()
    memory = psutil.Process(worker).memory_info
    with RawClient((host, int(port)), process.ca_file) as client:
        assert client.connect(f"{HOST}:443").status == 200
        before = memory().rss
        size = 64 * 1024 * 1024
        if what == "hello":
            flood(client, b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + b"\x00" * (0x4000 - 4), size)
        else:
            client.tls(HOST, ("h2",) if what == "frame" else ("http/1.1",))
            match what:
                case "body":
                    client.send(post(b"", CHUNKED, token))
                    flood(client, b"%x\r\n%s\r\n" % (len(piece), piece), size)
                case "refused":
                    client.send(post(b"", CHUNKED, token, path="/v1/nothing"))
                    flood(client, b"%x\r\n%s\r\n" % (len(piece), piece), size)
                case "head":
                    client.send(get(token)[:-2] + b"X: ")
                    flood(client, piece, size)
                case "records":
                    # What is no TLS record of this connection ends it.
                    broken = b"\x17\x03\x03\x40\x00" + b"x" * 0x4000
                    flood_plain(client, broken, size)
                case "extension":
                    client.send(post(b"", CHUNKED, token) + b"5;")
                    flood(client, piece, size)
                case "trailers":
                    client.send(post(b"", CHUNKED, token) + b"0\r\nX: ")
                    flood(client, piece, size)
                case "frame":
                    client.send(
                        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00\xff\xff\xff\x00\x00"
                    )
                    flood(client, piece, size)
        assert memory().rss - before < 16 * 1024 * 1024
    assert process.standin.snapshot() == []
