"""No call hangs, at whatever stage, and nobody takes all of the gateway: each row of docs/deadlines.md, through the running
gateway with small values.

A wait that is bounded ends in an answer. The tests wait for that answer, and measure nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from tests.e2e.test_uploads import a_file, sized
from tests.support.attack import BODY, HOST, Attacked, begin, get, post, watched
from tests.support.connect_proxy import ConnectProxy
from tests.support.inproc import PROJECT, open_inside
from tests.support.raw import Answer, Closed, RawClient
from tests.support.raw_socket import RawSocket, handshake

from tollhouse.demo.standin_script import Behaviour, Latch, Steps, reply
from tollhouse.demo.standin_tls import make_server_tls

SOON = 0.3
HOUR = 3600.0


@pytest.fixture
def opened(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Any]:
    """Gives a function that opens a gateway: ``limits``, and the entry of the provider."""
    with contextlib.ExitStack() as stack:

        def open_one(
            limits: dict[str, Any] | None = None,
            provider: dict[str, Any] | None = None,
            listen: dict[str, Any] | None = None,
            **more: Any,
        ) -> Attacked:
            settings = {
                "limits": limits or {},
                "listen": listen or {},
                "providers.openai": {"attempts": 1, **(provider or {})},
                f"projects.{PROJECT}": {"limits": ["10 usd/day"]},
            }
            if more:
                settings |= {"redis": {"timeout_s": SOON}, "vault": {"timeout_s": 1.0}}
            inside = stack.enter_context(
                open_inside(tmp_path, settings, health_every_s=0.05, **more)
            )
            if more:
                # A store that fails is told in the log.
                return begin(inside)
            return stack.enter_context(contextlib.contextmanager(watched)(inside, caplog))

        yield open_one


def ended(client: RawClient) -> bytes:
    """What comes until the gateway ends the connection."""
    return client.rest()


def refused(attacked: Attacked, reason: str) -> dict[str, Any]:
    [line] = attacked.lines(1)
    assert line["reason"] == reason
    return line


# The client's side.


@pytest.mark.parametrize("what", ["head", "handshake", "connect"])
def test_what_comes_slowly_before_a_request(opened: Any, what: str) -> None:
    """request_timeout_s as a whole: single bytes that come in between do not make it longer."""
    attacked: Attacked = opened({"request_timeout_s": SOON, "idle_connection_s": HOUR})
    with attacked.client() as client:
        if what == "handshake":
            client.connect(f"{HOST}:443", attacked.credentials)
            begun = client.hello(HOST)
            client.send_plain(begun[:100])
        else:
            client.send(b"CONNECT api" if what == "connect" else b"GET /v1/mo")
        assert ended(client) == b""
    attacked.settle()
    assert attacked.inside.standin.snapshot() == []


def test_a_body_that_falls_silent(opened: Any) -> None:
    attacked: Attacked = opened({"request_timeout_s": SOON})
    with attacked.tunnel() as client:
        answer = client.ask(post(b"", "Content-Length: 100") + b"{")
    assert (answer.status, answer.reason) == (408, "timeout")
    refused(attacked, "timeout")


def test_a_body_that_trickles(opened: Any) -> None:
    """It is never silent, and comes more slowly than min_body_bytes_s."""
    attacked: Attacked = opened({"request_timeout_s": SOON, "min_body_bytes_s": 1_000_000})
    with attacked.tunnel() as client:
        client.send(post(b"", "Content-Length: 100000"))
        over = threading.Event()

        def trickle() -> None:
            with contextlib.suppress(Closed, OSError):
                while not over.wait(0.02):
                    client.send(b" ")

        thread = threading.Thread(target=trickle)
        thread.start()
        answer = client.answer()
        over.set()
        thread.join()
    assert (answer.status, answer.reason) == (408, "timeout")
    assert "more slowly" in answer.body.decode()
    refused(attacked, "timeout")


def test_a_client_without_a_request(opened: Any) -> None:
    """idle_connection_s."""
    attacked: Attacked = opened({"idle_connection_s": SOON, "request_timeout_s": HOUR})
    with attacked.tunnel() as client:
        assert client.ask(get()).status == 200
        assert ended(client) == b""
    attacked.lines(1)


@pytest.mark.parametrize("protocol", ["1", "2"])
def test_a_client_that_does_not_read(opened: Any, protocol: str) -> None:
    """stalled_timeout_s: its connection ends, and the provider's with it."""
    attacked: Attacked = opened(
        {"stalled_timeout_s": SOON, "abandoned_read_s": 0}, {"share_objects": True}
    )
    piece = b"x" * 65_536
    attacked.inside.standin.script(
        reply(200, [piece] * 2_000, [("content-type", "application/octet-stream")])
    )
    path = "/v1/files/file-1/content"
    if protocol == "1":
        client = attacked.tunnel()
        client.send(get(path=path))
    else:
        h2 = attacked.http2()
        client = h2.raw
        head = [(":method", "GET"), (":scheme", "https"), (":path", path), (":authority", HOST)]
        h2.request(head)
    with client:
        line = refused(attacked, "client_gone")
        assert line["cost_usd"] == "0"
    assert attacked.inside.standin.wait_for(lambda book: book[0].outcome == "client_gone")


