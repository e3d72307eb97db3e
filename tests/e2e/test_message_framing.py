"""How messages are framed on both sides: answers without a body, interim answers, chunks, trailers, Expect. With each HTTP/1 of
ours, and over HTTP/2 from the client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from tests.support.attack import BODY, HOST, Attacked, get, post, watched
from tests.support.inproc import Inside, open_inside

from tollhouse.demo.standin_script import Behaviour, reply


@pytest.fixture(scope="module", params=["own", "mitmproxy"])
def inside(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Inside]:
    settings = {
        "providers.openai": {"attempts": 1, "unmetered": ["HEAD /v1/thing"]},
        "listen": {"http1": request.param},
    }
    with open_inside(tmp_path_factory.mktemp("framing"), settings) as opened:
        yield opened


@pytest.fixture
def asked(inside: Inside, caplog: pytest.LogCaptureFixture) -> Iterator[Attacked]:
    yield from watched(inside, caplog)


def raw(text: str) -> Behaviour:
    return Behaviour(raw=text.replace("\n", "\r\n").encode())


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body(asked: Attacked, status: int) -> None:
    """The connection goes on, on both sides, though the answer says a length."""
    asked.inside.standin.script(
        raw(f"HTTP/1.1 {status} X\nETag: a\nContent-Length: 5\n\n"), Behaviour()
    )
    with asked.tunnel() as client:
        client.send(get())
        answer = client.answer("HEAD")
        assert (answer.status, answer.get("etag"), answer.get("transfer-encoding")) == (
            status,
            "a",
            "",
        )
        assert client.ask(post(BODY)).status == 200
    asked.lines(2)
    asked.inside.standin.clear()


def test_head(asked: Attacked) -> None:
    """Its length is that of the answer to GET, and nothing follows."""
    asked.inside.standin.script(raw("HTTP/1.1 200 OK\nContent-Length: 5000\n\n"), Behaviour())
    with asked.tunnel() as client:
        answer = client.ask(f"HEAD /v1/thing HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        assert (answer.status, answer.get("content-length")) == (200, "5000")
        assert client.ask(post(BODY)).status == 200
    asked.lines(2)
    asked.inside.standin.clear()


def test_interim_answers(asked: Attacked) -> None:
    """The provider's 100 and 103 are its own matter: the client gets one answer."""
    final = "HTTP/1.1 200 OK\nContent-Type: application/json\nContent-Length: 2\n\n{}"
    asked.inside.standin.script(
        raw(f"HTTP/1.1 100 Continue\n\nHTTP/1.1 103 Early Hints\nLink: </a>\n\n{final}")
    )
    with asked.tunnel() as client:
        client.send(get())
        answer = client.interim()
    assert (answer.status, answer.body, answer.get("link")) == (200, b"{}", "")
    asked.lines(1)
    asked.inside.standin.clear()


def test_chunks_and_trailers_of_the_provider(asked: Attacked) -> None:
    """Chunks are passed on as they come, extensions and trailers are dropped: nobody has judged them."""
    asked.inside.standin.script(
        raw(
            "HTTP/1.1 200 OK\nContent-Type: text/plain\nTransfer-Encoding: chunked\nTrailer: X-Sum\n\n"
            "3;a=b\nabc\n2\nde\n0\nX-Sum: 1\n\n"
        )
    )
    with asked.tunnel() as client:
        client.send(get())
        answer = client.answer()
        assert (answer.status, answer.body) == (200, b"abcde")
        assert (answer.get("trailer"), answer.get("x-sum")) == ("", "")
        # Nothing is left over between this answer and the next.
        asked.inside.standin.script(reply(200, b"{}"))
        assert client.ask(get()).body == b"{}"
    asked.lines(2)
    asked.inside.standin.clear()


