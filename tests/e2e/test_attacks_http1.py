"""HTTP/1 beyond the requests of tests/data/smuggling: its bytes, its methods, and clients that go away."""

from __future__ import annotations

import json

import pytest
from tests.support.attack import BODY, GET, HOST, Attacked, get, post
from tests.support.raw import Closed

from tollhouse.demo.standin_script import Behaviour, Steps

GARBAGE = b"GET /v1/models?smuggled HTTP/1.1\r\nHost: evil.test\r\n\r\n"
CHUNKED = "Transfer-Encoding: chunked"


def chunks(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        post(BODY, "Content-Length: " + "9" * 50_000),
        post(b"", CHUNKED) + b"1" * 30 + b"\r\nabc",
        post(b"", CHUNKED) + b"3;" + b"x" * 70_000,
        post(b"", CHUNKED) + b"0\r\nX: " + b"x" * 70_000,
    ],
    ids=["a length", "a chunk's size", "a chunk's extension", "trailers"],
)
def test_framing_without_an_end(attacked: Attacked, sent: bytes) -> None:
    """400, and the connection ends: where the next request begins can't be known."""
    with attacked.tunnel() as client:
        answer = client.ask(sent)
        assert answer.get("connection") == "close"
        assert client.rest() == b""
    attacked.refused(answer, 400, "bad_request")


def test_obs_text_in_the_path(attacked: Attacked) -> None:
    """The head can be read, and the path can't."""
    with attacked.tunnel() as client:
        answer = client.ask(GET.replace(b"models", b"m\xfcdels"))
    attacked.refused(answer, 400, "bad_request")


NAMES = {
    "latin-1": b"J\xfcrgen",
    "UTF-8": "J\u00fcrgen \u20ac \U0010fffd".encode(),
    "both": b"J\xfcrgen " + "J\u00fcrgen".encode() + b" \x80\xff",
    "cut UTF-8": b"\xe2\x82",
    "a surrogate": b"\xed\xb3\xbc",
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "body", [None, BODY, BODY + b" " * 200_000], ids=["none", "small", "large"]
)
def test_obs_text_goes_on(attacked: Attacked, name: str, body: bytes | None) -> None:
    """RFC 9110 5.5: what a header's value means beyond ASCII is for the provider to say; it gets
    the same bytes."""
    given = NAMES[name]
    header = b"X-Name: " + given + b"\r\nX-Coreason-Trace-ID: t-" + given + b"\r\n\r\n"
    with attacked.tunnel() as client:
        sent = (get() if body is None else post(body)).replace(b"\r\n\r\n", b"\r\n" + header, 1)
        assert client.ask(sent).status == 200
    received = attacked.clean()
    assert [value for key, value in received.headers if key.lower() == b"x-name"] == [given]
    assert received.body == (body or b"")
    [line] = attacked.lines(1)
    assert line["trace_id"] == "t-" + given.decode("utf-8", "replace")


@pytest.mark.parametrize(
    ("header", "status", "reason"),
    [
        (b"Host: api.openai.com\xfc", 421, "authority_mismatch"),
        (b"Authorization: Bearer gate_\xfc", 401, "identity_unknown"),
        (b"X-Coreason-Project-ID: pr\xfcj", 403, "project_not_allowed"),
        (b"Content-Encoding: \xfc", 415, "unsupported_encoding"),
        (b"Content-Length: \xfc", 400, "bad_request"),
        (b"Content-Length: \xb2", 400, "bad_request"),
        (b"Transfer-Encoding: \xfc", 400, "bad_request"),
    ],
)
def test_obs_text_in_what_is_judged(
    attacked: Attacked, header: bytes, status: int, reason: str
) -> None:
    """Where we read the value ourselves it is refused in words."""
    name = header.partition(b":")[0].lower()
    lines = [
        line
        for line in post().split(b"\r\n\r\n")[0].split(b"\r\n")
        if line.partition(b":")[0].lower() != name
    ]
    body = BODY if b"Content-Length" not in header and b"Transfer" not in header else b""
    lines = [line for line in lines if body or b"Content-Length" not in line]
    proxy = () if b"Authorization" in header else (attacked.credentials,)
    with attacked.tunnel(headers=proxy) as client:
        answer = client.ask(b"\r\n".join([*lines, header, b"", b""]) + body)
    attacked.refused(answer, status, reason)