@pytest.mark.parametrize("stage", ["body", "answer", "stream"])
def test_a_whole_call(opened: Any, stage: str) -> None:
    """call_timeout_s ends it wherever it is. A stream that has begun is told so in its own form."""
    attacked: Attacked = opened({"call_timeout_s": SOON, "abandoned_read_s": 0})
    latch, steps = Latch(), Steps()
    steps.release(2)
    attacked.inside.standin.script(
        Behaviour(wait=latch) if stage == "answer" else Behaviour(steps=steps)
    )
    with attacked.tunnel() as client:
        if stage == "body":
            answer = client.ask(post(b"", "Content-Length: 100") + b"{")
            assert (answer.status, answer.reason) == (408, "timeout")
        elif stage == "answer":
            answer = client.ask(post())
            assert (answer.status, answer.reason) == (504, "upstream_timeout")
        else:
            answer = client.ask(post(BODY[:-1] + b',"stream":true}'))
            assert answer.status == 200
            assert b"call_timeout_s" in answer.body
    line = refused(attacked, "timeout" if stage == "body" else "upstream_timeout")
    assert line["gate"] == ("read" if stage == "body" else "deadline")
    latch.open()
    steps.release_all()


# The gateway's own stores.


@pytest.mark.parametrize("store", ["redis", "vault"])
def test_a_store_that_answers_nothing(opened: Any, store: str) -> None:
    """[redis] timeout_s and [vault] timeout_s: the hold and the key are waited for so long. Nothing has left."""
    attacked: Attacked = opened(stores="real")
    inside = attacked.inside
    if store == "vault":
        assert inside.stores is not None
        inside.stores.pause()
    else:
        # Other tests of this process have servers as well.
        port = str(urlsplit(inside.gateway.config.redis.url).port)
        [server] = [one for one in children() if port in " ".join(one.cmdline())]
        server.suspend()
    try:
        with attacked.tunnel() as client:
            answer = client.ask(post())
    finally:
        if store == "vault":
            assert inside.stores is not None
            inside.stores.resume()
        else:
            server.resume()
    wanted = "ledger_unavailable" if store == "redis" else "credential_unavailable"
    assert (answer.status, answer.reason) == (503, wanted)
    assert inside.standin.snapshot() == []


def children() -> list[Any]:
    return psutil.Process(os.getpid()).children(recursive=True)


# The provider's side.


@contextlib.contextmanager
def silent_server() -> Iterator[tuple[str, int]]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[:2]


