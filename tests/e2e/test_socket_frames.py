"""WebSocket sessions whose one side reads slowly: the other side waits, and the gateway keeps little of what is under way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.attack import Attacked, watched
from tests.support.inproc import PROJECT, Inside, open_inside
from tests.support.raw_socket import RawSocket, frame, handshake, text

from tollhouse.demo.standin_script import Behaviour, Steps

PIECE = 16_000
COUNT = 3_000
MOST = 2_000
"""Messages (32 MB) that may be on their way: in the buffers of four sockets, and in ours. All of them are 48 MB."""
CLOSE = frame(8, b"\x03\xe8")


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
