"""What a provider's side of a call can do wrong, from its name to its last byte; through the running gateway.

Each fault has a provider of its own. A call that hangs fails its test by the client's own time-out.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest
from tests.support.faulty import (
    FaultyProvider,
    Wire,
    reset_at_accept,
    tls_alert,
    tls_that_hangs,
)
from tests.support.gateway import REAL_KEY
from tests.support.inproc import Inside, open_inside

from tollhouse.credential.vault.embedded_vault import EmbeddedVault
from tollhouse.demo.standin_answers import chat_json
from tollhouse.demo.standin_tls import make_server_tls

CHAT: dict[str, Any] = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "what can go wrong"}],
    "max_completion_tokens": 50,
}
ANSWER = chat_json(CHAT)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
GOOD = HEAD + b"content-length: %d\r\n\r\n" % len(ANSWER) + ANSWER
CUT = 0
"""In place of a status: the answer's head came, and not all of its body."""


CUT_OR_502 = 1
"""What is wrong came with the head, or behind it."""


def close_at_accept(wire: Wire) -> None:
    pass


def no_tls(wire: Wire) -> None:
    wire.hello()
    wire.say(GOOD)
    wire.left()


def says(*pieces: bytes, close: bool = True) -> Callable[[Wire], None]:
    """To each request, and then the end, or silence."""

    def serve(wire: Wire) -> None:
        wire.tls()
        wire.request()
        for piece in pieces:
            wire.say(piece)
        if not close:
            wire.left()

    return serve


def reset_in_the_head(wire: Wire) -> None:
    wire.tls()
    wire.request()
    wire.say(b"HTTP/1.1 200 OK\r\ncontent-ty")
    wire.reset()


def closes_when_asked_again(wire: Wire) -> None:
    """The first connection serves one request, and is closed at the moment at which the next one comes."""
    wire.tls()
    wire.request()
    wire.say(GOOD)
    wire.request()
    if wire.number > 1:
        wire.say(GOOD)
        wire.left()


def closes_while_idle(wire: Wire) -> None:
    wire.tls()
    wire.request()
    wire.say(GOOD)


class Fault(NamedTuple):
    serve: Callable[[Wire], None] | None
    """None: nobody listens."""
    status: int
    reason: str
    charged_by: str
    attempts: int = 1
    """Those that the line has."""
    connections: int = 1
    settings: dict[str, Any] = {}  # noqa: RUF012 - nobody changes it
    before: int = 0
    """Good calls before it."""


SHORT = {"answer_timeout_s": 0.4}
FAULTS: dict[str, Fault] = {
    "no DNS": Fault(
        None, 502, "upstream_unreachable", "none", 2, 0, {"connect_to": "nowhere.invalid:443"}
    ),
    "refused": Fault(None, 502, "upstream_unreachable", "none", 2, 0),
    "reset at accept": Fault(reset_at_accept, 502, "upstream_unreachable", "none", 2, 2),
    "closed at accept": Fault(close_at_accept, 502, "upstream_unreachable", "none", 2, 2),
    "a TLS alert": Fault(tls_alert, 502, "upstream_tls", "none", 2, 2),
    "no TLS": Fault(no_tls, 502, "upstream_tls", "none", 2, 2),
    "TLS that hangs": Fault(
        tls_that_hangs, 504, "upstream_timeout", "none", 1, 1, {"deadline_s": 0.4}
    ),
    "closed before the head": Fault(says(), 502, "upstream_unreachable", "estimate", 2, 2),
    "half a head": Fault(
        says(b"HTTP/1.1 200 OK\r\ncontent-ty"), 502, "upstream_unreachable", "estimate", 2, 2
    ),
    "half a head, and a reset": Fault(
        reset_in_the_head, 502, "upstream_unreachable", "estimate", 2, 2
    ),
    "half a body": Fault(
        says(HEAD + b"content-length: %d\r\n\r\n" % len(ANSWER), ANSWER[:99]),
        CUT,
        "upstream_bad_answer",
        "estimate",
    ),
    "a length that is too long": Fault(
        says(HEAD + b"content-length: %d\r\n\r\n" % (len(ANSWER) + 1), ANSWER),
        CUT,
        "upstream_bad_answer",
        "estimate",
    ),
    "a length that is too short": Fault(
        says(HEAD + b"content-length: 99\r\n\r\n", ANSWER),
        CUT_OR_502,
        "upstream_bad_answer",
        "estimate",
    ),
    "two lengths": Fault(
        says(HEAD + b"content-length: 1\r\ncontent-length: 2\r\n\r\n", ANSWER),
        502,
        "upstream_bad_answer",
        "estimate",
    ),
    "garbage for chunks": Fault(
        says(HEAD + b"transfer-encoding: chunked\r\n\r\n9\r\n" + ANSWER[:9] + b"\r\nzz\r\n"),
        CUT_OR_502,
        "upstream_bad_answer",
        "estimate",
    ),
    "a chunk that is cut": Fault(
        says(HEAD + b"transfer-encoding: chunked\r\n\r\nff\r\n" + ANSWER[:99]),
        CUT,
        "upstream_bad_answer",
        "estimate",
    ),
    "no answer": Fault(says(close=False), 504, "upstream_timeout", "hold", 2, 2, SHORT),
    "silence in the head": Fault(
        says(b"HTTP/1.1 200 OK\r\nconte", close=False), 504, "upstream_timeout", "hold", 2, 2, SHORT
    ),
    "silence in the body": Fault(
        says(HEAD + b"content-length: %d\r\n\r\n" % len(ANSWER), ANSWER[:99], close=False),
        CUT,
        "upstream_timeout",
        "estimate",
        settings=SHORT,
    ),
    "closed at the moment of reuse": Fault(
        closes_when_asked_again, 200, "", "usage", 2, 2, before=1
    ),
    "closed while idle": Fault(closes_while_idle, 200, "", "usage", 1, 2, before=1),
}
HOSTS = {name: f"fault{number}.faults.test" for number, name in enumerate(FAULTS)}


