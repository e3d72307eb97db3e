"""A session of the Realtime API through the running gateway, by OpenAI's own SDK."""

from __future__ import annotations

from typing import Any

from tests.support.billed import realtime_tokens
from tests.support.gateway import Road, road, shared_road

__all__ = ["road", "shared_road"]

MODEL = "gpt-realtime"


def connect(road: Road, **options: Any) -> Any:
    """A session by the SDK, through the proxy."""
    return road.sdk(**options).realtime.connect(
        model=MODEL,
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
