"""What must be refused of WebSockets: handshakes, frames and messages, by raw clients and by a provider that misbehaves."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.support.attack import Attacked, get, watched
from tests.support.gateway import REAL_KEY
from tests.support.inproc import PROJECT, Inside, open_inside
from tests.support.raw import Closed
from tests.support.raw_socket import REALTIME, RawSocket, frame, handshake, text

from tollhouse.demo.standin_script import Behaviour

APPEND = "input_audio_buffer.append"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    settings = {
        f"projects.{PROJECT}": {"limits": ["10 usd/day"], "models": ["gpt-realtime", "gpt-4o*"]},
        "limits": {"websocket_message_bytes": 65_536},
    }
    with open_inside(tmp_path_factory.mktemp("sockets"), settings) as inside:
        yield inside


@pytest.fixture
def attacked(gateway: Inside, caplog: pytest.LogCaptureFixture) -> Iterator[Attacked]:
    yield from watched(gateway, caplog)


def opened(attacked: Attacked) -> RawSocket:
    socket = RawSocket(attacked.tunnel(), handshake())
    assert socket.answer.status == 101
    socket.until("session.created")
    return socket


@pytest.mark.parametrize(
    "request_",
    [
        handshake(key="short"),
        handshake(key="!" * 24),
        handshake("Sec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw=="),
        handshake("Upgrade: h2c"),
        handshake("Upgrade: websocket"),
        handshake().replace(b"Connection: Upgrade\r\n", b""),
        handshake("Content-Length: 0"),
        handshake("Sec-WebSocket-Version: 13"),
        handshake("Sec-WebSocket-Protocol: a b"),
        handshake(path="/v1/realtime"),
        handshake(path=REALTIME + "&model=gpt-4o"),
        handshake(path="/v1/realtime?call_id=rtc_1"),
        handshake(path="/v1/realtime?intent=transcription&intent=conversation"),
        handshake(path="/v1/realtime?intent=translation"),
    ],
    ids=range(14),
)
def test_a_malformed_handshake(attacked: Attacked, request_: bytes) -> None:
    with attacked.tunnel() as client:
        answer = client.ask(request_)
    if b"Version: 13\r\n" in request_.replace(b"Sec-WebSocket-Version: 13\r\n", b"", 1):
        attacked.refused(answer, 426, "upgrade_required")
    else:
        attacked.refused(answer, 400, "bad_request")


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/realtime/sessions", "/v1/models", "/v1/live/sessions"]
)
def test_a_path_that_is_no_websocket(attacked: Attacked, path: str) -> None:
    """426 before it is asked who calls."""
    with attacked.tunnel(headers=()) as client:
        answer = client.ask(handshake(path=path))
    attacked.refused(answer, 426, "upgrade_required")


def test_a_websocket_path_without_an_upgrade(attacked: Attacked) -> None:
    with attacked.tunnel() as client:
        answer = client.ask(get(path=REALTIME))
    attacked.refused(answer, 403, "path_not_allowed")


def test_a_model_that_is_not_allowed(attacked: Attacked) -> None:
    with attacked.tunnel() as client:
        answer = client.ask(handshake(path="/v1/realtime?model=gpt-realtime-mini"))
    attacked.refused(answer, 403, "model_not_allowed")


@pytest.mark.parametrize("path", [REALTIME, "/v1/realtime?model=gpt-realtime-mini"])
def test_codex_is_sent_to_http(attacked: Attacked, path: str) -> None:
    """Whatever its handshake is refused for: 426, and the line has the reason."""
    headers = () if path == REALTIME else None
    with attacked.tunnel(headers=headers) as client:
        answer = client.ask(handshake("User-Agent: codex_exec/0.171.0 (Linux)", path=path))
    reason = "identity_missing" if path == REALTIME else "model_not_allowed"
    attacked.refused(answer, 426, reason)


def test_nobody(attacked: Attacked) -> None:
    with attacked.tunnel(headers=()) as client:
        answer = client.ask(handshake())
    attacked.refused(answer, 401, "identity_missing")


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (frame(1, b"{}", mask=False), 1002),
        (frame(1, b"{}", rsv=4), 1002),
        (frame(3, b""), 1002),
        (frame(9, bytes(126)), 1002),
        (frame(9, b"", fin=False), 1002),
        (frame(0, b"a"), 1002),
        (frame(1, b"a", fin=False) + frame(1, b"b"), 1002),
        (frame(1, b"\xff\xfe"), 1007),
        (frame(8, b"\x00"), 1002),
        (frame(1, bytes(70_000)), 1009),
        (b"\x81\xff" + (1 << 30).to_bytes(8) + bytes(4) + b"a" * 70_000, 1009),
        (frame(1, b"a" * 100, fin=False) + frame(0, b"a" * 100, fin=False) * 700, 1009),
        (frame(1, b"", fin=False) + frame(0, b"", fin=False) * 17_000, 1009),
        (frame(9, b"") * 300, 1002),
        (b"GET /v1/models HTTP/1.1\r\nHost: api.openai.com\r\n\r\n", 1002),
    ],
    ids=range(15),
)
def test_frames_that_are_refused(attacked: Attacked, raw: bytes, code: int) -> None:
    """The session is closed with the code of its fault, and nothing of it reaches the provider."""
    socket = opened(attacked)
    with socket.client as client:
        client.send(raw)
        assert socket.until("close").code == code
        with pytest.raises((Closed, StopIteration)):
            socket.next()
    [line] = attacked.lines(1)
    assert (line["status"], line["reason"], line["cost_usd"]) == (101, "bad_request", "0")
    [received] = attacked.inside.standin.snapshot()
    assert received.messages == []


@pytest.mark.parametrize(
    "message",
    [
        frame(1, b"no json"),
        frame(1, b'{"type": "response.create", "type": "response.cancel"}'),
        text(type="session.mint"),
        text(kind="response.create"),
        frame(1, b'["response.create"]'),
    ],
    ids=range(5),
)
def test_messages_that_are_refused(attacked: Attacked, message: bytes) -> None:
    """The provider's own error says why, then 1008."""
    socket = opened(attacked)
    with socket.client as client:
        client.send(message)
        assert socket.until("error").event["error"]["code"] == "bad_request"
        assert socket.until("close").code == 1008
    [line] = attacked.lines(1)
    assert (line["status"], line["reason"]) == (101, "bad_request")
    [received] = attacked.inside.standin.snapshot()
    assert received.messages == []