class Faults(NamedTuple):
    inside: Inside
    providers: dict[str, FaultyProvider]


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faults]:
    directory: Path = tmp_path_factory.mktemp("faults")
    tls = make_server_tls(["*.faults.test"], "good")
    (directory / "faulty-ca.pem").write_bytes(tls.ca_pem)
    with contextlib.ExitStack() as stack:
        providers: dict[str, FaultyProvider] = {}
        settings: dict[str, dict[str, Any]] = {
            "projects.proj_123": {"limits": ["10 usd/day"], "unpriced": "dearest"}
        }
        for name, fault in FAULTS.items():
            port = _nobody_listens()
            if fault.serve is not None:
                provider = FaultyProvider(fault.serve, tls.context)
                providers[name] = stack.enter_context(provider.running())
                port = provider.port
            entry = HOSTS[name].partition(".")[0]
            settings[f"providers.{entry}"] = {
                "family": "openai",
                "hosts": [HOSTS[name]],
                "connect_to": f"127.0.0.1:{port}",
                "allow_private": True,
                "ca_file": "faulty-ca.pem",
                "attempts": 2,
                **fault.settings,
            }
            settings[f'prices."{entry}/gpt-4o"'] = {"input": "2.50", "output": "10"}
        inside = stack.enter_context(open_inside(directory, settings))
        for host in HOSTS.values():
            EmbeddedVault(directory / "state").set(host.partition(".")[0], REAL_KEY)
        yield Faults(inside, providers)


def _nobody_listens() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def ask(inside: Inside, host: str, http2: bool = False) -> httpx2.Response | None:
    """None: the head of the answer came, and its body was cut."""
    with (
        httpx2.Client(
            proxy=inside.proxy_url, verify=inside.context, http2=http2, trust_env=False, timeout=20
        ) as client,
        client.stream("POST", f"https://{host}/v1/chat/completions", json=CHAT) as answer,
    ):
        try:
            assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
            answer.read()
        except (httpx2.RemoteProtocolError, httpx2.ReadError):
            return None
        return answer


CUTS = [name for name, fault in FAULTS.items() if fault.status in (CUT, CUT_OR_502)]


@pytest.mark.parametrize(
    ("name", "http2"), [*((name, False) for name in FAULTS), *((name, True) for name in CUTS)]
)
def test_a_fault(faults: Faults, name: str, http2: bool) -> None:
    """The client is told or cut, the call is settled once by its rule, and no task, hold or connection is left."""
    fault, inside = FAULTS[name], faults.inside
    provider = faults.providers.get(name)
    connections = provider.connections if provider is not None else 0
    tasks = inside.do(_tasks())
    for _ in range(fault.before):
        answer = ask(inside, HOSTS[name])
        assert answer is not None
        assert answer.status_code == 200
    lines, used = len(inside.lines()), Decimal(inside.budget()["10 usd/day"]["used"])
    answer = ask(inside, HOSTS[name], http2)
    inside.until(lambda gateway: not gateway.journey.under_way)
    [line] = inside.lines()[lines:]
    assert (line["reason"], line["charged_by"]) == (fault.reason, fault.charged_by)
    assert len(line["attempts"]) == fault.attempts
    status = CUT if answer is None else answer.status_code
    if fault.status == CUT_OR_502:
        assert status in (CUT, 502)
    elif fault.status == CUT:
        assert status == CUT
    else:
        assert answer is not None
        assert answer.status_code == fault.status
        assert answer.headers["x-tollhouse-attempts"] == str(fault.attempts)
        if fault.status != 200:
            assert answer.headers["x-tollhouse-reason"] == fault.reason
            assert json.loads(answer.content)["error"]["code"] == fault.reason
    assert Decimal(inside.budget()["10 usd/day"]["used"]) - used == Decimal(line["cost_usd"])
    assert inside.held() == []
    if provider is not None:
        assert provider.connections - connections == fault.connections
        assert provider.faults == []
        # What is idle, and was not at fault, is kept.
        assert "reuse" in name or provider.none_open()
    inside.until(lambda gateway: len(asyncio.all_tasks()) <= tasks)


async def _tasks() -> int:
    return len(asyncio.all_tasks())
