"""SECURITY.md row 5: the requests of tests/data/smuggling, each to each listener and on both lanes. None can be read in two ways:
each is refused, or is one request to us and the same one to the provider."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.attack import BODY, HOST, Attacked, begin, watched
from tests.support.client_certificate import ClientsCa
from tests.support.inproc import PROJECT, Inside, open_inside
from tests.support.raw import Closed, H2Client, RawClient

DATA = Path(__file__).parents[1] / "data" / "smuggling"
EVIL = b"GET /v1/models?evil HTTP/1.1\r\nHost: evil.test\r\n\r\n"
REASONS = {200: "", 400: "bad_request", 421: "authority_mismatch"}
Send = Callable[[Attacked, dict[str, Any]], None]
Pairs = list[tuple[str | bytes, str | bytes]]


def attempts(file: str) -> dict[str, dict[str, Any]]:
    found = tomllib.loads((DATA / file).read_text())["attempt"]
    named = {one["name"]: one for one in found}
    assert len(named) == len(found)
    return named


HTTP1, HTTP2 = attempts("http1.toml"), attempts("http2.toml")


def written(attempt: dict[str, Any], place: str, who: str) -> bytes:
    """The attempt's bytes, as they are sent at ``place``."""
    text: str = attempt["send"]
    chat = text.lstrip().startswith("POST")
    path = "/v1/chat/completions" if chat else "/v1/models"
    host = f"{HOST}:443" if place == "connect" else "localhost" if place == "base_url" else HOST
    targets = {"proxy": f"http://{HOST}{path}", "connect": host}
    if place == "connect":
        text = text.replace("POST {target}", "CONNECT {target}").replace(
            "GET {target}", "CONNECT {target}"
        )
    for word, value in {
        "target": targets.get(place, path),
        "host": host,
        "who": who,
        "chunk": f"{len(BODY):x}\r\n{BODY.decode()}\r\n",
        "length in hex": f"{len(BODY):x}",
        "length": str(len(BODY)),
        "evil length": str(len(EVIL)),
        "evil": EVIL.decode(),
        "body": BODY.decode(),
    }.items():
        text = text.replace("{" + word + "}", value)
    return text.encode("latin-1")


def judged(attacked: Attacked, client: RawClient, data: bytes, attempt: dict[str, Any]) -> None:
    """What the client got, what the lines say, and what the provider received."""
    expected: list[int] = attempt.get("answers", [400])
    with client:
        client.send(data)
        answers = [client.answer() for _ in expected]
        assert [answer.status for answer in answers] == expected
        assert [answer.reason for answer in answers] == [REASONS[one] for one in expected]
        if expected[-1] == 400 and not attempt.get("goes_on"):
            assert answers[-1].get("connection") == "close"
            assert client.rest() == b""
    lines = attacked.lines(len(expected))
    assert [line["reason"] for line in lines] == [REASONS[one] for one in expected]
    received = attacked.inside.standin.wait_count(expected.count(200))
    assert len(received) == expected.count(200)
    for one in received:
        assert b"evil" not in one.everything().lower()
        assert one.body == (BODY if one.method == "POST" else b"")
        assert one.get_all("transfer-encoding") == []
        assert one.get_all("host") == [HOST]
    if 200 not in expected:
        assert attacked.inside.standin.dialled == 0


def each(inside: Inside, attempts: dict[str, dict[str, Any]], send: Send) -> None:
    """Makes all attempts, one after the other, and says which of them failed."""
    failed: dict[str, str] = {}
    for name, attempt in attempts.items():
        try:
            send(begin(inside), attempt)
        except (AssertionError, OSError, Closed) as error:
            failed[name] = f"{type(error).__name__}: {error}"
    assert failed == {}