def test_chunks_and_trailers_of_the_client(asked: Attacked) -> None:
    """The provider gets a body of the same bytes and no trailer."""
    chunks = b"".join(b"%x\r\n%b\r\n" % (1, BODY[at : at + 1]) for at in range(len(BODY)))
    head = post(b"", "Transfer-Encoding: chunked", "Trailer: X-Sum")
    with asked.tunnel() as client:
        assert client.ask(head + chunks + b"0\r\nX-Sum: 1\r\n\r\n", "POST").status == 200
    [received] = asked.inside.standin.wait_count(1)
    assert received.body == BODY
    assert (received.get("trailer"), received.get("x-sum")) == ("", "")
    asked.lines(1)
    asked.inside.standin.clear()


def test_a_client_that_asks_before_it_sends(asked: Attacked) -> None:
    """Expect: 100-continue is answered by us, and never reaches the provider."""
    with asked.tunnel() as client:
        client.send(post(BODY, "Expect: 100-continue")[: -len(BODY)])
        assert client.interim().status == 100
        assert client.ask(BODY, "POST").status == 200
    [received] = asked.inside.standin.wait_count(1)
    assert received.get("expect") == ""
    asked.lines(1)
    asked.inside.standin.clear()


class Answered(NamedTuple):
    """What a client gets of an answer of the provider's."""

    said: str
    status: int
    headers: dict[str, str]
    body: bytes = b""
    method: str = "GET"


OVER_HTTP2 = {
    "204": Answered("HTTP/1.1 204 X\nETag: a\n\n", 204, {"etag": "a"}),
    "304": Answered("HTTP/1.1 304 X\nETag: a\nContent-Length: 5\n\n", 304, {"etag": "a"}),
    "HEAD": Answered(
        "HTTP/1.1 200 OK\nContent-Length: 5000\n\n", 200, {"content-length": "5000"}, method="HEAD"
    ),
    "interim answers": Answered(
        "HTTP/1.1 103 Early Hints\nLink: </a>\n\nHTTP/1.1 200 OK\nContent-Length: 2\n\n{}",
        200,
        {"link": ""},
        b"{}",
    ),
    "chunks and trailers": Answered(
        "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nTrailer: X-Sum\n\n3;a=b\nabc\n2\nde\n0\nX-Sum: 1\n\n",
        200,
        {"trailer": "", "x-sum": "", "transfer-encoding": ""},
        b"abcde",
    ),
}


@pytest.mark.parametrize("name", OVER_HTTP2)
def test_an_answer_over_http2(asked: Attacked, name: str) -> None:
    case = OVER_HTTP2[name]
    asked.inside.standin.script(raw(case.said))
    client = asked.http2()
    path = "/v1/thing" if case.method == "HEAD" else "/v1/models"
    with client.raw:
        answer = client.answer(client.request(head_of(case.method, path)))
    assert (answer.status, answer.body) == (case.status, case.body)
    assert {header: answer.get(header) for header in case.headers} == case.headers
    asked.lines(1)
    asked.inside.standin.clear()


def test_a_request_over_http2(asked: Attacked) -> None:
    """With `Expect: 100-continue` and a trailer: neither reaches the provider."""
    client = asked.http2()
    head = head_of("POST", "/v1/chat/completions")
    with client.raw:
        stream = client.connection.get_next_available_stream_id()
        client.connection.send_headers(stream, [*head, ("expect", "100-continue")])
        client.connection.send_data(stream, BODY)
        client.connection.send_headers(stream, [("x-sum", "1")], end_stream=True)
        client.expect(stream)
        client.flush()
        assert client.answer(stream).status == 200
    [received] = asked.inside.standin.wait_count(1)
    assert received.body == BODY
    assert (received.get("expect"), received.get("x-sum")) == ("", "")
    asked.lines(1)
    asked.inside.standin.clear()


def head_of(method: str, path: str) -> list[tuple[str, str]]:
    pairs = [(":method", method), (":scheme", "https"), (":path", path), (":authority", HOST)]
    return [*pairs, ("content-type", "application/json")] if method == "POST" else pairs