def test_obs_text_in_a_connect(attacked: Attacked) -> None:
    """A header of the tunnel's own head is nobody's business."""
    with attacked.client() as client:
        answer = client.connect(f"{HOST}:443", attacked.credentials, "X-Name: \u00fc")
        assert answer.status == 200


@pytest.mark.parametrize(
    "body",
    [
        chunks(BODY),
        chunks(*(BODY[i : i + 1] for i in range(len(BODY)))),
    ],
    ids=["one", "single bytes"],
)
def test_chunks_arrive_as_a_length(attacked: Attacked, body: bytes) -> None:
    """Chunks are ours alone: the provider gets the body with a length."""
    with attacked.tunnel() as client:
        assert client.ask(post(b"", CHUNKED) + body).status == 200
        assert client.ask(GET).status == 200
    received, second = attacked.inside.standin.wait_count(2)
    assert received.body == BODY
    assert received.get_all("content-length") == [str(len(BODY))]
    assert received.get_all("transfer-encoding") == []
    assert received.get_all("host") == second.get_all("host") == [HOST]
    assert b"trailer" not in received.everything().lower()
    attacked.lines(2)


def test_pipelined(attacked: Attacked) -> None:
    """Requests sent at once are answered one after the other, each with a line of its own."""
    with attacked.tunnel() as client:
        client.send((GET + post()) * 3)
        answers = [client.answer() for _ in range(6)]
    assert [answer.status for answer in answers] == [200] * 6
    lines = attacked.lines(6)
    assert [line["call_id"] for line in lines] == [
        answer.get("x-tollhouse-call-id") for answer in answers
    ]
    assert len(attacked.inside.standin.snapshot()) == 6


