"""Whatever happens to a call, it is settled once, has one line, and leaves no hold."""

from __future__ import annotations

import base64
import json
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.support.gateway import Road, Stores, open_road
from tests.support.inproc import open_inside

from tollhouse.demo.standin_script import (
    Behaviour,
    Latch,
    Steps,
    reply,
    reset_before_headers,
    reset_mid_body,
)

URL = "https://api.openai.com/v1/chat/completions"


def body(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": text}], **more}


def settled(road: Road, count: int) -> list[dict[str, Any]]:
    """The lines once there are ``count``: one a call, and nothing is held any more."""
    lines = road.wait_lines(count)
    assert len(lines) == count
    assert len({line["call_id"] for line in lines}) == count
    until_nothing_is_held(road)
    return lines


def until_nothing_is_held(road: Road, seconds: float = 60.0) -> None:
    # Each look is a command, which takes its time: no sleep is needed between them.
    deadline = threading.Event()
    timer = threading.Timer(seconds, deadline.set)
    timer.start()
    while any(Decimal(limit["held"]) for limit in road.budget().values()):
        assert not deadline.is_set(), f"a hold is left: {road.budget()}"
    timer.cancel()


def spent(road: Road, lines: list[dict[str, Any]]) -> None:
    """The ledger was charged what the lines say, to the nano-dollar."""
    assert road.used() == sum(Decimal(line["cost_usd"]) for line in lines)


class Leaver:
    """A client that can leave at any moment: one raw connection through the proxy."""

    def __init__(
        self,
        proxy: tuple[str, int],
        credentials: str,
        context: ssl.SSLContext,
        payload: dict[str, Any],
    ) -> None:
        raw = socket.create_connection(proxy, timeout=20)
        raw.sendall(
            f"CONNECT api.openai.com:443 HTTP/1.1\r\nHost: api.openai.com:443\r\n"
            f"Proxy-Authorization: {credentials}\r\n\r\n".encode()
        )
        assert raw.recv(1000).startswith(b"HTTP/1.1 200")
        self.socket = context.wrap_socket(raw, server_hostname="api.openai.com")
        data = json.dumps(payload).encode()
        self.socket.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: api.openai.com\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(data), data)
        )

    @classmethod
    def on(cls, road: Road, payload: dict[str, Any]) -> Leaver:
        host, _, port = road.gateway.proxy.rpartition(":")
        credentials = "Basic " + base64.b64encode(f"{road.project}:{road.token}".encode()).decode()
        return cls((host, int(port)), credentials, road.context, payload)

    def read_until(self, marker: bytes) -> bytes:
        seen = b""
        while marker not in seen:
            piece = self.socket.recv(65536)
            assert piece, seen
            seen += piece
        return seen

    def leave(self) -> None:
        """Gone without a word: RST."""
        self.socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
        )
        self.socket.close()


def test_a_client_that_leaves_before_the_answer_pays_the_hold(road: Road) -> None:
    """The provider is at work when the client goes: what was held is charged, as a disconnect, once."""
    gate = Latch()
    road.standin.script(Behaviour(wait=gate))
    leaver = Leaver.on(road, body("nobody waits for this", max_completion_tokens=50))
    road.standin.wait_count(1)
    leaver.leave()
    [line] = settled(road, 1)
    gate.open()
    assert (line["charged_by"], line["reason"], line["decision"]) == (
        "disconnect",
        "client_gone",
        "allow",
    )
    assert line["cost_usd"] == line["held_usd"]
    spent(road, [line])


def test_a_client_that_leaves_a_stream_is_charged_its_true_count_if_it_comes_soon(
    tmp_path: Path,
) -> None:
    """The stream is read on for a moment: usage, not an estimate."""
    with open_inside(tmp_path, {"limits": {"abandoned_read_s": 30.0}}) as inside:
        steps = Steps()
        inside.standin.script(Behaviour(steps=steps))
        leaver = Leaver(
            inside.proxy,
            inside.credentials,
            inside.context,
            body("leave in the middle", stream=True),
        )
        steps.release(2)
        leaver.read_until(b"The")
        leaver.leave()
        inside.until(lambda gateway: all(exchange.gone for exchange in gateway.journey.under_way))
        steps.release_all()
        inside.until(lambda gateway: not gateway.journey.under_way)
        [line] = inside.lines()
        assert (line["charged_by"], line["reason"]) == ("usage", "client_gone")
        assert line["tokens"]["output"] > 0
        assert inside.held() == []
        assert inside.budget()["10 usd/day"]["used"] == line["cost_usd"]


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """A gateway that reads an abandoned stream on for a tenth of a second only."""
    settings = {"limits": {"abandoned_read_s": 0.1}}
    with open_road(tmp_path_factory.mktemp("impatient"), settings) as made:
        yield made


