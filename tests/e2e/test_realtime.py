"""A session of the Realtime API through the running gateway, by OpenAI's own SDK."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.billed import realtime_tokens
from tests.support.gateway import Road, road, shared_road
from websockets.exceptions import InvalidStatus

from tollhouse.config.load import load_config
from tollhouse.control.client import perform

__all__ = ["road", "shared_road"]

MODEL = "gpt-realtime"


def connect(road: Road, model: str = MODEL) -> Any:
    """A session by the SDK, through the proxy."""
    return road.sdk().realtime.connect(
        model=model,
        websocket_connection_options={"proxy": road.proxy_url, "ssl": road.context},
    )


def ask(session: Any, text: str = "Hello") -> list[Any]:
    """The events up to the end of the answer."""
    session.conversation.item.create(
        item={
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": text}],
        }
    )
    session.response.create()
    return until(session, "response.done")


def until(session: Any, kind: str) -> list[Any]:
    events = []
    for event in session:
        events.append(event)
        if event.type == kind:
            return events
    raise AssertionError(f"the session ended without {kind}")


def test_a_session(road: Road) -> None:
    """Two answers, a transcription and a close: the line has what the provider's book has."""
    with connect(road) as session:
        assert until(session, "session.created")[-1].session.model == MODEL
        first = ask(session)
        second = ask(session)
    [received] = road.standin.snapshot()
    [line] = road.wait_lines(1)
    assert [event.type for event in first[1:3]] == [
        "response.created",
        "response.output_audio_transcript.delta",
    ]
    assert second[-1].response.usage.output_tokens == 120
    assert line["status"] == 101
    assert line["model"] == line["model_served"] == MODEL
    assert len(received.bills) == 2
    assert line["tokens"] == realtime_tokens(received.bills)
    assert line["charged_by"] == "usage"
    assert line["reason"] == ""
    assert received.get("authorization") == f"Bearer {road.standin.key}"
    assert received.get("sec-websocket-extensions") == ""


@pytest.mark.parametrize(
    ("model", "limits", "status", "reason"),
    [
        (MODEL, ["0.0001 usd/day"], 402, "budget_exceeded"),
        ("no-such-model-anywhere", ["10 usd/day"], 403, "model_unpriced"),
    ],
)
def test_a_handshake_that_is_refused(
    road: Road, model: str, limits: list[str], status: int, reason: str
) -> None:
    """The SDK asks once and shows the status alone, so that it is the reason's own. Our text is in the error's response."""
    wanted = {"project": road.project, "tenant": road.tenant, "limits": limits}
    perform(load_config(road.gateway.config), "project_set", wanted)
    with pytest.raises(InvalidStatus, match=f"HTTP {status}") as caught, connect(road, model):
        pass
    [line] = road.wait_lines(1)
    assert (line["status"], line["reason"]) == (status, reason)
    body = bytes(caught.value.response.body or b"")
    assert f"[tollhouse: {reason}, call {line['call_id']}]".encode() in body
    assert road.standin.snapshot() == []
