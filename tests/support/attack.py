"""A gateway under attack: raw clients, and what must be true after each attempt.

def test_it(attacked: Attacked) -> None:
    with attacked.tunnel() as client:
        answer = client.ask(GET.replace(b"Host: api.openai.com", b"Host: evil.test"))
    attacked.refused(answer, 421, "authority_mismatch")
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.gateway import REAL_KEY
from tests.support.inproc import PROJECT, Inside, open_inside
from tests.support.raw import Answer, H2Client, RawClient

HOST = "api.openai.com"
BODY = json.dumps(
    {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}
).encode()
GET = b"GET /v1/models HTTP/1.1\r\nHost: api.openai.com\r\n\r\n"
LINE_TIMEOUT_S = 10.0


def post(
    body: bytes = BODY, *headers: str, path: str = "/v1/chat/completions", host: str = HOST
) -> bytes:
    """A chat completion; ``headers`` are added as they are."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", "Content-Type: application/json", *headers]
    if not any(
        header.lower().startswith(("content-length:", "transfer-encoding:")) for header in headers
    ):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def get(*headers: str, path: str = "/v1/models", host: str = HOST) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", *headers, "", ""]).encode()


@dataclass
class Attacked:
    """One test's view of a gateway in this process. Lines are those since the test began."""

    inside: Inside
    seen: int

    # Ways in.

    def client(self, listener: str = "proxy") -> RawClient:
        host, _, port = self.inside.gateway.addresses[listener].rpartition(":")
        return RawClient((host, int(port)), self.inside.ca_file)

    @property
    def credentials(self) -> str:
        """The header of a workload that is who it says it is."""
        return (
            "Proxy-Authorization: Basic "
            + base64.b64encode(f"{PROJECT}:{self.inside.token}".encode()).decode()
        )

    def tunnel(
        self,
        host: str | bytes = HOST,
        *,
        sni: str | None = HOST,
        alpn: Sequence[str] = ("http/1.1",),
        headers: Sequence[str] | None = None,
    ) -> RawClient:
        """Inside the tunnel, TLS up; with good credentials unless ``headers`` says otherwise."""
        client = self.client()
        raw = host.encode() if isinstance(host, str) else host
        answer = client.connect(
            raw + b":443", *((self.credentials,) if headers is None else headers)
        )
        assert answer.status == 200
        client.tls(sni, alpn)
        return client

    def ask_in_tunnel(self, proxy: str | None, *headers: str) -> Answer:
        """GET with the header ``proxy`` on the CONNECT and ``headers`` inside."""
        with self.tunnel(headers=() if proxy is None else (proxy,)) as client:
            return client.ask(get(*headers))

    def http2(self) -> H2Client:
        return H2Client(self.tunnel(alpn=("h2",)))

    # What must be true afterwards.

    def lines(self, count: int) -> list[dict[str, Any]]:
        """The test's lines in the order in which their calls began: exactly ``count``, when no call is under way any more."""
        self._until(lambda: len(self.inside.lines()) - self.seen >= count)
        self.settle()
        found = sorted(self.inside.lines()[self.seen :], key=lambda line: str(line["ts"]))
        assert len(found) == count, found
        return found

    def under_way(self) -> None:
        """Returns when a call has begun."""
        assert self._until(lambda: bool(self.inside.gateway.journey.under_way))

    def begun(self) -> None:
        """Returns when a call has begun, which may have ended as well."""
        assert self._until(
            lambda: (
                bool(self.inside.gateway.journey.under_way) or len(self.inside.lines()) > self.seen
            )
        )

    def turn(self) -> None:
        """The gateway has read what was sent to it before."""
        for _ in range(3):
            self.inside.do(asyncio.sleep(0))

    def alone(self) -> None:
        """Returns when the gateway has noticed that every client is gone."""
        assert self._until(lambda: not self.inside.gateway.entrances.listeners.connections)

    def _until(self, condition: Callable[[], bool]) -> bool:
        end = time.monotonic() + LINE_TIMEOUT_S
        while not condition():
            if time.monotonic() > end:
                return False
            # A turn of the gateway's loop.
            self.inside.do(asyncio.sleep(0))
        return True

    def settle(self) -> None:
        """No call is under way and no hold is left."""
        assert self.inside.do(self.inside.gateway.journey.drained(LINE_TIMEOUT_S))
        assert self.inside.held() == []

    def nothing_left(self) -> None:
        assert self.inside.standin.snapshot() == []

    def refused(
        self, answer: Answer, status: int, reason: str, *, dialled: bool = False
    ) -> dict[str, Any]:
        """The client was told, the line says the same, nothing was sent and (unless it may have been) nothing dialled.
        The line."""
        assert (answer.status, answer.reason) == (status, reason), answer
        [line] = self.lines(1)
        assert (line["status"], line["reason"]) == (status, reason), line
        assert line["call_id"] == answer.get("x-tollhouse-call-id")
        assert (line["cost_usd"], line["charged_by"]) == ("0", "none")
        assert line["decision"] == ("fail" if dialled else "deny")
        self.nothing_left()
        assert dialled or self.inside.standin.dialled == 0
        if answer.body:
            assert json.loads(answer.body)["error"]["code"] == reason
        return line

    def tls_refused(self) -> dict[str, Any]:
        """The handshake was ended: one line says so, nothing was dialled."""
        [line] = self.lines(1)
        assert (line["status"], line["reason"], line["decision"]) == (403, "tls_refused", "deny")
        self.nothing_left()
        assert self.inside.standin.dialled == 0
        return line

    def clean(self, *secrets: str) -> Any:
        """The one request that the stand-in got: our key once, in its slot, and none of ``secrets``, no gate token and
        no header that is for us, in no place. The request."""
        [received] = self.inside.standin.wait_count(1)
        everything = received.everything()
        assert received.get_all("authorization") == [f"Bearer {REAL_KEY}"]
        assert everything.count(REAL_KEY.encode()) == 1
        lowered = everything.lower()
        for word in (
            "gate_",
            "x-coreason",
            "x-tollhouse",
            "proxy-",
            "cookie",
            "forwarded",
            "\r\nvia:",
            *secrets,
        ):
            assert word.lower().encode() not in lowered, word
        return received


@pytest.fixture(scope="session", params=["own", "mitmproxy"])
def attacked_gateway(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Inside]:
    """The worker's gateway, once with each HTTP/1."""
    settings = {
        f"projects.{PROJECT}": {"limits": ["10 usd/day"]},
        "listen": {"http1": request.param, "transparent": "127.0.0.1:0"},
    }
    with open_inside(tmp_path_factory.mktemp("attacked"), settings) as inside:
        yield inside


def begin(inside: Inside) -> Attacked:
    """A test's own view: an empty book, no lines yet."""
    inside.standin.clear()
    return Attacked(inside, len(inside.lines()))


def watched(inside: Inside, caplog: pytest.LogCaptureFixture) -> Iterator[Attacked]:
    """A fixture's body: afterwards no hold is left, and no attempt made the gateway stumble."""
    view = begin(inside)
    yield view
    view.settle()
    errors = [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
    assert [record.getMessage() for record in errors if not _harmless(record)] == []


def _harmless(record: logging.LogRecord) -> bool:
    """The stand-in is in this process as well, and what it says of a gateway that left is no
    matter."""
    return record.name.startswith("aiohttp.server")


@pytest.fixture
def attacked(attacked_gateway: Inside, caplog: pytest.LogCaptureFixture) -> Iterator[Attacked]:
    yield from watched(attacked_gateway, caplog)