def test_a_client_that_leaves_a_stuck_stream_is_charged_what_was_seen(impatient: Road) -> None:
    """No count comes in time: input and the output seen, as a disconnect, and the provider's connection is closed."""
    steps = Steps()
    impatient.standin.script(Behaviour(steps=steps))
    leaver = Leaver.on(impatient, body("leave, and it is stuck", stream=True))
    steps.release(3)
    leaver.read_until(b"toll")
    leaver.leave()
    [line] = settled(impatient, 1)
    assert (line["charged_by"], line["reason"]) == ("disconnect", "client_gone")
    assert 0 < Decimal(line["cost_usd"]) < Decimal(line["held_usd"])
    assert impatient.standin.wait_for(lambda book: book[-1].outcome == "client_gone")
    spent(impatient, [line])


def test_a_client_that_leaves_after_the_answer_changes_nothing(road: Road) -> None:
    """The answer was complete: usage, and one line."""
    leaver = Leaver.on(road, body("all of it", stream=True))
    leaver.read_until(b"[DONE]")
    leaver.leave()
    [line] = settled(road, 1)
    assert (line["charged_by"], line["reason"], line["status"]) == ("usage", "", 200)
    spent(road, [line])


def test_a_client_that_leaves_in_the_middle_of_its_request_costs_nothing(road: Road) -> None:
    """Nothing was held and nothing was sent."""
    host, _, port = road.gateway.base_url.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as raw:
        raw.sendall(
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {road.token}\r\n"
            'Content-Length: 1000\r\n\r\n{"model":'.encode()
        )
    [line] = settled(road, 1)
    assert (line["charged_by"], line["reason"], line["status"]) == ("none", "client_gone", 0)
    assert road.standin.snapshot() == []


def test_resets_before_headers_are_tried_again_and_charged_once(road: Road) -> None:
    """The attempt's fate is unknown and is said; the answer that came is what is paid."""
    road.standin.script(reset_before_headers())
    with road.http() as client:
        answer = client.post(URL, json=body("try again"))
    assert answer.status_code == 200
    [line] = settled(road, 1)
    assert len(line["attempts"]) == 2
    assert (line["attempts_unknown"], line["charged_by"]) == (1, "usage")
    assert len(road.standin.wait_count(2)) == 2
    spent(road, [line])


def test_a_provider_that_only_resets_costs_the_input_once(road: Road) -> None:
    """All attempts fail: 502, and of each the provider may have read the request. Its input is charged, not once an attempt."""
    road.standin.script(*[reset_before_headers()] * 3)
    with road.http() as client:
        answer = client.post(URL, json=body("never"))
    assert answer.status_code == 502
    assert answer.headers["x-tollhouse-reason"] == "upstream_unreachable"
    [line] = settled(road, 1)
    assert (line["decision"], line["reason"], line["gate"]) == (
        "fail",
        "upstream_unreachable",
        "dispatch",
    )
    assert (line["attempts_unknown"], line["charged_by"], line["cost_usd"]) == (
        3,
        "estimate",
        "0.0000225",
    )
    spent(road, [line])


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_a_body_that_the_provider_cuts_is_cut_for_the_client_and_charged_as_seen(
    road: Road, stream: bool
) -> None:
    """Never retried after the first byte; the client sees that it is incomplete."""
    road.standin.script(reset_mid_body(4 if stream else 0))
    with road.http() as client, pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
        client.post(URL, json=body("cut", stream=stream))
    [line] = settled(road, 1)
    assert (line["charged_by"], line["decision"], line["reason"]) == (
        "estimate",
        "fail",
        "upstream_bad_answer",
    )
    assert len(line["attempts"]) == 1
    assert Decimal(line["cost_usd"]) > 0
    assert len(road.standin.snapshot()) == 1
    spent(road, [line])


@pytest.mark.parametrize("status", [400, 401, 404, 500])
def test_an_error_status_costs_nothing(road: Road, status: int) -> None:
    """The provider's own error is passed on as it is (but for a refused key, which is ours to mend)."""
    road.standin.always(
        reply(status, b'{"error":{"message":"no","type":"t","param":null,"code":"c"}}')
    )
    with road.http() as client:
        answer = client.post(URL, json=body("an error"))
    assert answer.status_code == (502 if status == 401 else status)
    [line] = settled(road, 1)
    assert (line["charged_by"], line["cost_usd"]) == ("none", "0")
    spent(road, [line])


