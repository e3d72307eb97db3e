"""The limit of calls at the same time holds before a body is read: what is still coming keeps memory."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.gateway import Stores
from tests.support.inproc import Inside, open_inside

CALLS = 24
BODY = json.dumps(
    {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
).encode()
SETTINGS: dict[str, Any] = {
    "projects.proj_123": {"tenant": "acme", "limits": ["10 usd/day", "1 concurrent"]}
}


HEAD = (
    "POST /v1/chat/completions HTTP/1.1\r\nHost: api.openai.com\r\nContent-Type: application/json\r\n"
    f"Content-Length: {len(BODY)}\r\n\r\n"
).encode()


@contextlib.contextmanager
def to_provider(inside: Inside) -> Iterator[ssl.SSLSocket]:
    """A client's connection through the proxy."""
    with socket.create_connection(inside.proxy, timeout=30) as raw:
        raw.sendall(
            b"CONNECT api.openai.com:443 HTTP/1.1\r\nHost: api.openai.com:443\r\n"
            + f"Proxy-Authorization: {inside.credentials}\r\n\r\n".encode()
        )
        assert raw.recv(1000).startswith(b"HTTP/1.1 200")
        with inside.context.wrap_socket(raw, server_hostname="api.openai.com") as tls:
            yield tls


@contextlib.contextmanager
def half_sent(inside: Inside) -> Iterator[ssl.SSLSocket]:
    """A client that has sent its request's head and half of its body."""
    with to_provider(inside) as client:
        client.sendall(HEAD + BODY[:20])
        yield client


def answer(client: ssl.SSLSocket) -> tuple[int, str]:
    """The status, and the reason if it is a refusal of ours. All of the answer is read."""
    stream = client.makefile("rb")
    head = "".join(iter(lambda: stream.readline().decode().lower(), "\r\n"))
    stream.read(int(head.partition("content-length: ")[2].partition("\r\n")[0]))
    reason = head.partition("x-tollhouse-reason: ")[2].partition("\r\n")[0]
    return int(head.split()[1]), reason


@pytest.mark.parametrize("stores", ["embedded", "real"])
def test_unfinished_bodies_of_one_token(tmp_path: Path, stores: Stores) -> None:
    """Of 24 under a limit of one, 23 are refused before their bodies are there; the one that has the place is answered when its
    body is, and nothing is held then."""
    with (
        open_inside(tmp_path, SETTINGS, stores=stores) as inside,
        contextlib.ExitStack() as clients,
    ):
        first = clients.enter_context(half_sent(inside))
        inside.until(lambda gateway: len(gateway.purse.places) == 1)
        others = [clients.enter_context(half_sent(inside)) for _ in range(CALLS - 1)]
        assert [answer(client) for client in others] == [(429, "concurrency_limited")] * (CALLS - 1)
        [place] = inside.held()
        assert place.endswith(".place")
        assert inside.standin.snapshot() == []
        first.sendall(BODY[20:])
        assert answer(first) == (200, "")
        inside.until(lambda gateway: not gateway.journey.under_way)
        lines = inside.lines()
        assert sorted((line["status"], line["gate"]) for line in lines) == [(200, "")] + [
            (429, "budget")
        ] * (CALLS - 1)
        assert [line["charged_by"] for line in lines].count("usage") == 1
        assert inside.held() == []
        assert inside.budget()["1 concurrent"]["held"] == "0"


def test_a_client_that_leaves_in_its_body_leaves_its_place(tmp_path: Path) -> None:
    """The next call has it; neither costs anything."""
    with open_inside(tmp_path, SETTINGS) as inside:
        for _ in range(3):
            with half_sent(inside):
                inside.until(lambda gateway: len(gateway.purse.places) == 1)
            inside.until(lambda gateway: not gateway.journey.under_way)
            assert inside.held() == []
        assert [(line["reason"], line["cost_usd"]) for line in inside.lines()] == [
            ("client_gone", "0")
        ] * 3


def test_a_body_that_does_not_come_leaves_its_place(tmp_path: Path) -> None:
    """408, and nothing is held."""
    with open_inside(tmp_path, {**SETTINGS, "limits": {"request_timeout_s": 1}}) as inside:
        with half_sent(inside) as client:
            assert answer(client) == (408, "timeout")
        inside.until(lambda gateway: not gateway.journey.under_way)
        assert (inside.held(), dict(inside.gateway.purse.places)) == ([], {})


def test_a_stop_leaves_no_place(tmp_path: Path) -> None:
    """What still waits for its body is ended, and given back before the ledger closes."""
    with (
        open_inside(tmp_path, {**SETTINGS, "limits": {"drain_s": 0.1}}) as inside,
        half_sent(inside),
    ):
        inside.until(lambda gateway: len(gateway.purse.places) == 1)
        inside.do(inside.gateway.stop())
        [line] = inside.lines()
        assert (line["reason"], line["cost_usd"]) == ("stopped", "0")
        assert dict(inside.gateway.purse.places) == {}


def test_a_small_body_is_one_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that came in one piece holds once and settles once; Redis is asked nothing else of it."""
    with open_inside(tmp_path, SETTINGS) as inside:
        asked: list[str] = []
        hold = inside.gateway.ledger.hold

        async def counted(call_id: str, *arguments: Any, **options: Any) -> Any:
            asked.append(call_id)
            return await hold(call_id, *arguments, **options)

        monkeypatch.setattr(inside.gateway.ledger, "hold", counted)
        with to_provider(inside) as client:
            for _ in range(3):
                client.sendall(HEAD + BODY)
                assert answer(client) == (200, "")
        inside.until(lambda gateway: not gateway.journey.under_way)
        assert asked == [line["call_id"] for line in inside.lines()]
        assert len(asked) == 3
