"""The demo's workloads as processes, through a blind tunnel to the stand-in: what they say without any gateway."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tollhouse.demo.run_workload import WorkloadError, run_workload
from tollhouse.demo.standin import StandIn
from tollhouse.demo.standin_script import Behaviour, Steps, reply


def pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def tunnel(client: socket.socket, port: int) -> None:
    """Take one CONNECT, whatever its host, to ``port`` here."""
    with client, socket.create_connection(("127.0.0.1", port)) as upstream:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(65536)
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        back = threading.Thread(target=pump, args=(upstream, client), daemon=True)
        back.start()
        pump(client, upstream)
        back.join(10)


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn(key="not-a-key") as running:
        yield running


@pytest.fixture
def environ(standin: StandIn, tmp_path: Path) -> Iterator[dict[str, str]]:
    """A workload's environment whose proxy is the tunnel."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(
                        target=tunnel, args=(client, standin.port), daemon=True
                    ).start()

        threading.Thread(target=accept, daemon=True).start()
        ca_file = standin.write_ca(tmp_path / "ca.pem")
        yield {
            "HTTPS_PROXY": f"http://127.0.0.1:{listener.getsockname()[1]}",
            "SSL_CERT_FILE": str(ca_file),
        }
        listener.shutdown(socket.SHUT_RDWR)


def test_chat(standin: StandIn, environ: dict[str, str]) -> None:
    """It tells what it sent, as the stand-in got it, and each chunk before the next is written."""
    steps = Steps()
    standin.script(Behaviour(), Behaviour(steps=steps))
    steps.release()
    written: list[int] = []

    def next_frame(event: dict[str, object]) -> None:
        if event["event"] == "chunk":
            written.append(len(standin.book[1].sent))
            steps.release_all() if event["last"] else steps.release()

    events = run_workload("workload_chat.py", "proj_1", environ=environ, on_event=next_frame)
    request = next(event for event in events if event["event"] == "request")
    received = standin.book[0]
    assert received.body.decode() == request["body"]
    sent = [(name.lower().encode(), value.encode()) for name, value in request["headers"]]
    assert sent == [(name.lower(), value) for name, value in received.headers]
    assert received.get("x-coreason-project-id") == "proj_1"
    assert written == list(range(1, len(written) + 1))
    assert [event["text"][:4] for event in events if event["event"] == "answer"] == ["The ", "The "]


def test_message(standin: StandIn, environ: dict[str, str]) -> None:
    """It tells what it sent, as the stand-in got it, and the last count of the answer."""
    request, answer = run_workload("workload_message.py", environ=environ)
    [received] = standin.snapshot()
    assert (received.body.decode(), received.get("x-api-key")) == (request["body"], "not-a-key")
    assert answer["text"].startswith("The toll is paid")
    assert answer["usage"]["output_tokens"] == len(answer["text"].split())


def test_thought(standin: StandIn, environ: dict[str, str]) -> None:
    """The same of Gemini: the last count is that of the whole answer."""
    request, answer = run_workload("workload_thought.py", environ=environ)
    [received] = standin.snapshot()
    assert received.body.decode() == request["body"]
    assert received.get("x-goog-api-key") == "not-a-key"
    assert answer["text"].startswith("The toll is paid")
    assert answer["usage"]["candidatesTokenCount"] == len(answer["text"].split())


def test_spend_until_refused(standin: StandIn, environ: dict[str, str]) -> None:
    """It calls until an error status and tells it, or to its number."""
    no_money = b'{"error": {"message": "no money", "code": "budget_exceeded"}}'
    refusal = reply(402, no_money, [("content-type", "application/json")])
    standin.script(Behaviour(), Behaviour(), refusal)
    events = run_workload("workload_spend.py", "9", environ=environ)
    assert [event["event"] for event in events] == ["answer", "answer", "refusal"]
    assert (events[2]["status"], events[2]["code"]) == (402, "budget_exceeded")


def test_attack(standin: StandIn, environ: dict[str, str]) -> None:
    """Its first request carries a key of its own, its second another Host."""
    first, second = run_workload("workload_attack.py", environ["HTTPS_PROXY"], environ=environ)
    assert (first["attack"], first["status"], first["code"]) == ("own_key", 401, "invalid_api_key")
    assert second == {"event": "answer", "attack": "other_host"}
    assert standin.book[0].get("authorization").startswith("Bearer sk-")
    assert standin.book[1].get("host") == "api.evil.example"


def test_failure_says_why() -> None:
    """A script that ends badly is an error with its own last words."""
    with pytest.raises(WorkloadError, match=r"workload_spend\.py: .*IndexError"):
        run_workload("workload_spend.py", environ={})