def test_an_answer_without_usage_is_charged_its_hold(road: Road) -> None:
    """A 2xx that does not say what it used: the hold is the charge, and the line says so."""
    road.standin.script(Behaviour(usage=False))
    with road.http() as client:
        assert client.post(URL, json=body("no usage", max_completion_tokens=10)).status_code == 200
    [line] = settled(road, 1)
    assert (line["charged_by"], line["cost_usd"]) == ("hold", line["held_usd"])
    spent(road, [line])


@pytest.mark.parametrize("stores", ["embedded", "real"])
def test_sigterm_lets_a_stream_end(tmp_path: Path, stores: Stores) -> None:
    """SIGTERM in the middle of a stream: no new connection, the stream goes on to its end, settled, exit 0."""
    steps = Steps()
    with open_road(tmp_path / "road", stores=stores) as road:
        road.standin.script(Behaviour(steps=steps))
        streaming = Leaver.on(road, body("stop in the middle", stream=True))
        steps.release(2)
        streaming.read_until(b"The")
        road.gateway.signal(signal.SIGTERM)
        until_refused(road)
        steps.release_all()
        assert b"[DONE]" in streaming.read_until(b"[DONE]")
        assert road.gateway.wait() == 0
        [line] = road.lines()
        assert (line["charged_by"], line["reason"], line["status"]) == ("usage", "", 200)


def until_refused(road: Road) -> None:
    """Until the listener takes no more connections."""
    host, _, port = road.gateway.proxy.rpartition(":")
    for _ in range(10_000):
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except (ConnectionRefusedError, ConnectionResetError):
            # Reset: it was in the listener's queue when that was closed.
            return
    raise AssertionError("the listener is still open")


def test_sigterm_cuts_what_does_not_end_in_time(tmp_path: Path) -> None:
    """After the time to drain the stream is cut, settled by what was seen, exit 0."""
    steps = Steps()
    settings = {"limits": {"drain_s": 0.2, "abandoned_read_s": 0.1}}
    with open_road(tmp_path / "road", settings) as road:
        road.standin.script(Behaviour(steps=steps))
        streaming = Leaver.on(road, body("too slow", stream=True))
        steps.release(2)
        streaming.read_until(b"The")
        assert road.gateway.stop() == 0
        [line] = road.lines()
        assert (line["charged_by"], line["reason"]) == ("disconnect", "stopped")
        with pytest.raises((ssl.SSLError, OSError, AssertionError)):
            streaming.read_until(b"[DONE]")
        steps.release_all()


@pytest.mark.parametrize("stores", ["embedded", "real"])
def test_fifty_calls_against_money_for_ten(tmp_path: Path, stores: Stores) -> None:
    """Exactly what fits goes out, all refused others say why, and once settled the rest of the money can be used."""
    payload = body("the same every time", max_completion_tokens=100)
    with open_road(tmp_path / "road", stores=stores, limits=("1000 usd/day",)) as road:
        with road.http() as client:
            client.post(URL, json=payload)
        held = Decimal(road.wait_lines(1)[0]["held_usd"])
        already = road.used("1000 usd/day")
        limit = already + held * 10
        road.gateway.make_project(road.project, f"{limit} usd/day")
        road.standin.clear()
        gate = Latch()
        road.standin.always(Behaviour(wait=gate))
        statuses = in_parallel(road, payload, 50, lambda: refused_count(road) == 40, gate)
    assert sorted(statuses) == [200] * 10 + [402] * 40
    assert len(road.standin.snapshot()) == 10


def refused_count(road: Road) -> int:
    return sum(line["status"] == 402 for line in road.lines())


def in_parallel(
    road: Road, payload: dict[str, Any], count: int, until: Callable[[], bool], gate: Latch
) -> list[int]:
    """``count`` calls at once; the provider answers none before ``until`` is true."""

    def one(_: int) -> int:
        with road.http() as client:
            return client.post(URL, json=payload).status_code

    with ThreadPoolExecutor(count) as pool:
        under_way = [pool.submit(one, number) for number in range(count)]
        try:
            road.gateway.wait_until(lambda _: until(), 30)
        finally:
            gate.open()
        return [future.result(60) for future in under_way]
