"""An operator's own addons in WebSocket sessions, through a running gateway: what they change is judged, held and sent, one that
fails ends the session, and nothing leaves without an addon that has to do with calls."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.attack import Attacked, begin, get
from tests.support.gateway import REAL_KEY
from tests.support.inproc import PROJECT, Inside, open_inside
from tests.support.raw_socket import RawSocket, frame, handshake, text

from tollhouse.demo.standin_script import Behaviour, reply

CLOSE = frame(8, b"\x03\xe8")

ADDON = '''
from mitmproxy import http

class Messages:
    """Does what the text of a message says."""

    def requestheaders(self, flow):
        flow.request.headers["x-mark"] = "one"
        if flow.request.headers.get("x-do") == "answer":
            flow.response = http.Response.make(418, b"tea")

    def responseheaders(self, flow):
        assert flow.response.status_code != 101 or flow.websocket is not None
        flow.response.headers["x-said"] = str(flow.response.status_code)
        flow.response.headers["sec-websocket-extensions"] = "permessage-deflate"
        match flow.request.headers.get("x-do"):
            case "kill":
                flow.kill()
            case "status":
                flow.response.status_code = 200

    async def websocket_message(self, flow):
        [message] = flow.websocket.messages
        seen = f"{flow.request.headers} {flow.response.headers} {message.content} {flow.metadata}"
        assert "KEY" not in seen and "gate_" not in seen
        if not message.from_client:
            if b"audio_transcript.delta" in message.content:
                message.drop()
            message.content = message.content.replace(b'"response.done"', b'"response.done", "said": "by addon"')
            return
        message.text = message.text.replace("a@b.example", "[e-mail]")
        if "raise" in message.text:
            raise ValueError("sk-of-the-operator")
        if "kill" in message.text:
            flow.kill()
        if "drop" in message.text:
            message.drop()
        if "cheap" in message.text:
            message.text = message.text.replace("cheap", "response.create")
        if "another" in message.text:
            message.text = '{"type": "session.update", "session": {"model": "gpt-4o-audio-preview"}}'
        if "larger" in message.text:
            message.text = '{"type": "response.create", "response": {"instructions": "' + "x" * 60_000 + '"}}'
        if "huge" in message.text:
            message.content = bytes(70_000)
        words = message.text
        if "no text" in words:
            message.content = b"\\xff"
        if "no bytes" in words:
            message.content = words
'''.replace("KEY", REAL_KEY[:9])


def placed(directory: Path, text: str) -> str:
    (directory / "own.py").write_text(text)
    return f"{directory}/own.py"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    directory = tmp_path_factory.mktemp("messages")
    file = placed(directory, ADDON)
    settings: dict[str, dict[str, Any]] = {
        f"projects.{PROJECT}": {"limits": ["100 usd/day"], "models": ["gpt-realtime"]},
        "limits": {"websocket_message_bytes": 65_536},
        "addons": {"load": [f"{file}:Messages"]},
    }
    with open_inside(directory, settings) as inside:
        yield inside


@pytest.fixture
def attacked(gateway: Inside, caplog: pytest.LogCaptureFixture) -> Iterator[Attacked]:
    """Afterwards no hold is left, and nothing stumbled but the addon."""
    view = begin(gateway)
    yield view
    view.settle()
    errors = [one for one in caplog.get_records("call") if one.levelno >= logging.ERROR]
    assert {one.name for one in errors} <= {"tollhouse.operators.hooks_run", "aiohttp.server"}


def opened(attacked: Attacked) -> RawSocket:
    socket = RawSocket(attacked.tunnel(), handshake())
    assert socket.answer.status == 101
    assert socket.answer.get("x-said") == "101"
    assert socket.answer.get("sec-websocket-extensions") == ""
    socket.until("session.created")
    return socket


def item(words: str) -> bytes:
    content = [{"type": "input_text", "text": words}]
    return text(type="conversation.item.create", item={"type": "message", "content": content})


def test_what_is_changed_and_dropped(attacked: Attacked) -> None:
    """Both ways. What the provider counts is charged, also of messages that were dropped; no key and no token is on the flow."""
    socket = opened(attacked)
    with socket.client as client:
        client.send(item("write to a@b.example") + item("drop") + text(type="cheap"))
        kinds = []
        while "response.done" not in kinds:
            came = socket.next()
            kinds.append(came.event["type"])
        client.send(CLOSE)
        socket.until("close")
    assert came.event["said"] == "by addon"
    assert "response.output_audio.delta" in kinds
    assert "response.output_audio_transcript.delta" not in kinds
    [received] = attacked.inside.standin.snapshot()
    sent = [json.loads(message) for message in received.messages]
    assert [message["type"] for message in sent] == ["conversation.item.create", "response.create"]
    assert sent[0]["item"]["content"][0]["text"] == "write to [e-mail]"
    assert received.get("x-mark") == "one"
    [line] = attacked.lines(1)
    assert (line["tokens"]["output"], line["charged_by"]) == (60, "usage")


@pytest.mark.parametrize(
    ("words", "code", "close"),
    [
        ("raise", "addon_failed", 1011),
        ("huge", "addon_failed", 1011),
        ("no text", "addon_failed", 1011),
        ("no bytes", "addon_failed", 1011),
        ("kill", "addon_refused", 1008),
        ("another", "model_not_allowed", 1008),
    ],
)
def test_what_ends_a_session(attacked: Attacked, words: str, code: str, close: int) -> None:
    """An addon that fails, that refuses, and one whose message may not be sent: it does not leave."""
    socket = opened(attacked)
    with socket.client as client:
        client.send(item(words))
        error = socket.until("error").event["error"]
        assert error["code"] == code
        assert "sk-of-the-operator" not in str(error)
        assert socket.until("close").code == close
    [received] = attacked.inside.standin.snapshot()
    assert received.messages == []
    [line] = attacked.lines(1)
    assert (line["status"], line["reason"], line["cost_usd"]) == (101, code, "0")


def test_what_is_held_is_what_is_sent(attacked: Attacked) -> None:
    """An addon makes a request dearer."""
    held = []
    for words in ("plain", "larger"):
        socket = opened(attacked)
        with socket.client as client:
            client.send(text(type="response.create", event_id=words))
            socket.until("response.done")
            client.send(CLOSE)
            socket.until("close")
        held.append(float(attacked.lines(1 + len(held))[-1]["held_usd"]))
    assert held[1] > held[0] + 0.3


@pytest.mark.parametrize(
    ("do", "status", "code"),
    [("answer", 418, "addon"), ("kill", 403, "addon_refused"), ("status", 503, "addon_failed")],
)
def test_hooks_of_the_handshake(attacked: Attacked, do: str, status: int, code: str) -> None:
    """They are called as those of a call are."""
    with attacked.tunnel() as client:
        answer = client.ask(handshake(f"x-do: {do}"))
    assert answer.status == status
    [line] = attacked.lines(1)
    assert (line["reason"], line["cost_usd"]) == (code, "0")


def test_a_handshake_that_the_provider_refuses(attacked: Attacked) -> None:
    """Its answer passes the hooks of an answer."""
    attacked.inside.standin.script(reply(404, b"{}"))
    with attacked.tunnel() as client:
        answer = client.ask(handshake())
    assert (answer.status, answer.get("x-said")) == (404, "404")
    attacked.lines(1)


def test_the_key_is_not_on_the_flow(attacked: Attacked) -> None:
    """It is taken out of a message before an addon sees it."""
    said = json.dumps({"type": "rate_limits.updated", "note": REAL_KEY}).encode()
    attacked.inside.standin.script(
        Behaviour(frames=frame(1, said, mask=False) + frame(8, b"\x03\xe8", mask=False))
    )
    socket = RawSocket(attacked.tunnel(), handshake())
    with socket.client as client:
        assert "redacted" in socket.until("rate_limits.updated").event["note"]
        socket.until("close")
        client.send(CLOSE)
    [line] = attacked.lines(1)
    assert line["reason"] == ""


@pytest.mark.parametrize("others", ["", "    def websocket_message(self, flow): ...\n"])
def test_no_session_beside_an_addon_that_takes_no_messages(tmp_path: Path, others: str) -> None:
    """What it masks in requests would leave unmasked: the client is sent to HTTP, and nothing leaves, whatever the other
    addons have."""
    source = (
        "class Marks:\n"
        "    def request(self, flow):\n"
        "        flow.request.headers['x-mark'] = 'one'\n"
        "class Others:\n"
        f"    def response(self, flow): ...\n{others}"
    )
    file = placed(tmp_path, source)
    with open_inside(tmp_path, {"addons": {"load": [f"{file}:Marks", f"{file}:Others"]}}) as inside:
        attacked = Attacked(inside, 0)
        with attacked.tunnel() as client:
            attacked.refused(client.ask(handshake()), 426, "upgrade_required")
        assert inside.standin.snapshot() == []


def test_an_addon_of_messages_alone(tmp_path: Path) -> None:
    """It has no part in calls over HTTP."""
    file = placed(tmp_path, "class Messages:\n    def websocket_message(self, flow): 1 / 0\n")
    with open_inside(tmp_path, {"addons": {"load": [f"{file}:Messages"]}}) as inside:
        attacked = Attacked(inside, 0)
        with attacked.tunnel() as client:
            assert client.ask(get(path="/v1/models")).status == 200
        socket = RawSocket(attacked.tunnel(), handshake())
        with socket.client:
            assert socket.until("error").event["error"]["code"] == "addon_failed"
            assert socket.until("close").code == 1011
        attacked.lines(2)