@contextlib.contextmanager
def full_server() -> Iterator[tuple[str, int]]:
    """Its queue is full: SYNs are dropped (listen(2))."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield server.getsockname()[:2]


@pytest.mark.parametrize("stage", ["tcp", "tls", "proxy"])
def test_dialling(opened: Any, stage: str) -> None:
    """connect_timeout_s spans all of it. Nothing has left, and nothing is charged."""
    with contextlib.ExitStack() as stack:
        provider: dict[str, Any] = {"connect_timeout_s": SOON, "allow_private": True}
        if stage == "proxy":
            proxy = stack.enter_context(ConnectProxy({}, answer=b""))
            provider["upstream_proxy"] = {"url": proxy.url}
        else:
            host, port = stack.enter_context(full_server() if stage == "tcp" else silent_server())
            provider["connect_to"] = f"{host}:{port}"
        attacked: Attacked = opened({}, provider)
        with attacked.tunnel() as client:
            answer = client.ask(post())
        assert (answer.status, answer.reason) == (504, "upstream_timeout")
        assert refused(attacked, "upstream_timeout")["charged_by"] == "none"


def test_the_first_byte(opened: Any) -> None:
    """answer_timeout_s. The provider may have worked on it: the hold is charged."""
    latch = Latch()
    attacked: Attacked = opened({}, {"answer_timeout_s": SOON})
    attacked.inside.standin.script(Behaviour(wait=latch))
    with attacked.tunnel() as client:
        answer = client.ask(post())
    assert (answer.status, answer.reason) == (504, "upstream_timeout")
    assert refused(attacked, "upstream_timeout")["charged_by"] == "hold"
    latch.open()


def test_a_silence_within_an_answer(opened: Any) -> None:
    """silence_timeout_s cuts the answer, and what was seen is charged."""
    steps = Steps()
    steps.release(2)
    attacked: Attacked = opened({}, {"silence_timeout_s": SOON, "answer_timeout_s": HOUR})
    attacked.inside.standin.script(Behaviour(steps=steps))
    with attacked.tunnel() as client:
        client.send(post(BODY[:-1] + b',"stream":true}'))
        with pytest.raises(Closed):
            client.answer()
    line = refused(attacked, "upstream_timeout")
    assert line["status"] == 200
    steps.release_all()


def test_an_upload_that_the_provider_does_not_take(opened: Any) -> None:
    """answer_timeout_s bounds each wait for the provider's socket."""
    with silent_server_with_tls() as (host, port, ca_pem):
        attacked: Attacked = opened(
            {},
            {
                "answer_timeout_s": SOON,
                "connect_to": f"{host}:{port}",
                "ca_file": ca_pem,
                "allow_private": True,
            },
        )
        body = a_file(24 << 20)
        with attacked.tunnel() as client:
            client.send(sized("files", body))
            answer = client.pour(body)
        assert answer.reason in ("upstream_timeout", "upstream_unreachable")
        attacked.lines(1)


def test_an_upload_whose_answer_trickles(opened: Any) -> None:
    """answer_timeout_s is for the head as a whole, once the upload is written: bytes that come in between do not make it
    longer."""
    over = threading.Event()
    with trickling_server(over) as port:
        entry = {
            "answer_timeout_s": 1.0,
            "connect_to": f"127.0.0.1:{port}",
            "unsafe_plaintext": True,
            "allow_private": True,
        }
        attacked: Attacked = opened({}, entry, placed=False)
        body = a_file(2 << 20)
        with attacked.tunnel() as client:
            answer = client.ask(sized("files", body) + body, "POST")
        over.set()
    assert (answer.status, answer.reason) == (504, "upstream_timeout")
    attacked.lines(1)