def test_another_model_in_a_session(attacked: Attacked) -> None:
    """A session that would write down what it hears by a model that is not allowed."""
    socket = opened(attacked)
    session = {"audio": {"input": {"transcription": {"model": "whisper-1"}}}}
    with socket.client as client:
        client.send(text(type="session.update", session=session))
        assert socket.until("error").event["error"]["code"] == "model_not_allowed"
        assert socket.until("close").code == 1008
    attacked.lines(1)
    [received] = attacked.inside.standin.snapshot()
    assert received.messages == []


def writing(transcriber: str, **more: str) -> bytes:
    """A message that names who writes down what is heard."""
    audio = {"input": {"transcription": {"model": transcriber}}}
    return text(type="session.update", session={"audio": audio, **more})


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (text(type=APPEND, audio="AAAA"), "bad_request"),
        (text(type="response.create"), "bad_request"),
        (writing("gpt-4o-transcribe", type="realtime"), "bad_request"),
        (writing("gpt-4o-transcribe", model="gpt-realtime"), "bad_request"),
        (writing("whisper-1"), "model_not_allowed"),
    ],
    ids=range(5),
)
def test_a_session_of_transcriptions(attacked: Attacked, message: bytes, code: str) -> None:
    """Its handshake names no model: nothing is sent before one is judged, and nothing but what it writes."""
    path = "/v1/realtime?intent=transcription"
    socket = RawSocket(attacked.tunnel(), handshake(path=path))
    with socket.client as client:
        client.send(message)
        assert socket.until("error").event["error"]["code"] == code
        assert socket.until("close").code == 1008
    attacked.lines(1)
    [received] = attacked.inside.standin.snapshot()
    assert received.messages == []


@pytest.mark.parametrize(
    "message",
    [
        text(type="response.steer", response_id="resp_1", input="Stop"),
        text(type="response.cancel", response_id="resp_1"),
        text(type="response.create", model="gpt-4o", input="Hello", background=True),
    ],
    ids=range(3),
)
def test_what_a_responses_session_does_not_pass(attacked: Attacked, message: bytes) -> None:
    """What it costs is not documented, or comes later than the session's end."""
    socket = RawSocket(attacked.tunnel(), handshake(path="/v1/responses"))
    with socket.client as client:
        client.send(message)
        assert (
            socket.until("response.failed").event["response"]["error"]["code"] == "invalid_prompt"
        )
        assert socket.until("close").code == 1008
    [line] = attacked.lines(1)
    assert (line["reason"], line["cost_usd"]) == ("bad_request", "0")
    [received] = attacked.inside.standin.snapshot()
    assert received.messages == []


