"""SECURITY.md rows 22, 24 and 36: a provider that is not who it should be, or does not answer as it should."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from tests.support.attack import BODY, GET, HOST, Attacked, begin, get, post, watched
from tests.support.inproc import PROJECT, Inside, open_inside

from tollhouse.demo.standin import StandIn
from tollhouse.demo.standin_script import Behaviour, redirect, reply
from tollhouse.demo.standin_tls import Certificate
from tollhouse.dispatch.breaker import Breakers

ONCE = {
    "providers.openai": {"attempts": 1},
    f"projects.{PROJECT}": {"limits": ["10 usd/day", "100000 tokens/day"]},
}


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """A gateway that tries once only."""
    with open_inside(tmp_path_factory.mktemp("once"), ONCE) as inside:
        yield inside


@pytest.fixture
def met(once: Inside, caplog: pytest.LogCaptureFixture) -> Iterator[Attacked]:
    """With a breaker that has forgotten what the tests before did to it."""
    once.gateway.relay.breakers = Breakers(time.monotonic)
    yield from watched(once, caplog)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 300, 304])
@pytest.mark.parametrize(
    "location", ["https://evil.test/v1/models", f"http://{HOST}/v1/models", "/v1/files"]
)
def test_a_redirect_is_not_followed(attacked: Attacked, status: int, location: str) -> None:
    """Row 22: 3xx is passed on as it is; one request was made, to the host that was judged."""
    attacked.inside.standin.script(redirect(location, status))
    with attacked.tunnel() as client:
        answer = client.ask(GET)
    assert (answer.status, answer.get("location")) == (status, location)
    attacked.clean()
    [line] = attacked.lines(1)
    assert (line["status"], line["decision"]) == (status, "allow")


def test_a_redirected_post_costs_nothing(attacked: Attacked) -> None:
    """Row 22: the body is not sent twice, and the hold is given back."""
    attacked.inside.standin.script(redirect("https://evil.test/", 307))
    with attacked.tunnel() as client:
        assert client.ask(post()).status == 307
    attacked.clean()
    [line] = attacked.lines(1)
    assert (line["cost_usd"], line["charged_by"]) == ("0", "none")


@pytest.mark.parametrize("certificate", ["expired", "self_signed", "wrong_name", "untrusted"])
def test_a_provider_that_is_somebody_else(
    certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Row 24: the handshake ends before the key is sent; the answer names no certificate of the inside."""
    with open_inside(
        tmp_path_factory.mktemp(certificate), ONCE, standin=StandIn(certificate=certificate)
    ) as inside:
        attacked = begin(inside)
        with attacked.tunnel() as client:
            answer = client.ask(post())
        line = attacked.refused(answer, 502, "upstream_tls", dialled=True)
        assert inside.standin.dialled >= 1
        assert line["attempts_unknown"] == 0


def raw(*lines: str | bytes, body: bytes = b"") -> Behaviour:
    encoded = [line.encode() if isinstance(line, str) else line for line in lines]
    return Behaviour(raw=b"\r\n".join([*encoded, b"", body]))


OK = "HTTP/1.1 200 OK"
JSON = "content-type: application/json"
INTERIM = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"