@pytest.mark.parametrize("place", ["connect", "proxy", "tunnel", "base_url", "transparent"])
def test_http1(attacked: Attacked, place: str) -> None:
    """As a CONNECT, at the proxy, in a tunnel, at the base URL and behind a redirect."""
    bearer = f"Authorization: Bearer {attacked.inside.token}\r\n"

    def send(view: Attacked, attempt: dict[str, Any]) -> None:
        if place == "tunnel":
            client, who = view.tunnel(), ""
        elif place == "transparent":
            client, who = view.client("transparent"), bearer
            client.tls(HOST)
        else:
            client = view.client("base_url" if place == "base_url" else "proxy")
            who = bearer if place == "base_url" else f"{view.credentials}\r\n"
        judged(view, client, written(attempt, place, who), attempt)

    made = {
        name: attempt
        for name, attempt in HTTP1.items()
        if place not in attempt.get("not_at", ())
        # A CONNECT is written for a first line that is right.
        and (place != "connect" or "{target} HTTP/1.1\r" in attempt["send"])
    }
    assert len(made) > 50
    each(attacked.inside, made, send)


def test_the_admin_listener(attacked: Attacked) -> None:
    """Whatever it makes of them, it sends nothing on, writes no line and goes on."""
    for attempt in HTTP1.values():
        with attacked.client("admin") as client:
            client.send(written(attempt, "admin", ""))
            client.half_close()
            client.receive()
    with attacked.client("admin") as client:
        assert client.ask(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").status == 200
    attacked.lines(0)
    attacked.nothing_left()


@pytest.fixture(scope="module")
def speaking_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """A gateway whose base URL speaks TLS itself, and HTTP/2 within."""
    directory = tmp_path_factory.mktemp("tls")
    ca = ClientsCa()
    own = ca.issue("localhost", server=True)
    for name, content in (("ca.pem", ca.pem.decode()), ("own.pem", own.cert), ("key.pem", own.key)):
        (directory / name).write_text(content)
    settings = {
        "listen": {
            "transparent": "127.0.0.1:0",
            "tls": {"cert_file": "own.pem", "key_file": "key.pem"},
        },
        f"projects.{PROJECT}": {"limits": ["10 usd/day"]},
    }
    with open_inside(directory, settings) as inside:
        yield inside


@pytest.fixture
def over_tls(speaking_tls: Inside, caplog: pytest.LogCaptureFixture) -> Iterator[Attacked]:
    yield from watched(speaking_tls, caplog)


def head(attempt: dict[str, Any], host: str, bearer: str) -> Pairs:
    right = [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/v1/models"),
        (":authority", host),
        ("authorization", bearer),
    ]
    without = attempt.get("without", ())
    made = [
        *attempt.get("before", ()),
        *(pair for pair in right if pair[0] not in without),
        *attempt.get("add", ()),
    ]
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in made]


def asked(view: Attacked, raw: RawClient, attempt: dict[str, Any], host: str) -> None:
    """The stream's answer, the lines, what the provider received; then the same connection serves a request that is right."""
    client, bearer = H2Client(raw), f"Bearer {view.inside.token}"
    body = attempt["body"].encode() if "body" in attempt else None
    with raw:
        answer, _ = client.refusal(client.request(head(attempt, host, bearer), body))
        view.refused(answer, 400, "bad_request")
        assert client.answer(client.request(head({}, host, bearer))).status == 200
    assert b"evil" not in view.clean().everything().lower()
    assert [line["reason"] for line in view.lines(2)] == ["bad_request", ""]


@pytest.mark.parametrize("place", ["tunnel", "transparent"])
def test_http2(attacked: Attacked, place: str) -> None:
    """In a tunnel and behind a redirect."""

    def send(view: Attacked, attempt: dict[str, Any]) -> None:
        if place == "tunnel":
            raw = view.tunnel(headers=(), alpn=("h2",))
        else:
            raw = view.client("transparent")
            raw.tls(HOST, ("h2",))
        asked(view, raw, attempt, HOST)

    each(attacked.inside, HTTP2, send)


def test_http2_at_the_base_url(over_tls: Attacked) -> None:
    """Which speaks it where it speaks TLS."""

    def send(view: Attacked, attempt: dict[str, Any]) -> None:
        host, _, port = view.inside.gateway.addresses["base_url"].rpartition(":")
        raw = RawClient((host, int(port)), view.inside.directory / "ca.pem")
        raw.tls("localhost", ("h2",))
        asked(view, raw, attempt, "localhost")

    made = {name: one for name, one in HTTP2.items() if "base_url" not in one.get("not_at", ())}
    each(over_tls.inside, made, send)
