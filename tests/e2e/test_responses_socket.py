"""The Responses API over a WebSocket, through the running gateway, by OpenAI's own SDK."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.support.gateway import Road, road, shared_road

__all__ = ["road", "shared_road"]

MODEL = "gpt-4o-mini"


def connect(road: Road, **options: Any) -> Any:
    return road.sdk(**options).responses.connect(
        websocket_connection_options={"proxy": road.proxy_url, "ssl": road.context},
    )


def ask(session: Any, **fields: Any) -> list[Any]:
    session.response.create(**({"model": MODEL, "input": "Hello"} | fields))
    events = []
    for event in session:
        events.append(event)
        if event.type in ("response.completed", "response.failed"):
            return events
    raise AssertionError("the session ended without an answer")


def test_a_session(road: Road) -> None:
    """Two answers, the second behind the first: the line has what the provider's book has."""
    with connect(road) as session:
        first = ask(session)[-1].response
        second = ask(session, previous_response_id=first.id, max_output_tokens=100)[-1].response
    [received] = road.standin.snapshot()
    [line] = road.wait_lines(1)
    assert line["status"] == 101
    assert line["model"] == MODEL
    told = [first.usage, second.usage]
    assert [bill["total_tokens"] for bill in received.bills] == [one.total_tokens for one in told]
    assert line["tokens"] == {
        "input": sum(one.input_tokens for one in told),
        "output": sum(one.output_tokens for one in told),
    }
    assert line["units"] == {"requests": 2}
    assert line["charged_by"] == "usage"
    assert [json.loads(one)["type"] for one in received.messages] == ["response.create"] * 2
    assert received.get("authorization") == f"Bearer {road.standin.key}"


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "no-such-model-anywhere"},
        {"background": True},
    ],
)
def test_a_request_that_is_refused(road: Road, fields: dict[str, Any]) -> None:
    """It does not leave. The client gets the API's own failure, with our words, and a close."""
    with connect(road) as session:
        ask(session)
        failed = ask(session, **fields)[-1]
        with pytest.raises(Exception, match="1008"):
            session.recv()
    assert failed.type == "response.failed"
    assert failed.response.error.code == "invalid_prompt"
    [received] = road.standin.snapshot()
    assert len(received.messages) == 1
    [line] = road.wait_lines(1)
    assert line["reason"] in ("model_unpriced", "bad_request")
    assert line["tokens"]["input"] == received.bills[0]["input_tokens"]