BAD_ANSWERS = {
    "101": raw("HTTP/1.1 101 Switching Protocols", "upgrade: websocket", "connection: upgrade"),
    "interim without end": raw(INTERIM * 5000 + OK, "content-length: 0"),
    "interim and nothing": raw(INTERIM),
    "1 MB of headers": raw(
        OK, *(f"x-{number}: {'y' * 1000}" for number in range(1000)), "content-length: 0"
    ),
    "one header of 1 MB": raw(OK, "x-a: " + "y" * 1_000_000, "content-length: 0"),
    "a million headers": raw(
        OK, "\r\n".join(f"x: {n}" for n in range(100_000)), "content-length: 0"
    ),
    "no HTTP": raw("SSH-2.0-OpenSSH_9.9"),
    "HTTP/2": Behaviour(raw=b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"),
    "nothing": Behaviour(raw=b""),
    "two lengths": raw(OK, "content-length: 2", "content-length: 3", body=b"{}"),
    "length and chunks": raw(
        OK, "content-length: 2", "transfer-encoding: chunked", body=b"2\r\n{}\r\n0\r\n\r\n"
    ),
    "a negative length": raw(OK, "content-length: -1", body=b"{}"),
    "status 99": raw("HTTP/1.1 099 X", "content-length: 0"),
    "status 1000": raw("HTTP/1.1 1000 X", "content-length: 0"),
    "status -200": raw("HTTP/1.1 -200 X", "content-length: 0"),
    "a bare CR": raw(OK, "x-a: b\rset-cookie: c", "content-length: 0"),
    "a NUL": raw(OK, "x-a: b\x00c", "content-length: 0"),
    "a name with a space": raw(OK, "x a: b", "content-length: 0"),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
@pytest.mark.parametrize("protocol", ["1", "2"])
def test_an_answer_that_is_none(met: Attacked, name: str, protocol: str) -> None:
    """Row 36: 502 of ours, in either protocol, and nothing of it reaches the client."""
    met.inside.standin.always(BAD_ANSWERS[name])
    if protocol == "1":
        with met.tunnel() as client:
            answer = client.ask(post())
    else:
        stream = met.http2()
        head = [
            (":method", "POST"),
            (":scheme", "https"),
            (":path", "/v1/chat/completions"),
            (":authority", HOST),
        ]
        with stream.raw:
            answer = stream.answer(stream.request(head, BODY))
    assert answer.status == 502, answer
    assert answer.reason in ("upstream_bad_answer", "upstream_unreachable")
    assert [
        name for name, _ in answer.headers if name.startswith("x-") and "tollhouse" not in name
    ] in (
        [],
        ["x-should-retry"],
    )
    [line] = met.lines(1)
    assert (line["status"], line["reason"], line["decision"]) == (502, answer.reason, "fail")


PASSED = raw(
    OK,
    JSON,
    "x-tollhouse-reason: budget_exceeded",
    "X-Tollhouse-Call-Id: call_of_the_provider",
    "x-tollhouse-anything: x-marker",
    "set-cookie: a=x-marker",
    "set-cookie2: a=x-marker",
    'alt-svc: h3=":443"',
    "connection: x-hop, keep-alive",
    "x-hop: x-marker",
    "keep-alive: timeout=x-marker",
    "proxy-authenticate: Basic realm=x-marker",
    "upgrade: x-marker",
    "x-kept: yes",
    "content-length: 2",
    body=b"{}",
)


@pytest.mark.parametrize("protocol", ["1", "2"])
def test_headers_that_are_not_for_the_client(attacked: Attacked, protocol: str) -> None:
    """Row 36: a provider can't speak as us, nor keep cookies, nor lead the client past us."""
    attacked.inside.standin.script(PASSED)
    if protocol == "1":
        with attacked.tunnel() as client:
            answer = client.ask(GET)
    else:
        stream = attacked.http2()
        with stream.raw:
            head = [
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/v1/models"),
                (":authority", HOST),
            ]
            answer = stream.answer(stream.request(head))
    assert (answer.status, answer.body, answer.get("x-kept"), answer.reason) == (
        200,
        b"{}",
        "yes",
        "",
    )
    assert "x-marker" not in str(answer.headers)
    assert [name for name, _ in answer.headers].count("x-tollhouse-call-id") == 1
    [line] = attacked.lines(1)
    assert answer.get("x-tollhouse-call-id") == line["call_id"]


def test_a_header_that_is_not_utf8(attacked: Attacked) -> None:
    """Latin-1 in an answer's header goes on byte for byte."""
    attacked.inside.standin.script(raw(OK, b"x-name: caf\xe9", "content-length: 2", body=b"{}"))
    with attacked.tunnel() as client:
        answer = client.ask(GET)
    assert (answer.status, answer.get("x-name")) == (200, "caf\xe9")
    attacked.lines(1)


def test_an_unasked_second_answer(attacked: Attacked) -> None:
    """Response splitting from behind: a second answer on the same connection is nobody's."""
    second = b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nsmuggled"
    attacked.inside.standin.script(raw(OK, "content-length: 2", body=b"{}" + second))
    with attacked.tunnel() as client:
        assert client.ask(GET).body == b"{}"
        assert b"smuggled" not in client.ask(get(path="/v1/models/gpt-4o")).body
    attacked.lines(2)


def test_more_than_was_promised(attacked: Attacked) -> None:
    """A body past its length is cut at it, or refused whole; the next call is not touched by it."""
    attacked.inside.standin.always(raw(OK, "content-length: 2", body=b"{}<<<>>>"))
    with attacked.tunnel() as client:
        answer = client.ask(GET)
        assert b"<<<" not in answer.body
        assert answer.status in (200, 502)
        attacked.inside.standin.always(Behaviour())
        assert client.ask(get(path="/v1/models/gpt-4o")).status == 200
    attacked.lines(2)


def test_a_folded_header(attacked: Attacked) -> None:
    """RFC 9112 5.2 lets a proxy unfold an answer's header: it is one header to the client, never two."""
    attacked.inside.standin.script(
        raw(OK, "x-a: b", " x-tollhouse-reason: c", "content-length: 2", body=b"{}")
    )
    with attacked.tunnel() as client:
        answer = client.ask(GET)
    assert (answer.get("x-a"), answer.reason) == ("b x-tollhouse-reason: c", "")
    attacked.lines(1)


def test_our_own_reason_in_a_body(attacked: Attacked) -> None:
    """An error of the provider's is the provider's, and costs nothing."""
    attacked.inside.standin.script(
        reply(400, b'{"error":{"code":"budget_exceeded"}}', [("x-tollhouse-reason", "internal")])
    )
    with attacked.tunnel() as client:
        answer = client.ask(post())
    assert (answer.status, answer.reason) == (400, "")
    [line] = attacked.lines(1)
    assert (line["reason"], line["decision"], line["cost_usd"]) == ("", "allow", "0")