@contextlib.contextmanager
def trickling_server(over: threading.Event) -> Iterator[int]:
    """Takes a request and begins an answer, a byte at a time, until ``over``."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                accepted, _ = server.accept()
                with accepted:
                    accepted.settimeout(0.02)
                    accepted.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                    while not over.is_set():
                        with contextlib.suppress(TimeoutError):
                            accepted.recv(1 << 20)
                        accepted.sendall(b"y")

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        over.set()
        thread.join()


@contextlib.contextmanager
def silent_server_with_tls() -> Iterator[tuple[str, int, str]]:
    """Shakes hands, and reads nothing behind that."""
    tls = make_server_tls((HOST,))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    running: set[asyncio.Task[Any] | None] = set()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task that only its own event knows is collected, if the gateway closes the connection first.
        running.add(asyncio.current_task())
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    async def listen() -> asyncio.Server:
        return await asyncio.start_server(silent, "127.0.0.1", 0, ssl=tls.context)

    async def close() -> None:
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    server = asyncio.run_coroutine_threadsafe(listen(), loop).result(10)
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(tls.ca_pem)
        file.flush()
        try:
            yield *server.sockets[0].getsockname()[:2], file.name
        finally:
            asyncio.run_coroutine_threadsafe(close(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)


# How much of the gateway one may have.


def test_connections_of_one_address(opened: Any) -> None:
    attacked: Attacked = opened({"max_connections_per_source": 2})
    with attacked.tunnel() as first, attacked.tunnel() as second:
        with attacked.client() as third:
            answer = third.answer()
        assert (answer.status, answer.reason) == (503, "too_many_connections")
        assert "max_connections_per_source" in answer.body.decode()
        assert [one.ask(get()).status for one in (first, second)] == [200, 200]
    attacked.inside.until(lambda gateway: gateway.connections == 0)
    with attacked.tunnel() as again:
        assert again.ask(get()).status == 200
    attacked.lines(3)


@pytest.mark.parametrize("key", ["max_connections_per_token", "max_connections_per_tenant"])
@pytest.mark.parametrize("protocol", ["1", "2", "mitmproxy"])
def test_connections_of_one_token(opened: Any, key: str, protocol: str) -> None:
    """Idle connections count, and WebSocket sessions; one more is refused and ends. Of two tokens each has its own, and their
    tenant has both. One that ends gives its place back."""
    own = {"http1": "mitmproxy"} if protocol == "mitmproxy" else {}
    attacked: Attacked = opened({key: 2}, listen=own)
    create = attacked.inside.gateway.operations.perform("token_create", {"projects": [PROJECT]})
    other = replace(attacked, inside=copy(attacked.inside))
    other.inside.token = attacked.inside.do(create)["token"]
    with attacked.tunnel() as idle, attacked.tunnel() as second:
        assert idle.ask(get()).status == 200
        if protocol == "mitmproxy":
            # It speaks no WebSocket.
            assert second.ask(get()).status == 200
        else:
            assert RawSocket(second, handshake()).answer.status == 101
        refusals = [one_too_many(attacked, protocol)]
        if key == "max_connections_per_tenant":
            refusals.append(one_too_many(other, protocol))
        else:
            with other.tunnel() as third:
                assert third.ask(get()).status == 200
        assert idle.ask(get()).status == 200
        idle.close()
        attacked.inside.until(lambda gateway: gateway.connections == 1)
        with attacked.tunnel() as again:
            assert [again.ask(get()).status for _ in range(2)] == [200, 200]
    for answer in refusals:
        assert (answer.status, answer.reason) == (503, "too_many_connections")
        assert key in answer.body.decode()
        assert answer.get("retry-after") == "1"
    attacked.lines(7)


def one_too_many(attacked: Attacked, protocol: str) -> Answer:
    """The answer on a connection that ends behind it."""
    if protocol == "2":
        client = attacked.http2()
        with client.raw:
            head = [(":method", "GET"), (":scheme", "https"), (":path", "/v1/models")]
            answer = client.answer(client.request([*head, (":authority", HOST)]))
            assert client.until_goaway() == 1
            return answer
    with attacked.tunnel() as client:
        answer = client.ask(get())
        assert answer.get("connection") == "close"
        assert client.rest() == b""
        return answer


@pytest.mark.parametrize("key", ["max_calls", "max_calls_per_source", "max_calls_per_token"])
@pytest.mark.parametrize("protocol", ["1", "2"])
def test_calls_under_way(opened: Any, key: str, protocol: str) -> None:
    """An open stream counts until its last byte."""
    steps = Steps()
    steps.release(2)
    attacked: Attacked = opened({key: 1})
    attacked.inside.standin.script(Behaviour(steps=steps), Behaviour())
    streamed = BODY[:-1] + b',"stream":true}'
    if protocol == "1":
        with attacked.tunnel() as first, attacked.tunnel() as second:
            first.send(post(streamed))
            assert attacked.inside.standin.wait_for(bool)
            answer = second.ask(post())
            steps.release_all()
            assert first.answer().status == 200
            attacked.settle()
            assert second.ask(post()).status == 200
    else:
        client = attacked.http2()
        head = [
            (":method", "POST"),
            (":scheme", "https"),
            (":path", "/v1/chat/completions"),
            (":authority", HOST),
        ]
        with client.raw:
            one = client.request(head, streamed)
            assert attacked.inside.standin.wait_for(bool)
            answer = client.answer(client.request(head, BODY))
            steps.release_all()
            assert client.answer(one).status == 200
            attacked.settle()
            assert client.answer(client.request(head, BODY)).status == 200
    assert (answer.status, answer.reason) == (503, "too_many_connections")
    assert key in answer.body.decode()
    assert answer.get("retry-after") == "1"
    attacked.lines(3)