def test_frames_behind_the_handshake(attacked: Attacked) -> None:
    """A client that does not wait for the 101 is served; its bytes are frames, and no request of HTTP."""
    socket = RawSocket(attacked.tunnel(), handshake() + text(type="response.create"))
    with socket.client as client:
        socket.until("response.done")
        client.send(frame(8, b"\x03\xe8"))
        assert socket.until("close").code == 1000
    [line] = attacked.lines(1)
    assert line["tokens"]["output"] == 60


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        b"sec-websocket-accept: AAECAwQFBgcICQoLDA0ODw==\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
    ],
    ids=range(3),
)
def test_a_provider_that_accepts_another_handshake(attacked: Attacked, answer: bytes) -> None:
    attacked.inside.standin.always(Behaviour(raw=answer))
    with attacked.tunnel() as client:
        found = client.ask(handshake("x-stainless-retry-count: 1"))
    assert (found.status, found.reason) == (502, "upstream_bad_answer")
    [line] = attacked.lines(1)
    assert (line["cost_usd"], line["charged_by"]) == ("0", "none")


@pytest.mark.parametrize(
    "raw",
    [
        frame(1, b"{}"),
        frame(1, b"{}", mask=False, rsv=4),
        frame(1, bytes(70_000), mask=False),
        frame(1, b"\xff", mask=False),
    ],
    ids=range(4),
)
def test_a_provider_whose_frames_are_wrong(attacked: Attacked, raw: bytes) -> None:
    attacked.inside.standin.script(Behaviour(frames=raw))
    socket = RawSocket(attacked.tunnel(), handshake())
    with socket.client:
        assert socket.until("close").code == 1011
    [line] = attacked.lines(1)
    assert (line["status"], line["reason"]) == (101, "upstream_bad_answer")


def test_the_key_in_a_message(attacked: Attacked) -> None:
    """It is taken out, also where it is divided over two frames."""
    said = json.dumps({"type": "rate_limits.updated", "note": REAL_KEY}).encode()
    half = said.index(REAL_KEY.encode()) + 20
    parts = frame(1, said[:half], mask=False, fin=False) + frame(0, said[half:], mask=False)
    attacked.inside.standin.script(Behaviour(frames=parts + frame(8, b"\x03\xe8", mask=False)))
    socket = RawSocket(attacked.tunnel(), handshake())
    with socket.client as client:
        came = socket.until("rate_limits.updated")
        assert socket.until("close").code == 1000
        client.send(frame(8, b"\x03\xe8"))
    assert REAL_KEY[:12] not in str(came.data)
    assert "redacted" in came.event["note"]
    [line] = attacked.lines(1)
    assert (line["status"], line["reason"]) == (101, "")


@pytest.mark.parametrize("length", [len(REAL_KEY), 20])
def test_the_key_in_a_close_and_in_a_ping(attacked: Attacked, length: int) -> None:
    """It is taken out, also where the room of a reason has cut it."""
    said = b"wrong key: " + REAL_KEY[:length].encode()
    parts = frame(9, said, mask=False) + frame(8, b"\x0b\xb8" + said, mask=False)
    attacked.inside.standin.script(Behaviour(frames=parts))
    socket = RawSocket(attacked.tunnel(), handshake())
    with socket.client as client:
        pinged, closed = socket.until("ping"), socket.until("close")
        client.send(frame(8, b"\x03\xe8"))
    assert REAL_KEY[:12] not in f"{pinged.data!r}{closed.data!r}"
    assert b"wrong key: [redacted" in bytes(pinged.data)
    assert (closed.code, "wrong key: [redacted" in str(closed.data)) == (3000, True)
    attacked.lines(1)


@pytest.mark.parametrize("slot", ["subprotocol", "query", "token", "bearer"])
def test_who_calls(attacked: Attacked, slot: str) -> None:
    """The token may stand wherever the SDKs and browsers put a key. It is replaced, and not offered to the provider."""
    token = attacked.inside.token
    request = {
        "subprotocol": handshake(
            f"Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.{token}, "
            "openai-organization.org_1, openai-project.proj_1"
        ),
        "query": handshake(path=f"{REALTIME}&key={token}"),
        "token": handshake(path=f"{REALTIME}&access_token={token}"),
        "bearer": handshake(f"Authorization: Bearer {token}"),
    }[slot]
    socket = RawSocket(attacked.tunnel(headers=()), request)
    with socket.client as client:
        assert socket.answer.status == 101
        expected = "realtime" if slot == "subprotocol" else ""
        assert socket.answer.get("sec-websocket-protocol") == expected
        socket.until("session.created")
        client.send(frame(8, b"\x03\xe8"))
        assert socket.until("close").code == 1000
    received = attacked.clean("org_1", "proj_1", "sec-websocket-extensions")
    assert received.get("sec-websocket-protocol") == expected
    assert received.target == REALTIME
    [line] = attacked.lines(1)
    assert "gate_" not in json.dumps(line)
