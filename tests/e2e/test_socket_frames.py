"""Frames of a WebSocket session: pings, pongs and closes pass as they are, in their order among the messages, and where one side
reads slowly the other side waits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.attack import Attacked, watched
from tests.support.inproc import PROJECT, Inside, open_inside
from tests.support.raw_socket import Came, RawSocket, frame, handshake, text

from tollhouse.demo.standin_script import Behaviour, Steps

PIECE = 16_000
COUNT = 3_000
MOST = 2_000
"""Messages (32 MB) that may be on their way: in the buffers of four sockets, and in ours. All of them are 48 MB."""
CLOSE = frame(8, b"\x03\xe8")
EVENTS = [json.dumps({"type": "rate_limits.updated", "event_id": f"e{n}"}) for n in range(3)]
ITEMS = [
    json.dumps({"type": "conversation.item.create", "item": {"type": "message", "content": []}}),
    json.dumps({"type": "input_audio_buffer.clear"}),
]
ODD = bytes(range(125))
"""As long as a control frame's payload may be."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    settings: Any = {f"projects.{PROJECT}": {"limits": ["1000 usd/day"]}}
    with open_inside(tmp_path_factory.mktemp("slow"), settings) as inside:
        yield inside


@pytest.fixture
def attacked(gateway: Inside, caplog: pytest.LogCaptureFixture) -> Iterator[Attacked]:
    yield from watched(gateway, caplog)


def test_a_client_that_reads_slowly(attacked: Attacked) -> None:
    """The provider waits for it, and nothing is lost."""
    inside = attacked.inside
    inside.standin.script(Behaviour(text=" ".join(["x" * PIECE] * COUNT)))
    socket = RawSocket(attacked.tunnel(), handshake())
    with socket.client as client:
        client.send(text(type="response.create"))
        inside.until(lambda gateway: any(one.congested for one in gateway.journey.under_way))
        # A machine that is too slow for the time shows less, and nothing wrong.
        assert not inside.standin.wait_for(lambda book: len(book[0].sent) > MOST, timeout=1.0)
        kind, words = "", 0
        while kind != "response.done":
            kind = socket.next().event["type"]
            words += kind.endswith("transcript.delta")
        client.send(CLOSE)
        socket.until("close")
    assert words == COUNT
    [line] = attacked.lines(1)
    assert line["charged_by"] == "usage"


def test_a_provider_that_reads_slowly(attacked: Attacked) -> None:
    """The client waits for it, and nothing is lost."""
    inside = attacked.inside
    steps = Steps()
    inside.standin.script(Behaviour(steps=steps))
    socket = RawSocket(attacked.tunnel(), handshake())
    steps.release(1)
    socket.until("session.created")
    # The answer to the first message waits, and meanwhile nothing is read.
    message = {"type": "message", "content": [{"type": "input_text", "text": "Hello"}]}
    sound = {"type": "input_audio_buffer.append", "audio": "A" * PIECE}
    sent = 1
    with socket.client as client:
        client.send(text(type="conversation.item.create", item=message))
        # A machine that is too slow for the time shows less, and nothing wrong.
        while sent < COUNT and client.send_within(text(**sound), 1.0):
            sent += 1
        assert sent < MOST
        steps.release_all()
        client.flush()
        client.send(text(type="response.create"))
        socket.until("response.done")
        client.send(CLOSE)
        socket.until("close")
    [received] = inside.standin.snapshot()
    assert [len(one) for one in received.messages[1:-1]] == [len(json.dumps(sound))] * sent
    attacked.lines(1)


def test_controls_from_the_provider(attacked: Attacked) -> None:
    first, second, third = (event.encode() for event in EVENTS)
    frames = (
        *((1, first), (9, ODD), (9, b""), (1, second), (10, b"nobody has asked")),
        # A ping may come inside of a message, which is passed on whole.
        *((1, third[:9], False), (9, b"inside"), (0, third[9:])),
        (8, b"\x0f\xa0as it is"),
    )
    said = b"".join(frame(code, data, fin=not more, mask=False) for code, data, *more in frames)
    attacked.inside.standin.script(Behaviour(frames=said))
    socket = RawSocket(attacked.tunnel(), handshake())
    with socket.client as client:
        assert [socket.next() for _ in range(8)] == [
            Came("text", EVENTS[0]),
            Came("ping", ODD),
            Came("ping", b""),
            Came("text", EVENTS[1]),
            Came("pong", b"nobody has asked"),
            Came("ping", b"inside"),
            Came("text", EVENTS[2]),
            Came("close", "as it is", 4000),
        ]
        client.send(frame(10, ODD) + frame(8, b"\x0f\xa0"))
        [line] = attacked.lines(1)
    [received] = attacked.inside.standin.snapshot()
    assert received.came == [("pong", ODD), ("close", b"as it is")]
    assert (line["status"], line["decision"], line["cost_usd"]) == (101, "allow", "0")


def test_controls_from_the_client(attacked: Attacked) -> None:
    """Each ping is answered by the provider, once."""
    socket = RawSocket(attacked.tunnel(), handshake())
    socket.until("session.created")
    frames = [
        *((1, ITEMS[0]), (9, ODD), (10, b"nobody has asked"), (1, ITEMS[1]), (9, b"")),
        (8, b"\x0f\xa1done"),
    ]
    sent = [(code, data.encode() if isinstance(data, str) else data) for code, data in frames]
    with socket.client as client:
        client.send(b"".join(frame(code, data) for code, data in sent))
        assert socket.next().event["type"] == "conversation.item.added"
        assert [socket.next() for _ in range(3)] == [
            Came("pong", ODD),
            Came("pong", b""),
            Came("close", "done", 4001),
        ]
        attacked.lines(1)
    [received] = attacked.inside.standin.snapshot()
    kinds = {1: "text", 8: "close", 9: "ping", 10: "pong"}
    assert received.came == [(kinds[code], data.removeprefix(b"\x0f\xa1")) for code, data in sent]
    assert received.close_code == 4001
