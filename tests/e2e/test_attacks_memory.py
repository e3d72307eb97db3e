"""SECURITY.md rows 29 and 38: what is made to take memory, in a gateway process of its own."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.gateway import Road, open_road
from tests.support.memory import forget_peak, peak_rss

from tollhouse.demo.standin import StandIn
from tollhouse.demo.standin_script import Behaviour

MIB = 1 << 20
CHAT = "https://api.openai.com/v1/chat/completions"
SMALL: dict[str, Any] = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "hello"}],
    "max_tokens": 5,
}


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Road, int]]:
    """The gateway, and the memory that it has before all of this."""
    directory = tmp_path_factory.mktemp("memory")
    with open_road(directory, standin=StandIn(), limits=("1000 usd/day",)) as road:
        with road.http() as client:
            assert client.post(CHAT, json=SMALL).status_code == 200
        [worker] = road.gateway.worker_pids()
        yield road, peak_rss(worker)


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
def test_an_answer_that_is_a_bomb(process: tuple[Road, int], kind: str) -> None:
    """Row 29: `identity` was asked for, and 64 KB of gzip come that are 64 MiB. They pass in pieces, and the hold is the charge."""
    road, before = process
    start = b'data: {"x":"' if "event" in kind else b'{"x":"'
    packed = gzip.compress(start + b"x" * (64 * MIB) + b'"}\n\n')
    head = (
        f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-encoding: gzip\r\n"
        f"content-length: {len(packed)}\r\n\r\n"
    )
    road.standin.clear()
    road.standin.script(Behaviour(raw=head.encode() + packed))
    [worker] = road.gateway.worker_pids()
    seen = len(road.gateway.lines())
    forget_peak(worker)
    got = 0
    asked = {**SMALL, "stream": "event" in kind}
    with road.http() as client, client.stream("POST", CHAT, json=asked) as answer:
        for piece in answer.iter_raw():
            got += len(piece)
    assert got > 64 * MIB
    assert peak_rss(worker) - before < 16 * MIB
    [line] = road.gateway.wait_lines(seen + 1)[seen:]
    assert (line["decision"], line["reason"], line["charged_by"]) == ("allow", "", "hold")
    assert road.standin.snapshot()[0].get("accept-encoding") == "identity"


BODIES = {
    "numbers": (b'{"model":"gpt-4o","messages":[' + b"0," * (31 * MIB // 2) + b"0]}", 413),
    "objects": (b'{"model":"gpt-4o","messages":[' + b'{"a":1},' * (31 * MIB // 8) + b"{}]}", 413),
    "deep": (b'{"model":"gpt-4o","x":' + b"[" * (31 * MIB) + b"}", 413),
    "one text": (
        b'{"model":"gpt-4o","max_tokens":5,"messages":[{"role":"user","content":"'
        + b"x" * (31 * MIB)
        + b'"}]}',
        200,
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_of_31_mib(process: tuple[Road, int], name: str) -> None:
    """Row 38: it is answered, in at most four times its bytes of memory, and others are served meanwhile. How long they wait is
    bench.bodies' to measure."""
    road, before = process
    body, status = BODIES[name]
    road.standin.clear()
    [worker] = road.gateway.worker_pids()
    seen = len(road.gateway.lines())
    forget_peak(worker)
    answered, others = threading.Event(), []

    def call() -> None:
        with road.http() as client:
            while not answered.is_set() or not others:
                others.append(client.post(CHAT, json=SMALL).status_code)

    beside = threading.Thread(target=call)
    beside.start()
    try:
        with road.http() as client:
            answer = client.post(CHAT, content=body, headers={"content-type": "application/json"})
    finally:
        answered.set()
        beside.join()
    assert set(others) == {200}
    assert peak_rss(worker) - before < 4 * len(body)
    lines = road.gateway.wait_lines(seen + 1 + len(others))[seen:]
    [line] = [one for one in lines if one["call_id"] == answer.headers["x-tollhouse-call-id"]]
    received = [one for one in road.standin.snapshot() if len(one.body) > MIB]
    if status == 200:
        assert (answer.status_code, line["reason"], len(received)) == (200, "", 1)
        assert received[0].body == body
    else:
        assert (answer.status_code, line["reason"]) == (413, "body_too_large")
        assert (received, line["cost_usd"]) == ([], "0")