@pytest.mark.parametrize(
    "method", ["HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "PATCH", "get", "PRI"]
)
def test_other_methods(attacked: Attacked, method: str) -> None:
    """Row 34: a method that is not open is refused; the answer to HEAD has no body, and the connection goes on."""
    with attacked.tunnel() as client:
        answer = client.ask(GET.replace(b"GET", method.encode()))
        if method == "HEAD":
            assert (answer.body, int(answer.get("content-length")) > 0) == (b"", True)
        assert client.ask(GET.replace(b"GET", method.encode())).status == 403
    assert (answer.status, answer.reason) == (403, "path_not_allowed")
    assert {line["reason"] for line in attacked.lines(2)} == {"path_not_allowed"}
    attacked.nothing_left()


def test_options_asterisk(attacked: Attacked) -> None:
    """`OPTIONS *` is for no path."""
    with attacked.tunnel() as client:
        answer = client.ask(get(path="*").replace(b"GET", b"OPTIONS"))
    attacked.refused(answer, 400, "bad_request")


@pytest.mark.parametrize(
    "data",
    [
        GET.replace(b"GET /v1/models", b"CONNECT evil.test:443"),
        GET.replace(b"GET /v1/models", b"CONNECT /"),
    ],
)
def test_a_connect_inside_the_tunnel(attacked: Attacked, data: bytes) -> None:
    """Row 34: a tunnel in the tunnel."""
    with attacked.tunnel() as client:
        answer = client.ask(data)
    attacked.refused(answer, 403, "path_not_allowed")


def test_a_connect_on_the_base_url(attacked: Attacked) -> None:
    """Row 34: the base URL is no proxy."""
    with attacked.client("base_url") as client:
        answer = client.connect(f"{HOST}:443", attacked.credentials)
    attacked.refused(answer, 403, "path_not_allowed")


def test_http_1_0(attacked: Attacked) -> None:
    """An HTTP/1.0 request is answered, unchunked, and its connection ends."""
    with attacked.tunnel() as client:
        answer = client.ask(GET.replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert (answer.status, answer.get("transfer-encoding")) == (200, "")
        assert client.rest() == b""
    attacked.clean()
    attacked.lines(1)


def test_an_expectation_refused_early(attacked: Attacked) -> None:
    """No 100 for a call that is refused; the body that was never asked for can't be told from a request: it ends."""
    with attacked.tunnel() as client:
        answer = client.ask(post(BODY, "Expect: 100-continue", path="/v1/nothing")[: -len(BODY)])
        assert answer.get("connection") == "close"
        try:
            client.send(GARBAGE)
        except Closed:
            pass
        assert client.rest() == b""
    attacked.refused(answer, 403, "path_not_allowed")


def test_an_expectation_met(attacked: Attacked) -> None:
    """The 100 comes when the gates before the body have let the call pass; the provider sees no Expect."""
    with attacked.tunnel() as client:
        client.send(post(BODY, "Expect: 100-continue")[: -len(BODY)])
        assert client.interim().status == 100
        assert client.ask(BODY, "POST").status == 200
        assert client.ask(GET).status == 200
    received, _ = attacked.inside.standin.wait_count(2)
    assert (received.get_all("expect"), received.body) == ([], BODY)
    attacked.lines(2)


def test_an_expectation_of_http_1_0(attacked: Attacked) -> None:
    """RFC 9110 10.1.1: an HTTP/1.0 client is never sent a 100."""
    with attacked.tunnel() as client:
        client.send(post(BODY, "Expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert client.interim().status == 200
    attacked.clean()
    attacked.lines(1)


@pytest.mark.parametrize("end", ["half_close", "reset", "close"])
@pytest.mark.parametrize("sent", ["head", "half", "all"])
def test_a_client_that_goes_away(attacked: Attacked, end: str, sent: str) -> None:
    """It ends its side, or both, in the head, in the body or behind it: at most one line, never a hold."""
    data = post()
    cut = {"head": 40, "half": len(data) - 10, "all": len(data)}[sent]
    with attacked.tunnel() as client:
        client.send(data[:cut])
        if end == "half_close":
            client.half_close()
            client.rest()
        else:
            if sent != "head":
                # A reset makes the kernel drop what the gateway has not read yet.
                attacked.begun()
            getattr(client, end)()
    attacked.alone()
    if sent == "head":
        assert attacked.lines(0) == []
        attacked.nothing_left()
        return
    [line] = attacked.lines(1)
    if sent == "half":
        assert line["reason"] == "client_gone"
        attacked.nothing_left()


@pytest.mark.parametrize("listener", ["tunnel", "base_url"])
@pytest.mark.parametrize(
    "sent", [get("Authorization: Bearer TOKEN"), post(BODY, "Authorization: Bearer TOKEN")]
)
def test_a_client_that_ends_its_direction(attacked: Attacked, listener: str, sent: bytes) -> None:
    """`printf 'POST ...' | nc -N`, and a close_notify inside a tunnel: the answer comes, then the
    connection ends."""
    data = sent.replace(b"TOKEN", attacked.inside.token.encode())
    if listener == "base_url":
        data = data.replace(f"Host: {HOST}".encode(), b"Host: localhost")
    with (
        attacked.tunnel(headers=()) if listener == "tunnel" else attacked.client(listener) as client
    ):
        client.send_and_end(data)
        assert client.answer().status == 200
        assert client.rest() == b""
    attacked.clean()
    attacked.lines(1)


@pytest.mark.parametrize(
    ("listener", "end"),
    [("tunnel", "reset"), ("tunnel", "close"), ("base_url", "reset"), ("base_url", "close")],
)
def test_a_client_that_ends_its_direction_and_then_goes(
    attacked: Attacked, listener: str, end: str
) -> None:
    """While its answer is under way it closes the rest too: that is noticed, and the call ends
    without it."""
    steps = Steps()
    attacked.inside.standin.script(Behaviour(steps=steps))
    data = post(
        json.dumps({**json.loads(BODY), "stream": True}).encode(),
        f"Authorization: Bearer {attacked.inside.token}",
    )
    if listener == "base_url":
        data = data.replace(f"Host: {HOST}".encode(), b"Host: localhost")
    with (
        attacked.tunnel(headers=()) if listener == "tunnel" else attacked.client(listener) as client
    ):
        client.send_and_end(data)
        steps.release(1)
        assert client.receive().startswith(b"HTTP/1.1 200 ")
        getattr(client, end)()
    # A TCP connection closed in good order shows it by its answer to the next bytes.
    steps.release(1)
    attacked.inside.until(
        lambda gateway: all(exchange.gone for exchange in gateway.journey.under_way)
    )
    steps.release_all()
    attacked.alone()
    [line] = attacked.lines(1)
    assert line["reason"] == "client_gone"


def test_an_empty_line_first(attacked: Attacked) -> None:
    """RFC 9112 2.2: one empty line before a request is passed over."""
    with attacked.tunnel() as client:
        assert client.ask(b"\r\n" + GET, "GET").status == 200
    attacked.lines(1)
